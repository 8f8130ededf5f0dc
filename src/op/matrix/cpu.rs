//! Blocked products on the CPU.

use super::super::activation::Activation;
use super::super::prefetch::parts;
use super::super::tasks::{Shared, lines, share, split};
use super::pack::{Dynamic, PANEL, Packed, even, stretches};
use super::tile::{ROWS, Tile};
use super::{Cpu, Epilogue, Left};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Most rows of `K` in a block: a panel of them (24 KiB) stays in the first-level cache.
const DEPTH: usize = 384;
/// Most tiles in a block: 192 rows of a block of `K` (288 KiB) stay in the second-level cache.
const TILES: usize = 32;
/// Floats of rows that stay in the second-level cache whole, so that a panel can be finished before the next.
const RESIDENT: usize = 1 << 16;
/// Tasks that a product is cut into where its rows alone do not give as many.
const TASKS: usize = 16;
/// Multiplications that are not worth a second thread.
const SMALL: usize = 1 << 17;

/// Where the rows of the left-hand matrix are: row `r` is `segments` pieces of `length` floats.
pub(crate) trait Rows: Sync {
    fn segments(&self) -> usize;
    fn length(&self) -> usize;
    /// Floats of `buffer` that `rows` rows need.
    fn buffer(&self, _rows: usize) -> usize {
        0
    }
    /// Appends the address of every row in `rows`, segment by segment. Rows may be gathered in `buffer`, which then is kept as long as the addresses.
    fn addresses(&self, rows: Range<usize>, buffer: &mut [f32], table: &mut Vec<*const f32>);
}

/// Rows a fixed distance apart.
pub(crate) struct Dense<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) length: usize,
}

impl Rows for Dense<'_> {
    fn segments(&self) -> usize {
        1
    }

    fn length(&self) -> usize {
        self.length
    }

    fn addresses(&self, rows: Range<usize>, _: &mut [f32], table: &mut Vec<*const f32>) {
        table.extend(rows.map(|row| self.values[row * self.stride..][..self.length].as_ptr()));
    }
}

pub(crate) fn check_left(left: &Left, length: usize) {
    let Left { values, rows, stride } = left;
    assert!(*rows > 0 && *stride >= length, "{rows} rows of {length}, {stride} apart");
    assert!(values.len() >= (rows - 1) * stride + length, "{} floats for {rows} rows, {stride} apart", values.len());
}

/// The right-hand matrix.
pub(crate) enum Right<'a> {
    Packed(&'a Packed),
    Dynamic(Dynamic<'a>),
}

impl Right<'_> {
    fn columns(&self) -> usize {
        match self {
            Right::Packed(packed) => packed.columns(),
            Right::Dynamic(dynamic) => dynamic.columns,
        }
    }

    /// The bytes that [`Right::panel`] reads one after the other; none where there is no such panel.
    fn stored(&self, panel: usize, rows: Range<usize>) -> &[u8] {
        match self {
            Right::Packed(packed) if panel < packed.panels() => packed.stored(panel, rows),
            _ => &[],
        }
    }

    fn panel<'a>(&'a self, panel: usize, rows: Range<usize>, buffer: &'a mut [f32]) -> &'a [f32] {
        match self {
            Right::Packed(packed) => packed.panel(panel, rows, buffer),
            Right::Dynamic(dynamic) => dynamic.panel(panel, rows, buffer),
        }
    }
}

/// Floats of scratch a thread: a block of a panel, and `gathered` for rows.
pub(crate) fn scratch(gathered: usize) -> usize {
    DEPTH * PANEL + lines(gathered)
}

/// Most rows that a task works on at a time.
pub(crate) const BLOCK_ROWS: usize = ROWS * TILES;

/// `count` rows times a matrix.
pub(crate) struct Product<'a, R> {
    pub(crate) rows: &'a R,
    pub(crate) count: usize,
    pub(crate) right: &'a Right<'a>,
    pub(crate) epilogue: &'a Epilogue<'a>,
    pub(crate) place: Columns,
}

/// Where the product's columns stand in the output, and the epilogue's in its arrays: from column `first` on of `all`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) first: usize,
    pub(crate) all: usize,
}

/// A part of `K`: segments, and what is taken of each.
#[derive(Clone)]
struct Depth {
    segments: Range<usize>,
    within: Range<usize>,
}

