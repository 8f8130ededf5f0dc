//! Input tiles, transformed.
// Loops with constant bounds over arrays of vectors, which have to unroll.
#![allow(clippy::needless_range_loop)]

use super::super::super::tasks::Shared;
use super::super::cpu::pixel;
use super::transform::{Filter, Sink, Source, spread};
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
                let to = Planes { to: task.to, places: A, plane: task.sizes.tile_plane, place: home + channel };
                if channel + lanes <= inputs {
                    spread::<S, F, A, M>(simd, &Whole { pixels: &pixels, channel }, &to);
                } else {
                    spread::<S, F, A, M>(simd, &Rest { pixels: &pixels, channel }, &to);
                }
            }
        }
    }
}

/// A vector of channels of every pixel under a tile.
struct Whole<'a, const A: usize> {
    pixels: &'a [[&'a [f32]; A]; A],
    channel: usize,
}

impl<S: Simd, const A: usize> Source<S> for Whole<'_, A> {
    #[inline(always)]
    fn get(&self, _: S, y: usize, x: usize) -> S::f32s {
        let pixel = self.pixels[y][x];
        debug_assert!(self.channel + S::F32_LANES <= pixel.len());
        // SAFETY: `Whole` is made only where a vector's channels are left.
        unsafe { pixel.as_ptr().add(self.channel).cast::<S::f32s>().read_unaligned() }
    }
}

/// The channels that are fewer than a vector has.
struct Rest<'a, const A: usize> {
    pixels: &'a [[&'a [f32]; A]; A],
    channel: usize,
}

impl<S: Simd, const A: usize> Source<S> for Rest<'_, A> {
    #[inline(always)]
    fn get(&self, simd: S, y: usize, x: usize) -> S::f32s {
        simd.partial_load_f32s(&self.pixels[y][x][self.channel..])
    }
}

/// The same place of every plane.
struct Planes {
    to: Shared,
    places: usize,
    plane: usize,
    place: usize,
}

impl<S: Simd> Sink<S> for Planes {
    #[inline(always)]
    fn put(&self, _: S, y: usize, x: usize, value: S::f32s) {
        // SAFETY: a tile of every plane has room for all channels rounded up to whole lines, and no other task has this tile.
        unsafe {
            let to = self.to.at((y * self.places + x) * self.plane + self.place);
            to.cast::<S::f32s>().write_unaligned(value);
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
}
