//! Steps that move elements: copies, fills, gathers.

use super::arena::{Arena, Reads, typed};
use super::play::Scene;
use super::store::table;
use crate::error::Result;
use crate::model::weights::Weight;
use crate::op::number::{Number, Wide};
use crate::op::{gather, movement};

/// Elements to the place that the written view shows.
pub(super) fn copy(scene: &Scene, arena: &mut Arena) -> Result<()> {
    typed!(scene.step.write.dtype, T => {
        let (reads, out) = scene.lend::<T>(arena);
        let from = (scene.elements(&reads, 0), &scene.given(0).view);
        movement::copy(scene.cpu.threads, from, out, &scene.step.write.view);
        Ok(())
    })
}

/// One number everywhere in the written buffer.
pub(super) fn fill(scene: &Scene, arena: &mut Arena, value: f32) -> Result<()> {
    typed!(scene.step.write.dtype, T => {
        let (_, out) = scene.lend::<T>(arena);
        out.fill(T::narrow(Wide::Real(value.into())));
        Ok(())
    })
}

pub(super) fn gather(scene: &Scene, arena: &mut Arena, axis: usize) -> Result<()> {
    if let Some(table) = table(scene.step, scene.plan) {
        return gather_rows(scene, arena, table);
    }
    typed!(scene.step.write.dtype, T => {
        let (reads, out) = scene.lend::<T>(arena);
        let data = (scene.elements(&reads, 0), &scene.given(0).view);
        gather::gather(data, axis, &indices(scene, &reads)?, out)
    })
}

/// Each row of indices names a place along the first axes.
pub(super) fn gather_nd(scene: &Scene, arena: &mut Arena) -> Result<()> {
    let depth = scene.given(1).view.shape.last().copied().unwrap_or(0);
    typed!(scene.step.write.dtype, T => {
        let (reads, out) = scene.lend::<T>(arena);
        let data = (scene.elements(&reads, 0), &scene.given(0).view);
        gather::gather_nd(data, depth, &indices(scene, &reads)?, out)
    })
}

/// The second operand's numbers.
fn indices(scene: &Scene, reads: &Reads) -> Result<Vec<i64>> {
    typed!(scene.given(1).dtype, T => {
        let numbers: &[T] = scene.elements(reads, 1);
        let view = &scene.given(1).view;
        let mut indices = Vec::with_capacity(view.volume());
        view.each(|at| indices.push(i64::narrow(numbers[at].wide())));
        Ok(indices)
    })
}

fn gather_rows(scene: &Scene, arena: &mut Arena, table: &Weight) -> Result<()> {
    let (reads, out) = scene.lend::<f32>(arena);
    let shape = &scene.given(0).view.shape;
    let width: usize = shape[1..].iter().product();
    let rows = gather::places(&indices(scene, &reads)?, shape[0])?;
    rows.into_iter().zip(out.chunks_mut(width.max(1))).for_each(|(row, out)| table.widen_part(row * width, out));
    Ok(())
}
