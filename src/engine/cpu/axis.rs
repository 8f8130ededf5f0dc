//! Steps along axes: reductions, softmax, gated halves.

use super::arena::{Arena, typed};
use super::play::Scene;
use crate::error::{Result, fail};
use crate::graph::op::{Activation, Reduce};
use crate::op::gated::Gated;
use crate::op::reduce;
use crate::op::softmax::Softmax;

pub(super) fn reduce(scene: &Scene, arena: &mut Arena, kind: Reduce, axes: &[usize]) -> Result<()> {
    let (from, to) = (scene.given(0).dtype, scene.step.write.dtype);
    if from != to {
        return fail!(Engine, "{from} is not reduced to {to}");
    }
    typed!(to, T => {
        let (reads, out) = scene.lend::<T>(arena);
        kind.run(scene.cpu.threads, (scene.elements(&reads, 0), &scene.given(0).view), axes, out);
        Ok(())
    })
}

pub(super) fn arg_max(scene: &Scene, arena: &mut Arena, axis: usize, last: bool) -> Result<()> {
    let (reads, out) = scene.lend::<i64>(arena);
    typed!(scene.given(0).dtype, T => {
        reduce::arg_max::<T>((scene.elements(&reads, 0), &scene.given(0).view), axis, last, out);
        Ok(())
    })
}

/// The operand lies row-major.
pub(super) fn softmax(scene: &Scene, arena: &mut Arena, axis: usize) -> Result<()> {
    let (reads, out) = scene.lend(arena);
    let shape = &scene.step.write.view.shape;
    let (outer, inner) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
    Softmax { outer, length: shape[axis], inner }.run(scene.cpu, scene.dense(&reads, 0), out);
    Ok(())
}

/// Half of each row times the activation of the other half.
pub(super) fn gated(scene: &Scene, arena: &mut Arena, activation: Activation, gate_last: bool) -> Result<()> {
    let (reads, out) = scene.lend::<f32>(arena);
    let width = scene.step.write.view.shape.last().copied().unwrap_or(1).max(1);
    let gated = Gated { rows: out.len() / width, width, activation, gate_last };
    gated.run(scene.cpu, scene.dense(&reads, 0), out);
    Ok(())
}
