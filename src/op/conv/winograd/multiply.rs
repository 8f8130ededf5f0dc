//! Products of transformed tiles and weights, transformed back.
// Loops with constant bounds over arrays of vectors, which have to unroll.
#![allow(clippy::needless_range_loop)]

use super::super::super::activation::Activation;
use super::super::super::matrix::pack::{STRETCH, even, stretches};
use super::super::super::matrix::tile::{ROWS, Tile};
use super::super::super::prefetch::parts;
use super::super::super::tasks::Shared;
use super::transform::{self, Filter, Sink, Source};
use super::{Call, PANEL, Packed, Sizes};
use pulp::{Simd, WithSimd};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;

/// `tiles` of the chunk that starts with tile `first`, by one panel.
pub(super) struct Task<'a, 'b> {
    pub(super) call: &'a Call<'b>,
    pub(super) sizes: &'a Sizes,
    pub(super) packed: &'a Packed,
    pub(super) panel: usize,
    pub(super) first: usize,
    pub(super) tiles: Range<usize>,
    pub(super) from: Shared,
    pub(super) out: Shared,
    pub(super) scratch: &'a mut [f32],
}

pub(super) struct Multiply<'a, 'b, F, const A: usize, const M: usize>(
    pub(super) Task<'a, 'b>,
    pub(super) PhantomData<F>,
);

impl<F: Filter<A, M>, const A: usize, const M: usize> WithSimd for Multiply<'_, '_, F, A, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task { call, sizes, packed, panel, first, tiles, from, out, scratch } = self.0;
        let (widened, rest) = scratch.split_at_mut(9 * STRETCH * PANEL);
        let (weights, sums) = rest.split_at_mut(sizes.places * sizes.weight_plane);
        let mut stretches = stretches(9, sizes.inputs).peekable();
        while let Some(channels) = stretches.next() {
            transform_weights::<S, F, A, M>(
                simd,
                packed,
                panel,
                channels.clone(),
                widened,
                weights,
                sizes.weight_plane,
            );
            let ahead = stored_next(packed, panel, stretches.peek());
            let products = Products { sizes, tiles: tiles.clone(), channels, from, ahead };
            products.add(simd, weights, sums);
        }
        let sums = Cell::from_mut(sums);
        let back = Back::new(call, sizes, panel, out);
        for (index, tile) in tiles.enumerate() {
            back.tile::<S, F, A, M>(simd, sums, index * PANEL, first + tile);
        }
    }
}

/// The weights that are probably read next: more channels of the panel, or the first of the following one.
fn stored_next<'a>(packed: &'a Packed, panel: usize, channels: Option<&Range<usize>>) -> &'a [u8] {
    match channels {
        Some(channels) => packed.stored(panel, channels.start * 9..channels.end * 9),
        None if panel + 1 < packed.panels() => packed.stored(panel + 1, 0..packed.rows().min(9 * STRETCH)),
        None => &[],
    }
}

/// Transforms a panel's weights of some input channels: sixteen floats a channel in every plane.
#[inline(always)]
fn transform_weights<S: Simd, F: Filter<A, M>, const A: usize, const M: usize>(
    simd: S,
    packed: &Packed,
    panel: usize,
    channels: Range<usize>,
    widened: &mut [f32],
    to: &mut [f32],
    plane: usize,
) {
    let to = Cell::from_mut(to);
    let count = channels.len() * PANEL;
    let taps = packed.panel(panel, channels.start * 9..channels.end * 9, widened);
    assert!(taps.len() == 9 * count && to.as_slice_of_cells().len() >= (A * A - 1) * plane + count, "rows of weights");
    for place in (0..count).step_by(S::F32_LANES) {
        let (from, to) = (Taps { floats: taps, apart: count, place }, Places::new::<S>(to, A, plane, place));
        transform::weights::<S, F, A, M>(simd, &from, &to);
    }
}

/// A vector of every tap, `apart` floats from each other.
struct Taps<'a> {
    floats: &'a [f32],
    apart: usize,
    place: usize,
}

