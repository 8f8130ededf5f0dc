//! The vector unit, chosen once, and the functions that no vector unit has. Coefficients: `tools/python/fit_vector_math.py`.

use pulp::{Arch, Simd, WithSimd};
use std::sync::OnceLock;

/// The widest vector unit of this machine. All that it is given to [`Arch::dispatch`] must be `#[inline(always)]`, and no closure may touch
/// vectors: what is not inlined is not compiled for the unit.
pub(crate) fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(Arch::new)
}

/// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Below it, `exp` is no normal number.
const EXP_LOW: f32 = -87.336_54;
const EXP_P: [f32; 5] = [0.0013814599, 0.008368717, 0.04166839, 0.16666521, 0.49999994];
const TANH_P: [f32; 5] = [-0.0057049873, 0.020639088, -0.053739715, 0.13331442, -0.3333328];
const ERF_P: [f32; 6] = [-5.953762e-4, 0.0049859453, -0.026761724, 0.112816826, -0.3761248, 0.12837915];
const ERFC_P: [f32; 6] = [2.1398495e-4, -0.0032149556, 0.022889964, -0.10526184, -0.6357183, -0.12851436];

/// `p[0] x^(N-1) + ... + p[N-1]`.
#[inline(always)]
pub(crate) fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, p: [f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(p[0]);
    for &coefficient in &p[1..] {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(coefficient));
    }
    sum
}

/// `v` held between `low` and `high`; NaN stays NaN on every machine.
#[inline(always)]
pub(crate) fn clamp<S: Simd>(simd: S, v: S::f32s, low: f32, high: f32) -> S::f32s {
    let (low, high) = (simd.splat_f32s(low), simd.splat_f32s(high));
    let v = simd.select_f32s(simd.less_than_f32s(v, low), low, v);
    simd.select_f32s(simd.less_than_f32s(high, v), high, v)
}

/// `e^x = (1 + r + r^2 P(r)) * 2^n`: the first factor, and `n` in the low bits of a float.
#[inline(always)]
fn exp_parts<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let round = simd.splat_f32s(ROUND);
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_HIGH), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_LOW), r);
    let square = simd.mul_f32s(r, r);
    let p = polynomial(simd, r, EXP_P);
    (simd.add_f32s(simd.mul_add_e_f32s(p, square, r), simd.splat_f32s(1.0)), shifted)
}

/// `2^n` for the `n` in the low bits of `shifted`, -126 to 127.
#[inline(always)]
fn power_of_two<S: Simd>(simd: S, shifted: S::f32s) -> S::f32s {
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(exponent, simd.splat_u32s(127 << 23)))
}

/// `e^x` within 2 ulp, over the whole range: infinity above 88.7, 0 below -104.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (mantissa, shifted) = exp_parts(simd, clamp(simd, x, -104.5, 89.0));
    let round = simd.splat_f32s(ROUND);
    let n = simd.sub_f32s(shifted, round);
    let half = simd.mul_add_e_f32s(n, simd.splat_f32s(0.5), round);
    let rest = simd.add_f32s(simd.sub_f32s(n, simd.sub_f32s(half, round)), round);
    simd.mul_f32s(simd.mul_f32s(mantissa, power_of_two(simd, half)), power_of_two(simd, rest))
}

/// `e^x` for `x <= 0` within 2 ulp; 0 where it would be no normal number, so that a score of minus infinity weighs nothing.
#[inline(always)]
pub(crate) fn exp_negative<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (mantissa, shifted) = exp_parts(simd, x);
    let power = simd.mul_f32s(mantissa, power_of_two(simd, shifted));
    simd.select_f32s(simd.less_than_f32s(x, simd.splat_f32s(EXP_LOW)), simd.splat_f32s(0.0), power)
}

/// `e^x` for `x` in -87 to 88 within 2 ulp.
#[inline(always)]
fn exp_normal<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (mantissa, shifted) = exp_parts(simd, x);
    simd.mul_f32s(mantissa, power_of_two(simd, shifted))
}

/// `1 / (1 + e^-x)` within 3 ulp.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let power = exp_normal(simd, clamp(simd, simd.neg_f32s(x), -87.0, 88.0));
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, power))
}

/// Hyperbolic tangent within 3 ulp.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let square = simd.mul_f32s(x, x);
    let near = simd.mul_add_e_f32s(simd.mul_f32s(polynomial(simd, square, TANH_P), square), x, x);
    let (one, two) = (simd.splat_f32s(1.0), simd.splat_f32s(2.0));
    let magnitude = simd.abs_f32s(x);
    let power = exp_normal(simd, clamp(simd, simd.mul_f32s(magnitude, two), 0.0, 40.0));
    let far = simd.sub_f32s(one, simd.div_f32s(two, simd.add_f32s(power, one)));
    simd.select_f32s(simd.less_than_f32s(magnitude, simd.splat_f32s(0.625)), near, with_sign(simd, far, x))
}

/// The error function within 3 ulp.
#[inline(always)]
pub(crate) fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let square = simd.mul_f32s(x, x);
    let near = simd.mul_add_e_f32s(polynomial(simd, square, ERF_P), x, x);
    let magnitude = simd.abs_f32s(x);
    let held = clamp(simd, magnitude, 0.0, 3.95);
    let exponent = simd.sub_f32s(simd.mul_f32s(polynomial(simd, held, ERFC_P), held), held);
    let far = simd.sub_f32s(simd.splat_f32s(1.0), exp_normal(simd, exponent));
    simd.select_f32s(simd.less_than_f32s(magnitude, simd.splat_f32s(0.93)), near, with_sign(simd, far, x))
}

