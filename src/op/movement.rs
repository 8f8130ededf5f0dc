//! Walks over strided views, and what only moves numbers: copies, transposes, parts of concatenations and padding, all said by [`View`]s.

use super::tasks;
use super::view::View;
use crate::engine::Threads;

/// Elements of one task.
const TASK: usize = 16 * 1024;
/// Side of the squares in which a transpose is cut.
const SQUARE: usize = 16;

/// A buffer and what is seen of it.
pub(crate) type Seen<'a, T> = (&'a [T], &'a View);

/// The places of `N` views of one shape, in row-major order, in rows as long as their strides allow.
#[derive(Debug, Clone)]
pub(crate) struct Walk<const N: usize> {
    /// Outer axes.
    axes: Vec<(usize, [usize; N])>,
    start: [usize; N],
    /// Elements of a row.
    pub(crate) length: usize,
    /// Strides inside a row.
    pub(crate) step: [usize; N],
}

impl<const N: usize> Walk<N> {
    /// # Panics
    /// When the shapes differ.
    pub(crate) fn new(views: [&View; N]) -> Walk<N> {
        let shape = &views[0].shape;
        assert!(views.iter().all(|view| view.shape == *shape), "views of one shape");
        let mut axes: Vec<(usize, [usize; N])> = Vec::new();
        for (axis, &length) in shape.iter().enumerate().filter(|(_, length)| **length != 1) {
            let step = views.map(|view| view.strides[axis]);
            match axes.last_mut() {
                Some((outer, strides)) if (0..N).all(|i| strides[i] == step[i] * length) => {
                    (*outer, *strides) = (*outer * length, step);
                }
                _ => axes.push((length, step)),
            }
        }
        let (length, step) = axes.pop().unwrap_or((1, [1; N]));
        Walk { axes, start: views.map(|view| view.offset), length, step }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.axes.iter().map(|(length, _)| length).product()
    }

    /// Where row `index` begins in each view.
    pub(crate) fn row(&self, mut index: usize) -> [usize; N] {
        let mut at = self.start;
        for (length, strides) in self.axes.iter().rev() {
            for (at, stride) in at.iter_mut().zip(strides) {
                *at += index % length * stride;
            }
            index /= length;
        }
        at
    }

    /// Calls `visit(at, step, first, out)` for every stretch of a row, `out` being its part of the dense result, whose place in it is `first`.
    pub(crate) fn fill<T: Send>(
        &self,
        threads: &Threads,
        output: &mut [T],
        visit: impl Fn([usize; N], &mut [T]) + Sync,
    ) {
        assert_eq!(output.len(), self.rows() * self.length, "output of a walk");
        tasks::runs(threads, output, TASK, |first, mut output| {
            let mut place = first;
            while !output.is_empty() {
                let (row, column) = (place / self.length, place % self.length);
                let (out, rest) = output.split_at_mut((self.length - column).min(output.len()));
                let mut at = self.row(row);
                (0..N).for_each(|i| at[i] += column * self.step[i]);
                place += out.len();
                visit(at, out);
                output = rest;
            }
        });
    }
}

/// `output[i] = f(a[i])`, the output dense.
///
/// # Panics
/// When the output has another volume than the view, or the view leaves its buffer.
pub(crate) fn map<A: Copy + Sync, T: Send>(
    threads: &Threads,
    (a, view): Seen<A>,
    output: &mut [T],
    f: impl Fn(A) -> T + Sync,
) {
    let walk = Walk::new([view]);
    let [step] = walk.step;
    walk.fill(threads, output, |[at], out| match step {
        0 => out.iter_mut().for_each(|out| *out = f(a[at])),
        1 => out.iter_mut().zip(&a[at..]).for_each(|(out, &a)| *out = f(a)),
        _ => out.iter_mut().zip(a[at..].iter().step_by(step)).for_each(|(out, &a)| *out = f(a)),
    });
}

