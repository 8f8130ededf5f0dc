//! What is done once for a plan: weights are packed, convolutions choose their method, scratch is measured.

use super::fixed::Known;
use super::picture::spatial;
use super::{attention, is_known, norm};
use crate::engine::Threads;
use crate::error::{Result, fail};
use crate::graph::op::{Conv, Op};
use crate::graph::plan::{At, Operand, Plan, Step, Work};
use crate::model::weights::Weight;
use crate::op::conv::{self, Filters, Method, Picture};
use crate::op::matrix::{self, Element, Packed, Storage};
use crate::op::view::View;
use std::borrow::Cow;

/// A plan's constants, kernels and scratch.
pub(super) struct Prepared {
    pub(super) fixed: Vec<Known>,
    /// One a step.
    pub(super) kernels: Vec<Kernel>,
    pub(super) scratch: Vec<f32>,
}

/// What a step needs beside its operands.
pub(super) enum Kernel {
    Plain,
    Conv { filters: Filters, picture: Picture, method: Method },
    Linear(Packed),
}

impl Prepared {
    pub(super) fn new(plan: &Plan, threads: &Threads) -> Result<Prepared> {
        if let Some(buffer) = plan.buffers.iter().find(|buffer| !is_known(buffer.dtype)) {
            return fail!(Engine, "values of {} cannot be computed with", buffer.dtype);
        }
        let fixed: Vec<Known> = plan.fixed.iter().map(Known::new).collect();
        let mut kernels = Vec::with_capacity(plan.steps.len());
        let mut scratch = 0;
        for step in &plan.steps {
            let kernel = kernel(step, &fixed, threads)?;
            scratch = scratch.max(scratch_bytes(step, &kernel, threads));
            kernels.push(kernel);
        }
        Ok(Prepared { fixed, kernels, scratch: vec![0.0; scratch.div_ceil(size_of::<f32>())] })
    }
}

fn kernel(step: &Step, fixed: &[Known], threads: &Threads) -> Result<Kernel> {
    let Work::Op(op) = &step.work else { return Ok(Kernel::Plain) };
    let operand = |index: usize| step.reads.get(index).and_then(Option::as_ref);
    match (op, operand(0), operand(1)) {
        (Op::Conv(conv), Some(x), Some(weight)) => {
            let At::Fixed(index) = weight.at else {
                return fail!(Unsupported, "a convolution with computed weights has no step");
            };
            let content = Content::of(&fixed[index], &weight.view);
            let parameters = convolution(conv, &x.view.shape, &weight.view.shape);
            let filters = Filters::new(parameters, &content.bytes, content.element, content.storage(), threads);
            let picture = picture(&x.view.shape);
            let method = filters.method(picture);
            release(&fixed[index]);
            Ok(Kernel::Conv { filters, picture, method })
        }
        (Op::Linear(_), _, Some(weight)) => {
            let At::Fixed(index) = weight.at else { return fail!(Engine, "a linear layer's weight is computed") };
            let packed = pack(&fixed[index], weight, threads);
            release(&fixed[index]);
            Ok(Kernel::Linear(packed))
        }
        _ => Ok(Kernel::Plain),
    }
}

fn release(known: &Known) {
    if let Some(weight) = known.weight() {
        weight.release();
    }
}

fn scratch_bytes(step: &Step, kernel: &Kernel, threads: &Threads) -> usize {
    match (kernel, &step.work) {
        (Kernel::Conv { filters, picture, method }, _) => filters.scratch_bytes(*picture, *method, threads.count()),
        (Kernel::Linear(_), _) | (_, Work::Op(Op::MatMul)) => matrix::scratch_bytes(threads.count()),
        (_, Work::Op(Op::Attention { .. })) => attention::scratch_bytes(step, threads),
        _ => norm::scratch_bytes(step),
    }
}

/// Height and width of `(N, C, H, W)` or `(N, C, L)`.
fn picture(shape: &[usize]) -> Picture {
    let [height, width] = spatial(shape);
    Picture { count: shape[0], height, width }
}

fn convolution(conv: &Conv, x: &[usize], weight: &[usize]) -> conv::Conv {
    let [[top, left], [bottom, right]] = conv.pads;
    conv::Conv {
        inputs: x[1],
        outputs: weight[0],
        kernel: conv.kernel,
        stride: conv.stride,
        dilation: conv.dilation,
        pads: [top, left, bottom, right],
        groups: conv.groups,
        enlarge: conv.upsample,
    }
}

fn pack(known: &Known, weight: &Operand, threads: &Threads) -> Packed {
    let [rows, columns] = weight.view.shape[..] else { panic!("a linear layer's weight has two axes") };
    let content = Content::raw(known);
    let bytes = &content.bytes[weight.view.offset * content.size()..];
    let view = matrix::View {
        bytes,
        element: content.element,
        segments: 1,
        length: rows,
        columns,
        segment_stride: 0,
        stride: weight.view.strides[0],
        column_stride: weight.view.strides[1],
    };
    Packed::new(&view, content.storage(), threads)
}

/// The bytes of something fixed in a type that can be packed.
struct Content<'a> {
    bytes: Cow<'a, [u8]>,
    element: Element,
}

impl<'a> Content<'a> {
    /// As it lies in the file or in memory.
    fn raw(known: &'a Known) -> Content<'a> {
        match known.weight().map(|weight| (weight, packable(weight))) {
            Some((weight, Some(element))) => Content { bytes: weight.content().into(), element },
            _ => Content { bytes: bytes(known.f32()).into(), element: Element::F32 },
        }
    }

    /// In the order of `view`.
    fn of(known: &'a Known, view: &View) -> Content<'a> {
        if view.is_dense() && view.offset == 0 {
            return Content::raw(known);
        }
        let floats = known.f32();
        let mut ordered = Vec::with_capacity(view.volume());
        view.each(|at| ordered.push(floats[at]));
        Content { bytes: bytes(&ordered).into(), element: Element::F32 }
    }

    fn size(&self) -> usize {
        match self.element {
            Element::F32 => 4,
            Element::F16 => 2,
        }
    }

    /// 16-bit weights stay 16 bits wide.
    fn storage(&self) -> Storage {
        match self.element {
            Element::F32 => Storage::F32,
            Element::F16 => Storage::F16,
        }
    }
}

fn packable(weight: &Weight) -> Option<Element> {
    match weight.element.name() {
        "FLOAT" => Some(Element::F32),
        "FLOAT16" => Some(Element::F16),
        _ => None,
    }
}

fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}
