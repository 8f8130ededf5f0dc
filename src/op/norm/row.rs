//! Layer normalisation (Ba, Kiros and Hinton 2016; ONNX LayerNormalization) and RMS normalisation (Zhang and Sennrich 2019) of rows.

use super::Affine;
use crate::op::activation::Activation;
use crate::op::matrix::Cpu;
use crate::op::tasks;
use pulp::{Simd, WithSimd};

/// Floats of the rows of one task.
const TASK: usize = 32 * 1024;

/// Every row of `width` numbers gets mean 0 and variance 1 (`centred`), or mean square 1, before [`Affine`] and activation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowNorm {
    /// Rows in all.
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// Rows that share a row of the affine's `scale` and `shift`.
    pub(crate) rows_per_batch: usize,
    /// Whether the mean is subtracted: layer normalisation; without it, RMS normalisation.
    pub(crate) centred: bool,
    /// Added to the variance or the mean square.
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
}

impl RowNorm {
    /// Bytes of scratch that [`RowNorm::run`] takes.
    pub(crate) fn scratch_bytes(&self) -> usize {
        2 * self.batches() * self.width * size_of::<f32>()
    }

    /// `output = activation(affine(norm(input)))`, both `(rows, width)`.
    ///
    /// # Panics
    /// When the sizes do not fit each other or `scratch` is shorter than [`RowNorm::scratch_bytes`].
    pub(crate) fn run(&self, cpu: Cpu, input: &[f32], affine: &Affine, output: &mut [f32], scratch: &mut [f32]) {
        let width = self.width;
        assert_eq!(input.len(), self.rows * width, "input of {self:?}");
        assert_eq!(output.len(), input.len(), "output of {self:?}");
        assert!(self.rows_per_batch > 0, "rows of {self:?}");
        affine.check(self.batches(), width);
        if input.is_empty() {
            return;
        }
        let lines = &mut scratch[..2 * self.batches() * width];
        for (batch, lines) in lines.chunks_mut(2 * width).enumerate() {
            for channel in 0..width {
                let (factor, term) = affine.channel(batch, channel);
                (lines[channel], lines[width + channel]) = (factor as f32, term as f32);
            }
        }
        tasks::runs(cpu.threads, output, (TASK / width).max(1) * width, |start, output| {
            let (input, first) = (&input[start..][..output.len()], start / width);
            cpu.arch.dispatch(Task { norm: self, input, lines, first, output });
        });
    }

    fn batches(&self) -> usize {
        self.rows.div_ceil(self.rows_per_batch.max(1))
    }
}

struct Task<'a> {
    norm: &'a RowNorm,
    input: &'a [f32],
    /// Factor and term of every channel, by batch.
    lines: &'a [f32],
    /// Index of the first row.
    first: usize,
    output: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.norm.width;
        for (index, (row, out)) in self.input.chunks_exact(width).zip(self.output.chunks_exact_mut(width)).enumerate() {
            let batch = (self.first + index) / self.norm.rows_per_batch;
            normalise(simd, self.norm, row, &self.lines[batch * 2 * width..][..2 * width], out);
        }
    }
}

/// Sum of `x - centre` and of its square.
#[inline(always)]
fn sums<S: Simd>(simd: S, row: &[f32], centre: f32) -> (f32, f32) {
    let middle = centre;
    let centre = simd.splat_f32s(middle);
    let (body, tail) = S::as_simd_f32s(row);
    let zero = simd.splat_f32s(0.0);
    let (mut sum, mut square) = ([zero; 4], [zero; 4]);
    let (quads, rest) = pulp::as_arrays::<4, _>(body);
    for quad in quads {
        for lane in 0..4 {
            let x = simd.sub_f32s(quad[lane], centre);
            sum[lane] = simd.add_f32s(sum[lane], x);
            square[lane] = simd.mul_add_e_f32s(x, x, square[lane]);
        }
    }
    for &x in rest {
        let x = simd.sub_f32s(x, centre);
        sum[0] = simd.add_f32s(sum[0], x);
        square[0] = simd.mul_add_e_f32s(x, x, square[0]);
    }
    let (mut tail_sum, mut tail_square) = (0.0, 0.0);
    for &x in tail {
        let x = x - middle;
        tail_sum += x;
        tail_square += x * x;
    }
    (total(simd, sum) + tail_sum, total(simd, square) + tail_square)
}

#[inline(always)]
fn total<S: Simd>(simd: S, v: [S::f32s; 4]) -> f32 {
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(v[0], v[1]), simd.add_f32s(v[2], v[3])))
}

#[inline(always)]
fn normalise<S: Simd>(simd: S, norm: &RowNorm, row: &[f32], lines: &[f32], out: &mut [f32]) {
    let count = row.len() as f64;
    let centre = if norm.centred { (f64::from(sums(simd, row, 0.0).0) / count) as f32 } else { 0.0 };
    let (rest, square) = sums(simd, row, centre);
    // What is left of the differences corrects the rounded mean.
    let correction = if norm.centred { f64::from(rest) / count } else { 0.0 };
    let variance = (f64::from(square) / count - correction * correction).max(0.0);
    let inverse = simd.splat_f32s((1.0 / (variance + f64::from(norm.epsilon)).sqrt()) as f32);
    let statistics = [simd.splat_f32s(centre), simd.splat_f32s(correction as f32), inverse];
    let (factors, terms) = lines.split_at(row.len());
    let ((xs, x_tail), (fs, f_tail), (ts, t_tail)) =
        (S::as_simd_f32s(row), S::as_simd_f32s(factors), S::as_simd_f32s(terms));
    let (to, to_tail) = S::as_mut_simd_f32s(out);
    for ((to, &x), (&f, &t)) in to.iter_mut().zip(xs).zip(fs.iter().zip(ts)) {
        *to = apply(simd, x, statistics, [f, t], norm.activation);
    }
    if !x_tail.is_empty() {
        let x = simd.partial_load_f32s(x_tail);
        let line = [simd.partial_load_f32s(f_tail), simd.partial_load_f32s(t_tail)];
        simd.partial_store_f32s(to_tail, apply(simd, x, statistics, line, norm.activation));
    }
}

#[inline(always)]
fn apply<S: Simd>(
    simd: S,
    x: S::f32s,
    [centre, correction, inverse]: [S::f32s; 3],
    [factor, term]: [S::f32s; 2],
    activation: Activation,
) -> S::f32s {
    let x = simd.sub_f32s(simd.sub_f32s(x, centre), correction);
    activation.apply(simd, simd.mul_add_e_f32s(simd.mul_f32s(x, inverse), factor, term))
}
