//! Gives every buffer its bytes in one arena: buffers that live at the same time never overlap.

use super::plan::{At, Buffer, Operand, Plan};
use crate::error::{Result, fail};

/// Every buffer starts on a multiple of this: a cache line, and any SIMD register.
const ALIGN: usize = 64;

/// Sets lifetimes and offsets of all buffers and the size of the arena.
pub(crate) fn place(plan: &mut Plan) {
    place_aligned(plan, ALIGN);
}

/// The same, with every buffer on a multiple of `align` bytes.
pub(crate) fn place_aligned(plan: &mut Plan, align: usize) {
    lifetimes(plan);
    // The largest first, each at the lowest place that is free during its whole life.
    let mut order: Vec<usize> = (0..plan.buffers.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(plan.buffers[index].bytes()), index));
    let mut placed: Vec<usize> = Vec::new();
    plan.arena = 0;
    for index in order {
        let buffer = &plan.buffers[index];
        if buffer.bytes() == 0 || buffer.first == usize::MAX {
            continue;
        }
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .map(|&other| &plan.buffers[other])
            .filter(|other| other.first <= buffer.last && buffer.first <= other.last)
            .map(|other| (other.offset, other.offset + other.bytes()))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + buffer.bytes() <= start {
                break;
            }
            offset = offset.max(end.next_multiple_of(align));
        }
        plan.arena = plan.arena.max(offset + buffer.bytes());
        plan.buffers[index].offset = offset;
        placed.push(index);
    }
}

fn lifetimes(plan: &mut Plan) {
    let behind = plan.steps.len();
    let mut touch = |at: At, step: usize| {
        if let At::Buffer(index) = at {
            let buffer = &mut plan.buffers[index];
            buffer.first = buffer.first.min(step);
            buffer.last = buffer.last.max(step);
        }
    };
    plan.inputs.iter().for_each(|&index| touch(At::Buffer(index), 0));
    for (index, step) in plan.steps.iter().enumerate() {
        step.reads.iter().flatten().for_each(|read| touch(read.at, index));
        touch(step.write.at, index);
    }
    plan.outputs.iter().for_each(|output| touch(output.at, behind));
}

/// Proves what kernels rely on: buffers stay inside of the arena and views inside of their buffers, no step writes over what it reads or over
/// what is read later.
///
/// # Errors
/// `Engine` naming the step; none of them can come from a model's file, only from an error in this library or from a plan that was kept and
/// has changed.
pub(crate) fn check(plan: &Plan) -> Result<()> {
    buffers(plan)?;
    for (index, step) in plan.steps.iter().enumerate() {
        if step.reads.iter().flatten().chain([&step.write]).any(|operand| !is_inside(plan, operand)) {
            return fail!(Engine, "step {index} ({}) leaves its buffer", step.name);
        }
        let At::Buffer(written) = step.write.at else {
            return fail!(Engine, "step {index} ({}) writes a constant", step.name);
        };
        if step.reads.iter().flatten().any(|read| read.at == step.write.at) {
            return fail!(Engine, "step {index} ({}) reads what it writes", step.name);
        }
        let (start, end) = range(plan, written);
        for (other, buffer) in plan.buffers.iter().enumerate() {
            let alive = buffer.first <= index && index <= buffer.last;
            let (from, to) = range(plan, other);
            if other != written && alive && from < end && start < to {
                return fail!(Engine, "step {index} ({}) writes over buffer {other}", step.name);
            }
        }
    }
    Ok(())
}

fn buffers(plan: &Plan) -> Result<()> {
    let inside = |buffer: &Buffer| {
        let end = buffer.elements.checked_mul(buffer.dtype.size()).and_then(|bytes| bytes.checked_add(buffer.offset));
        buffer.offset.is_multiple_of(ALIGN) && end.is_some_and(|end| end <= plan.arena)
    };
    if let Some(index) = plan.buffers.iter().position(|buffer| buffer.first != usize::MAX && !inside(buffer)) {
        return fail!(Engine, "buffer {index} leaves the arena");
    }
    if plan.inputs.iter().any(|&input| input >= plan.buffers.len()) {
        return fail!(Engine, "an input has no buffer");
    }
    match plan.outputs.iter().find(|output| !is_inside(plan, output)) {
        Some(output) => fail!(Engine, "the output {output} leaves its buffer"),
        None => Ok(()),
    }
}

