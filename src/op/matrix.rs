//! Matrix products, `out = (act(A · B + bias + shift) + residual) * scale`, the core of linear layers and of convolutions.
//!
//! `A` is `[M, K]`, row-major. `B` is either [`Packed`] weights or a [`Dynamic`] matrix of the run itself.

pub(crate) mod cpu;
pub(crate) mod pack;
pub(crate) mod tile;
mod widen;

use super::activation::Activation;
use crate::engine::Threads;
pub(crate) use pack::{Dynamic, Element, Packed, Storage, View};

/// What a kernel runs on.
#[derive(Clone, Copy)]
pub(crate) struct Cpu<'a> {
    pub(crate) arch: pulp::Arch,
    pub(crate) threads: &'a Threads,
}

/// What is done to the product before it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    /// `[N]`.
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) shift: Option<Shift<'a>>,
    pub(crate) activation: Activation,
    /// `[M, N]`, dense; added after the activation.
    pub(crate) residual: Option<&'a [f32]>,
    /// Multiplies the whole.
    pub(crate) scale: f32,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Epilogue { bias: None, shift: None, activation: Activation::None, residual: None, scale: 1.0 }
    }
}

/// `[M / rows, N]`, one row added to `rows` rows of the product: a time embedding that is added to every pixel of its picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
}

impl Epilogue<'_> {
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        assert!(self.bias.is_none_or(|bias| bias.len() == columns), "a bias for every column");
        if let Some(Shift { values, rows: each }) = self.shift {
            assert!(
                each > 0 && rows.is_multiple_of(each) && values.len() == rows / each * columns,
                "a shift for {rows} rows"
            );
        }
        assert!(
            self.residual.is_none_or(|residual| residual.len() == rows * columns),
            "a residual for {rows} x {columns}"
        );
    }

    /// Whether all that is to be done can be added to what the sums start from.
    fn is_sum(&self) -> bool {
        matches!(self.activation, Activation::None) && self.scale == 1.0
    }
}

/// The left-hand matrix: `rows` rows, `stride` floats apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) stride: usize,
}

impl<'a> Left<'a> {
    /// Dense rows of `width` floats.
    pub(crate) fn dense(values: &'a [f32], width: usize) -> Left<'a> {
        Left { values, rows: values.len() / width, stride: width }
    }
}

/// Floats of scratch that [`multiply`] takes for `threads` threads.
pub(crate) fn scratch_bytes(threads: usize) -> usize {
    super::tasks::scratch_bytes(0, cpu::scratch(0), threads)
}

/// `out[M, N]`, dense, from `left` and packed weights.
///
/// # Panics
/// When sizes do not fit each other or `scratch` is shorter than [`scratch_bytes`].
pub(crate) fn multiply(
    cpu: Cpu,
    left: Left,
    right: &Packed,
    epilogue: &Epilogue,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    assert_eq!(right.segments(), 1, "weights of a convolution");
    cpu::check_left(&left, right.rows());
    let columns = right.columns();
    run(cpu, &left, &cpu::Right::Packed(right), [right.rows(), columns], epilogue, out, scratch);
}

/// `out[M, N]`, dense, from two matrices of the run.
///
/// # Panics
/// As [`multiply`].
pub(crate) fn multiply_dynamic(
    cpu: Cpu,
    left: Left,
    right: &Dynamic,
    epilogue: &Epilogue,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    right.check();
    cpu::check_left(&left, right.rows);
    run(cpu, &left, &cpu::Right::Dynamic(*right), [right.rows, right.columns], epilogue, out, scratch);
}

fn run(
    cpu: Cpu,
    left: &Left,
    right: &cpu::Right,
    [length, columns]: [usize; 2],
    epilogue: &Epilogue,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let rows = cpu::Dense { values: left.values, stride: left.stride, length };
    let place = cpu::Columns { first: 0, all: columns };
    cpu::Product { rows: &rows, count: left.rows, right, epilogue, place }.run(cpu, out, scratch);
}

#[cfg(test)]
pub(crate) mod tests;
