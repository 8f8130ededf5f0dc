//! Steps element by element of which one alone reads what the other gives become one: the value between them never reaches memory.

use super::dispatch::{Joined, element, is_point};
use super::limits::Limits;
use crate::graph::op::{Binary, Op};
use crate::graph::plan::{At, Link, Operand, Plan, Source, Step, Work};
use crate::op::view::View;
use crate::value::DType;
use std::collections::BTreeSet;

/// Most operations of a chain: what is compiled for one place serves others only while it is short.
const MOST: usize = 12;

/// Joins what can be joined within `limits`; lifetimes and offsets are then to be set anew.
pub(super) fn join(plan: &mut Plan, limits: &Limits) {
    let uses = Uses::of(plan);
    let mut steps: Vec<Option<Step>> = std::mem::take(&mut plan.steps).into_iter().map(Some).collect();
    for index in 0..steps.len() {
        let Some(mut whole) = steps[index].as_ref().and_then(Points::of) else { continue };
        let mut tried = BTreeSet::new();
        while let Some((read, buffer)) = whole.untried(&tried) {
            tried.insert(buffer);
            let Some(maker) = uses.0[buffer] else { continue };
            let Some(part) = steps[maker].as_ref().and_then(Points::of) else { continue };
            let Some(joined) = whole.after(&part, &read, limits) else { continue };
            whole = joined;
            steps[maker] = None;
            steps[index] = Some(whole.step());
        }
    }
    plan.steps = steps.into_iter().flatten().collect();
    // Steps have other numbers now.
    for buffer in &mut plan.buffers {
        (buffer.first, buffer.last) = (usize::MAX, 0);
    }
}

/// By buffer, the only step that writes it, where only one other reads it.
struct Uses(Vec<Option<usize>>);

impl Uses {
    fn of(plan: &Plan) -> Uses {
        let (mut writers, mut readers) = (vec![Vec::new(); plan.buffers.len()], vec![0; plan.buffers.len()]);
        for (index, step) in plan.steps.iter().enumerate() {
            if let At::Buffer(buffer) = step.write.at {
                writers[buffer].push(index);
            }
            let read: BTreeSet<usize> = step.reads.iter().flatten().filter_map(buffer_of).collect();
            read.into_iter().for_each(|buffer| readers[buffer] += 1);
        }
        let seen = |buffer: usize| {
            plan.inputs.contains(&buffer) || plan.outputs.iter().any(|output| output.at == At::Buffer(buffer))
        };
        let only = |buffer: usize| match writers[buffer][..] {
            [writer] if readers[buffer] == 1 && !seen(buffer) => Some(writer),
            _ => None,
        };
        Uses((0..plan.buffers.len()).map(only).collect())
    }
}

fn buffer_of(operand: &Operand) -> Option<usize> {
    match operand.at {
        At::Buffer(buffer) => Some(buffer),
        At::Fixed(_) => None,
    }
}

/// A step element by element, as links; axes of one element are left out.
struct Points {
    name: String,
    value: Option<String>,
    reads: Vec<Operand>,
    links: Vec<Link>,
    write: Operand,
}

impl Points {
    fn of(step: &Step) -> Option<Points> {
        let whole = |op: &Op| {
            let from = (0..step.reads.iter().flatten().count()).map(Source::Read).collect();
            vec![Link { op: op.clone(), from, dtype: step.write.dtype }]
        };
        let links = match &step.work {
            Work::Chain(links) => links.clone(),
            Work::Op(op) if is_point(op) => whole(op),
            Work::Copy => whole(&Op::Cast(step.write.dtype)),
            _ => return None,
        };
        let shape = &step.write.view.shape;
        if step.reads.iter().flatten().any(|read| read.view.shape != *shape) {
            return None;
        }
        let kept: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
        let squeezed = |operand: &Operand| Operand { view: operand.view.permuted(&kept), ..operand.clone() };
        let reads = step.reads.iter().flatten().map(squeezed).collect();
        let write = squeezed(&step.write);
        Some(Points { name: step.name.clone(), value: step.value.clone(), reads, links, write })
    }

    /// An operand in a buffer that is none of `tried`.
    fn untried(&self, tried: &BTreeSet<usize>) -> Option<(Operand, usize)> {
        let found = |read: &Operand| Some((read.clone(), buffer_of(read)?));
        self.reads.iter().filter_map(found).find(|(_, buffer)| !tried.contains(buffer))
    }