impl<S: Simd> Source<S> for Taps<'_> {
    #[inline(always)]
    fn get(&self, _: S, y: usize, x: usize) -> S::f32s {
        let start = (y * 3 + x) * self.apart + self.place;
        debug_assert!(start + S::F32_LANES <= self.floats.len());
        // SAFETY: who makes it has checked nine times `apart` floats, and steps by vectors inside of `apart`.
        unsafe { self.floats.as_ptr().add(start).cast::<S::f32s>().read_unaligned() }
    }
}

/// Vectors of a square of planes, `apart` floats from each other.
struct Places<'a> {
    floats: &'a Cell<[f32]>,
    width: usize,
    apart: usize,
    place: usize,
}

impl<'a> Places<'a> {
    /// Nothing is checked later: all of `width` x `width` places from `place` on have a vector's floats.
    #[inline(always)]
    fn new<S: Simd>(floats: &'a Cell<[f32]>, width: usize, apart: usize, place: usize) -> Places<'a> {
        let last = (width * width - 1) * apart + place + S::F32_LANES;
        assert!(last <= floats.as_slice_of_cells().len(), "a vector in every plane");
        Places { floats, width, apart, place }
    }

    #[inline(always)]
    fn at(&self, y: usize, x: usize) -> *mut f32 {
        debug_assert!(y < self.width && x < self.width);
        // SAFETY: `new` has checked the last place.
        unsafe { self.floats.as_ptr().cast::<f32>().add((y * self.width + x) * self.apart + self.place) }
    }
}

impl<S: Simd> Source<S> for Places<'_> {
    #[inline(always)]
    fn get(&self, _: S, y: usize, x: usize) -> S::f32s {
        // SAFETY: `new` has checked that a vector is there.
        unsafe { self.at(y, x).cast::<S::f32s>().read_unaligned() }
    }
}

impl<S: Simd> Sink<S> for Places<'_> {
    #[inline(always)]
    fn put(&self, _: S, y: usize, x: usize, value: S::f32s) {
        // SAFETY: as above; cells may be written.
        unsafe { self.at(y, x).cast::<S::f32s>().write_unaligned(value) };
    }
}

/// Some input channels' share of the sums.
struct Products<'a> {
    sizes: &'a Sizes,
    tiles: Range<usize>,
    channels: Range<usize>,
    from: Shared,
    ahead: &'a [u8],
}

impl Products<'_> {
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, weights: &[f32], sums: &mut [f32]) {
        let nothing = [0f32; PANEL];
        let mut ahead = parts(self.ahead, self.sizes.places * self.tiles.len().div_ceil(ROWS));
        for plane in 0..self.sizes.places {
            let weights = &weights[plane * self.sizes.weight_plane..][..self.channels.len() * PANEL];
            let sums = &mut sums[plane * self.sizes.sum_plane..][..self.tiles.len() * PANEL];
            for rows in even(self.tiles.len(), ROWS) {
                let mut table = [std::ptr::null(); ROWS];
                for (place, row) in table.iter_mut().zip(rows.clone()) {
                    // SAFETY: the transformed tile lies in the chunk.
                    *place = unsafe {
                        self.from
                            .at(plane * self.sizes.tile_plane + (self.tiles.start + row) * self.sizes.tile)
                            .cast_const()
                    };
                }
                let out = sums[rows.start * PANEL..rows.end * PANEL].as_mut_ptr();
                let (start, start_stride) =
                    if self.channels.start == 0 { (nothing.as_ptr(), 0) } else { (out.cast_const(), PANEL) };
                let tile = Tile {
                    rows: table.as_ptr(),
                    count: rows.len(),
                    segments: 1,
                    offset: self.channels.start,
                    length: self.channels.len(),
                    panel: weights.as_ptr(),
                    start,
                    start_stride,
                    out,
                    out_stride: PANEL,
                    ahead: ahead.next().unwrap_or_default(),
                };
                // SAFETY: the table has an address a row, each of a tile's channels; weights have sixteen floats a channel, sums sixteen a row.
                unsafe { tile.run(simd) };
            }
        }
    }
}

