//! Picking by index: ONNX Gather and GatherND. Indices are data: one that points outside is an error, never a read outside.

use super::movement::{Seen, Walk};
use super::view::View;
use crate::error::{Error, ErrorKind, Result};

/// For every one of `indices` what lies there along `axis`; the output dense, the indices in the axis' place.
///
/// # Errors
/// `Mismatch` when an index points outside of the axis.
///
/// # Panics
/// When the sizes do not fit each other.
pub(crate) fn gather<T: Copy>((data, view): Seen<T>, axis: usize, indices: &[i64], output: &mut [T]) -> Result<()> {
    let (outer, inner) = (part(view, 0..axis), part(view, axis + 1..view.shape.len()));
    let places = places(indices, view.shape[axis])?;
    assert_eq!(output.len(), outer.volume() * places.len() * inner.volume(), "output of a gather");
    let mut rows = Rows { data, walk: Walk::new([&inner]), output };
    outer.each(|at| places.iter().for_each(|place| rows.push(view.offset + at + place * view.strides[axis])));
    Ok(())
}

/// For every `depth` of `indices` what lies there along the first `depth` axes; the output dense.
///
/// # Errors
/// As [`gather`].
///
/// # Panics
/// As [`gather`].
pub(crate) fn gather_nd<T: Copy>((data, view): Seen<T>, depth: usize, indices: &[i64], output: &mut [T]) -> Result<()> {
    let inner = part(view, depth..view.shape.len());
    let mut rows = Rows { data, walk: Walk::new([&inner]), output };
    for tuple in indices.chunks(depth.max(1)) {
        let mut at = view.offset;
        for (axis, &index) in tuple.iter().enumerate() {
            at += place(index, view.shape[axis])? * view.strides[axis];
        }
        rows.push(at);
    }
    Ok(())
}

/// Some axes of a view, from element 0.
fn part(view: &View, axes: std::ops::Range<usize>) -> View {
    View { offset: 0, shape: view.shape[axes.clone()].to_vec(), strides: view.strides[axes].to_vec() }
}

/// An output that is filled with one row after the other.
struct Rows<'a, 'b, T> {
    data: &'a [T],
    /// Over a row.
    walk: Walk<1>,
    /// What is not filled yet.
    output: &'b mut [T],
}

impl<T: Copy> Rows<'_, '_, T> {
    /// Appends the row that begins at `at`.
    fn push(&mut self, at: usize) {
        let Walk { length, step: [step], .. } = self.walk;
        for row in 0..if length == 0 { 0 } else { self.walk.rows() } {
            let [within] = self.walk.row(row);
            let (out, rest) = std::mem::take(&mut self.output).split_at_mut(length);
            let from = &self.data[at + within..];
            match step {
                1 => out.copy_from_slice(&from[..length]),
                _ => out.iter_mut().enumerate().for_each(|(n, out)| *out = from[n * step]),
            }
            self.output = rest;
        }
    }
}

/// The places that indices mean, which count from the end where they are negative.
///
/// # Errors
/// `Mismatch` when one points outside of an axis of `length`.
pub(crate) fn places(indices: &[i64], length: usize) -> Result<Vec<usize>> {
    indices.iter().map(|&index| place(index, length)).collect()
}

fn place(index: i64, length: usize) -> Result<usize> {
    let from_front = if index < 0 { index.saturating_add(length as i64) } else { index };
    usize::try_from(from_front).ok().filter(|&place| place < length).ok_or_else(|| {
        Error::new(ErrorKind::Mismatch, format!("index {index} points outside of an axis of length {length}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_picked_and_outside_is_an_error() {
        let data: Vec<i32> = (0..12).collect();
        let view = View::dense(&[2, 3, 2]);
        let mut output = [0; 8];
        gather((&data, &view), 1, &[2, -3], &mut output).unwrap();
        assert_eq!(output, [4, 5, 0, 1, 10, 11, 6, 7]);
        gather((&data, &view.permuted(&[1, 2, 0])), 0, &[1, 0], &mut output).unwrap();
        assert_eq!(output, [2, 8, 3, 9, 0, 6, 1, 7]);
        for index in [3, -4, i64::MIN, i64::MAX] {
            let error = gather((&data, &view), 1, &[index, 0], &mut output).unwrap_err().to_string();
            assert_eq!(error, format!("index {index} points outside of an axis of length 3"));
        }
        gather((&data, &view), 1, &[], &mut []).unwrap();
        gather((&[0; 0], &View::dense(&[3, 0])), 0, &[1, 2], &mut []).unwrap();
    }

    #[test]
    fn tuples_pick_along_the_first_axes() {
        let data: Vec<i32> = (0..12).collect();
        let view = View::dense(&[2, 3, 2]);
        let mut output = [0; 4];
        gather_nd((&data, &view), 2, &[1, -1, 0, 1], &mut output).unwrap();
        assert_eq!(output, [10, 11, 2, 3]);
        gather_nd((&data, &view), 3, &[1, 2, 0, 0, 0, -1, -1, -1, -1, 0, 1, 0], &mut output).unwrap();
        assert_eq!(output, [10, 1, 11, 2]);
        let error = gather_nd((&data, &view), 2, &[2, 0], &mut output).unwrap_err().to_string();
        assert_eq!(error, "index 2 points outside of an axis of length 2");
    }
}