impl<R: Rows> Product<'_, R> {
    /// Floats of scratch a thread.
    pub(crate) fn scratch_each(&self) -> usize {
        scratch(self.rows.buffer(BLOCK_ROWS))
    }

    /// Computes `out`, dense.
    pub(crate) fn run(&self, cpu: Cpu, out: &mut [f32], scratch: &mut [f32]) {
        let columns = self.right.columns();
        let Columns { first, all } = self.place;
        assert!(first + columns <= all, "columns {first} to {} of {all}", first + columns);
        assert_eq!(out.len(), self.count * all, "floats for {} x {all}", self.count);
        self.epilogue.check(self.count, all);
        let (_, each) = split(scratch, 0, self.scratch_each(), cpu.threads.count());
        let tiles = self.count.div_ceil(ROWS);
        let row_blocks = tiles.div_ceil(TILES);
        let panels = columns.div_ceil(PANEL);
        let macs = self.count * columns * self.rows.segments() * self.rows.length();
        let panel_blocks = if macs < SMALL { 1 } else { TASKS.div_ceil(row_blocks).min(panels) };
        let out = Shared::new(out);
        let work = |index: usize, scratch: &mut [f32]| {
            let tiles = share(tiles, row_blocks, index / panel_blocks);
            let panels = share(panels, panel_blocks, index % panel_blocks);
            cpu.arch.dispatch(Task { product: self, tiles, panels, out, scratch });
        };
        if macs < SMALL {
            (0..row_blocks).for_each(|index| each.here(index, &work));
        } else {
            each.run(cpu.threads, row_blocks * panel_blocks, work);
        }
    }

    fn depths(&self) -> Vec<Depth> {
        let (segments, length) = (self.rows.segments(), self.rows.length());
        if segments == 1 {
            return even(length, DEPTH).map(|within| Depth { segments: 0..1, within }).collect();
        }
        let of = |within: Range<usize>| {
            even(segments, DEPTH / within.len()).map(move |segments| Depth { segments, within: within.clone() })
        };
        stretches(segments, length).flat_map(of).collect()
    }

    /// The panels' rows that `depth` is.
    fn panel_rows(&self, depth: &Depth) -> Range<usize> {
        let start = depth.within.start * self.rows.segments() + depth.segments.start * depth.within.len();
        start..start + depth.segments.len() * depth.within.len()
    }

    fn tile_rows(&self, tile: usize) -> Range<usize> {
        share(self.count, self.count.div_ceil(ROWS), tile)
    }
}

/// Some tiles by some panels.
struct Task<'a, 'p, R> {
    product: &'a Product<'p, R>,
    tiles: Range<usize>,
    panels: Range<usize>,
    out: Shared,
    scratch: &'a mut [f32],
}

/// A panel over one part of `K`.
struct Piece {
    panel: usize,
    step: usize,
    rows: Range<usize>,
}

/// The rows of a tile and where their addresses start in the table.
struct Place {
    rows: Range<usize>,
    first: usize,
}

impl<R: Rows> WithSimd for Task<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task { product, tiles, panels, out, scratch } = self;
        let (widened, gathered) = scratch.split_at_mut(DEPTH * PANEL);
        let (places, table) = addresses(product, tiles, gathered);
        let depths = product.depths();
        let rows: usize = places.iter().map(|place| place.rows.len()).sum();
        let work = Work { product, places, table, out, last: depths.len() - 1 };
        let resident = rows * product.rows.segments() * product.rows.length() <= RESIDENT;
        let (first, count, steps) = (panels.start, panels.len(), depths.len());
        let piece = |panel: usize, step: usize| Piece { panel, step, rows: product.panel_rows(&depths[step]) };
        let block = |index: usize| {
            let (panel, step) = if resident { (index / steps, index % steps) } else { (index % count, index / count) };
            piece(first + panel, step)
        };
        for index in 0..count * steps {
            let this = block(index);
            // After the last block this thread most probably goes on with the next task, which has the next panels.
            let next = if index + 1 < count * steps { block(index + 1) } else { piece(panels.end, 0) };
            let ahead = product.right.stored(next.panel, next.rows);
            work.block(simd, &this, &depths[this.step], widened, ahead);
        }
    }
}

fn addresses<R: Rows>(
    product: &Product<R>,
    tiles: Range<usize>,
    mut buffer: &mut [f32],
) -> (Vec<Place>, Vec<*const f32>) {
    let rows = product.tile_rows(tiles.start).start..product.tile_rows(tiles.end - 1).end;
    let mut table = Vec::with_capacity(rows.len() * product.rows.segments());
    let mut places = Vec::with_capacity(tiles.len());
    for tile in tiles {
        let rows = product.tile_rows(tile);
        places.push(Place { rows: rows.clone(), first: table.len() });
        let (own, rest) = buffer.split_at_mut(product.rows.buffer(rows.len()));
        product.rows.addresses(rows, own, &mut table);
        buffer = rest;
    }
    (places, table)
}

struct Work<'a, 'p, R> {
    product: &'a Product<'p, R>,
    places: Vec<Place>,
    table: Vec<*const f32>,
    out: Shared,
    last: usize,
}

