//! Norms of a plan, for their kernels.

use super::arena::Arena;
use super::play::Scene;
use crate::error::Result;
use crate::graph::op::{Activation, Op};
use crate::graph::plan::{Step, Work};
use crate::op::norm::{Affine, GroupNorm, RowNorm, Rows};

/// Bytes of scratch that a norm takes.
pub(super) fn scratch_bytes(step: &Step) -> usize {
    match step.work {
        Work::Op(Op::GroupNorm { groups, epsilon, activation }) => {
            group_of(&step.write.view.shape, groups, epsilon, activation).scratch_bytes()
        }
        Work::Op(Op::LayerNorm { epsilon }) => rows_of(&step.write.view.shape, epsilon, true).scratch_bytes(),
        Work::Op(Op::RmsNorm { epsilon }) => rows_of(&step.write.view.shape, epsilon, false).scratch_bytes(),
        _ => 0,
    }
}

/// Over `(N, C, …)` that lies `(N, …, C)`.
fn group_of(shape: &[usize], groups: usize, epsilon: f32, activation: Activation) -> GroupNorm {
    let pixels = shape[2..].iter().product();
    GroupNorm { batches: shape[0], pixels, channels: shape[1], groups, epsilon, activation }
}

fn rows_of(shape: &[usize], epsilon: f32, centred: bool) -> RowNorm {
    let width = shape.last().copied().unwrap_or(1);
    let rows: usize = shape[..shape.len().saturating_sub(1)].iter().product();
    let batches = if shape.len() > 1 { shape[0].max(1) } else { 1 };
    let rows_per_batch = (rows / batches).max(1);
    RowNorm { rows, width, rows_per_batch, centred, epsilon, activation: Activation::None }
}

pub(super) fn group(
    scene: &Scene,
    arena: &mut Arena,
    scratch: &mut [f32],
    groups: usize,
    epsilon: f32,
    activation: Activation,
) -> Result<()> {
    let (reads, out) = scene.lend::<f32>(arena);
    let norm = group_of(&scene.step.write.view.shape, groups, epsilon, activation);
    let rows = |index| scene.optional(&reads, index).map(|values| Rows { values, stride: norm.channels });
    let affine =
        Affine { gamma: scene.optional(&reads, 1), beta: scene.optional(&reads, 2), scale: rows(3), shift: rows(4) };
    norm.run(scene.cpu, scene.dense(&reads, 0), &affine, out, scratch);
    Ok(())
}

/// Over the last axis; `centred` subtracts the mean.
pub(super) fn layer(scene: &Scene, arena: &mut Arena, scratch: &mut [f32], epsilon: f32, centred: bool) -> Result<()> {
    let (reads, out) = scene.lend::<f32>(arena);
    let norm = rows_of(&scene.step.write.view.shape, epsilon, centred);
    let rows = |index| scene.optional(&reads, index).map(|values| Rows { values, stride: norm.width });
    let affine =
        Affine { gamma: scene.optional(&reads, 1), beta: scene.optional(&reads, 2), scale: rows(3), shift: rows(4) };
    norm.run(scene.cpu, scene.dense(&reads, 0), &affine, out, scratch);
    Ok(())
}
