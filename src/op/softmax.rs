//! Softmax along one axis.

use super::matrix::Cpu;
use super::simd::exp_negative;
use super::tasks;
use pulp::{Simd, WithSimd};

/// Numbers of one task.
const TASK: usize = 16 * 1024;
/// Vectors that are summed in f32.
const BLOCK: usize = 64;

/// `e^(x - max) / sum`, over the middle of `(outer, length, inner)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Softmax {
    pub(crate) outer: usize,
    pub(crate) length: usize,
    pub(crate) inner: usize,
}

impl Softmax {
    /// Writes all of `output`, both dense.
    ///
    /// # Panics
    /// When the sizes do not fit each other.
    pub(crate) fn run(&self, cpu: Cpu, input: &[f32], output: &mut [f32]) {
        let each = self.length * self.inner;
        assert_eq!(input.len(), self.outer * each, "input of {self:?}");
        assert_eq!(output.len(), input.len(), "output of {self:?}");
        if input.is_empty() {
            return;
        }
        tasks::runs(cpu.threads, output, (TASK / each).max(1) * each, |start, output| {
            let input = &input[start..][..output.len()];
            if self.inner == 1 {
                cpu.arch.dispatch(Rows { length: self.length, input, output });
            } else {
                input.chunks(each).zip(output.chunks_mut(each)).for_each(|(x, y)| self.columns(x, y));
            }
        });
    }

    fn columns(&self, input: &[f32], output: &mut [f32]) {
        for column in 0..self.inner {
            let numbers = || input[column..].iter().step_by(self.inner);
            let most = numbers().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = numbers().map(|x| f64::from(libm::expf(x - most))).sum();
            let inverse = (1.0 / sum) as f32;
            for (y, x) in output[column..].iter_mut().step_by(self.inner).zip(numbers()) {
                *y = libm::expf(x - most) * inverse;
            }
        }
    }
}

struct Rows<'a> {
    length: usize,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (row, out) in self.input.chunks_exact(self.length).zip(self.output.chunks_exact_mut(self.length)) {
            let most = greatest(simd, row);
            let sum = weights(simd, row, most, out);
            let inverse = (1.0 / sum) as f32;
            out.iter_mut().for_each(|y| *y *= inverse);
        }
    }
}

#[inline(always)]
fn greatest<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let (body, tail) = S::as_simd_f32s(row);
    let mut most = simd.splat_f32s(f32::NEG_INFINITY);
    for &x in body {
        most = simd.max_f32s(x, most);
    }
    tail.iter().copied().fold(simd.reduce_max_f32s(most), f32::max)
}

/// `e^(x - most)` and its sum.
#[inline(always)]
fn weights<S: Simd>(simd: S, row: &[f32], most: f32, out: &mut [f32]) -> f64 {
    let ((body, tail), (to, to_tail)) = (S::as_simd_f32s(row), S::as_mut_simd_f32s(out));
    let centre = simd.splat_f32s(most);
    let mut total = 0f64;
    for (to, body) in to.chunks_mut(BLOCK).zip(body.chunks(BLOCK)) {
        let mut sum = simd.splat_f32s(0.0);
        for (to, &x) in to.iter_mut().zip(body) {
            *to = exp_negative(simd, simd.sub_f32s(x, centre));
            sum = simd.add_f32s(sum, *to);
        }
        total += f64::from(simd.reduce_sum_f32s(sum));
    }
    if !tail.is_empty() {
        let power = exp_negative(simd, simd.sub_f32s(simd.partial_load_f32s(tail), centre));
        simd.partial_store_f32s(to_tail, power);
        total += to_tail.iter().copied().map(f64::from).sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::simd::tests::paths;
    use crate::op::testing::{close, noise, threads};

    #[test]
    fn any_axis() {
        for (outer, length, inner) in [(1, 1, 1), (300, 77, 1), (3, 5000, 1), (4, 13, 6), (1, 3, 20)] {
            let input: Vec<f32> = noise(outer * length * inner, 6).iter().map(|x| 5.0 * x + 100.0).collect();
            for arch in paths() {
                let mut expected = vec![0.0; input.len()];
                for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
                    let at = |n| (o * length + n) * inner + i;
                    let sum: f64 = (0..length).map(|n| (f64::from(input[at(n)]) - 100.0).exp()).sum();
                    for n in 0..length {
                        let x = f64::from(input[at(n)]) - 100.0;
                        expected[at(n)] = x.exp() / sum;
                    }
                }
                let softmax = Softmax { outer, length, inner };
                let run = |count| {
                    let mut output = vec![7.0; input.len()];
                    softmax.run(Cpu { arch, threads: &threads(count) }, &input, &mut output);
                    output
                };
                close(&run(1), &expected, 1e-11, &format!("{softmax:?}"));
                assert!(run(1) == run(2), "threads changed {softmax:?}");
            }
        }
    }
}
