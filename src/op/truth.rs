//! Questions about numbers and truths, answered by the bytes 0 and 1; operands are broadcast by views.

use super::movement::{Seen, map, zip};
use super::number::Number;
use crate::engine::Threads;
use serde::{Deserialize, Serialize};

/// About one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Predicate {
    IsNan,
    /// Whether it is 0.
    Not,
}

/// About two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// About two truths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
}

impl Predicate {
    /// The output dense.
    ///
    /// # Panics
    /// When the output has another volume than the view.
    pub(crate) fn run<T: Number>(self, threads: &Threads, x: Seen<T>, output: &mut [u8]) {
        match self {
            Predicate::IsNan => map(threads, x, output, |x| u8::from(x.is_nan())),
            Predicate::Not => map(threads, x, output, |x| u8::from(x == T::ZERO)),
        }
    }
}

impl Comparison {
    /// The output dense, the views of one shape.
    ///
    /// # Panics
    /// When shapes differ.
    pub(crate) fn run<T: Number>(self, threads: &Threads, a: Seen<T>, b: Seen<T>, output: &mut [u8]) {
        match self {
            Comparison::Equal => zip(threads, a, b, output, |a, b| u8::from(a == b)),
            Comparison::Less => zip(threads, a, b, output, |a, b| u8::from(a < b)),
            Comparison::LessOrEqual => zip(threads, a, b, output, |a, b| u8::from(a <= b)),
            Comparison::Greater => zip(threads, a, b, output, |a, b| u8::from(a > b)),
            Comparison::GreaterOrEqual => zip(threads, a, b, output, |a, b| u8::from(a >= b)),
        }
    }
}

impl Logic {
    /// The output dense, the views of one shape.
    ///
    /// # Panics
    /// When shapes differ.
    pub(crate) fn run(self, threads: &Threads, a: Seen<u8>, b: Seen<u8>, output: &mut [u8]) {
        match self {
            Logic::And => zip(threads, a, b, output, |a, b| u8::from(a != 0 && b != 0)),
            Logic::Or => zip(threads, a, b, output, |a, b| u8::from(a != 0 || b != 0)),
            Logic::Xor => zip(threads, a, b, output, |a, b| u8::from((a != 0) != (b != 0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::threads;
    use crate::op::view::View;

    #[test]
    fn numbers_are_compared() {
        let view = View::dense(&[4]);
        let mut output = [7; 4];
        for (op, expected) in [
            (Comparison::Equal, [0, 1, 0, 0]),
            (Comparison::Less, [1, 0, 0, 0]),
            (Comparison::LessOrEqual, [1, 1, 0, 0]),
            (Comparison::Greater, [0, 0, 1, 0]),
            (Comparison::GreaterOrEqual, [0, 1, 1, 0]),
        ] {
            op.run(&threads(1), (&[1.0, 2.0, 3.0, f32::NAN], &view), (&[2.0; 4], &view), &mut output);
            assert_eq!(output, expected, "{op:?}");
        }
        let big = 1i64 << 60;
        Comparison::Less.run(&threads(1), (&[big; 4], &view), (&[big + 1; 4], &view), &mut output);
        assert_eq!(output, [1; 4], "bits that f64 does not have");
    }

    #[test]
    fn truths_are_joined() {
        let view = View::dense(&[3]);
        let mut output = [7; 3];
        for (op, expected) in [(Logic::And, [1, 0, 0]), (Logic::Or, [1, 1, 0]), (Logic::Xor, [0, 1, 0])] {
            op.run(&threads(1), (&[1, 1, 0], &view), (&[1, 0, 0], &view), &mut output);
            assert_eq!(output, expected, "{op:?}");
        }
        Predicate::Not.run(&threads(1), (&[1u8, 1, 0], &view), &mut output);
        assert_eq!(output, [0, 0, 1]);
        Predicate::IsNan.run(&threads(1), (&[1.0, f32::NAN, 0.0], &view), &mut output);
        assert_eq!(output, [0, 1, 0]);
    }
}
