//! Where a program is cut into submissions, so that none outlives a watchdog, and a run that is cancelled ends soon.

use super::dispatch::Dispatch;
use super::program::Program;
use crate::op::tasks::share;

/// Products of one submission, at most: slow devices do as many in under a second.
pub(super) const MOST_FLOPS: u64 = 4_000_000_000;

/// Some workgroups of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Index into the program's dispatches.
    pub(super) dispatch: usize,
    /// The first of them, where the dispatch is [cut](Dispatch::cut).
    pub(super) first: u32,
    pub(super) groups: [u32; 3],
    pub(super) flops: u64,
}

impl Program {
    /// All workgroups in their order. A dispatch of more products than a submission may have is cut too.
    pub(super) fn submissions(&self) -> Vec<Vec<Part>> {
        let (mut all, mut current, mut flops) = (Vec::new(), Vec::new(), 0);
        let parts = self.dispatches.iter().enumerate();
        for part in parts.flat_map(|(index, dispatch)| parts_of(index, dispatch, self.most_flops)) {
            if flops + part.flops > self.most_flops && !current.is_empty() {
                all.push(std::mem::take(&mut current));
                flops = 0;
            }
            flops += part.flops;
            current.push(part);
        }
        all.push(current);
        all
    }
}

fn parts_of(index: usize, dispatch: &Dispatch, most: u64) -> impl Iterator<Item = Part> {
    let Dispatch { groups, flops, cut, .. } = *dispatch;
    let length = cut.map_or(1, |axis| groups[axis] as usize);
    let count = (flops.div_ceil(most) as usize).clamp(1, length);
    (0..count).map(move |part| {
        let range = share(length, count, part);
        let mut groups = groups;
        if let Some(axis) = cut {
            groups[axis] = range.len() as u32;
        }
        let flops = flops * range.len() as u64 / length as u64;
        Part { dispatch: index, first: range.start as u32, groups, flops }
    })
}

#[cfg(test)]
mod tests {
    use super::super::context::Context;
    use super::super::dispatch::{Head, Shader, source};
    use super::super::programmed;
    use super::super::ready::Ready;
    use super::super::tests::{Given, PLAIN, net, noise};
    use super::*;
    use crate::engine::{CancelToken, Precision};
    use crate::graph::op::{Activation, Conv, Op};
    use crate::graph::{lower, place};
    use crate::value::DType;

    fn dispatch(groups: [u32; 3], cut: Option<usize>, flops: u64) -> Dispatch {
        let shader = Shader { source: source!("gemm"), head: Head::new() };
        Dispatch { shader, bindings: Vec::new(), push: Vec::new(), groups, flops, tiled: true, cut }
    }

    #[test]
    fn every_group_runs_once_and_no_submission_is_long() {
        let dispatches = [
            dispatch([4, 4096, 1], Some(1), 77_309_411_328),
            dispatch([43_691, 3, 1], None, 0),
            dispatch([772, 3, 2], Some(1), 9_000_000_000),
            dispatch([64, 1, 5], Some(0), 3_000_000_000),
            dispatch([1, 1, 1], Some(1), 6_000_000_000),
            dispatch([5000, 7, 1], Some(0), 8_000_000_001),
        ];
        let program =
            Program { dispatches: dispatches.to_vec(), steps: Vec::new(), uploads: Vec::new(), most_flops: MOST_FLOPS };
        let cut = program.submissions();
        for parts in &cut {
            let flops: u64 = parts.iter().map(|part| part.flops).sum();
            assert!(flops <= MOST_FLOPS + MOST_FLOPS / 1000 || parts.len() == 1, "{parts:?}");
        }
        let parts: Vec<Part> = cut.concat();
        assert!(parts.is_sorted_by_key(|part| part.dispatch));
        let of = |index: usize| parts.iter().filter(move |part| part.dispatch == index);
        for (index, dispatch) in dispatches.iter().enumerate() {
            let mut next = 0;
            for part in of(index) {
                let axis = dispatch.cut.unwrap_or(0);
                assert_eq!(part.first, next);
                assert!((0..3).all(|other| other == axis || part.groups[other] == dispatch.groups[other]), "{part:?}");
                next += part.groups[axis];
            }
            assert_eq!(next, dispatch.groups[dispatch.cut.unwrap_or(0)]);
        }
        let counts: Vec<usize> = (0..6).map(|index| of(index).count()).collect();
        assert_eq!(counts, [20, 1, 3, 1, 1, 3]);
    }

    #[test]
    #[ignore = "needs a Vulkan device"]
    fn parts_make_the_same_bits() {
        let conv = Conv { activation: Activation::Silu, ..PLAIN };
        let picture =
            vec![Given::Turned(noise(1, &[1, 40, 35, 8]), vec![0, 3, 1, 2]), Given::Fixed(noise(2, &[12, 8, 3, 3]))];
        let tokens = [200, 150, 150].map(|rows| Given::Input(noise(rows, &[2, rows as usize, 24])));
        let cases = [
            (Op::Conv(conv), picture, vec![1, 12, 40, 35]),
            (Op::Attention { heads: 3, scale: 0.4 }, tokens.to_vec(), vec![2, 200, 24]),
        ];
        for (op, given, shape) in cases {
            let (net, tensors) = net(op.clone(), &given, &shape, DType::F32);
            let mut plan = lower::lower(&net);
            place::place(&mut plan);
            let context = Context::shared(None).unwrap();
            let [whole, parts] = [MOST_FLOPS, 100_000].map(|most| {
                let (plan, mut program) = programmed(plan.clone(), &context.opened.limits, Precision::F32).unwrap();
                program.most_flops = most;
                let count: usize = program.submissions().iter().map(Vec::len).sum();
                assert_eq!(count > program.dispatches.len(), most < MOST_FLOPS, "{op:?}");
                let mut ready = Ready::new(context.clone(), plan, &program).unwrap();
                ready.run(&tensors.iter().collect::<Vec<_>>(), &CancelToken::new()).unwrap().remove(0)
            });
            assert!(whole == parts, "{op:?}");
        }
    }
}
