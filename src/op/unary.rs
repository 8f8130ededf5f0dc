//! Functions of single numbers, as ONNX defines them.

use super::activation::Activation;
use super::matrix::Cpu;
use super::movement::{self, Seen};
use super::number::{Number, Wide};
use super::simd::{Lanes, Map, erf, exp};
use super::tasks;
use crate::engine::Threads;
use pulp::Simd;
use serde::{Deserialize, Serialize};

/// Numbers of one task.
const TASK: usize = 16 * 1024;

/// A function of a number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Unary {
    Activation(Activation),
    Abs,
    Ceil,
    Cos,
    Erf,
    Exp,
    Floor,
    Log,
    Neg,
    Reciprocal,
    /// Halves to even.
    Round,
    /// -1, 0 or 1.
    Sign,
    Sin,
    /// `ln(1 + e^x)`.
    Softplus,
    Sqrt,
}

#[derive(Clone, Copy)]
struct Exp;
#[derive(Clone, Copy)]
struct Erf;

impl Lanes for Exp {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, v: S::f32s) -> S::f32s {
        exp(simd, v)
    }
}

impl Lanes for Erf {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, v: S::f32s) -> S::f32s {
        erf(simd, v)
    }
}

impl Unary {
    /// Of every float that is seen; the output dense.
    ///
    /// # Panics
    /// When the output has another volume than the view.
    pub(crate) fn run(self, cpu: Cpu, input: Seen<f32>, output: &mut [f32]) {
        let each = |output: &mut [f32], f: fn(f32) -> f32| movement::map(cpu.threads, input, output, f);
        match self {
            Unary::Activation(activation) => lanes(cpu, activation, input, output),
            Unary::Exp => lanes(cpu, Exp, input, output),
            Unary::Erf => lanes(cpu, Erf, input, output),
            Unary::Abs => each(output, f32::abs),
            Unary::Ceil => each(output, f32::ceil),
            Unary::Cos => each(output, libm::cosf),
            Unary::Floor => each(output, f32::floor),
            Unary::Log => each(output, libm::logf),
            Unary::Neg => each(output, |x| -x),
            Unary::Reciprocal => each(output, |x| 1.0 / x),
            Unary::Round => each(output, f32::round_ties_even),
            Unary::Sign => each(output, |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }),
            Unary::Sin => each(output, libm::sinf),
            Unary::Softplus => each(output, |x| x.max(0.0) + libm::log1pf(libm::expf(-x.abs()))),
            Unary::Sqrt => each(output, f32::sqrt),
        }
    }

    /// Of every number of another type that is seen; the output dense.
    ///
    /// # Panics
    /// As [`Unary::run`].
    pub(crate) fn run_number<T: Number>(self, threads: &Threads, input: Seen<T>, output: &mut [T]) {
        movement::map(threads, input, output, |x| T::narrow(self.wide(x.wide())));
    }

    fn wide(self, x: Wide) -> Wide {
        match (self, x) {
            (Unary::Abs, Wide::Whole(x)) => Wide::Whole(x.wrapping_abs()),
            (Unary::Neg, Wide::Whole(x)) => Wide::Whole(x.wrapping_neg()),
            (Unary::Sign, Wide::Whole(x)) => Wide::Whole(x.signum()),
            (Unary::Activation(Activation::Relu), Wide::Whole(x)) => Wide::Whole(x.max(0)),
            _ => Wide::Real(self.real(x.real())),
        }
    }

    fn real(self, x: f64) -> f64 {
        match self {
            Unary::Activation(activation) => activation.real(x),
            Unary::Abs => x.abs(),
            Unary::Ceil => x.ceil(),
            Unary::Cos => libm::cos(x),
            Unary::Erf => libm::erf(x),
            Unary::Exp => libm::exp(x),
            Unary::Floor => x.floor(),
            Unary::Log => libm::log(x),
            Unary::Neg => -x,
            Unary::Reciprocal => 1.0 / x,
            Unary::Round => x.round_ties_even(),
            Unary::Sign => {
                if x == 0.0 || x.is_nan() {
                    x
                } else {
                    x.signum()
                }
            }
            Unary::Sin => libm::sin(x),
            Unary::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
            Unary::Sqrt => x.sqrt(),
        }
    }
}

