//! The transforms of F(2x2, 3x3) and F(4x4, 3x3) along one axis, and applied to both.
// Loops with constant bounds over arrays of vectors, which have to unroll.
#![allow(clippy::needless_range_loop)]

use pulp::Simd;
use std::mem::MaybeUninit;

/// The transforms that turn `M` outputs of a 3-tap filter, `A = M + 2` inputs, into `A` products.
pub(crate) trait Filter<const A: usize, const M: usize>: Sync {
    /// `B' d`.
    fn input<S: Simd>(simd: S, d: [S::f32s; A]) -> [S::f32s; A];
    /// `G g`.
    fn weight<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; A];
    /// `A' m`.
    fn output<S: Simd>(simd: S, m: [S::f32s; A]) -> [S::f32s; M];
}

/// Interpolation at 0, 1, -1 and infinity.
pub(crate) struct F2;

/// Interpolation at 0, 1, -1, 2, -2 and infinity.
pub(crate) struct F4;

impl Filter<4, 2> for F2 {
    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
        [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(d, b)]
    }

    #[inline(always)]
    fn weight<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 4] {
        let half = simd.splat_f32s(0.5);
        let (outer, inner) = (simd.mul_f32s(simd.add_f32s(a, c), half), simd.mul_f32s(b, half));
        [a, simd.add_f32s(outer, inner), simd.sub_f32s(outer, inner), c]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
        let even = simd.add_f32s(b, c);
        [simd.add_f32s(a, even), simd.add_f32s(simd.sub_f32s(b, c), d)]
    }
}

impl Filter<6, 4> for F4 {
    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; 6]) -> [S::f32s; 6] {
        let (even, odd) = (times(simd, -4.0, c, e), times(simd, -4.0, b, d));
        let (even2, odd2) = (simd.sub_f32s(e, c), simd.sub_f32s(d, b));
        [
            times(simd, 4.0, a, times(simd, -5.0, c, e)),
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            times(simd, 2.0, odd2, even2),
            times(simd, -2.0, odd2, even2),
            times(simd, 4.0, b, times(simd, -5.0, d, f)),
        ]
    }

    #[inline(always)]
    fn weight<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 6] {
        let outer = scaled(simd, -1.0 / 6.0, simd.add_f32s(a, c));
        let far = times(simd, 1.0 / 24.0, a, scaled(simd, 1.0 / 6.0, c));
        [
            scaled(simd, 0.25, a),
            times(simd, -1.0 / 6.0, b, outer),
            times(simd, 1.0 / 6.0, b, outer),
            times(simd, 1.0 / 12.0, b, far),
            times(simd, -1.0 / 12.0, b, far),
            c,
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; 6]) -> [S::f32s; 4] {
        let (even, odd) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
        let (even2, odd2) = (simd.add_f32s(d, e), simd.sub_f32s(d, e));
        [
            simd.add_f32s(simd.add_f32s(a, even), even2),
            times(simd, 2.0, odd2, odd),
            times(simd, 4.0, even2, even),
            simd.add_f32s(times(simd, 8.0, odd2, odd), f),
        ]
    }
}

// No closures from here on: they are compiled without the vector instructions of their caller unless they happen to be inlined.

/// `factor * x + y`.
#[inline(always)]
fn times<S: Simd>(simd: S, factor: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(factor), x, y)
}

/// `factor * x`.
#[inline(always)]
fn scaled<S: Simd>(simd: S, factor: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), x)
}

/// Where a transform reads its tile, a vector at a time.
pub(super) trait Source<S: Simd> {
    fn get(&self, simd: S, y: usize, x: usize) -> S::f32s;
}

/// Where a transform writes its tile.
pub(super) trait Sink<S: Simd> {
    fn put(&self, simd: S, y: usize, x: usize, value: S::f32s);
}

/// Rows of vectors between the transforms along the two axes; set before they are read, and not worth a `memset` before that.
struct Half<V, const Y: usize, const X: usize>([[MaybeUninit<V>; X]; Y]);

impl<V: Copy, const Y: usize, const X: usize> Half<V, Y, X> {
    #[inline(always)]
    fn new() -> Self {
        Half([[const { MaybeUninit::uninit() }; X]; Y])
    }

    #[inline(always)]
    fn set(&mut self, x: usize, column: [V; Y]) {
        for y in 0..Y {
            self.0[y][x] = MaybeUninit::new(column[y]);
        }
    }

    /// # Safety
    /// Every column was set.
    #[inline(always)]
    unsafe fn row(&self, y: usize) -> [V; X] {
        // SAFETY: the caller's promise; initialised or not, a vector has one layout.
        unsafe { std::mem::transmute_copy(&self.0[y]) }
    }
}

/// `B' d B`.
#[inline(always)]
pub(super) fn spread<S: Simd, F: Filter<A, M>, const A: usize, const M: usize>(
    simd: S,
    from: &impl Source<S>,
    to: &impl Sink<S>,
) {
    let mut half = Half::<S::f32s, A, A>::new();
    for x in 0..A {
        let mut column = [simd.splat_f32s(0.0); A];
        for y in 0..A {
            column[y] = from.get(simd, y, x);
        }
        half.set(x, F::input(simd, column));
    }
    for y in 0..A {
        // SAFETY: all columns are set.
        let row = F::input(simd, unsafe { half.row(y) });
        for x in 0..A {
            to.put(simd, y, x, row[x]);
        }
    }
}

/// `G g G'`.
#[inline(always)]
pub(super) fn weights<S: Simd, F: Filter<A, M>, const A: usize, const M: usize>(
    simd: S,
    from: &impl Source<S>,
    to: &impl Sink<S>,
) {
    let mut half = Half::<S::f32s, A, 3>::new();
    for x in 0..3 {
        half.set(x, F::weight(simd, [from.get(simd, 0, x), from.get(simd, 1, x), from.get(simd, 2, x)]));
    }
    for y in 0..A {
        // SAFETY: all columns are set.
        let row = F::weight(simd, unsafe { half.row(y) });
        for x in 0..A {
            to.put(simd, y, x, row[x]);
        }
    }
}

/// `A' m A`.
#[inline(always)]
pub(super) fn back<S: Simd, F: Filter<A, M>, const A: usize, const M: usize>(
    simd: S,
    from: &impl Source<S>,
    to: &impl Sink<S>,
) {
    let mut half = Half::<S::f32s, M, A>::new();
    for x in 0..A {
        let mut column = [simd.splat_f32s(0.0); A];
        for y in 0..A {
            column[y] = from.get(simd, y, x);
        }
        half.set(x, F::output(simd, column));
    }
    for y in 0..M {
        // SAFETY: all columns are set.
        let row = F::output(simd, unsafe { half.row(y) });
        for x in 0..M {
            to.put(simd, y, x, row[x]);
        }
    }
}
