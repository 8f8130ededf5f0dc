//! Pooling of `(N, H, W, C)`: ONNX MaxPool and AveragePool over two axes.

use super::tasks;
use crate::engine::Threads;

/// What becomes of the numbers under the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The greatest; padding is never it.
    Max,
    /// The mean; padding counts as zeros or not at all.
    Average { count_pad: bool },
}

/// Sizes and options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool {
    pub(crate) kind: Kind,
    pub(crate) batches: usize,
    pub(crate) channels: usize,
    /// Height and width.
    pub(crate) input: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Before (top, left) and behind (bottom, right).
    pub(crate) pads: [[usize; 2]; 2],
}

impl Pool {
    /// Height and width of the result, rounded down; 0 where the window does not fit.
    pub(crate) fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = self.input[axis] + self.pads[0][axis] + self.pads[1][axis];
            padded.checked_sub(self.kernel[axis]).map_or(0, |room| room / self.stride[axis] + 1)
        })
    }

    /// Writes all of `output`, both dense.
    ///
    /// # Panics
    /// When the sizes do not fit each other, a stride is 0, or padding is as wide as the window.
    pub(crate) fn run(&self, threads: &Threads, input: &[f32], output: &mut [f32]) {
        let [rows, columns] = self.output();
        let (channels, picture) = (self.channels, self.input[0] * self.input[1] * self.channels);
        assert_eq!(input.len(), self.batches * picture, "input of {self:?}");
        assert_eq!(output.len(), self.batches * rows * columns * channels, "output of {self:?}");
        assert!(self.pads.iter().all(|pads| pads[0] < self.kernel[0] && pads[1] < self.kernel[1]), "pads of {self:?}");
        if output.is_empty() {
            return;
        }
        tasks::runs(threads, output, columns * channels, |start, output| {
            let row = start / (columns * channels);
            let picture = &input[row / rows * picture..][..picture];
            for (column, out) in output.chunks_exact_mut(channels).enumerate() {
                self.pixel(picture, [row % rows, column], out);
            }
        });
    }

    fn pixel(&self, picture: &[f32], place: [usize; 2], out: &mut [f32]) {
        let [ys, xs] = [0, 1].map(|axis| {
            let first = place[axis] * self.stride[axis];
            let (pad, length) = (self.pads[0][axis], self.input[axis]);
            first.saturating_sub(pad).min(length)..(first + self.kernel[axis]).saturating_sub(pad).min(length)
        });
        out.fill(if self.kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 });
        for (y, x) in ys.clone().flat_map(|y| xs.clone().map(move |x| (y, x))) {
            let pixel = &picture[(y * self.input[1] + x) * self.channels..][..self.channels];
            for (out, &x) in out.iter_mut().zip(pixel) {
                *out = match self.kind {
                    Kind::Max => {
                        if x.is_nan() || x > *out {
                            x
                        } else {
                            *out
                        }
                    }
                    Kind::Average { .. } => *out + x,
                };
            }
        }
        if let Kind::Average { count_pad } = self.kind {
            let count = if count_pad { self.kernel[0] * self.kernel[1] } else { ys.len() * xs.len() };
            out.iter_mut().for_each(|out| *out /= count as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{close, noise, threads};

    fn reference(pool: &Pool, input: &[f32]) -> Vec<f64> {
        let ([rows, columns], [height, width]) = (pool.output(), pool.input);
        let mut out = Vec::new();
        for n in 0..pool.batches * rows * columns * pool.channels {
            let (c, x, y) = (n % pool.channels, n / pool.channels % columns, n / pool.channels / columns % rows);
            let batch = n / pool.channels / columns / rows;
            let (mut numbers, mut outside) = (Vec::new(), 0);
            for (dy, dx) in (0..pool.kernel[0]).flat_map(|dy| (0..pool.kernel[1]).map(move |dx| (dy, dx))) {
                let y = (y * pool.stride[0] + dy).checked_sub(pool.pads[0][0]).filter(|&y| y < height);
                let x = (x * pool.stride[1] + dx).checked_sub(pool.pads[0][1]).filter(|&x| x < width);
                match (y, x) {
                    (Some(y), Some(x)) => {
                        numbers.push(f64::from(input[((batch * height + y) * width + x) * pool.channels + c]))
                    }
                    _ => outside += 1,
                }
            }
            let sum: f64 = numbers.iter().sum();
            out.push(match pool.kind {
                Kind::Max => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                Kind::Average { count_pad: true } => sum / (numbers.len() + outside) as f64,
                Kind::Average { count_pad: false } => sum / numbers.len() as f64,
            });
        }
        out
    }

    #[test]
    fn windows_strides_and_pads() {
        for kind in [Kind::Max, Kind::Average { count_pad: true }, Kind::Average { count_pad: false }] {
            for (kernel, stride, pads) in [
                ([2, 2], [2, 2], [[0; 2]; 2]),
                ([3, 3], [1, 1], [[1; 2]; 2]),
                ([3, 2], [2, 1], [[2, 0], [1, 1]]),
                ([7, 9], [1, 1], [[0; 2]; 2]),
            ] {
                let pool = Pool { kind, batches: 2, channels: 5, input: [7, 9], kernel, stride, pads };
                let input = noise(2 * 7 * 9 * 5, 4);
                let expected = reference(&pool, &input);
                for count in [1, 2] {
                    let mut output = vec![7.0; expected.len()];
                    pool.run(&threads(count), &input, &mut output);
                    close(&output, &expected, 1e-13, &format!("{pool:?}"));
                }
            }
        }
        let none = Pool {
            kind: Kind::Max,
            batches: 1,
            channels: 1,
            input: [2, 2],
            kernel: [3, 3],
            stride: [1; 2],
            pads: [[0; 2]; 2],
        };
        assert_eq!(none.output(), [0, 0]);
    }
}
