//! Two-dimensional convolutions of channels-last pictures, `(N, H, W, C)`.
//!
//! Most are products of matrices whose left-hand rows are never copied: for every output pixel and tap the address of the input pixel is
//! enough. 3x3 filters of stride 1 go through Winograd's minimal filtering where that is less work; their weights are transformed during the
//! run, panel by panel, which takes no memory, and less of the time the more tiles there are.

mod cpu;
mod depthwise;
mod winograd;

use super::matrix::pack::PANEL;
use super::matrix::{Cpu, Element, Epilogue, Packed, Storage, View, cpu as product};
use super::tasks::{lines, scratch_bytes};
use crate::engine::Threads;

/// What a convolution does, as ONNX's `Conv` has it. The input may be enlarged twice by nearest neighbours first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conv {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Height and width, as all pairs here.
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub(crate) pads: [usize; 4],
    pub(crate) groups: usize,
    pub(crate) enlarge: bool,
}

impl Conv {
    /// A square filter of odd size with stride 1 that keeps height and width.
    #[cfg(test)]
    pub(crate) fn same(inputs: usize, outputs: usize, kernel: usize) -> Conv {
        Conv {
            inputs,
            outputs,
            kernel: [kernel; 2],
            stride: [1; 2],
            dilation: [1; 2],
            pads: [kernel / 2; 4],
            groups: 1,
            enlarge: false,
        }
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Input pixels between the output's neighbours' first and last.
    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    /// Height and width that the filter sees.
    fn seen(&self, height: usize, width: usize) -> [usize; 2] {
        if self.enlarge { [height * 2, width * 2] } else { [height, width] }
    }

    /// Height and width of the output, `None` where the filter is larger than the padded input.
    pub(crate) fn output(&self, height: usize, width: usize) -> Option<[usize; 2]> {
        let seen = self.seen(height, width);
        let along = |axis: usize| {
            let padded = seen[axis] + self.pads[axis] + self.pads[axis + 2];
            Some(padded.checked_sub(self.reach(axis))? / self.stride[axis] + 1)
        };
        Some([along(0)?, along(1)?])
    }

    fn is_pointwise(&self) -> bool {
        self.kernel == [1; 2] && self.stride == [1; 2] && self.pads == [0; 4] && !self.enlarge
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.inputs && self.inputs == self.outputs
    }

    /// The fastest way for pictures of this size.
    pub(crate) fn method(&self, picture: Picture) -> Method {
        let conv = self;
        if conv.is_depthwise() {
            Method::Depthwise
        } else if conv.groups > 1 {
            Method::Groups
        } else if conv.is_pointwise() {
            Method::Pointwise
        } else if conv.kernel == [3; 2] && conv.stride == [1; 2] && conv.dilation == [1; 2] {
            winograd::method(conv, picture)
        } else {
            Method::Taps
        }
    }

    /// Bytes of scratch beside input and output.
    pub(crate) fn scratch_bytes(&self, picture: Picture, method: Method, threads: usize) -> usize {
        match method {
            Method::Winograd2 => winograd::scratch_bytes::<4, 2>(self, picture, threads),
            Method::Winograd4 => winograd::scratch_bytes::<6, 4>(self, picture, threads),
            Method::Depthwise => scratch_bytes(self.inputs, depthwise::scratch(self), threads),
            _ => {
                let padding = lines(self.inputs);
                padding * 4 + scratch_bytes(0, product::scratch(cpu::gathered(self, product::BLOCK_ROWS)), threads)
            }
        }
    }

    /// How many matrices its packed filters are, and segments, rows of a segment and columns of each.
    pub(crate) fn parts(&self) -> (usize, [usize; 3]) {
        let (count, columns) =
            if self.is_depthwise() { (1, self.outputs) } else { (self.groups, self.outputs / self.groups) };
        (count, [self.taps(), self.inputs / self.groups, columns])
    }

    fn check(&self) {
        let Conv { inputs, outputs, groups, .. } = *self;
        assert!(groups > 0 && inputs > 0 && outputs > 0, "an empty convolution");
        assert!(
            inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups),
            "{groups} groups of {inputs} -> {outputs}"
        );
        assert!(self.kernel.iter().chain(&self.stride).chain(&self.dilation).all(|&size| size > 0), "{self:?}");
    }
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// One product, rows as they are.
    Pointwise,
    /// One product over all taps.
    Taps,
    /// One product a group.
    Groups,
    Depthwise,
    /// Winograd's F(2x2, 3x3).
    Winograd2,
    /// Winograd's F(4x4, 3x3).
    Winograd4,
}

/// A picture's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) count: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// A convolution with its packed weights.
#[derive(Debug, Clone)]
pub(crate) struct Filters {
    conv: Conv,
    packed: Vec<Packed>,
}

