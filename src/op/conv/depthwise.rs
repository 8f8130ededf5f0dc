//! Convolutions of every channel by itself, vectors along the channels.

use super::super::matrix::cpu::finish;
use super::super::matrix::pack::PANEL;
use super::super::tasks::{Shared, lines, share, split};
use super::cpu::pixel;
use super::{Call, Conv, Packed};
use pulp::{Simd, WithSimd};

/// Floats of scratch a thread: one panel of weights.
pub(super) fn scratch(conv: &Conv) -> usize {
    lines(conv.taps() * PANEL)
}

pub(super) fn run(call: &Call, packed: &Packed, out: &mut [f32], scratch_floats: &mut [f32]) {
    assert!(call.conv.is_depthwise(), "not depthwise: {:?}", call.conv);
    let (padding, each) = split(scratch_floats, call.conv.inputs, scratch(call.conv), call.cpu.threads.count());
    padding.fill(0.0);
    let lines = call.picture.count * call.output[0];
    let tasks = lines.div_ceil(8);
    let out = Shared::new(out);
    each.run(call.cpu.threads, tasks, |index, widened| {
        let lines = share(lines, tasks, index);
        for panel in 0..packed.panels() {
            let weights = packed.panel(panel, 0..packed.rows(), widened);
            for line in lines.clone() {
                call.cpu.arch.dispatch(Line { call, weights, padding, panel, line, out });
            }
        }
    });
}

/// One line of output pixels, sixteen channels of it.
struct Line<'a, 'b> {
    call: &'a Call<'b>,
    weights: &'a [f32],
    padding: &'a [f32],
    panel: usize,
    line: usize,
    out: Shared,
}

impl WithSimd for Line<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.call.conv.inputs;
        let first = self.panel * PANEL;
        let width = PANEL.min(channels - first);
        for x in 0..self.call.output[1] {
            let row = self.line * self.call.output[1] + x;
            // SAFETY: the row is one of the output's, and no other task has its line.
            let out = unsafe { std::slice::from_raw_parts_mut(self.out.at(row * channels + first), width) };
            self.begin(out, row, first);
            self.sum(simd, out, x, first);
            let epilogue = self.call.epilogue;
            let residual = epilogue.residual.map(|residual| &residual[row * channels + first..][..width]);
            finish(simd, epilogue, out, residual);
        }
    }
}

impl Line<'_, '_> {
    #[inline(always)]
    fn begin(&self, out: &mut [f32], row: usize, first: usize) {
        let (epilogue, width) = (self.call.epilogue, out.len());
        match epilogue.bias {
            Some(bias) => out.copy_from_slice(&bias[first..first + width]),
            None => out.fill(0.0),
        }
        if let Some(shift) = epilogue.shift {
            let values = &shift.values[row / shift.rows * self.call.conv.inputs + first..][..width];
            out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
        }
    }

    #[inline(always)]
    fn sum<S: Simd>(&self, simd: S, out: &mut [f32], x: usize, first: usize) {
        let Conv { kernel, stride, dilation, pads, enlarge, .. } = *self.call.conv;
        let size = [self.call.picture.height, self.call.picture.width];
        let (picture, y) = (self.line / self.call.output[0], self.line % self.call.output[0]);
        let mut taps = self.weights.as_chunks::<PANEL>().0.iter();
        for down in 0..kernel[0] {
            let y = (y * stride[0] + down * dilation[0]) as isize - pads[0] as isize;
            for right in 0..kernel[1] {
                let x = (x * stride[1] + right * dilation[1]) as isize - pads[1] as isize;
                let weights = taps.next().expect("a row of weights for every tap");
                let pixel = match pixel(size, enlarge, y, x) {
                    Some(index) => &self.call.input[(picture * size[0] * size[1] + index) * self.call.conv.inputs..],
                    None => self.padding,
                };
                add(simd, out, &pixel[first..], weights);
            }
        }
    }
}

/// `out += pixel * weights`, as many as `out` has.
#[inline(always)]
fn add<S: Simd>(simd: S, out: &mut [f32], pixel: &[f32], weights: &[f32; PANEL]) {
    let width = out.len();
    let lanes = S::F32_LANES;
    for ((out, pixel), weights) in
        out.chunks_mut(lanes).zip(pixel[..width].chunks(lanes)).zip(weights[..width].chunks(lanes))
    {
        let (pixel, weights) = (simd.partial_load_f32s(pixel), simd.partial_load_f32s(weights));
        let sum = simd.mul_add_e_f32s(pixel, weights, simd.partial_load_f32s(out));
        simd.partial_store_f32s(out, sum);
    }
}
