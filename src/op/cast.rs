//! Numbers in another type: ONNX Cast.

use super::movement::{Seen, Walk};
use super::number::Number;

/// Every number that is seen; the output dense.
///
/// # Panics
/// When the output has another volume than the view.
pub(crate) fn numbers<A: Number, B: Number>(input: Seen<A>, output: &mut [B]) {
    each(input, output, |x| B::narrow(x.wide()));
}

/// 1 for every number but 0; the output dense.
///
/// # Panics
/// As [`numbers`].
pub(crate) fn truths<A: Number>(input: Seen<A>, output: &mut [u8]) {
    each(input, output, |x| u8::from(x != A::ZERO));
}

/// On one thread: there are as many of these loops as there are pairs of types.
fn each<A: Copy, B>((input, view): Seen<A>, output: &mut [B], f: impl Fn(A) -> B) {
    assert_eq!(output.len(), view.volume(), "output of a cast");
    let walk = Walk::new([view]);
    let [step] = walk.step;
    for (row, output) in output.chunks_mut(walk.length.max(1)).enumerate() {
        let [at] = walk.row(row);
        output.iter_mut().enumerate().for_each(|(n, out)| *out = f(input[at + n * step]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::view::View;

    #[test]
    fn every_view_in_another_type() {
        let view = View::dense(&[2, 3]).permuted(&[1, 0]);
        let mut whole = [9i64; 6];
        numbers((&[0.5f32, -1.5, 2.5, f32::INFINITY, -0.0, 3.0], &view), &mut whole);
        assert_eq!(whole, [0, i64::MAX, -1, 0, 2, 3]);
        let mut floats = [9.0f32; 6];
        numbers((&[1u8, 2, 3, 4, 5, 255], &view), &mut floats);
        assert_eq!(floats, [1.0, 4.0, 2.0, 5.0, 3.0, 255.0]);
        let mut truths = [9; 6];
        super::truths((&[0.5f32, -0.0, f32::NAN, 0.0, 1.0, 0.0], &view), &mut truths);
        assert_eq!(truths, [1, 0, 0, 1, 1, 0]);
    }
}
