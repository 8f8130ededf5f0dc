//! Input tiles, transformed.
// Loops with constant bounds over arrays of vectors, which have to unroll.
#![allow(clippy::needless_range_loop)]

use super::super::super::tasks::Shared;
use super::super::cpu::pixel;
use super::transform::{Filter, spread};
use super::{Call, Sizes};
use pulp::{Simd, WithSimd};
use std::marker::PhantomData;
use std::ops::Range;

/// Transforms `tiles`; tile `first` stands at the start of every plane of `to`.
pub(super) struct Task<'a, 'b> {
    pub(super) call: &'a Call<'b>,
    pub(super) sizes: &'a Sizes,
    pub(super) padding: &'a [f32],
    pub(super) first: usize,
    pub(super) tiles: Range<usize>,
    pub(super) to: Shared,
}

pub(super) struct Spread<'a, 'b, F, const A: usize, const M: usize>(pub(super) Task<'a, 'b>, pub(super) PhantomData<F>);

impl<F: Filter<A, M>, const A: usize, const M: usize> WithSimd for Spread<'_, '_, F, A, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let task = self.0;
        let (inputs, lanes) = (task.sizes.inputs, S::F32_LANES);
        for tile in task.tiles.clone() {
            let pixels: [[&[f32]; A]; A] = task.pixels::<A, M>(tile);
            let home = (tile - task.first) * task.sizes.tile;
            for channel in (0..inputs).step_by(lanes) {
                task.one::<S, F, A, M>(simd, &pixels, channel, home + channel);
            }
        }
    }
}

impl<'b> Task<'_, 'b> {
    /// The pixels under a tile.
    fn pixels<const A: usize, const M: usize>(&self, tile: usize) -> [[&[f32]; A]; A] {
        let Call { conv, picture, input, .. } = *self.call;
        let [down, across] = self.sizes.grid;
        let size = [picture.height, picture.width];
        let base = tile / (down * across) * size[0] * size[1];
        let y = (tile / across % down * M) as isize - conv.pads[0] as isize;
        let x = (tile % across * M) as isize - conv.pads[1] as isize;
        let at = |dy: usize, dx: usize| match pixel(size, conv.enlarge, y + dy as isize, x + dx as isize) {
            Some(index) => &input[(base + index) * conv.inputs..][..conv.inputs],
            None => &self.padding[..conv.inputs],
        };
        std::array::from_fn(|dy| std::array::from_fn(|dx| at(dy, dx)))
    }

    /// One vector of channels, written `place` floats into every plane.
    #[inline(always)]
    fn one<S: Simd, F: Filter<A, M>, const A: usize, const M: usize>(
        &self,
        simd: S,
        pixels: &[[&[f32]; A]; A],
        channel: usize,
        place: usize,
    ) {
        let mut tile = [[simd.splat_f32s(0.0); A]; A];
        if channel + S::F32_LANES <= self.sizes.inputs {
            for y in 0..A {
                for x in 0..A {
                    // SAFETY: every pixel has all input channels.
                    tile[y][x] = unsafe { pixels[y][x].as_ptr().add(channel).cast::<S::f32s>().read_unaligned() };
                }
            }
        } else {
            for y in 0..A {
                for x in 0..A {
                    tile[y][x] = simd.partial_load_f32s(&pixels[y][x][channel..]);
                }
            }
        }
        let spread = spread::<S, F, A, M>(simd, &tile);
        for y in 0..A {
            for x in 0..A {
                // SAFETY: a tile of every plane has room for all channels rounded up to whole lines, and no other task has this tile.
                unsafe {
                    let to = self.to.at((y * A + x) * self.sizes.tile_plane + place);
                    to.cast::<S::f32s>().write_unaligned(spread[y][x]);
                }
            }
        }
    }
}