/// Whether all that `operand` sees is there.
fn is_inside(plan: &Plan, operand: &Operand) -> bool {
    let elements = match operand.at {
        At::Buffer(index) => plan.buffers.get(index).map(|buffer| buffer.elements),
        At::Fixed(index) => plan.fixed.get(index).map(|fixed| fixed.content.elements()),
    };
    elements.is_some_and(|elements| operand.view.extent() <= elements)
}

fn range(plan: &Plan, buffer: usize) -> (usize, usize) {
    let buffer = &plan.buffers[buffer];
    (buffer.offset, buffer.offset + buffer.bytes())
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Step, Work};
    use super::*;
    use crate::op::view::View;
    use crate::value::DType;

    fn operand(buffer: usize, elements: usize) -> Operand {
        Operand { at: At::Buffer(buffer), view: View::dense(&[elements]), dtype: DType::F32 }
    }

    /// A chain of copies with one long-lived buffer: sizes and who reads whom.
    fn plan(sizes: &[usize], steps: &[(usize, usize)]) -> Plan {
        let buffer =
            |elements: &usize| Buffer { dtype: DType::F32, elements: *elements, offset: 0, first: usize::MAX, last: 0 };
        let step = |&(from, to): &(usize, usize)| Step {
            name: format!("{from} to {to}"),
            work: Work::Copy,
            reads: vec![Some(operand(from, 1))],
            write: operand(to, 1),
            value: None,
        };
        let mut plan = Plan {
            buffers: sizes.iter().map(buffer).collect(),
            steps: steps.iter().map(step).collect(),
            inputs: vec![0],
            ..Plan::default()
        };
        plan.outputs = vec![operand(steps[steps.len() - 1].1, 1)];
        place(&mut plan);
        plan
    }

    #[test]
    fn buffers_that_do_not_meet_share_their_place() {
        let plan = plan(&[100, 200, 100, 200, 50], &[(0, 1), (1, 2), (2, 3), (3, 4)]);
        check(&plan).unwrap();
        let sum: usize = plan.buffers.iter().map(Buffer::bytes).sum();
        assert!(plan.arena < sum && plan.arena >= 300 * 4, "{} of {sum}", plan.arena);
        assert!(plan.buffers.iter().all(|buffer| buffer.offset % ALIGN == 0));
    }

    #[test]
    fn what_is_read_late_is_kept() {
        let plan = plan(&[64, 64, 64, 64], &[(0, 1), (1, 2), (0, 3)]);
        check(&plan).unwrap();
        assert_eq!((plan.buffers[0].first, plan.buffers[0].last), (0, 2));
        let others = [1, 2, 3].map(|index: usize| plan.buffers[index].offset);
        assert!(others.iter().all(|offset| *offset != plan.buffers[0].offset));
    }

    #[test]
    fn a_buffer_moved_onto_a_living_one_is_found() {
        let sound = plan(&[64, 64, 64, 64], &[(0, 1), (1, 2), (0, 3), (2, 3)]);
        check(&sound).unwrap();
        let mut found = 0;
        for moved in 0..4 {
            for onto in (0..4).filter(|onto| *onto != moved) {
                let mut plan = sound.clone();
                plan.buffers[moved].offset = plan.buffers[onto].offset;
                let meet = sound.buffers[moved].first <= sound.buffers[onto].last
                    && sound.buffers[onto].first <= sound.buffers[moved].last;
                assert_eq!(check(&plan).is_err(), meet, "{moved} onto {onto}");
                found += usize::from(meet);
            }
        }
        assert!(found > 4);
        let mut outside = sound.clone();
        outside.arena -= ALIGN;
        assert!(check(&outside).unwrap_err().to_string().contains("leaves the arena"));
        let mut none = sound.clone();
        none.outputs[0].at = At::Fixed(0);
        assert!(check(&none).unwrap_err().to_string().contains("leaves its buffer"));
        none.outputs.clear();
        none.inputs.push(4);
        assert!(check(&none).unwrap_err().to_string().contains("has no buffer"));
        let mut far = sound.clone();
        far.steps[1].write.view.offset = 64;
        assert!(check(&far).unwrap_err().to_string().contains("leaves its buffer"));
        let mut same = sound;
        same.steps[1].reads[0] = Some(operand(2, 1));
        assert!(check(&same).unwrap_err().to_string().contains("reads what it writes"));
    }
}
