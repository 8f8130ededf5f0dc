//! Functions of two numbers, broadcast by views, as ONNX defines them.

use super::movement::zip;
use super::view::View;
use crate::engine::Threads;

/// Arithmetic: two numbers to one of the same type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    /// Integers towards 0; by 0 gives 0.
    Div,
    /// Integers wrap; a negative integer power is that of a float, cut.
    Pow,
    /// NaN if either is.
    Min,
    Max,
    /// The remainder with the divisor's sign.
    Mod,
    /// The remainder with the dividend's sign.
    Fmod,
    /// The first, times the second where it is negative.
    PRelu,
}

/// A truth about two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A truth about two truths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
}

/// A buffer and what is seen of it.
pub(crate) type Seen<'a, T> = (&'a [T], &'a View);

impl Arithmetic {
    /// On floats; the output dense, the views of one shape.
    ///
    /// # Panics
    /// When shapes differ.
    pub(crate) fn run_f32(self, threads: &Threads, a: Seen<f32>, b: Seen<f32>, output: &mut [f32]) {
        match self {
            Arithmetic::Add => zip(threads, a, b, output, |a, b| a + b),
            Arithmetic::Sub => zip(threads, a, b, output, |a, b| a - b),
            Arithmetic::Mul => zip(threads, a, b, output, |a, b| a * b),
            Arithmetic::Div => zip(threads, a, b, output, |a, b| a / b),
            Arithmetic::Pow => zip(threads, a, b, output, power),
            Arithmetic::Min => zip(threads, a, b, output, |a, b| if a.is_nan() || a < b { a } else { b }),
            Arithmetic::Max => zip(threads, a, b, output, |a, b| if a.is_nan() || a > b { a } else { b }),
            Arithmetic::Mod => zip(threads, a, b, output, |a, b| {
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            }),
            Arithmetic::Fmod => zip(threads, a, b, output, |a, b| a % b),
            Arithmetic::PRelu => zip(threads, a, b, output, |a, b| if a < 0.0 { a * b } else { a }),
        }
    }

    /// On integers; sums and products wrap.
    ///
    /// # Panics
    /// As [`Arithmetic::run_f32`].
    pub(crate) fn run_i64(self, threads: &Threads, a: Seen<i64>, b: Seen<i64>, output: &mut [i64]) {
        match self {
            Arithmetic::Add => zip(threads, a, b, output, i64::wrapping_add),
            Arithmetic::Sub => zip(threads, a, b, output, i64::wrapping_sub),
            Arithmetic::Mul => zip(threads, a, b, output, i64::wrapping_mul),
            Arithmetic::Div => zip(threads, a, b, output, |a, b| if b == 0 { 0 } else { a.wrapping_div(b) }),
            Arithmetic::Pow => zip(threads, a, b, output, |a, b| match u32::try_from(b) {
                Ok(b) => a.wrapping_pow(b),
                Err(_) => libm::pow(a as f64, b as f64) as i64,
            }),
            Arithmetic::Min => zip(threads, a, b, output, i64::min),
            Arithmetic::Max => zip(threads, a, b, output, i64::max),
            Arithmetic::Mod => zip(threads, a, b, output, |a, b| {
                let rest = if b == 0 { 0 } else { a.wrapping_rem(b) };
                if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
            }),
            Arithmetic::Fmod => zip(threads, a, b, output, |a, b| if b == 0 { 0 } else { a.wrapping_rem(b) }),
            Arithmetic::PRelu => zip(threads, a, b, output, |a, b| if a < 0 { a.wrapping_mul(b) } else { a }),
        }
    }
}

fn power(a: f32, b: f32) -> f32 {
    match b {
        2.0 => a * a,
        0.5 => a.sqrt(),
        1.0 => a,
        _ => libm::powf(a, b),
    }
}

impl Comparison {
    /// On floats or integers; the output dense.
    ///
    /// # Panics
    /// When shapes differ.
    pub(crate) fn run<T: Copy + Sync + PartialOrd>(
        self,
        threads: &Threads,
        a: Seen<T>,
        b: Seen<T>,
        output: &mut [bool],
    ) {
        match self {
            Comparison::Equal => zip(threads, a, b, output, |a, b| a == b),
            Comparison::Less => zip(threads, a, b, output, |a, b| a < b),
            Comparison::LessOrEqual => zip(threads, a, b, output, |a, b| a <= b),
            Comparison::Greater => zip(threads, a, b, output, |a, b| a > b),
            Comparison::GreaterOrEqual => zip(threads, a, b, output, |a, b| a >= b),
        }
    }
}