/// `magnitude`, which is not negative, with the sign of `x`.
#[inline(always)]
fn with_sign<S: Simd>(simd: S, magnitude: S::f32s, x: S::f32s) -> S::f32s {
    simd.or_f32s(magnitude, simd.and_f32s(x, simd.splat_f32s(-0.0)))
}

/// A function of every lane.
pub(crate) trait Lanes: Copy + Send + Sync {
    /// The function of every lane of `v`.
    fn apply<S: Simd>(self, simd: S, v: S::f32s) -> S::f32s;
}

/// `data[i] = f(data[i])`.
#[inline(always)]
pub(crate) fn map_in_place<S: Simd>(simd: S, f: impl Lanes, data: &mut [f32]) {
    let (body, tail) = S::as_mut_simd_f32s(data);
    for v in body {
        *v = f.apply(simd, *v);
    }
    if !tail.is_empty() {
        let v = f.apply(simd, simd.partial_load_f32s(tail));
        simd.partial_store_f32s(tail, v);
    }
}

/// `output[i] = f(input[i])`; equal lengths.
#[inline(always)]
pub(crate) fn map<S: Simd>(simd: S, f: impl Lanes, input: &[f32], output: &mut [f32]) {
    debug_assert_eq!(input.len(), output.len());
    let (body, tail) = S::as_simd_f32s(input);
    let (to, to_tail) = S::as_mut_simd_f32s(output);
    for (to, &v) in to.iter_mut().zip(body) {
        *to = f.apply(simd, v);
    }
    if !tail.is_empty() {
        let v = f.apply(simd, simd.partial_load_f32s(tail));
        simd.partial_store_f32s(to_tail, v);
    }
}

/// A [`Lanes`] over a slice, for [`Arch::dispatch`].
pub(crate) struct Map<'a, F> {
    /// The function.
    pub f: F,
    /// Read.
    pub input: &'a [f32],
    /// Written; as long as `input`.
    pub output: &'a mut [f32],
}

impl<F: Lanes> WithSimd for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        map(simd, self.f, self.input, self.output);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Both paths of every kernel: the widest unit and plain floats.
    pub(crate) fn paths() -> [Arch; 2] {
        [arch(), Arch::Scalar]
    }

    /// |error| in units of the last place of `expected` as f32.
    fn ulps(got: f32, expected: f64) -> f64 {
        let near = (expected as f32).abs().max(f32::MIN_POSITIVE);
        let unit = f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near);
        (f64::from(got) - expected).abs() / unit
    }

    fn check(f: impl Lanes, reference: impl Fn(f64) -> f64, low: f32, high: f32, bound: f64) {
        let count = 100_003;
        let input: Vec<f32> = (0..count).map(|i| low + (high - low) * i as f32 / (count - 1) as f32).collect();
        for arch in paths() {
            let mut output = vec![0.0; input.len()];
            arch.dispatch(Map { f, input: &input, output: &mut output });
            for (&x, &y) in input.iter().zip(&output) {
                let error = ulps(y, reference(f64::from(x)));
                assert!(error <= bound, "f({x}) = {y}, {} expected: {error} ulp", reference(f64::from(x)));
            }
        }
    }

    macro_rules! lanes {
        ($name:ident, $function:path) => {
            #[derive(Clone, Copy)]
            struct $name;
            impl Lanes for $name {
                #[inline(always)]
                fn apply<S: Simd>(self, simd: S, v: S::f32s) -> S::f32s {
                    $function(simd, v)
                }
            }
        };
    }
    lanes!(Exp, exp);
    lanes!(ExpNegative, exp_negative);
    lanes!(Sigmoid, sigmoid);
    lanes!(Tanh, tanh);
    lanes!(Erf, erf);

    #[test]
    fn functions_are_near_their_references() {
        check(Exp, f64::exp, -87.0, 88.7, 2.0);
        check(Exp, f64::exp, -103.0, -87.0, 2.0);
        check(ExpNegative, f64::exp, -87.3, 0.0, 2.0);
        check(Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -86.0, 30.0, 3.0);
        check(Tanh, f64::tanh, -10.0, 10.0, 3.0);
        check(Tanh, f64::tanh, -0.01, 0.01, 2.0);
        check(Erf, libm::erf, -5.0, 5.0, 3.0);
        check(Erf, libm::erf, -0.01, 0.01, 2.0);
    }

    #[test]
    fn edges_are_kept() {
        let input = [f32::NEG_INFINITY, -200.0, -88.0, 0.0, 200.0, f32::INFINITY, f32::NAN];
        for arch in paths() {
            let mut output = [7.0; 7];
            arch.dispatch(Map { f: Exp, input: &input, output: &mut output });
            assert_eq!((output[0], output[1], output[3]), (0.0, 0.0, 1.0));
            assert_eq!((output[4], output[5]), (f32::INFINITY, f32::INFINITY));
            assert!(output[6].is_nan());
            arch.dispatch(Map { f: ExpNegative, input: &input[..4], output: &mut output[..4] });
            assert_eq!(output[..4], [0.0, 0.0, 0.0, 1.0]);
            arch.dispatch(Map { f: Sigmoid, input: &input, output: &mut output });
            assert!(output[0] < 1e-37 && output[5] == 1.0 && output[6].is_nan());
            arch.dispatch(Map { f: Tanh, input: &input, output: &mut output });
            assert!(output[0] == -1.0 && output[3] == 0.0 && output[5] == 1.0 && output[6].is_nan());
            arch.dispatch(Map { f: Erf, input: &input, output: &mut output });
            assert!(output[0] == -1.0 && output[3] == 0.0 && output[5] == 1.0 && output[6].is_nan());
        }
    }
}
