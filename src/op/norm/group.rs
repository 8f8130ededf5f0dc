//! Group normalisation (Wu and He 2018; ONNX GroupNormalization) of `(N, HW, C)`.

use super::Affine;
use crate::op::activation::Activation;
use crate::op::matrix::Cpu;
use crate::op::tasks;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Floats of a block, whose statistics are taken in the second-level cache.
const BLOCK: usize = 32 * 1024;

/// Every group of `channels / groups` channels of a picture gets mean 0 and variance 1, before [`Affine`] and activation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupNorm {
    pub(crate) batches: usize,
    /// Pixels of a picture.
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
    pub(crate) groups: usize,
    /// Added to the variance.
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
}

impl GroupNorm {
    /// Bytes of scratch that [`GroupNorm::run`] takes.
    pub(crate) fn scratch_bytes(&self) -> usize {
        (self.statistics() + 3 * self.batches * self.channels) * size_of::<f32>()
    }

    /// `output = activation(affine(norm(input)))`, both `(N, HW, C)`.
    ///
    /// # Panics
    /// When the sizes do not fit each other or `scratch` is shorter than [`GroupNorm::scratch_bytes`].
    pub(crate) fn run(&self, cpu: Cpu, input: &[f32], affine: &Affine, output: &mut [f32], scratch: &mut [f32]) {
        let (picture, channels) = (self.pixels * self.channels, self.channels);
        assert_eq!(input.len(), self.batches * picture, "input of {self:?}");
        assert_eq!(output.len(), input.len(), "output of {self:?}");
        assert!(self.groups > 0 && channels.is_multiple_of(self.groups), "groups of {self:?}");
        affine.check(self.batches, channels);
        if input.is_empty() {
            return;
        }
        let (statistics, rest) = scratch.split_at_mut(self.statistics());
        let lines = &mut rest[..3 * self.batches * channels];
        let blocks: Vec<&[f32]> = input.chunks(picture).flat_map(|picture| picture.chunks(self.block())).collect();
        tasks::runs(cpu.threads, statistics, 3 * channels, |start, moments| {
            cpu.arch.dispatch(Moments { block: blocks[start / (3 * channels)], moments });
        });
        for (batch, lines) in lines.chunks_mut(3 * channels).enumerate() {
            let each = self.blocks() * 3 * channels;
            self.join(&statistics[batch * each..][..each], affine, batch, lines);
        }
        let to = output.chunks_mut(picture).flat_map(|picture| picture.chunks_mut(self.block())).collect();
        tasks::pieces(cpu.threads, to, |index, output: &mut [f32]| {
            let lines = &lines[index / self.blocks() * 3 * channels..][..3 * channels];
            cpu.arch.dispatch(Apply { input: blocks[index], lines, activation: self.activation, output });
        });
    }

    /// Floats of a block: whole pixels.
    fn block(&self) -> usize {
        (BLOCK / self.channels).clamp(1, self.pixels.max(1)) * self.channels
    }

    /// Blocks of a picture.
    fn blocks(&self) -> usize {
        (self.pixels * self.channels).div_ceil(self.block())
    }

    fn statistics(&self) -> usize {
        self.batches * self.blocks() * 3 * self.channels
    }

    /// From the moments of the blocks of one picture: for every channel the centre, the factor and the term.
    fn join(&self, moments: &[f32], affine: &Affine, batch: usize, lines: &mut [f32]) {
        let (channels, width) = (self.channels, self.channels / self.groups);
        let rows = |block: usize| (self.block() / channels).min(self.pixels - block * (self.block() / channels)) as f64;
        for group in 0..self.groups {
            let range = group * width..(group + 1) * width;
            let (mut sum, mut squares) = (0f64, 0f64);
            let mean_of = |moments: &[f32], c: usize| f64::from(moments[c]) + f64::from(moments[channels + c]);
            for (block, moments) in moments.chunks(3 * channels).enumerate() {
                sum += range.clone().map(|c| mean_of(moments, c)).sum::<f64>() * rows(block);
            }
            let count = (self.pixels * width) as f64;
            let mean = sum / count;
            for (block, moments) in moments.chunks(3 * channels).enumerate() {
                let spread: f64 = range.clone().map(|c| (mean_of(moments, c) - mean).powi(2)).sum();
                squares += spread * rows(block);
                squares += moments[2 * channels..][range.clone()].iter().copied().map(f64::from).sum::<f64>();
            }
            let inverse = 1.0 / (squares / count + f64::from(self.epsilon)).sqrt();
            for channel in range {
                let (factor, term) = affine.channel(batch, channel);
                let centre = mean as f32;
                lines[channel] = centre;
                lines[channels + channel] = (factor * inverse) as f32;
                lines[2 * channels + channel] = (term + (f64::from(centre) - mean) * factor * inverse) as f32;
            }
        }
    }
}

