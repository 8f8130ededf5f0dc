//! Pooling of `(N, H, W, C)`: ONNX MaxPool and AveragePool over two axes.

use super::tasks;
use crate::engine::Threads;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What becomes of the numbers under the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PoolKind {
    /// The greatest; padding is never it.
    Max,
    /// The mean; padding counts as zeros or not at all.
    Average { count_pad: bool },
}

/// A window that moves over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) kind: PoolKind,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Before (top, left) and behind (bottom, right).
    pub(crate) pads: [[usize; 2]; 2],
}

impl Pool {
    /// Pictures of `from` (height, width) to pictures of `to`, all dense. A window over nothing gives minus infinity, or the mean 0.
    ///
    /// # Panics
    /// When the sizes do not fit each other.
    pub(crate) fn run(
        &self,
        threads: &Threads,
        channels: usize,
        (input, from): (&[f32], [usize; 2]),
        (output, to): (&mut [f32], [usize; 2]),
    ) {
        if output.is_empty() {
            return;
        }
        let (picture, [rows, columns]) = (from[0] * from[1] * channels, to);
        assert!(picture > 0 && input.len().is_multiple_of(picture), "input of {self:?} from {from:?}");
        assert_eq!(output.len(), input.len() / picture * rows * columns * channels, "output of {self:?} to {to:?}");
        tasks::runs(threads, output, columns * channels, |start, output| {
            let row = start / (columns * channels);
            let picture = &input[row / rows * picture..][..picture];
            for (column, out) in output.chunks_exact_mut(channels).enumerate() {
                self.pixel((picture, from), [row % rows, column], out);
            }
        });
    }

    fn pixel(&self, (picture, from): (&[f32], [usize; 2]), place: [usize; 2], out: &mut [f32]) {
        let [ys, xs] = [0, 1].map(|axis| self.span(axis, from[axis], place[axis]));
        out.fill(if self.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 });
        for (y, x) in ys.clone().flat_map(|y| xs.clone().map(move |x| (y, x))) {
            let pixel = &picture[(y * from[1] + x) * out.len()..][..out.len()];
            match self.kind {
                PoolKind::Max => greater(out, pixel),
                PoolKind::Average { .. } => out.iter_mut().zip(pixel).for_each(|(out, x)| *out += x),
            }
        }
        if let PoolKind::Average { count_pad } = self.kind {
            let seen = ys.len() * xs.len();
            let count =
                if count_pad { self.padded(0, from[0], place[0]) * self.padded(1, from[1], place[1]) } else { seen };
            out.iter_mut().for_each(|out| *out /= count.max(1) as f32);
        }
    }

    /// What the window at `place` sees of an axis of `length`.
    fn span(&self, axis: usize, length: usize, place: usize) -> Range<usize> {
        let (first, pad) = (place * self.stride[axis], self.pads[0][axis]);
        let held = |at: usize| at.saturating_sub(pad).min(length);
        held(first)..held(first + self.kernel[axis])
    }

    /// How much of the window at `place` lies over an axis of `length` and its padding.
    fn padded(&self, axis: usize, length: usize, place: usize) -> usize {
        let whole = self.pads[0][axis] + length + self.pads[1][axis];
        whole.saturating_sub(place * self.stride[axis]).min(self.kernel[axis])
    }
}

/// NaN is greater than all.
fn greater(out: &mut [f32], pixel: &[f32]) {
    for (out, &x) in out.iter_mut().zip(pixel) {
        if x.is_nan() || x > *out {
            *out = x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{close, noise, threads};

    const BATCHES: usize = 2;
    const CHANNELS: usize = 5;
    const FROM: [usize; 2] = [7, 9];

    fn reference(pool: &Pool, [rows, columns]: [usize; 2], input: &[f32]) -> Vec<f64> {
        let mut out = Vec::new();
        for n in 0..BATCHES * rows * columns * CHANNELS {
            let (c, x, y) = (n % CHANNELS, n / CHANNELS % columns, n / CHANNELS / columns % rows);
            let batch = n / CHANNELS / columns / rows;
            let (mut numbers, mut padding) = (Vec::new(), 0);
            for (dy, dx) in (0..pool.kernel[0]).flat_map(|dy| (0..pool.kernel[1]).map(move |dx| (dy, dx))) {
                let at = [y * pool.stride[0] + dy, x * pool.stride[1] + dx];
                let [row, column] = [0, 1].map(|i| at[i].checked_sub(pool.pads[0][i]).filter(|&at| at < FROM[i]));
                match (row, column) {
                    (Some(y), Some(x)) => {
                        numbers.push(f64::from(input[((batch * FROM[0] + y) * FROM[1] + x) * CHANNELS + c]))
                    }
                    _ if (0..2).all(|i| at[i] < pool.pads[0][i] + FROM[i] + pool.pads[1][i]) => padding += 1,
                    _ => (),
                }
            }
            let sum: f64 = numbers.iter().sum();
            out.push(match pool.kind {
                PoolKind::Max => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                PoolKind::Average { count_pad: true } => sum / (numbers.len() + padding) as f64,
                PoolKind::Average { count_pad: false } => sum / numbers.len() as f64,
            });
        }
        out
    }

    #[test]
    fn windows_strides_and_pads() {
        let input = noise(BATCHES * FROM[0] * FROM[1] * CHANNELS, 4);
        for kind in [PoolKind::Max, PoolKind::Average { count_pad: true }, PoolKind::Average { count_pad: false }] {
            for (kernel, stride, pads, to) in [
                ([2, 2], [2, 2], [[0; 2]; 2], [3, 4]),
                ([2, 2], [2, 2], [[0; 2]; 2], [4, 5]),
                ([3, 3], [1, 1], [[1; 2]; 2], FROM),
                ([3, 3], [2, 2], [[1; 2], [0; 2]], [4, 5]),
                ([3, 2], [2, 1], [[2, 0], [1, 1]], [4, 9]),
                ([7, 9], [1, 1], [[0; 2]; 2], [1, 1]),
            ] {
                let pool = Pool { kind, kernel, stride, pads };
                let expected = reference(&pool, to, &input);
                for count in [1, 2] {
                    let mut output = vec![7.0; expected.len()];
                    pool.run(&threads(count), CHANNELS, (&input, FROM), (&mut output, to));
                    close(&output, &expected, 1e-13, &format!("{pool:?} to {to:?}"));
                }
            }
        }
    }

    #[test]
    fn windows_over_nothing_are_no_panic() {
        let pool = Pool { kind: PoolKind::Max, kernel: [1; 2], stride: [1; 2], pads: [[1; 2]; 2] };
        let mut output = [7.0; 9];
        pool.run(&threads(1), 1, (&[5.0], [1, 1]), (&mut output, [3, 3]));
        assert_eq!((output[0], output[4]), (f32::NEG_INFINITY, 5.0));
        let mean = Pool { kind: PoolKind::Average { count_pad: false }, ..pool };
        mean.run(&threads(1), 1, (&[5.0], [1, 1]), (&mut output, [3, 3]));
        assert_eq!((output[0], output[4]), (0.0, 5.0));
    }
}
