//! What a plan will take, before any of it is allocated.

use super::prepare::{Kind, kind, packed_operand, scratch_bytes};
use super::store::{Need, needs, table};
use crate::engine::{Memory, Threads};
use crate::graph::net::Content;
use crate::graph::plan::{Plan, Step};
use crate::model::mapped::AROUND;

/// Where the packed weights of a plan are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Place {
    /// In memory of this process, or in a mapped file, of which all stays that was read.
    Memory,
    /// In a mapped file, read anew by every step and given back.
    Streamed,
}

/// The bytes that [`Prepared`](super::Prepared), its weights and [`Arena`](super::Arena) will take for `plan`; nothing is left to be packed
/// where `is_packed`.
pub(in crate::engine) fn memory(plan: &Plan, threads: &Threads, place: Place, is_packed: bool) -> Memory {
    let needs = needs(plan);
    let mut memory = Memory { arena: plan.arena, weights: weights(&needs, place), ..Memory::default() };
    for step in &plan.steps {
        let kind = kind(step, plan);
        memory.scratch = memory.scratch.max(scratch_bytes(step, &kind, threads));
        if let Some((_, index)) = packed_operand(step, &kind)
            && let Content::Constant(constant) = &plan.fixed[index].content
        {
            memory.weights += packed_bytes(&kind);
            memory.packing = memory.packing.max(constant.len() * size_of::<f32>() * 2);
        }
    }
    memory.weights += plan.steps.iter().map(|step| looked_up(step, plan)).sum::<usize>();
    if !is_packed {
        memory.packing = needs.iter().map(Need::making).fold(memory.packing, usize::max);
    }
    memory
}

fn weights(needs: &[Need], place: Place) -> usize {
    let of = |packed: bool| needs.iter().filter(move |need| need.is_packed() == packed);
    match place {
        Place::Memory => needs.iter().map(Need::bytes).sum(),
        Place::Streamed => {
            let widened: usize = of(false).map(Need::bytes).sum();
            widened + of(true).map(|need| need.bytes() + 2 * AROUND).max().unwrap_or(0)
        }
    }
}

/// Bytes of the model's file around the rows that a step looks up.
fn looked_up(step: &Step, plan: &Plan) -> usize {
    let Some(table) = table(step, plan) else { return 0 };
    let rows = step.write.view.volume() * table.element.size();
    let count = step.reads.get(1).and_then(Option::as_ref).map_or(0, |indices| indices.view.volume());
    table.bytes().min(rows + count * AROUND)
}

fn packed_bytes(kind: &Kind) -> usize {
    kind.parts().0 * kind.part_bytes()
}
