use super::*;
use crate::engine::Threads;
use crate::op::activation::Activation;
use crate::op::matrix::Cpu;
use crate::op::simd::tests::paths;
use crate::op::testing::{close, noise, threads};

struct Numbers {
    input: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

fn numbers(batches: usize, rows: usize, channels: usize, mean: f32) -> Numbers {
    Numbers {
        input: noise(batches * rows * channels, 1).iter().map(|x| x + mean).collect(),
        gamma: noise(channels, 2),
        beta: noise(channels, 3),
        scale: noise(batches * channels, 4),
        shift: noise(batches * channels, 5),
    }
}

impl Numbers {
    fn affine(&self, channels: usize, parts: usize) -> Affine<'_> {
        let row = |values| Rows { values, stride: channels };
        Affine {
            gamma: (parts > 0).then_some(&self.gamma),
            beta: (parts > 0).then_some(&self.beta),
            scale: (parts > 1).then(|| row(&self.scale[..])),
            shift: (parts > 1).then(|| row(&self.shift[..])),
        }
    }
}

/// In f64, straight from the definition: numbers `x[b][i]` of one statistic, `channel(i)` and the affine.
fn reference(x: &[f64], centred: bool, epsilon: f64) -> Vec<f64> {
    let count = x.len() as f64;
    let mean = if centred { x.iter().sum::<f64>() / count } else { 0.0 };
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    x.iter().map(|x| (x - mean) / (variance + epsilon).sqrt()).collect()
}

fn group_reference(norm: &GroupNorm, numbers: &Numbers, affine: &Affine) -> Vec<f64> {
    let width = norm.channels / norm.groups;
    let mut out = vec![0.0; numbers.input.len()];
    for (batch, group) in (0..norm.batches).flat_map(|b| (0..norm.groups).map(move |g| (b, g))) {
        let places: Vec<usize> = (0..norm.pixels)
            .flat_map(|p| (0..width).map(move |c| (batch * norm.pixels + p) * norm.channels + group * width + c))
            .collect();
        let x: Vec<f64> = places.iter().map(|&at| numbers.input[at].into()).collect();
        for (&at, y) in places.iter().zip(reference(&x, true, norm.epsilon.into())) {
            let (factor, term) = affine.channel(batch, at % norm.channels);
            out[at] = norm.activation.real(y * factor + term);
        }
    }
    out
}

fn check_group(norm: GroupNorm, parts: usize, mean: f32, bound: f64) {
    let numbers = numbers(norm.batches, norm.pixels, norm.channels, mean);
    let affine = numbers.affine(norm.channels, parts);
    let expected = group_reference(&norm, &numbers, &affine);
    for arch in paths() {
        let run = |threads: &Threads| {
            let mut output = vec![7.0; expected.len()];
            let mut scratch = vec![f32::NAN; norm.scratch_bytes() / 4];
            norm.run(Cpu { arch, threads }, &numbers.input, &affine, &mut output, &mut scratch);
            output
        };
        let one = run(&threads(1));
        close(&one, &expected, bound, &format!("{norm:?}"));
        assert!(one == run(&threads(2)), "threads changed {norm:?}");
    }
}

#[test]
fn group_norm_of_odd_shapes() {
    for (batches, pixels, channels, groups) in [
        (1, 1, 1, 1),
        (2, 7, 12, 3),
        (1, 64, 33, 11),
        (3, 5, 8, 8),
        (2, 1050, 64, 32),
        (1, 30, 320, 32),
        (1, 3, 40_000, 4),
    ] {
        for (parts, activation) in [(0, Activation::None), (1, Activation::Silu), (2, Activation::None)] {
            let norm = GroupNorm { batches, pixels, channels, groups, epsilon: 1e-5, activation };
            check_group(norm, parts, 0.3, 1e-12);
        }
    }
}

#[test]
fn a_large_mean_costs_nothing_but_its_own_rounding() {
    let activation = Activation::None;
    let norm = GroupNorm { batches: 1, pixels: 1500, channels: 48, groups: 4, epsilon: 1e-5, activation };
    check_group(norm, 1, 4096.0, 1e-12);
    check_row(RowNorm { rows: 9, width: 1003, rows_per_batch: 9, centred: true, epsilon: 1e-5, activation }, 1, 4096.0);
}

fn check_row(norm: RowNorm, parts: usize, mean: f32) {
    let batches = norm.rows / norm.rows_per_batch;
    let numbers = numbers(batches, norm.rows_per_batch, norm.width, mean);
    let affine = numbers.affine(norm.width, parts);
    let mut expected = Vec::new();
    for (index, row) in numbers.input.chunks(norm.width).enumerate() {
        let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
        for (channel, y) in reference(&row, norm.centred, norm.epsilon.into()).into_iter().enumerate() {
            let (factor, term) = affine.channel(index / norm.rows_per_batch, channel);
            expected.push(norm.activation.real(y * factor + term));
        }
    }
    for arch in paths() {
        let run = |threads: &Threads| {
            let mut output = vec![7.0; expected.len()];
            let mut scratch = vec![f32::NAN; norm.scratch_bytes() / 4];
            norm.run(Cpu { arch, threads }, &numbers.input, &affine, &mut output, &mut scratch);
            output
        };
        let one = run(&threads(1));
        close(&one, &expected, 1e-12, &format!("{norm:?}"));
        assert!(one == run(&threads(2)), "threads changed {norm:?}");
    }
}

#[test]
fn row_norms_of_odd_shapes() {
    for (rows, width, rows_per_batch) in
        [(1, 1, 1), (6, 5, 3), (77, 768, 77), (4, 1003, 2), (300, 320, 100), (2, 50_000, 1)]
    {
        for (centred, parts, activation) in [
            (true, 0, Activation::None),
            (true, 1, Activation::Gelu),
            (true, 2, Activation::None),
            (false, 1, Activation::None),
        ] {
            check_row(RowNorm { rows, width, rows_per_batch, centred, epsilon: 1e-6, activation }, parts, 0.5);
        }
    }
}