impl Logic {
    /// On truths; the output dense.
    ///
    /// # Panics
    /// When shapes differ.
    pub(crate) fn run(self, threads: &Threads, a: Seen<bool>, b: Seen<bool>, output: &mut [bool]) {
        match self {
            Logic::And => zip(threads, a, b, output, |a, b| a & b),
            Logic::Or => zip(threads, a, b, output, |a, b| a | b),
            Logic::Xor => zip(threads, a, b, output, |a, b| a ^ b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::threads;

    fn floats(op: Arithmetic, a: [f32; 6], b: [f32; 3]) -> Vec<f32> {
        let view = View::dense(&[2, 3]);
        let row = View::dense(&[3]).broadcast(&[2, 3]).unwrap();
        let mut output = vec![0.0; 6];
        op.run_f32(&threads(1), (&a, &view), (&b, &row), &mut output);
        output
    }

    #[test]
    fn floats_are_computed_as_onnx_says() {
        let (a, b) = ([7.0, -7.0, 2.0, -1.0, 4.0, 0.0], [3.0, 3.0, -0.5]);
        for (op, expected) in [
            (Arithmetic::Add, [10.0, -4.0, 1.5, 2.0, 7.0, -0.5]),
            (Arithmetic::Sub, [4.0, -10.0, 2.5, -4.0, 1.0, 0.5]),
            (Arithmetic::Mul, [21.0, -21.0, -1.0, -3.0, 12.0, 0.0]),
            (Arithmetic::Min, [3.0, -7.0, -0.5, -1.0, 3.0, -0.5]),
            (Arithmetic::Max, [7.0, 3.0, 2.0, 3.0, 4.0, 0.0]),
            (Arithmetic::Mod, [1.0, 2.0, 0.0, 2.0, 1.0, 0.0]),
            (Arithmetic::Fmod, [1.0, -1.0, 0.0, -1.0, 1.0, 0.0]),
            (Arithmetic::PRelu, [7.0, -21.0, 2.0, -3.0, 4.0, 0.0]),
        ] {
            assert_eq!(floats(op, a, b), expected, "{op:?}");
        }
        assert_eq!(floats(Arithmetic::Pow, [2.0, 3.0, 4.0, 3.0, 1.0, 9.0], [3.0, 2.0, 0.5])[..3], [8.0, 9.0, 2.0]);
        assert!(floats(Arithmetic::Min, [f32::NAN; 6], [1.0; 3])[0].is_nan());
        assert!(floats(Arithmetic::Max, [1.0; 6], [f32::NAN; 3])[0].is_nan());
    }

    #[test]
    fn integers_never_panic() {
        let view = View::dense(&[5]);
        let (a, b) = ([7, -7, i64::MIN, 3, 2], [0, 3, -1, -2, 63]);
        for (op, expected) in [
            (Arithmetic::Div, [0, -2, i64::MIN, -1, 0]),
            (Arithmetic::Mod, [0, 2, 0, -1, 2]),
            (Arithmetic::Fmod, [0, -1, 0, 1, 2]),
            (Arithmetic::Pow, [1, -343, 0, 0, i64::MIN]),
        ] {
            let mut output = [9; 5];
            op.run_i64(&threads(1), (&a, &view), (&b, &view), &mut output);
            assert_eq!(output, expected, "{op:?}");
        }
    }

    #[test]
    fn truths() {
        let view = View::dense(&[3]);
        let mut output = [false; 3];
        for (op, expected) in [
            (Comparison::Equal, [false, true, false]),
            (Comparison::Less, [true, false, false]),
            (Comparison::LessOrEqual, [true, true, false]),
            (Comparison::Greater, [false, false, true]),
            (Comparison::GreaterOrEqual, [false, true, true]),
        ] {
            op.run(&threads(1), (&[1i64, 2, 3], &view), (&[2, 2, 2], &view), &mut output);
            assert_eq!(output, expected, "{op:?}");
        }
        for (op, expected) in
            [(Logic::And, [true, false, false]), (Logic::Or, [true, true, false]), (Logic::Xor, [false, true, false])]
        {
            op.run(&threads(1), (&[true, true, false], &view), (&[true, false, false], &view), &mut output);
            assert_eq!(output, expected, "{op:?}");
        }
    }
}