    /// The two as one, if it computes `self` with the elements of `part` where it read `between`, and a device within `limits` can do it.
    fn after(&self, part: &Points, between: &Operand, limits: &Limits) -> Option<Points> {
        let taken: Vec<bool> = self.reads.iter().map(|read| read.at == between.at).collect();
        let same = self.reads.iter().zip(&taken).all(|(read, taken)| !taken || read == between);
        if !same || part.write.dtype != between.dtype || self.links.len() + part.links.len() > MOST {
            return None;
        }
        let order = order(&part.write.view, &between.view)?;
        let seen = |read: &Operand| Operand { view: read.view.permuted(&order), ..read.clone() };
        let mut reads: Vec<Operand> = part.reads.iter().map(seen).collect();
        let mut links = part.links.clone();
        let last = links.len() - 1;
        let places: Vec<Source> = self
            .reads
            .iter()
            .zip(&taken)
            .map(|(read, taken)| if *taken { Source::Link(last) } else { Source::Read(place_of(read, &mut reads)) })
            .collect();
        for link in &self.links {
            let from = link.from.iter().map(|from| match from {
                Source::Read(index) => places[*index],
                Source::Link(index) => Source::Link(last + 1 + index),
            });
            links.push(Link { from: from.collect(), ..link.clone() });
        }
        let (name, value, write) = (self.name.clone(), self.value.clone(), self.write.clone());
        let joined = Points { name, value, reads, links, write };
        (joined.is_within(limits) && (joined.is_wide() || !self.is_wide())).then_some(joined)
    }

    /// Operands, what is written, and the word that a division of whole numbers by zero raises.
    fn is_within(&self, limits: &Limits) -> bool {
        let divides =
            |link: &Link| matches!(link.op, Op::Binary(Binary::Div | Binary::Mod { .. })) && is_whole(link.dtype);
        let bound = self.reads.len() + 1 + usize::from(self.links.iter().any(divides));
        bound <= limits.buffers as usize && self.joined().push(0).len() * 4 <= limits.push as usize
    }

    fn is_wide(&self) -> bool {
        self.joined().is_wide()
    }

    fn joined(&self) -> Joined {
        Joined::walked(&self.reads.iter().collect::<Vec<_>>(), &self.write)
    }

    fn step(&self) -> Step {
        Step {
            name: self.name.clone(),
            work: Work::Chain(self.links.clone()),
            reads: self.reads.iter().cloned().map(Some).collect(),
            write: self.write.clone(),
            value: self.value.clone(),
        }
    }
}

/// The axes of `written` in the order in which `read` sees them, if it sees all elements once.
fn order(written: &View, read: &View) -> Option<Vec<usize>> {
    let axis = |at: usize| {
        (0..written.shape.len())
            .find(|&axis| (written.shape[axis], written.strides[axis]) == (read.shape[at], read.strides[at]))
    };
    let order: Vec<usize> = (0..read.shape.len()).map(axis).collect::<Option<_>>()?;
    let all = order.iter().collect::<BTreeSet<_>>().len() == written.shape.len();
    (all && order.len() == written.shape.len() && written.permuted(&order) == *read).then_some(order)
}

/// Where `read` stands in `reads`, added if it does not.
fn place_of(read: &Operand, reads: &mut Vec<Operand>) -> usize {
    reads.iter().position(|other| other == read).unwrap_or_else(|| {
        reads.push(read.clone());
        reads.len() - 1
    })
}

fn is_whole(dtype: DType) -> bool {
    element(dtype) == "i32"
}

#[cfg(test)]
mod tests {
    use super::super::context::Context;
    use super::super::programmed;
    use super::super::ready::Ready;
    use super::super::tests::{POINTS, error, noise};
    use super::*;
    use crate::engine::{CancelToken, Precision, Threads, play_once};
    use crate::graph::net::{Content, Net, Node, Value};
    use crate::graph::op::{Activation, Comparison, Unary};
    use crate::graph::{lower, place};
    use crate::value::Tensor;

    /// An operation of earlier values, the shape and type of what it gives.
    type Made = (Op, &'static [usize], &'static [usize], DType);

    const ADD: Op = Op::Binary(Binary::Add);
    const MUL: Op = Op::Binary(Binary::Mul);
    const SILU: Op = Op::Unary(Unary::Activation(Activation::Silu));
    const EXP: Op = Op::Unary(Unary::Exp);
    const F: DType = DType::F32;

    /// Values 0, 1, … are the inputs, then what is made; the last is the output, and those in `shown`.
    fn plan(inputs: &[Tensor], made: &[Made], shown: &[usize]) -> Plan {
        let mut net = Net::default();
        for input in inputs {
            let (dtype, shape) = (input.dtype(), input.shape().to_vec());
            let id = net.add(Value { name: "x".into(), dtype, shape, content: Content::Computed });
            net.inputs.push(id);
        }
        for (op, from, shape, dtype) in made {
            let value = Value { name: "y".into(), dtype: *dtype, shape: shape.to_vec(), content: Content::Computed };
            let output = net.add(value);
            let inputs = from.iter().map(|&id| Some(id)).collect();
            net.nodes.push(Node { name: "n".into(), op: op.clone(), inputs, output });
        }
        net.outputs = shown.iter().copied().chain([inputs.len() + made.len() - 1]).collect();
        let mut plan = lower::lower(&net);
        place::place(&mut plan);
        plan
    }

