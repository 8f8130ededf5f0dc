//! What is done once for a plan: weights are packed, convolutions choose their method, scratch is measured.

use super::fixed::Known;
use super::picture::spatial;
use super::{attention, is_known, norm};
use crate::engine::{Threads, Weights};
use crate::error::{Result, fail};
use crate::graph::net::Content as NetContent;
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
            let kind = kind(step, plan);
            scratch = scratch.max(scratch_bytes(step, &kind, threads));
            let kernel = kernel(step, kind, &fixed, threads)?;
            kernels.push(kernel);
        }
        Ok(Prepared { fixed, kernels, scratch: vec![0.0; scratch.div_ceil(size_of::<f32>())] })
    }
}

/// What a step needs to be prepared, known from the plan alone.
pub(super) enum Kind {
    Plain,
    Conv { conv: conv::Conv, picture: Picture, method: Method, storage: Storage },
    Linear { rows: usize, columns: usize, storage: Storage },
}

impl Kind {
    pub(super) fn storage(&self) -> Storage {
        match self {
            Kind::Plain => Storage::F32,
            Kind::Conv { storage, .. } | Kind::Linear { storage, .. } => *storage,
        }
    }
}

/// What `step` is to be prepared as.
pub(super) fn kind(step: &Step, plan: &Plan) -> Kind {
    let Work::Op(op) = &step.work else { return Kind::Plain };
    let operand = |index: usize| step.reads.get(index).and_then(Option::as_ref);
    let (Some(x), Some(weight)) = (operand(0), operand(1)) else { return Kind::Plain };
    let At::Fixed(index) = weight.at else { return Kind::Plain };
    match op {
        Op::Conv(conv) => {
            let conv = convolution(conv, &x.view.shape, &weight.view.shape);
            let picture = picture(&x.view.shape);
            let raw = weight.view.is_dense() && weight.view.offset == 0;
            let stored = if raw { stored(&plan.fixed[index].content) } else { Storage::F32 };
            let rows = conv.kernel[0] * conv.kernel[1] * conv.inputs / conv.groups;
            let storage = storage(plan.weights, stored, rows, conv.outputs);
            Kind::Conv { conv, picture, method: conv.method(picture), storage }
        }
        Op::Linear(_) => {
            let [rows, columns] = weight.view.shape[..] else { return Kind::Plain };
            let stored = stored(&plan.fixed[index].content);
            Kind::Linear { rows, columns, storage: storage(plan.weights, stored, rows, columns) }
        }
        _ => Kind::Plain,
    }
}

/// Fewer rows, or elements, than these are not worth their loss in eight bits: the first and the last layers.
const FEW_ROWS: usize = 64;
const FEW: usize = 4096;

fn storage(weights: Weights, stored: Storage, rows: usize, columns: usize) -> Storage {
    match weights {
        Weights::Int8 if rows >= FEW_ROWS && rows * columns >= FEW => Storage::Int8,
        _ => stored,
    }
}

/// 16-bit weights stay 16 bits wide.
fn stored(content: &NetContent) -> Storage {
    match content {
        NetContent::Weight(weight, _) if packable(weight) == Some(Element::F16) => Storage::F16,
        _ => Storage::F32,
    }
}

fn kernel(step: &Step, kind: Kind, fixed: &[Known], threads: &Threads) -> Result<Kernel> {
    let weight = step.reads.get(1).and_then(Option::as_ref);
    let known =
        weight.and_then(|weight| if let At::Fixed(index) = weight.at { Some((weight, &fixed[index])) } else { None });
    let kernel = match (kind, known) {
        (Kind::Conv { conv, picture, method, storage }, Some((weight, known))) => {
            let content = Content::of(known, &weight.view);
            let filters = Filters::new(conv, &content.bytes, content.element, storage, threads);
            release(known);
            Kernel::Conv { filters, picture, method }
        }
        (Kind::Linear { storage, .. }, Some((weight, known))) => {
            let packed = pack(known, weight, storage, threads);
            release(known);
            Kernel::Linear(packed)
        }
        _ => match &step.work {
            Work::Op(Op::Conv(_)) => return fail!(Unsupported, "a convolution with computed weights has no step"),
            Work::Op(Op::Linear(_)) => return fail!(Engine, "a linear layer's weight is computed"),
            _ => Kernel::Plain,
        },
    };
    Ok(kernel)
}

fn release(known: &Known) {
    if let Some(weight) = known.weight() {
        weight.release();
    }
}

/// Bytes of scratch that a step takes.
pub(super) fn scratch_bytes(step: &Step, kind: &Kind, threads: &Threads) -> usize {
    match (kind, &step.work) {
        (Kind::Conv { conv, picture, method, .. }, _) => conv.scratch_bytes(*picture, *method, threads.count()),
        (Kind::Linear { .. }, _) | (_, Work::Op(Op::MatMul)) => matrix::scratch_bytes(threads.count()),
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

fn pack(known: &Known, weight: &Operand, storage: Storage, threads: &Threads) -> Packed {
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
    Packed::new(&view, storage, threads)
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
