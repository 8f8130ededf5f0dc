//! Sums, means, extremes over axes; the accumulator is f64, and no sum is cut by the number of threads.

use super::movement::{Seen, Walk};
use super::number::{Number, Wide};
use super::tasks;
use super::view::View;
use crate::engine::Threads;
use serde::{Deserialize, Serialize};

/// Numbers read by one task.
const TASK: usize = 16 * 1024;

/// What becomes of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reduce {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    /// Root of the sum of squares.
    L2,
}

impl Reduce {
    /// Over `axes` of what `view` sees; the output dense over the other axes, in their order. Of no numbers: 0, 1, infinities or NaN.
    ///
    /// # Panics
    /// When an axis does not exist or the output has another volume than the other axes.
    pub(crate) fn run<T: Number>(self, threads: &Threads, (input, view): Seen<T>, axes: &[usize], output: &mut [T]) {
        let (kept, reduced) = parts(view, axes);
        let (outer, count) = (Walk::new([&kept]), reduced.volume());
        assert_eq!(output.len(), kept.volume(), "output of a reduction");
        let walk = Walk::new([&reduced]);
        tasks::runs(threads, output, (TASK / count.max(1)).max(1), |start, output| {
            for (index, out) in output.iter_mut().enumerate() {
                let place = start + index;
                let at = outer.row(place / outer.length)[0] + place % outer.length * outer.step[0];
                *out = self.all(input.get(at..).unwrap_or_default(), &walk, count);
            }
        });
    }

    fn all<T: Number>(self, input: &[T], walk: &Walk<1>, count: usize) -> T {
        let mut sum = Fold { kind: self, value: self.start() };
        for row in 0..if count == 0 { 0 } else { walk.rows() } {
            let [at] = walk.row(row);
            match walk.step {
                [1] => sum.add(input[at..][..walk.length].iter().copied()),
                [step] => sum.add((0..walk.length).map(|n| input[at + n * step])),
            }
        }
        T::narrow(Wide::Real(match self {
            Reduce::Mean => sum.value / count as f64,
            Reduce::L2 => sum.value.sqrt(),
            _ => sum.value,
        }))
    }

    fn start(self) -> f64 {
        match self {
            Reduce::Sum | Reduce::Mean | Reduce::L2 => 0.0,
            Reduce::Prod => 1.0,
            Reduce::Max => f64::NEG_INFINITY,
            Reduce::Min => f64::INFINITY,
        }
    }
}

struct Fold {
    kind: Reduce,
    value: f64,
}

impl Fold {
    fn add<T: Number>(&mut self, numbers: impl Iterator<Item = T>) {
        let (start, numbers) = (self.value, numbers.map(|x| x.wide().real()));
        self.value = match self.kind {
            Reduce::Sum | Reduce::Mean => numbers.fold(start, |a, b| a + b),
            Reduce::L2 => numbers.fold(start, |a, b| b.mul_add(b, a)),
            Reduce::Prod => numbers.fold(start, |a, b| a * b),
            Reduce::Max => numbers.fold(start, |a, b| if a.is_nan() || a > b { a } else { b }),
            Reduce::Min => numbers.fold(start, |a, b| if a.is_nan() || a < b { a } else { b }),
        };
    }
}

/// The axes that stay, with the offset, and those that go, from 0 and in memory order.
fn parts(view: &View, axes: &[usize]) -> (View, View) {
    assert!(axes.iter().all(|&axis| axis < view.shape.len()), "axes {axes:?} of {view:?}");
    let (mut gone, kept): (Vec<usize>, Vec<usize>) = (0..view.shape.len()).partition(|axis| axes.contains(axis));
    gone.sort_by_key(|&axis| std::cmp::Reverse(view.strides[axis]));
    (view.permuted(&kept), View { offset: 0, ..view.permuted(&gone) })
}

/// Index of the greatest number along `axis`, the first or the last of equals; the output dense over the other axes.
///
/// # Panics
/// When the axis does not exist, is empty, or the output has another volume than the other axes.
pub(crate) fn arg_max<T: Number>((input, view): Seen<T>, axis: usize, last: bool, output: &mut [i64]) {
    let (kept, reduced) = parts(view, &[axis]);
    let (length, stride) = (reduced.shape[0], reduced.strides[0]);
    assert!(length > 0 && output.len() == kept.volume(), "output of the greatest of {view:?}");
    let mut output = output.iter_mut();
    kept.each(|at| {
        let mut best = 0;
        for index in 1..length {
            let (new, old) = (input[at + index * stride], input[at + best * stride]);
            if new > old || (last && new == old) {
                best = index;
            }
        }
        if let Some(out) = output.next() {
            *out = best as i64;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{close, noise, threads};

    #[test]
    fn any_axes_of_any_view() {
        let input = noise(3 * 5 * 7 * 4, 8);
        let dense = View::dense(&[3, 5, 7, 4]);
        for (view, axes) in [
            (dense.clone(), vec![3]),
            (dense.clone(), vec![1, 2]),
            (dense.permuted(&[0, 3, 1, 2]), vec![2, 3]),
            (dense.clone(), vec![0, 1, 2, 3]),
            (dense.sliced(2, 1, 2, 3), vec![0, 2]),
        ] {
            let (kept, reduced) = parts(&view, &axes);
            for kind in [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min, Reduce::Prod, Reduce::L2] {
                let mut expected = Vec::new();
                kept.each(|at| {
                    let mut numbers = Vec::new();
                    reduced.each(|n| numbers.push(f64::from(input[at + n])));
                    let count = numbers.len() as f64;
                    expected.push(match kind {
                        Reduce::Sum => numbers.iter().sum(),
                        Reduce::Mean => numbers.iter().sum::<f64>() / count,
                        Reduce::Max => numbers.iter().copied().fold(f64::MIN, f64::max),
                        Reduce::Min => numbers.iter().copied().fold(f64::MAX, f64::min),
                        Reduce::Prod => numbers.iter().product(),
                        Reduce::L2 => numbers.iter().map(|x| x * x).sum::<f64>().sqrt(),
                    });
                });
                let mut output = vec![7.0f32; expected.len()];
                kind.run(&threads(2), (&input, &view), &axes, &mut output);
                close(&output, &expected, 1e-13, &format!("{kind:?} {axes:?}"));
            }
        }
    }

    #[test]
    fn the_greatest_is_found() {
        let mut output = [9; 2];
        let view = View::dense(&[2, 4]);
        arg_max((&[1i64, 5, 5, 2, 3, 0, 0, 3], &view), 1, false, &mut output);
        assert_eq!(output, [1, 0]);
        arg_max((&[1.0, 5.0, 5.0, 2.0, 3.0, 0.0, 0.0, 3.0], &view), 1, true, &mut output);
        assert_eq!(output, [2, 3]);
    }

    #[test]
    fn whole_numbers_and_nothing() {
        let mut output = [9i64; 2];
        let view = View::dense(&[2, 3]);
        Reduce::Sum.run(&threads(1), (&[1, 2, 3, -4, 0, 1], &view), &[1], &mut output);
        assert_eq!(output, [6, -3]);
        Reduce::Mean.run(&threads(1), (&[1, 2, 4, -4, 0, 1], &view), &[1], &mut output);
        assert_eq!(output, [2, -1], "cut towards 0");
        let mut ones = [9.0f32; 2];
        Reduce::Prod.run(&threads(1), (&[], &View::dense(&[2, 0])), &[1], &mut ones);
        assert_eq!(ones, [1.0; 2]);
    }
}