/// `output[i] = f(a[i], b[i])`, the output dense.
///
/// # Panics
/// As [`map`], and when the shapes differ.
pub(crate) fn zip<A: Copy + Sync, B: Copy + Sync, T: Send>(
    threads: &Threads,
    (a, a_view): Seen<A>,
    (b, b_view): Seen<B>,
    output: &mut [T],
    f: impl Fn(A, B) -> T + Sync,
) {
    let walk = Walk::new([a_view, b_view]);
    let step = walk.step;
    walk.fill(threads, output, |[i, j], out| match step {
        [1, 1] => out.iter_mut().zip(a[i..].iter().zip(&b[j..])).for_each(|(out, (&a, &b))| *out = f(a, b)),
        [1, 0] => {
            let b = b[j];
            out.iter_mut().zip(&a[i..]).for_each(|(out, &a)| *out = f(a, b));
        }
        [0, 1] => {
            let a = a[i];
            out.iter_mut().zip(&b[j..]).for_each(|(out, &b)| *out = f(a, b));
        }
        [s, t] => out.iter_mut().enumerate().for_each(|(n, out)| *out = f(a[i + n * s], b[j + n * t])),
    });
}

/// `output[i] = if condition[i] != 0 { a[i] } else { b[i] }`, the output dense.
///
/// # Panics
/// As [`zip`].
pub(crate) fn select<T: Copy + Send + Sync>(
    threads: &Threads,
    (condition, c_view): Seen<u8>,
    (a, a_view): Seen<T>,
    (b, b_view): Seen<T>,
    output: &mut [T],
) {
    let walk = Walk::new([c_view, a_view, b_view]);
    let [r, s, t] = walk.step;
    walk.fill(threads, output, |[h, i, j], out| {
        for (n, out) in out.iter_mut().enumerate() {
            *out = if condition[h + n * r] != 0 { a[i + n * s] } else { b[j + n * t] };
        }
    });
}

/// The elements that are seen, dense.
///
/// # Panics
/// As [`map`].
pub(crate) fn gather_dense<T: Copy + Send + Sync>(threads: &Threads, (input, view): Seen<T>, output: &mut [T]) {
    let walk = Walk::new([view]);
    match transposed(&walk) {
        Some(axis) => transpose(threads, &walk, axis, input, output),
        None => map(threads, (input, view), output, |x| x),
    }
}

/// The outer axis that lies contiguous in the input while rows do not.
fn transposed(walk: &Walk<1>) -> Option<usize> {
    if walk.step[0] < 2 || walk.length < SQUARE {
        return None;
    }
    // Only the innermost of the outer axes: the rows of a square then lie one after the other in the output.
    walk.axes
        .iter()
        .position(|&(length, [stride])| stride == 1 && length >= SQUARE)
        .filter(|&a| a + 1 == walk.axes.len())
}

fn transpose<T: Copy + Send + Sync>(threads: &Threads, walk: &Walk<1>, axis: usize, input: &[T], output: &mut [T]) {
    let (rows, columns, step) = (walk.axes[axis].0, walk.length, walk.step[0]);
    assert_eq!(output.len(), walk.rows() * columns, "output of a transpose");
    let stripes = output.chunks_mut(rows * columns).flat_map(|matrix| matrix.chunks_mut(SQUARE * columns)).collect();
    let each = rows.div_ceil(SQUARE);
    tasks::pieces(threads, stripes, |index, stripe: &mut [T]| {
        let [at] = walk.row(index / each * rows + index % each * SQUARE);
        let count = stripe.len() / columns;
        for first in (0..columns).step_by(SQUARE) {
            for column in first..(first + SQUARE).min(columns) {
                let line = &input[at + column * step..][..count];
                line.iter().enumerate().for_each(|(row, &x)| stripe[row * columns + column] = x);
            }
        }
    });
}

/// Copies what is seen of `input` to where `to` points: a part of a concatenation, the middle of a padded value.
///
/// # Panics
/// When the shapes differ, a view leaves its buffer, or `to` is no slice of a value without gaps.
pub(crate) fn copy<T: Copy + Send + Sync>(threads: &Threads, (input, from): Seen<T>, output: &mut [T], to: &View) {
    let order = to.memory_order();
    let (from, to) = (from.permuted(&order), to.permuted(&order));
    let output = &mut output[to.offset..to.extent()];
    if to.volume() == 0 {
        return;
    }
    if to.is_dense() {
        return gather_dense(threads, (input, &from), output);
    }
    let walk = Walk::new([&from, &View { offset: 0, ..to }]);
    scatter(threads, &walk, input, output);
}

