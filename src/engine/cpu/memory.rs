//! What a plan will take, before any of it is allocated.

use super::prepare::{Kind, kind, scratch_bytes};
use crate::engine::{Memory, Threads};
use crate::graph::net::Content;
use crate::graph::plan::{At, Plan};
use crate::op::matrix::{Packed, Storage};
use std::collections::HashSet;

/// The bytes that [`Prepared`](super::Prepared) and [`Arena`](super::Arena) will allocate for `plan`.
pub(in crate::engine) fn memory(plan: &Plan, threads: &Threads) -> Memory {
    let mut memory = Memory { arena: plan.arena, ..Memory::default() };
    let mut widened = HashSet::new();
    for step in &plan.steps {
        let kind = kind(step, plan);
        memory.scratch = memory.scratch.max(scratch_bytes(step, &kind, threads));
        memory.weights += match kind {
            Kind::Plain => 0,
            Kind::Conv { conv, storage, .. } => conv.packed_bytes(storage),
            Kind::Linear { rows, columns, storage } => Packed::bytes_of(storage, rows, columns),
        };
        let packs = !matches!(kind, Kind::Plain);
        for (index, read) in step.reads.iter().enumerate() {
            let Some(At::Fixed(fixed)) = read.as_ref().map(|read| read.at) else { continue };
            if packs && index == 1 {
                memory.packing = memory.packing.max(packing(&plan.fixed[fixed].content, kind.storage()));
            } else if widened.insert(fixed) {
                memory.weights += floats(&plan.fixed[fixed].content);
            }
        }
    }
    memory
}

/// Bytes of what a kernel reads as f32 where the file holds a weight; a constant is there already.
fn floats(content: &Content) -> usize {
    match content {
        Content::Weight(weight, _) => weight.elements() * size_of::<f32>(),
        _ => 0,
    }
}

/// Bytes of the file, or of a copy in another order, that are there while a weight is packed.
fn packing(content: &Content, storage: Storage) -> usize {
    match content {
        Content::Weight(weight, view) if view.is_dense() || storage != Storage::F32 => weight.bytes(),
        other => floats(other) * 2,
    }
}