/// A tile's pixels in the output, as far as they lie in the picture, a vector of channels of each.
struct Pixels<'a, 'b, 'c, V> {
    back: &'c Back<'a, 'b>,
    bias: V,
    rows: usize,
    size: [usize; 2],
    lane: usize,
}

impl<S: Simd> Sink<S> for Pixels<'_, '_, '_, S::f32s> {
    #[inline(always)]
    fn put(&self, simd: S, y: usize, x: usize, value: S::f32s) {
        if y < self.size[0] && x < self.size[1] {
            let row = self.rows + y * self.back.call.output[1] + x;
            self.back.write(simd, simd.add_f32s(value, self.bias), row, self.lane);
        }
    }
}

/// Writes tiles of sums into the output.
struct Back<'a, 'b> {
    call: &'a Call<'b>,
    sizes: &'a Sizes,
    out: Shared,
    first: usize,
    width: usize,
    bias: [f32; PANEL],
}

impl<'a, 'b> Back<'a, 'b> {
    fn new(call: &'a Call<'b>, sizes: &'a Sizes, panel: usize, out: Shared) -> Back<'a, 'b> {
        let first = panel * PANEL;
        let width = PANEL.min(call.conv.outputs - first);
        let mut bias = [0f32; PANEL];
        if let Some(values) = call.epilogue.bias {
            bias[..width].copy_from_slice(&values[first..first + width]);
        }
        Back { call, sizes, out, first, width, bias }
    }

    #[inline(always)]
    fn tile<S: Simd, F: Filter<A, M>, const A: usize, const M: usize>(
        &self,
        simd: S,
        sums: &Cell<[f32]>,
        place: usize,
        tile: usize,
    ) {
        let [down, across] = self.sizes.grid;
        let [height, width] = self.call.output;
        let picture = tile / (down * across);
        let (y, x) = (tile / across % down * M, tile % across * M);
        let bias = self.bias_of(picture);
        for lane in (0..self.width).step_by(S::F32_LANES) {
            let from = Places::new::<S>(sums, A, self.sizes.sum_plane, place + lane);
            let bias = simd.partial_load_f32s(&bias[lane..lane + S::F32_LANES]);
            let rows = (picture * height + y) * width + x;
            let to = Pixels { back: self, bias, rows, size: [height - y, width - x], lane };
            transform::back::<S, F, A, M>(simd, &from, &to);
        }
    }

    /// Bias and shift of a picture's pixels.
    #[inline(always)]
    fn bias_of(&self, picture: usize) -> [f32; PANEL] {
        let mut bias = self.bias;
        if let Some(shift) = self.call.epilogue.shift {
            let row = picture * self.call.output[0] * self.call.output[1] / shift.rows;
            let values = &shift.values[row * self.call.conv.outputs + self.first..][..self.width];
            bias.iter_mut().zip(values).for_each(|(bias, value)| *bias += value);
        }
        bias
    }

    /// The rest of the epilogue for a vector of channels of one pixel.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, mut value: S::f32s, row: usize, lane: usize) {
        let epilogue = self.call.epilogue;
        let place = row * self.call.conv.outputs + self.first + lane;
        let count = S::F32_LANES.min(self.width - lane);
        if !matches!(epilogue.activation, Activation::None) {
            value = epilogue.activation.apply(simd, value);
        }
        if let Some(residual) = epilogue.residual {
            value = simd.add_f32s(value, simd.partial_load_f32s(&residual[place..place + count]));
        }
        if epilogue.scale != 1.0 {
            value = simd.mul_f32s(value, simd.splat_f32s(epilogue.scale));
        }
        // SAFETY: the pixel is one of the output's, and no other task has its tile and panel.
        unsafe {
            let out = self.out.at(place);
            if count == S::F32_LANES {
                out.cast::<S::f32s>().write_unaligned(value);
            } else {
                simd.partial_store_f32s(std::slice::from_raw_parts_mut(out, count), value);
            }
        }
    }
}