impl Filters {
    /// Packs `(outputs, inputs / groups, height, width)` filters that stand in `bytes`.
    ///
    /// # Panics
    /// When sizes are nought, do not divide, or bytes are missing.
    pub(crate) fn new(conv: Conv, bytes: &[u8], element: Element<'_>, storage: Storage, threads: &Threads) -> Filters {
        conv.check();
        let (count, [taps, inputs, each]) = conv.parts();
        let all = View::filters(bytes, element, conv.outputs, inputs, taps);
        let pack = |part: usize| Packed::new(&all.slice(part * each..(part + 1) * each), storage, threads);
        Filters { conv, packed: (0..count).map(pack).collect() }
    }

    /// The same, from what [`Filters::packed`] gave once.
    ///
    /// # Panics
    /// When the packed weights are not those of `conv`.
    pub(crate) fn from_packed(conv: Conv, packed: Vec<Packed>) -> Filters {
        conv.check();
        let (count, sizes) = conv.parts();
        assert_eq!(packed.len(), count, "packed weights for {conv:?}");
        let fit = |part: &Packed| [part.segments(), part.length(), part.columns()] == sizes;
        assert!(packed.iter().all(fit), "weights for {conv:?}");
        Filters { conv, packed }
    }

    /// One a group; one for a depthwise convolution.
    pub(crate) fn packed(&self) -> &[Packed] {
        &self.packed
    }

    /// Computes `out`, `(N, OH, OW, outputs)`, from `input`, `(N, H, W, inputs)`; rows of the epilogue are output pixels.
    ///
    /// # Panics
    /// When sizes do not fit each other or `scratch` is shorter than [`Conv::scratch_bytes`] of that method, or the method is none for this
    /// convolution.
    pub(crate) fn run(
        &self,
        cpu: Cpu,
        (picture, method): (Picture, Method),
        input: &[f32],
        epilogue: &Epilogue,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        let conv = &self.conv;
        let [height, width] = conv.output(picture.height, picture.width).expect("a filter no larger than its input");
        let pixels = picture.count * height * width;
        assert_eq!(input.len(), picture.count * picture.height * picture.width * conv.inputs, "floats of {picture:?}");
        assert_eq!(out.len(), pixels * conv.outputs, "floats of {pixels} pixels of {}", conv.outputs);
        epilogue.check(pixels, conv.outputs);
        let whole = epilogue.shift.is_none_or(|shift| shift.rows.is_multiple_of(height * width));
        assert!(whole, "a shift for less than a picture");
        let call = Call { cpu, conv, picture, output: [height, width], input, epilogue };
        match method {
            Method::Winograd2 => winograd::run::<winograd::F2, 4, 2>(&call, &self.packed[0], out, scratch),
            Method::Winograd4 => winograd::run::<winograd::F4, 6, 4>(&call, &self.packed[0], out, scratch),
            Method::Depthwise => depthwise::run(&call, &self.packed[0], out, scratch),
            Method::Pointwise => call.pointwise(&self.packed[0], out, scratch),
            Method::Taps | Method::Groups => call.taps(&self.packed, out, scratch),
        }
    }
}

/// One run of a convolution, sizes checked.
struct Call<'a> {
    cpu: Cpu<'a>,
    conv: &'a Conv,
    picture: Picture,
    output: [usize; 2],
    input: &'a [f32],
    epilogue: &'a Epilogue<'a>,
}

impl Call<'_> {
    fn pixels(&self) -> usize {
        self.picture.count * self.output[0] * self.output[1]
    }

    fn pointwise(&self, packed: &Packed, out: &mut [f32], scratch: &mut [f32]) {
        assert!(self.conv.is_pointwise(), "not pointwise: {:?}", self.conv);
        let rows = product::Dense { values: self.input, stride: self.conv.inputs, length: self.conv.inputs };
        self.product(&rows, packed, 0, out, scratch);
    }

    fn taps(&self, packed: &[Packed], out: &mut [f32], scratch: &mut [f32]) {
        let (padding, scratch) = scratch.split_at_mut(lines(self.conv.inputs));
        padding.fill(0.0);
        for (group, packed) in packed.iter().enumerate() {
            let rows = cpu::Taps::new(self, padding, group);
            if rows.is_short() {
                self.product(&cpu::Gathered(rows), packed, group, out, scratch);
            } else {
                self.product(&rows, packed, group, out, scratch);
            }
        }
    }

    fn product<R: product::Rows>(&self, rows: &R, packed: &Packed, group: usize, out: &mut [f32], scratch: &mut [f32]) {
        let place = product::Columns { first: group * packed.columns(), all: self.conv.outputs };
        let right = &product::Right::Packed(packed);
        product::Product { rows, count: self.pixels(), right, epilogue: self.epilogue, place }
            .run(self.cpu, out, scratch);
    }
}

#[cfg(test)]
mod tests;
