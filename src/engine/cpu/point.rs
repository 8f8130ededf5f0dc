//! Steps element by element: the axes of all operands are put in the order of the output's memory, so that the kernels write it from front to back.

use super::arena::{Arena, typed};
use super::play::Scene;
use crate::error::{Result, fail};
use crate::graph::op::{Binary, Comparison, Logic, Predicate, Unary};
use crate::op::view::View;
use crate::op::{cast, movement};
use crate::value::DType;

pub(super) fn unary(scene: &Scene, arena: &mut Arena, op: Unary) -> Result<()> {
    let [x] = views(scene);
    let dtype = common(scene, &[scene.given(0).dtype, scene.step.write.dtype])?;
    if dtype == DType::F32 {
        let (reads, out) = scene.lend(arena);
        op.run(scene.cpu, (scene.elements(&reads, 0), &x), out);
        return Ok(());
    }
    typed!(dtype, T => {
        let (reads, out) = scene.lend::<T>(arena);
        op.run_number(scene.cpu.threads, (scene.elements(&reads, 0), &x), out);
        Ok(())
    })
}

pub(super) fn binary(scene: &Scene, arena: &mut Arena, op: Binary) -> Result<()> {
    let [a, b] = views(scene);
    let dtype = common(scene, &[scene.given(0).dtype, scene.given(1).dtype, scene.step.write.dtype])?;
    typed!(dtype, T => {
        let (reads, out) = scene.lend::<T>(arena);
        op.run(scene.cpu.threads, (scene.elements(&reads, 0), &a), (scene.elements(&reads, 1), &b), out)
    })
}

pub(super) fn predicate(scene: &Scene, arena: &mut Arena, op: Predicate) -> Result<()> {
    let [x] = views(scene);
    let (reads, out) = scene.lend::<u8>(arena);
    typed!(scene.given(0).dtype, T => {
        op.run::<T>(scene.cpu.threads, (scene.elements(&reads, 0), &x), out);
        Ok(())
    })
}

pub(super) fn comparison(scene: &Scene, arena: &mut Arena, op: Comparison) -> Result<()> {
    let [a, b] = views(scene);
    let dtype = common(scene, &[scene.given(0).dtype, scene.given(1).dtype])?;
    let (reads, out) = scene.lend::<u8>(arena);
    typed!(dtype, T => {
        op.run::<T>(scene.cpu.threads, (scene.elements(&reads, 0), &a), (scene.elements(&reads, 1), &b), out);
        Ok(())
    })
}

pub(super) fn logic(scene: &Scene, arena: &mut Arena, op: Logic) -> Result<()> {
    let [a, b] = views(scene);
    let (reads, out) = scene.lend(arena);
    op.run(scene.cpu.threads, (scene.elements(&reads, 0), &a), (scene.elements(&reads, 1), &b), out);
    Ok(())
}

pub(super) fn choose(scene: &Scene, arena: &mut Arena) -> Result<()> {
    let [condition, a, b] = views(scene);
    let dtype = common(scene, &[scene.given(1).dtype, scene.given(2).dtype, scene.step.write.dtype])?;
    typed!(dtype, T => {
        let (reads, out) = scene.lend::<T>(arena);
        let condition = (scene.elements(&reads, 0), &condition);
        let (a, b) = ((scene.elements(&reads, 1), &a), (scene.elements(&reads, 2), &b));
        movement::select(scene.cpu.threads, condition, a, b, out);
        Ok(())
    })
}

pub(super) fn cast(scene: &Scene, arena: &mut Arena) -> Result<()> {
    let [x] = views(scene);
    let (from, to) = (scene.given(0).dtype, scene.step.write.dtype);
    if to == DType::Bool {
        let (reads, out) = scene.lend(arena);
        return typed!(from, A => {
            cast::truths::<A>((scene.elements(&reads, 0), &x), out);
            Ok(())
        });
    }
    typed!(from, A => typed!(to, B => {
        let (reads, out) = scene.lend::<B>(arena);
        cast::numbers::<A, B>((scene.elements(&reads, 0), &x), out);
        Ok(())
    }))
}

/// How the operands lie, the output being dense.
fn views<const N: usize>(scene: &Scene) -> [View; N] {
    let order = scene.step.write.view.memory_order();
    std::array::from_fn(|index| scene.given(index).view.permuted(&order))
}

/// The type of all.
fn common(scene: &Scene, dtypes: &[DType]) -> Result<DType> {
    match dtypes {
        [first, rest @ ..] if rest.iter().all(|dtype| dtype == first) => Ok(*first),
        _ => fail!(Engine, "{} of different types: {dtypes:?}", scene.step.work.name()),
    }
}