fn lanes(cpu: Cpu, f: impl Lanes, (input, view): Seen<f32>, output: &mut [f32]) {
    if !view.is_dense() {
        movement::gather_dense(cpu.threads, (input, view), output);
        tasks::runs(cpu.threads, output, TASK, |_, output| cpu.arch.dispatch(InPlace { f, data: output }));
        return;
    }
    let input = &input[view.offset..][..output.len()];
    assert_eq!(view.volume(), output.len(), "output of a function");
    tasks::runs(cpu.threads, output, TASK, |start, output| {
        cpu.arch.dispatch(Map { f, input: &input[start..][..output.len()], output });
    });
}

struct InPlace<'a, F> {
    f: F,
    data: &'a mut [f32],
}

impl<F: Lanes> pulp::WithSimd for InPlace<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        super::simd::map_in_place(simd, self.f, self.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::simd::tests::paths;
    use crate::op::testing::{noise, threads};
    use crate::op::view::View;

    type Case = (Unary, fn(f64) -> f64);

    #[test]
    fn every_function_is_its_definition() {
        let cases: [Case; 14] = [
            (Unary::Abs, f64::abs),
            (Unary::Ceil, f64::ceil),
            (Unary::Cos, f64::cos),
            (Unary::Erf, libm::erf),
            (Unary::Exp, f64::exp),
            (Unary::Floor, f64::floor),
            (Unary::Log, f64::ln),
            (Unary::Neg, |x| -x),
            (Unary::Reciprocal, |x| 1.0 / x),
            (Unary::Round, f64::round_ties_even),
            (Unary::Sign, f64::signum),
            (Unary::Sin, f64::sin),
            (Unary::Softplus, |x| x.exp().ln_1p()),
            (Unary::Sqrt, f64::sqrt),
        ];
        let mut input: Vec<f32> = noise(40_000, 3).iter().map(|x| x * 3.0).collect();
        input[..4].copy_from_slice(&[0.5, 1.5, 2.5, -0.5]);
        for view in [View::dense(&[200, 200]), View::dense(&[200, 200]).permuted(&[1, 0])] {
            let mut seen = Vec::new();
            view.each(|at| seen.push(input[at]));
            for ((unary, reference), arch) in cases.iter().flat_map(|case| paths().map(|arch| (case, arch))) {
                let mut output = vec![7.0; 40_000];
                unary.run(Cpu { arch, threads: &threads(2) }, (&input, &view), &mut output);
                for (&x, &y) in seen.iter().zip(&output) {
                    let expected = reference(x.into());
                    let near = (f64::from(y) - expected).abs() <= 4e-7 * expected.abs() + 1e-9;
                    assert!(near || (expected.is_nan() && y.is_nan()), "{unary:?}({x}) = {y}, {expected} expected");
                }
            }
        }
    }

    #[test]
    fn other_types_are_their_own() {
        let view = View::dense(&[4]);
        let mut whole = [9i64; 4];
        let big = (1 << 60) + 1;
        for (unary, expected) in [
            (Unary::Abs, [big, 7, 0, i64::MIN]),
            (Unary::Neg, [-big, 7, 0, i64::MIN]),
            (Unary::Sign, [1, -1, 0, -1]),
            (Unary::Activation(Activation::Relu), [big, 0, 0, 0]),
            (Unary::Activation(Activation::Clamp { lo: -3.0, hi: 5.0 }), [5, -3, 0, -3]),
        ] {
            unary.run_number(&threads(1), (&[big, -7, 0, i64::MIN], &view), &mut whole);
            assert_eq!(whole, expected, "{unary:?}");
        }
        let mut real = [9.0; 4];
        Unary::Exp.run_number(&threads(1), (&[0.0, 1.0, -1.0, f64::NAN], &view), &mut real);
        assert!((real[1] - std::f64::consts::E).abs() < 1e-15 && real[0] == 1.0 && real[3].is_nan());
        Unary::Activation(Activation::Relu).run_number(&threads(1), (&[f64::NAN; 4], &view), &mut real);
        assert!(real[0].is_nan());
    }
}
