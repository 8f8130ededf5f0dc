//! Attention of a plan, for its kernel.

use super::arena::Arena;
use super::play::Scene;
use crate::engine::Threads;
use crate::error::Result;
use crate::graph::op::Op;
use crate::graph::plan::{Operand, Step, Work};
use crate::op::attention::{self, Attention, Mask};
use crate::op::view::View;

/// Bytes of scratch that it takes.
pub(super) fn scratch_bytes(step: &Step, threads: &Threads) -> usize {
    match step.work {
        Work::Op(Op::Attention { heads, scale }) => sizes(step, heads, scale).scratch_bytes(threads.count()),
        _ => 0,
    }
}

fn sizes(step: &Step, heads: usize, scale: f32) -> Attention {
    let shape = |index: usize| step.reads[index].as_ref().map_or(&[0, 0, 0][..], |read| &read.view.shape);
    let (q, k, v) = (shape(0), shape(1), shape(2));
    Attention {
        batches: q[0],
        heads,
        key_heads: heads,
        queries: q[1],
        keys: k[1],
        width: q[2] / heads,
        value_width: v[2] / heads,
        scale,
        causal: false,
    }
}

pub(super) fn run(scene: &Scene, arena: &mut Arena, scratch: &mut [f32], heads: usize, scale: f32) -> Result<()> {
    let attention = sizes(scene.step, heads, scale);
    let (reads, out) = scene.lend::<f32>(arena);
    let operand = |index: usize, head: usize| {
        let Operand { view, .. } = scene.given(index);
        let values = &scene.elements(&reads, index)[view.offset..];
        attention::Operand { values, batch: view.strides[0], row: view.strides[1], head }
    };
    let operands = [operand(0, attention.width), operand(1, attention.width), operand(2, attention.value_width)];
    let mask = scene.operand(3).map(|mask| {
        let shape = [attention.batches, heads, attention.queries, attention.keys];
        let view = mask.view.broadcast(&shape).unwrap_or_else(|| View::dense(&shape));
        let values = &scene.elements(&reads, 3)[view.offset..];
        let [batch, head, query, key] = view.strides[..] else { unreachable!("four axes") };
        Mask { values, batch, head, query, key }
    });
    attention.run(scene.cpu, operands, mask, out, scratch);
    Ok(())
}
