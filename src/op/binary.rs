//! Arithmetic of two numbers, broadcast by views, as ONNX defines it.

use super::movement::{Seen, zip};
use super::number::Number;
use crate::engine::Threads;
use crate::error::{Result, fail};
use serde::{Deserialize, Serialize};

/// Two numbers to one of the same type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    /// Integers towards 0.
    Div,
    /// Integers wrap; a negative integer power is that of a float, cut.
    Pow,
    /// NaN if either is.
    Min,
    Max,
    /// The remainder has the divisor's sign; with `fmod`, the dividend's.
    Mod {
        fmod: bool,
    },
    /// The first, times the second where it is negative.
    PRelu,
}

impl Binary {
    /// The output dense, the views of one shape.
    ///
    /// # Errors
    /// `Engine` when an integer is divided by 0.
    ///
    /// # Panics
    /// When shapes differ.
    pub(crate) fn run<T: Number>(self, threads: &Threads, a: Seen<T>, b: Seen<T>, output: &mut [T]) -> Result<()> {
        match self {
            Binary::Add => zip(threads, a, b, output, T::add),
            Binary::Sub => zip(threads, a, b, output, T::sub),
            Binary::Mul => zip(threads, a, b, output, T::mul),
            Binary::Pow => zip(threads, a, b, output, T::pow),
            Binary::Min => zip(threads, a, b, output, |a, b| if a.is_nan() || a < b { a } else { b }),
            Binary::Max => zip(threads, a, b, output, |a, b| if a.is_nan() || a > b { a } else { b }),
            Binary::PRelu => zip(threads, a, b, output, |a, b| {
                // Multiplied whatever the sign: a choice, where a branch would be guessed wrong for every second number.
                let below = a.mul(b);
                if a < T::ZERO { below } else { a }
            }),
            _ if T::WHOLE && has_zero(b) => return fail!(Engine, "a whole number is divided by zero"),
            Binary::Div => zip(threads, a, b, output, T::div),
            Binary::Mod { fmod: false } => zip(threads, a, b, output, T::modulo),
            Binary::Mod { fmod: true } => zip(threads, a, b, output, T::remainder),
        }
        Ok(())
    }
}

fn has_zero<T: Number>((numbers, view): Seen<T>) -> bool {
    let mut zero = false;
    view.each(|at| zero |= numbers[at] == T::ZERO);
    zero
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::threads;
    use crate::op::view::View;

    fn floats(op: Binary, a: [f32; 6], b: [f32; 3]) -> Vec<f32> {
        let view = View::dense(&[2, 3]);
        let row = View::dense(&[3]).broadcast(&[2, 3]).unwrap();
        let mut output = vec![0.0; 6];
        op.run(&threads(1), (&a, &view), (&b, &row), &mut output).unwrap();
        output
    }

    #[test]
    fn floats_are_computed_as_onnx_says() {
        let (a, b) = ([7.0, -7.0, 2.0, -1.0, 4.0, 0.0], [3.0, 3.0, -0.5]);
        for (op, expected) in [
            (Binary::Add, [10.0, -4.0, 1.5, 2.0, 7.0, -0.5]),
            (Binary::Sub, [4.0, -10.0, 2.5, -4.0, 1.0, 0.5]),
            (Binary::Mul, [21.0, -21.0, -1.0, -3.0, 12.0, 0.0]),
            (Binary::Min, [3.0, -7.0, -0.5, -1.0, 3.0, -0.5]),
            (Binary::Max, [7.0, 3.0, 2.0, 3.0, 4.0, 0.0]),
            (Binary::Mod { fmod: false }, [1.0, 2.0, 0.0, 2.0, 1.0, 0.0]),
            (Binary::Mod { fmod: true }, [1.0, -1.0, 0.0, -1.0, 1.0, 0.0]),
            (Binary::PRelu, [7.0, -21.0, 2.0, -3.0, 4.0, 0.0]),
        ] {
            assert_eq!(floats(op, a, b), expected, "{op:?}");
        }
        assert_eq!(floats(Binary::Pow, [2.0, 3.0, 4.0, 3.0, 1.0, 9.0], [3.0, 2.0, 0.5])[..3], [8.0, 9.0, 2.0]);
        assert!(floats(Binary::Min, [f32::NAN; 6], [1.0; 3])[0].is_nan());
        assert!(floats(Binary::Max, [1.0; 6], [f32::NAN; 3])[0].is_nan());
        assert_eq!(floats(Binary::Div, [1.0; 6], [0.0; 3])[0], f32::INFINITY);
    }

    #[test]
    fn integers_are_exact_and_have_no_infinity() {
        let view = View::dense(&[3]);
        let big = (1i64 << 60) + 1;
        let mut output = [9; 3];
        let mut run = |op: Binary, b: [i64; 3]| {
            op.run(&threads(1), (&[big, -7, 7], &view), (&b, &view), &mut output).map(|()| output)
        };
        assert_eq!(run(Binary::Add, [1, 2, 3]).unwrap(), [big + 1, -5, 10]);
        assert_eq!(run(Binary::Div, [1, 2, -2]).unwrap(), [big, -3, -3]);
        assert_eq!(run(Binary::Mod { fmod: false }, [big, 3, -3]).unwrap(), [0, 2, -2]);
        for op in [Binary::Div, Binary::Mod { fmod: false }, Binary::Mod { fmod: true }] {
            let error = run(op, [1, 0, 1]).unwrap_err().to_string();
            assert_eq!(error, "a whole number is divided by zero", "{op:?}");
        }
    }
}