impl<R: Rows> Work<'_, '_, R> {
    /// All tiles by one piece. Meanwhile `ahead`, what the next reads, is fetched.
    #[inline(always)]
    fn block<S: Simd>(&self, simd: S, piece: &Piece, depth: &Depth, widened: &mut [f32], ahead: &[u8]) {
        let Piece { panel, step, ref rows } = *piece;
        let right = self.product.right;
        let weights = right.panel(panel, rows.clone(), widened);
        let mut ahead = parts(ahead, self.places.len());
        let Columns { first, all: columns } = self.product.place;
        let width = PANEL.min(right.columns() - panel * PANEL);
        let first = first + panel * PANEL;
        let bias = bias_panel(self.product.epilogue, first, width);
        for place in &self.places {
            let count = place.rows.len();
            let mut edge = [0f32; ROWS * PANEL];
            let whole = width == PANEL;
            // SAFETY: rows and columns lie inside `out`, and no other task has these rows of these columns.
            let home = unsafe { self.out.at(place.rows.start * columns + first) };
            let (out, out_stride) = if whole { (home, columns) } else { (edge.as_mut_ptr(), PANEL) };
            let view = Block { simd, rows: place.rows.clone(), first, width, columns };
            let plain = self.product.epilogue.shift.is_none()
                && (self.product.epilogue.residual.is_none() || !self.product.epilogue.is_sum());
            let (start, start_stride) = if step > 0 {
                if !whole {
                    // SAFETY: as above; the edge has room for every row.
                    unsafe { copy(home, columns, out, out_stride, count, width) };
                }
                (out.cast_const(), out_stride)
            } else if plain {
                (bias.as_ptr(), 0)
            } else {
                // SAFETY: `out` has room for `count` rows of `width`.
                unsafe { view.begin(self.product.epilogue, &bias, out, out_stride) };
                (out.cast_const(), out_stride)
            };
            let tile = Tile {
                rows: self.table[place.first + depth.segments.start * count..].as_ptr(),
                count,
                segments: depth.segments.len(),
                offset: depth.within.start,
                length: depth.within.len(),
                panel: weights.as_ptr(),
                start,
                start_stride,
                out,
                out_stride,
                ahead: ahead.next().unwrap_or_default(),
            };
            // SAFETY: the table has `segments * count` addresses from there on, of `length` floats each; the panel has a row for each of them.
            unsafe { tile.run(simd) };
            if step == self.last && !self.product.epilogue.is_sum() {
                // SAFETY: as for `begin`.
                unsafe { view.end(self.product.epilogue, out, out_stride) };
            }
            if !whole {
                // SAFETY: as above.
                unsafe { copy(out, out_stride, home, columns, count, width) };
            }
        }
    }
}

#[inline(always)]
fn bias_panel(epilogue: &Epilogue, first: usize, width: usize) -> [f32; PANEL] {
    let mut panel = [0f32; PANEL];
    if let Some(bias) = epilogue.bias {
        panel[..width].copy_from_slice(&bias[first..first + width]);
    }
    panel
}

/// # Safety
/// Both have room for `count` rows of `width` floats and do not overlap.
#[inline(always)]
unsafe fn copy(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize, count: usize, width: usize) {
    for r in 0..count {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from.add(r * from_stride), to.add(r * to_stride), width) };
    }
}

/// A tile's place in the product.
struct Block<S> {
    simd: S,
    rows: Range<usize>,
    first: usize,
    width: usize,
    columns: usize,
}

impl<S: Simd> Block<S> {
    /// Writes what the sums start from: bias, shift and, where nothing comes between, the residual.
    ///
    /// # Safety
    /// `out` has room for the rows of `width` floats, `stride` apart.
    #[inline(always)]
    unsafe fn begin(&self, epilogue: &Epilogue, bias: &[f32; PANEL], out: *mut f32, stride: usize) {
        for (r, row) in self.rows.clone().enumerate() {
            // SAFETY: the caller's promise.
            let out = unsafe { std::slice::from_raw_parts_mut(out.add(r * stride), self.width) };
            out.copy_from_slice(&bias[..self.width]);
            if let Some(shift) = epilogue.shift {
                let values = &shift.values[row / shift.rows * self.columns + self.first..][..self.width];
                out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
            }
            if let (Some(residual), true) = (epilogue.residual, epilogue.is_sum()) {
                let values = &residual[row * self.columns + self.first..][..self.width];
                out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
            }
        }
    }

    /// Activation, residual and scale, in place.
    ///
    /// # Safety
    /// As [`Block::begin`].
    #[inline(always)]
    unsafe fn end(&self, epilogue: &Epilogue, out: *mut f32, stride: usize) {
        for (r, row) in self.rows.clone().enumerate() {
            // SAFETY: the caller's promise.
            let out = unsafe { std::slice::from_raw_parts_mut(out.add(r * stride), self.width) };
            let residual = epilogue.residual.map(|residual| &residual[row * self.columns + self.first..][..self.width]);
            finish(self.simd, epilogue, out, residual);
        }
    }
}

/// `out = (act(out) + residual) * scale`.
#[inline(always)]
pub(crate) fn finish<S: Simd>(simd: S, epilogue: &Epilogue, out: &mut [f32], residual: Option<&[f32]>) {
    for (index, out) in out.chunks_mut(S::F32_LANES).enumerate() {
        let mut value = simd.partial_load_f32s(out);
        if !matches!(epilogue.activation, Activation::None) {
            value = epilogue.activation.apply(simd, value);
        }
        if let Some(residual) = residual {
            let from = index * S::F32_LANES;
            value = simd.add_f32s(value, simd.partial_load_f32s(&residual[from..][..out.len()]));
        }
        value = simd.mul_f32s(value, simd.splat_f32s(epilogue.scale));
        simd.partial_store_f32s(out, value);
    }
}
