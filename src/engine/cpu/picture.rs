//! Steps on pictures, which lie channels-last: resizing and pooling.

use super::arena::Arena;
use super::play::Scene;
use crate::error::Result;
use crate::graph::op::{Pool, Resize};

pub(super) fn resize(scene: &Scene, arena: &mut Arena, resize: &Resize) -> Result<()> {
    let (reads, out) = scene.lend(arena);
    let (from, to, channels) = sizes(scene);
    resize.run(scene.cpu.threads, channels, (scene.dense(&reads, 0), from), (out, to));
    Ok(())
}

pub(super) fn pool(scene: &Scene, arena: &mut Arena, pool: &Pool) -> Result<()> {
    let (reads, out) = scene.lend(arena);
    let (from, to, channels) = sizes(scene);
    pool.run(scene.cpu.threads, channels, (scene.dense(&reads, 0), from), (out, to));
    Ok(())
}

/// Heights and widths of operand and result, and their channels.
fn sizes(scene: &Scene) -> ([usize; 2], [usize; 2], usize) {
    let (from, to) = (&scene.given(0).view.shape, &scene.step.write.view.shape);
    (spatial(from), spatial(to), to[1])
}

/// Height and width of `(N, C, H, W)` or `(N, C, L)`.
pub(super) fn spatial(shape: &[usize]) -> [usize; 2] {
    match shape[2..] {
        [length] => [1, length],
        [height, width] => [height, width],
        _ => [1, 1],
    }
}
