//! What is done once for a plan: every step gets its packed weights, convolutions choose their method, scratch is measured.

use super::fixed::Known;
use super::pack::{Stored, pack, packable};
use super::picture::spatial;
use super::store::Store;
use super::{attention, is_known, norm};
use crate::engine::{Threads, Weights};
use crate::error::{Result, fail};
use crate::graph::net::Content;
use crate::graph::op::{Conv, Op};
use crate::graph::plan::{At, Operand, Plan, Step, Work};
use crate::model::mapped::Mapped;
use crate::op::conv::{self, Filters, Method, Picture};
use crate::op::matrix::{self, Packed, Storage};
use crate::op::view::View;

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

impl Kernel {
    /// Where its packed weights lie in `file`.
    pub(super) fn pages(&self, file: &Mapped) -> Vec<Mapped> {
        let packed = match self {
            Kernel::Plain => &[],
            Kernel::Conv { filters, .. } => filters.packed(),
            Kernel::Linear(packed) => std::slice::from_ref(packed),
        };
        packed.iter().filter_map(Packed::borrowed).filter_map(|range| file.part(range.start, range.len())).collect()
    }
}

impl Prepared {
    /// With weights out of `store`, which must hold what the plan [needs](super::store::needs).
    pub(super) fn new(plan: &Plan, store: &Store, threads: &Threads) -> Result<Prepared> {
        if let Some(buffer) = plan.buffers.iter().find(|buffer| !is_known(buffer.dtype)) {
            return fail!(Engine, "values of {} cannot be computed with", buffer.dtype);
        }
        let mut kernels = Vec::with_capacity(plan.steps.len());
        let mut scratch = 0;
        for step in &plan.steps {
            let kind = kind(step, plan);
            scratch = scratch.max(scratch_bytes(step, &kind, threads));
            kernels.push(kernel(step, &kind, plan, store, threads)?);
        }
        let fixed = plan.fixed.iter().map(|fixed| Known::new(fixed, store)).collect();
        Ok(Prepared { fixed, kernels, scratch: vec![0.0; scratch.div_ceil(size_of::<f32>())] })
    }
}

fn kernel(step: &Step, kind: &Kind, plan: &Plan, store: &Store, threads: &Threads) -> Result<Kernel> {
    let packed = || {
        let Some((weight, index)) = packed_operand(step, kind) else { return fail!(Engine, "weights are computed") };
        match &plan.fixed[index].content {
            Content::Weight(..) => store.packed(plan, index, &weight.view, kind),
            content => Ok(pack(content, &weight.view, kind, threads)),
        }
    };
    match (kind, &step.work) {
        (Kind::Conv { conv, picture, method, .. }, _) => {
            Ok(Kernel::Conv { filters: Filters::from_packed(*conv, packed()?), picture: *picture, method: *method })
        }
        (Kind::Linear { .. }, _) => Ok(Kernel::Linear(packed()?.swap_remove(0))),
        (Kind::Plain, Work::Op(Op::Conv(_))) => {
            fail!(Unsupported, "a convolution with computed weights has no step")
        }
        (Kind::Plain, Work::Op(Op::Linear(_))) => fail!(Engine, "a linear layer's weight is computed"),
        (Kind::Plain, _) => Ok(Kernel::Plain),
    }
}

/// The operand that is packed, and its index in [`Plan::fixed`].
pub(super) fn packed_operand<'a>(step: &'a Step, kind: &Kind) -> Option<(&'a Operand, usize)> {
    let weight = step.reads.get(1)?.as_ref().filter(|_| !matches!(kind, Kind::Plain))?;
    if let At::Fixed(index) = weight.at { Some((weight, index)) } else { None }
}

/// What a step needs to be prepared, known from the plan alone.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Plain,
    Conv { conv: conv::Conv, picture: Picture, method: Method, storage: Storage },
    Linear { rows: usize, columns: usize, storage: Storage },
}

impl Kind {
    /// How many matrices are packed for it, and segments, rows of a segment and columns of each.
    pub(super) fn parts(&self) -> (usize, [usize; 3]) {
        match self {
            Kind::Plain => (0, [0; 3]),
            Kind::Conv { conv, .. } => conv.parts(),
            Kind::Linear { rows, columns, .. } => (1, [1, *rows, *columns]),
        }
    }

    pub(super) fn storage(&self) -> Storage {
        match self {
            Kind::Plain => Storage::F32,
            Kind::Conv { storage, .. } | Kind::Linear { storage, .. } => *storage,
        }
    }

    /// Bytes of one of its matrices.
    pub(super) fn part_bytes(&self) -> usize {
        let (_, [segments, length, columns]) = self.parts();
        Packed::bytes_of(self.storage(), segments * length, columns)
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
            let stored = if raw { stored(&plan.fixed[index].content, &weight.view) } else { Storage::F32 };
            let rows = conv.kernel[0] * conv.kernel[1] * conv.inputs / conv.groups;
            let storage = storage(plan.weights, stored, rows, conv.outputs);
            Kind::Conv { conv, picture, method: conv.method(picture), storage }
        }
        Op::Linear(_) => {
            let [rows, columns] = weight.view.shape[..] else { return Kind::Plain };
            let stored = stored(&plan.fixed[index].content, &weight.view);
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

/// 16-bit weights stay 16 bits wide, and 8-bit ones 8 bits, where the matrix has the file's scales.
fn stored(content: &Content, view: &View) -> Storage {
    let Content::Weight(weight, _) = content else { return Storage::F32 };
    match packable(weight, view) {
        Some(Stored::F16) => Storage::F16,
        Some(Stored::Int8(_)) => Storage::Int8,
        Some(Stored::F32) | None => Storage::F32,
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