    fn joined(plan: &Plan, limits: &Limits) -> Vec<usize> {
        let mut plan = plan.clone();
        join(&mut plan, limits);
        place::place(&mut plan);
        place::check(&plan).unwrap();
        let links = |step: &Step| if let Work::Chain(links) = &step.work { links.len() } else { 1 };
        plan.steps.iter().map(links).collect()
    }

    const S: &[usize] = &[2, 3, 8];

    fn links(inputs: &[Tensor], made: &[Made], shown: &[usize]) -> Vec<usize> {
        joined(&plan(inputs, made, shown), &Limits::LEAST)
    }

    #[test]
    fn what_one_alone_reads_is_passed_on() {
        let x = [noise(1, S), noise(2, &[8])];
        let chain = [(EXP, &[0][..], S, F), (MUL, &[2, 1], S, F), (SILU, &[3], S, F), (ADD, &[4, 0], S, F)];
        assert_eq!(links(&x, &chain, &[]), [4]);
        assert_eq!(links(&x, &[(EXP, &[0], S, F), (MUL, &[2, 2], S, F)], &[]), [2], "a square");
        let turned =
            [(EXP, &[0][..], S, F), (Op::Transpose(vec![2, 0, 1]), &[2], &[8, 2, 3], F), (SILU, &[3], &[8, 2, 3], F)];
        assert_eq!(links(&x, &turned, &[]), [2], "seen through a transpose");
    }

    #[test]
    fn what_is_needed_itself_stays() {
        let x = [noise(1, S), noise(2, &[8])];
        let chain = [(EXP, &[0][..], S, F), (MUL, &[2, 1], S, F), (SILU, &[3], S, F), (ADD, &[4, 0], S, F)];
        assert_eq!(links(&x, &chain, &[3]), [2, 2], "an output");
        let twice = [(EXP, &[0][..], S, F), (SILU, &[2], S, F), (ADD, &[2, 3], S, F)];
        assert_eq!(links(&x, &twice, &[]), [1, 2], "two readers");
        assert_eq!(links(&x, &[(EXP, &[1], &[8], F), (MUL, &[0, 2], S, F)], &[]), [1, 1], "a row that is repeated");
    }

    #[test]
    fn a_device_binds_and_pushes_so_much() {
        let x: Vec<Tensor> = (0..6).map(|seed| noise(seed, S)).collect();
        let sum: Vec<Made> = vec![
            (ADD, &[0, 1], S, F),
            (ADD, &[6, 2], S, F),
            (ADD, &[7, 3], S, F),
            (ADD, &[8, 4], S, F),
            (ADD, &[9, 5], S, F),
        ];
        let plan = plan(&x, &sum, &[]);
        assert_eq!(joined(&plan, &Limits::LEAST), [5]);
        assert_eq!(joined(&plan, &Limits { buffers: 5, ..Limits::LEAST }), [3, 2]);
        assert_eq!(joined(&plan, &Limits { buffers: 4, ..Limits::LEAST }), [2, 2, 1]);
        // A count and a length, then a place and a step of every operand and of what is written.
        assert_eq!(joined(&plan, &Limits { push: 10 * 4, ..Limits::LEAST }), [2, 2, 1]);
    }

    #[test]
    #[ignore = "needs a Vulkan device"]
    fn chains_agree() {
        let x = [noise(1, S), noise(2, &[8]), noise(3, S)];
        let b = DType::Bool;
        let made = [
            (MUL, &[0, 1][..], S, F),
            (SILU, &[3], S, F),
            (Op::Comparison(Comparison::Less), &[0, 2], S, b),
            (Op::Where, &[5, 4, 2], S, F),
            (Op::Unary(Unary::Activation(Activation::Tanh)), &[6], S, F),
            (ADD, &[7, 1], S, F),
        ];
        let turned = [
            (ADD, &[0, 1][..], S, F),
            (Op::Transpose(vec![2, 0, 1]), &[3], &[8, 2, 3], F),
            (SILU, &[4], &[8, 2, 3], F),
        ];
        let third: &[usize] = &[2, 3, 3];
        let odd = Op::Slice { axis: 2, start: 1, step: 1 };
        let part = [
            (odd.clone(), &[0][..], third, F),
            (odd, &[2], third, F),
            (ADD, &[3, 4], third, F),
            (SILU, &[5], third, F),
        ];
        for made in [&made[..], &turned, &part] {
            let plan = plan(&x, made, &[]);
            let cpu = play_once(plan.clone(), &x, &Threads::new(None).unwrap()).unwrap().remove(0);
            let context = Context::shared(None).unwrap();
            let (plan, program) = programmed(plan, &context.opened.limits, Precision::F32).unwrap();
            assert!(plan.steps.iter().any(|step| matches!(step.work, Work::Chain(_))));
            let mut ready = Ready::new(context, plan, &program).unwrap();
            let device = ready.run(&x.iter().collect::<Vec<_>>(), &CancelToken::new()).unwrap().remove(0);
            let found = error(&[cpu, device]);
            assert!(found < POINTS, "{found:e}");
        }
    }
}
