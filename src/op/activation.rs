//! Functions of single numbers that follow another op inside its kernel.

use super::simd::{Lanes, clamp, erf, sigmoid, tanh};
use pulp::Simd;
use serde::{Deserialize, Serialize};

/// What is applied to every number of a result.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) enum Activation {
    /// `x`.
    #[default]
    None,
    /// `x / (1 + e^-x)`, also called swish.
    Silu,
    /// `x * (1 + erf(x / sqrt(2))) / 2`.
    Gelu,
    /// GELU by `tanh(sqrt(2 / pi) * (x + 0.044715 x^3))`.
    GeluTanh,
    /// `x / (1 + e^(-1.702 x))`, CLIP's GELU.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x`, times the slope where it is negative.
    LeakyRelu(f32),
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `min(max(x, lo), hi)`.
    Clamp {
        /// Least value.
        lo: f32,
        /// Greatest value.
        hi: f32,
    },
    /// `clamp(alpha x + beta, 0, 1)` (ONNX HardSigmoid).
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `x * clamp(x / 6 + 1/2, 0, 1)`.
    HardSwish,
    /// `x`, `alpha (e^x - 1)` where it is negative.
    Elu(f32),
}

impl Activation {
    /// The function of every lane of `v`. NaN stays NaN.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, simd: S, v: S::f32s) -> S::f32s {
        match self {
            Activation::None => v,
            Activation::Silu => simd.mul_f32s(v, sigmoid(simd, v)),
            Activation::Gelu => {
                let normal = erf(simd, scaled(simd, v, std::f32::consts::FRAC_1_SQRT_2));
                let half = scaled(simd, v, 0.5);
                simd.mul_add_e_f32s(half, normal, half)
            }
            Activation::GeluTanh => simd.mul_f32s(v, sigmoid(simd, gelu_tanh_inner(simd, v))),
            Activation::QuickGelu => simd.mul_f32s(v, sigmoid(simd, scaled(simd, v, 1.702))),
            Activation::Relu => negative(simd, v, simd.splat_f32s(0.0)),
            Activation::LeakyRelu(slope) => negative(simd, v, scaled(simd, v, slope)),
            Activation::Sigmoid => sigmoid(simd, v),
            Activation::Tanh => tanh(simd, v),
            Activation::Clamp { lo, hi } => clamp(simd, v, lo, hi),
            Activation::HardSigmoid { alpha, beta } => hard_sigmoid(simd, v, alpha, beta),
            Activation::HardSwish => simd.mul_f32s(v, hard_sigmoid(simd, v, 1.0 / 6.0, 0.5)),
            Activation::Elu(alpha) => {
                // e^x - 1 = 2 t / (1 - t) with t = tanh(x / 2) loses nothing near 0.
                let t = tanh(simd, scaled(simd, v, 0.5));
                let below = simd.div_f32s(t, simd.sub_f32s(simd.splat_f32s(1.0), t));
                negative(simd, v, simd.mul_f32s(below, simd.splat_f32s(2.0 * alpha)))
            }
        }
    }

    /// The same function in f64, straight from its definition.
    pub(crate) fn real(self, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let below = |x: f64, other: f64| if x < 0.0 { other } else { x };
        match self {
            Activation::None => x,
            Activation::Silu => x * sigmoid(x),
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::Relu => below(x, 0.0),
            Activation::LeakyRelu(slope) => below(x, f64::from(slope) * x),
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::Clamp { lo, hi } => held(x, lo.into(), hi.into()),
            Activation::HardSigmoid { alpha, beta } => held(f64::from(alpha) * x + f64::from(beta), 0.0, 1.0),
            Activation::HardSwish => x * held(x / 6.0 + 0.5, 0.0, 1.0),
            Activation::Elu(alpha) => below(x, f64::from(alpha) * x.exp_m1()),
        }
    }
}

impl Lanes for Activation {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, v: S::f32s) -> S::f32s {
        self.apply(simd, v)
    }
}

/// `min(max(x, low), high)`, NaN staying NaN.
fn held(x: f64, low: f64, high: f64) -> f64 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

// Functions, not closures: a closure is not compiled for the vector unit of its caller.
#[inline(always)]
fn scaled<S: Simd>(simd: S, v: S::f32s, factor: f32) -> S::f32s {
    simd.mul_f32s(v, simd.splat_f32s(factor))
}

/// `below` where `v` is negative, `v` elsewhere.
#[inline(always)]
fn negative<S: Simd>(simd: S, v: S::f32s, below: S::f32s) -> S::f32s {
    simd.select_f32s(simd.less_than_f32s(v, simd.splat_f32s(0.0)), below, v)
}

/// `2 sqrt(2 / pi) * (v + 0.044715 v^3)`: its sigmoid is `(1 + tanh(half of it)) / 2`.
#[inline(always)]
fn gelu_tanh_inner<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    let square = simd.mul_f32s(v, v);
    let factor = simd.mul_add_e_f32s(square, simd.splat_f32s(0.071_354_82), simd.splat_f32s(1.595_769));
    simd.mul_f32s(v, factor)
}

#[inline(always)]
fn hard_sigmoid<S: Simd>(simd: S, v: S::f32s, alpha: f32, beta: f32) -> S::f32s {
    let line = simd.mul_add_e_f32s(v, simd.splat_f32s(alpha), simd.splat_f32s(beta));
    clamp(simd, line, 0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::simd::{Map, tests::paths};

    const ALL: [Activation; 13] = [
        Activation::None,
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Relu,
        Activation::LeakyRelu(0.125),
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Clamp { lo: -0.75, hi: 1.5 },
        Activation::HardSigmoid { alpha: 0.25, beta: 0.5 },
        Activation::HardSwish,
        Activation::Elu(0.5),
    ];

    #[test]
    fn every_activation_is_its_definition() {
        let input: Vec<f32> = (-12_000..=12_001).map(|i| i as f32 / 1000.0).collect();
        for (activation, arch) in ALL.into_iter().flat_map(|a| paths().map(|arch| (a, arch))) {
            let mut output = vec![0.0; input.len()];
            arch.dispatch(Map { f: activation, input: &input, output: &mut output });
            for (&x, &y) in input.iter().zip(&output) {
                let expected = activation.real(x.into());
                let bound = 1e-6 * expected.abs() + 3e-7 * f64::from(x).abs().clamp(1e-3, 4.0);
                assert!((f64::from(y) - expected).abs() <= bound, "{activation:?}({x}) = {y}, {expected} expected");
            }
        }
    }

    #[test]
    fn nan_stays_nan() {
        for (activation, arch) in ALL.into_iter().flat_map(|a| paths().map(|arch| (a, arch))) {
            let mut output = [0.0; 11];
            arch.dispatch(Map { f: activation, input: &[f32::NAN; 11], output: &mut output });
            assert!(output.iter().all(|y| y.is_nan()), "{activation:?}");
        }
    }
}