/// Rows to their places, in tasks that each have a range of the output to themselves.
fn scatter<T: Copy + Send + Sync>(threads: &Threads, walk: &Walk<2>, input: &[T], output: &mut [T]) {
    let (count, [_, stride]) = walk.axes.first().copied().unwrap_or((1, [0, output.len()]));
    let inner = walk.rows() / count;
    let tasks = (TASK / (inner * walk.length)).max(1);
    tasks::runs(threads, output, tasks * stride, |start, output| {
        let first = start / stride;
        for row in first * inner..(first + output.len().div_ceil(stride)) * inner {
            let [i, o] = walk.row(row);
            let to = &mut output[o - start..];
            match walk.step {
                [1, 1] => to[..walk.length].copy_from_slice(&input[i..][..walk.length]),
                [s, t] => (0..walk.length).for_each(|n| to[n * t] = input[i + n * s]),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::threads;

    fn seen(view: &View) -> Vec<usize> {
        let mut places = Vec::new();
        view.each(|at| places.push(at));
        places
    }

    #[test]
    fn every_view_is_copied_in_order() {
        let input: Vec<usize> = (0..300_000).collect();
        let dense = View::dense(&[3, 200, 70]);
        for view in [
            dense.clone(),
            dense.permuted(&[0, 2, 1]),
            dense.permuted(&[2, 1, 0]),
            dense.permuted(&[1, 2, 0]),
            dense.sliced(1, 3, 2, 90).permuted(&[0, 2, 1]),
            View::dense(&[1, 70]).broadcast(&[5, 41, 70]).unwrap(),
            View::dense(&[70, 1]).broadcast(&[2, 70, 33]).unwrap(),
            View::dense(&[]),
            View::dense(&[4, 0, 3]),
        ] {
            for count in [1, 2] {
                let mut output = vec![usize::MAX; view.volume()];
                gather_dense(&threads(count), (&input, &view), &mut output);
                assert_eq!(output, seen(&view), "{view:?}");
            }
        }
    }

    #[test]
    fn operands_are_met_pairwise() {
        let (a, b) = ([1i64, 2, 3, 4, 5, 6], [10i64, 20, 30]);
        let view = View::dense(&[2, 3]);
        let mut output = [0; 6];
        let row = View::dense(&[3]).broadcast(&[2, 3]).unwrap();
        zip(&threads(1), (&a, &view), (&b, &row), &mut output, |a, b| a + b);
        assert_eq!(output, [11, 22, 33, 14, 25, 36]);
        let column = View::dense(&[2, 1]).broadcast(&[2, 3]).unwrap();
        zip(&threads(1), (&b, &column), (&a, &view), &mut output, |b, a| a + b);
        assert_eq!(output, [11, 12, 13, 24, 25, 26]);
        select(&threads(1), (&[1, 0, 1], &row), (&a, &view), (&b, &row), &mut output);
        assert_eq!(output, [1, 20, 3, 4, 20, 6]);
    }

    #[test]
    fn parts_go_to_their_places() {
        let mut output = [0; 8];
        let whole = View::dense(&[2, 4]);
        copy(&threads(1), (&[1, 2], &View::dense(&[2, 1])), &mut output, &whole.sliced(1, 3, 1, 1));
        copy(&threads(1), (&[3, 4, 5, 6], &View::dense(&[2, 2])), &mut output, &whole.sliced(1, 0, 1, 2));
        assert_eq!(output, [3, 4, 0, 1, 5, 6, 0, 2]);
    }

    #[test]
    fn parts_of_any_layout_on_any_threads() {
        let input: Vec<usize> = (1..=2 * 30 * 40 * 20).collect();
        let shape = [2, 20, 30, 40];
        let last = [0, 2, 3, 1];
        for (from, order) in [[0, 1, 2, 3], last].into_iter().flat_map(|from| [(from, [0, 1, 2, 3]), (from, last)]) {
            let from = View::ordered(&shape, &from);
            for (axis, start) in [(0, 1), (1, 5), (2, 0), (3, 3)] {
                let mut wider = shape;
                wider[axis] += 7;
                let to = View::ordered(&wider, &order).sliced(axis, start, 1, shape[axis]);
                let mut expected = vec![0; wider.iter().product()];
                seen(&from).into_iter().zip(seen(&to)).for_each(|(i, o)| expected[o] = input[i]);
                for count in [1, 2] {
                    let mut output = vec![0; expected.len()];
                    copy(&threads(count), (&input, &from), &mut output, &to);
                    assert!(output == expected, "{from:?} to {to:?}");
                }
            }
        }
        copy(&threads(1), (&input, &View::dense(&[0, 3])), &mut [], &View::dense(&[0, 3]));
        let mut one = [0; 3];
        copy(&threads(1), (&input, &View::dense(&[])), &mut one, &View { offset: 2, ..View::dense(&[]) });
        assert_eq!(one, [0, 0, 1]);
    }
}
