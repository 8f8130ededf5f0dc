//! The inner loop of every product: up to six rows by sixteen columns, sums in registers.
// Loops with constant bounds over arrays of vectors, which have to unroll.
#![allow(clippy::needless_range_loop)]

use super::super::prefetch::Ahead;
use super::pack::PANEL;
use pulp::Simd;

/// Most rows of a tile: 6 x 16 sums fill twelve of AVX2's sixteen registers.
pub(crate) const ROWS: usize = 6;

/// One tile's work: `out[r][n] = start[r][n] + sum over segments, k: rows[segment][r][offset + k] * panel[segment][k][n]`.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    /// Addresses of `count` rows for every segment.
    pub(crate) rows: *const *const f32,
    pub(crate) count: usize,
    pub(crate) segments: usize,
    pub(crate) offset: usize,
    pub(crate) length: usize,
    /// `segments * length` rows of sixteen.
    pub(crate) panel: *const f32,
    /// What the sums start from; rows are `start_stride` apart, which may be nought.
    pub(crate) start: *const f32,
    pub(crate) start_stride: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    /// What is read next.
    pub(crate) ahead: &'a [u8],
}

impl Tile<'_> {
    /// Computes the tile.
    ///
    /// # Safety
    /// `rows` holds `segments * count` addresses, `1 <= count <= 6`, from each of which `offset + length` floats can be read; `panel`, `start` and
    /// `out` are as the fields say, all in bounds, and nobody else touches the sixteen floats of each row of `out` meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(self, simd: S) {
        // SAFETY: the caller's promise.
        unsafe {
            match S::F32_LANES {
                16 => self.rows::<S, 1>(simd),
                8 => self.rows::<S, 2>(simd),
                4 => self.rows::<S, 4>(simd),
                _ => self.rows::<S, 16>(simd),
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, const V: usize>(self, simd: S) {
        debug_assert_eq!(S::F32_LANES * V, PANEL);
        // SAFETY: the caller's promise; a constant picks the only `V` for which vectors make up a panel.
        unsafe {
            match self.count {
                1 => self.sums::<S, 1, V, 4, 1>(simd),
                2 => self.sums::<S, 2, V, 2, 2>(simd),
                3 => self.sums::<S, 3, V, 1, 4>(simd),
                4 => self.sums::<S, 4, V, 1, 4>(simd),
                5 => self.sums::<S, 5, V, 1, 4>(simd),
                _ => self.sums::<S, 6, V, 1, 4>(simd),
            }
        }
    }

    /// `C` chains of sums, so that few rows do not wait for one multiplication after the other, `U` times in a row, which leaves little to do but the
    /// multiplications.
    #[inline(always)]
    unsafe fn sums<S: Simd, const R: usize, const V: usize, const C: usize, const U: usize>(self, simd: S) {
        let mut sums = [[[simd.splat_f32s(0.0); V]; R]; C];
        // SAFETY: addresses are in bounds by the caller's promise, and vectors may be read and written unaligned.
        unsafe {
            for r in 0..R {
                for v in 0..V {
                    let place = self.start.add(r * self.start_stride + v * S::F32_LANES);
                    sums[0][r][v] = place.cast::<S::f32s>().read_unaligned();
                }
            }
            let mut panel = self.panel;
            let mut ahead = Ahead::new(self.ahead, self.segments * (self.length / (C * U)), self.panel);
            for segment in 0..self.segments {
                let mut rows = [self.panel; R];
                for r in 0..R {
                    rows[r] = (*self.rows.add(segment * R + r)).add(self.offset);
                }
                let whole = self.length / (C * U) * (C * U);
                let mut k = 0;
                while k < whole {
                    ahead.ask();
                    for next in 0..C * U {
                        step::<S, R, V>(simd, &mut sums[next % C], &rows, k + next, panel.add((k + next) * PANEL));
                    }
                    k += C * U;
                }
                while k < self.length {
                    step::<S, R, V>(simd, &mut sums[0], &rows, k, panel.add(k * PANEL));
                    k += 1;
                }
                panel = panel.add(self.length * PANEL);
            }
            for r in 0..R {
                for v in 0..V {
                    let mut sum = sums[0][r][v];
                    for chain in 1..C {
                        sum = simd.add_f32s(sum, sums[chain][r][v]);
                    }
                    let place = self.out.add(r * self.out_stride + v * S::F32_LANES);
                    place.cast::<S::f32s>().write_unaligned(sum);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn step<S: Simd, const R: usize, const V: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; R],
    rows: &[*const f32; R],
    k: usize,
    panel: *const f32,
) {
    // SAFETY: `k` is below the length that the caller of `Tile::run` promised.
    unsafe {
        let mut b = [simd.splat_f32s(0.0); V];
        for v in 0..V {
            b[v] = panel.add(v * S::F32_LANES).cast::<S::f32s>().read_unaligned();
        }
        for r in 0..R {
            let a = simd.splat_f32s(*rows[r].add(k));
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(a, b[v], sums[r][v]);
            }
        }
    }
}
