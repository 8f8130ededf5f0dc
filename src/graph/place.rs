//! Gives every buffer its bytes in one arena: buffers that live at the same time never overlap.

use super::plan::{At, Plan};
use crate::error::{Result, fail};

/// Every buffer starts on a multiple of this: a cache line, and any SIMD register.
const ALIGN: usize = 64;

/// Sets lifetimes and offsets of all buffers and the size of the arena.
pub(crate) fn place(plan: &mut Plan) {
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
            offset = offset.max(end.next_multiple_of(ALIGN));
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

/// Proves what kernels rely on: views stay inside of their buffers, no step writes over what it reads or over what is read later.
///
/// # Errors
/// `Engine` naming the step; none of them can come from a file, only from an error in this library.
pub(crate) fn check(plan: &Plan) -> Result<()> {
    for (index, step) in plan.steps.iter().enumerate() {
        for operand in step.reads.iter().flatten().chain([&step.write]) {
            if let At::Buffer(buffer) = operand.at
                && operand.view.extent() > plan.buffers[buffer].elements
            {
                return fail!(Engine, "step {index} ({}) leaves its buffer", step.name);
            }
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

fn range(plan: &Plan, buffer: usize) -> (usize, usize) {
    let buffer = &plan.buffers[buffer];
    (buffer.offset, buffer.offset + buffer.bytes())
}