/// Mean of every channel in a block, what rounding took from it, and its sum of squared deviations from it.
struct Moments<'a> {
    block: &'a [f32],
    /// Three rows.
    moments: &'a mut [f32],
}

impl WithSimd for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.moments.len() / 3;
        let step = 4 * S::F32_LANES;
        let whole = channels - channels % step;
        for start in (0..whole).step_by(step) {
            moments::<S, 4>(simd, self.block, channels, start..start + step, self.moments);
        }
        for start in (whole..channels).step_by(S::F32_LANES) {
            let end = (start + S::F32_LANES).min(channels);
            moments::<S, 1>(simd, self.block, channels, start..end, self.moments);
        }
    }
}

/// As [`Moments`], for the channels of `range`, at most `V` vectors.
#[inline(always)]
fn moments<S: Simd, const V: usize>(simd: S, block: &[f32], channels: usize, range: Range<usize>, moments: &mut [f32]) {
    let (width, lanes) = (range.len(), S::F32_LANES);
    let rows = || block.chunks_exact(channels);
    let mut sums = [simd.splat_f32s(0.0); V];
    for row in rows() {
        let row = load::<S, V>(simd, &row[range.clone()]);
        for v in 0..V {
            sums[v] = simd.add_f32s(sums[v], row[v]);
        }
    }
    let share = simd.splat_f32s(1.0 / rows().len() as f32);
    let mut mean = sums;
    for mean in &mut mean {
        *mean = simd.mul_f32s(*mean, share);
    }
    let (mut rest, mut square) = ([simd.splat_f32s(0.0); V], [simd.splat_f32s(0.0); V]);
    for row in rows() {
        let row = load::<S, V>(simd, &row[range.clone()]);
        for v in 0..V {
            let difference = simd.sub_f32s(row[v], mean[v]);
            rest[v] = simd.add_f32s(rest[v], difference);
            square[v] = simd.mul_add_e_f32s(difference, difference, square[v]);
        }
    }
    for v in 0..V {
        // What is left of the differences corrects the rounded mean; the squares shrink by its square times the rows.
        let correction = simd.mul_f32s(rest[v], share);
        let square = simd.sub_f32s(square[v], simd.mul_f32s(correction, rest[v]));
        for (line, value) in [mean[v], correction, square].into_iter().enumerate() {
            let line = &mut moments[line * channels..][range.clone()];
            simd.partial_store_f32s(&mut line[(v * lanes).min(width)..], value);
        }
    }
}

/// A row of at most `V` vectors, zeros behind its end.
#[inline(always)]
fn load<S: Simd, const V: usize>(simd: S, row: &[f32]) -> [S::f32s; V] {
    let mut vectors = [simd.splat_f32s(0.0); V];
    if row.len() == V * S::F32_LANES {
        vectors.copy_from_slice(S::as_simd_f32s(row).0);
    } else {
        for (vector, part) in vectors.iter_mut().zip(row.chunks(S::F32_LANES)) {
            *vector = simd.partial_load_f32s(part);
        }
    }
    vectors
}

/// `activation((x - centre) * factor + term)` by channel.
struct Apply<'a> {
    input: &'a [f32],
    lines: &'a [f32],
    activation: Activation,
    output: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.lines.len() / 3;
        let (centre, lines) = self.lines.split_at(channels);
        let (factor, term) = lines.split_at(channels);
        let ((centres, centre), (factors, factor), (terms, term)) =
            (S::as_simd_f32s(centre), S::as_simd_f32s(factor), S::as_simd_f32s(term));
        let activation = self.activation;
        for (row, out) in self.input.chunks_exact(channels).zip(self.output.chunks_exact_mut(channels)) {
            let ((row, row_tail), (out, out_tail)) = (S::as_simd_f32s(row), S::as_mut_simd_f32s(out));
            let lines = centres.iter().zip(factors).zip(terms);
            for ((out, &x), ((&c, &f), &t)) in out.iter_mut().zip(row).zip(lines) {
                *out = apply(simd, x, [c, f, t], activation);
            }
            if !row_tail.is_empty() {
                let x = simd.partial_load_f32s(row_tail);
                let line =
                    [simd.partial_load_f32s(centre), simd.partial_load_f32s(factor), simd.partial_load_f32s(term)];
                simd.partial_store_f32s(out_tail, apply(simd, x, line, activation));
            }
        }
    }
}

#[inline(always)]
fn apply<S: Simd>(simd: S, x: S::f32s, [centre, factor, term]: [S::f32s; 3], activation: Activation) -> S::f32s {
    activation.apply(simd, simd.mul_add_e_f32s(simd.sub_f32s(x, centre), factor, term))
}
