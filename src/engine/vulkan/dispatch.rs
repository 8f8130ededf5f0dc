//! [`Dispatch`]: one launch of a compute shader, as plain data: what stands before its text, what it is bound to, how many groups.
//!
//! Every element takes four bytes on the device: floats are f32, integers and truths i32; or two, where the buffer's type is f16 and its floats lie
//! there as halves, in pairs.

use super::limits::Limits;
use crate::engine::Precision;
use crate::error::Result;
use crate::graph::net::Content;
use crate::graph::op::{Activation, Op};
use crate::graph::plan::{At, Operand, Plan, Step, Work};
use crate::value::DType;
use std::fmt::Write;

mod attention;
mod axis;
mod bound;
mod conv;
mod gemm;
mod head;
mod matrix;
mod movement;
mod norm;
mod picture;
mod point;

pub(super) use head::Head;
pub(super) use point::{Joined, is_point};

/// The text of a shader's file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// Its stem under `shaders/`.
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

/// `source!("gemm")` is `shaders/gemm.wgsl`.
macro_rules! source {
    ($name:literal) => {
        $crate::engine::vulkan::dispatch::Source {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
        }
    };
}
pub(super) use source;

/// A shader with what the planner chose: one pipeline.
#[derive(Debug, Clone)]
pub(super) struct Shader {
    pub(super) source: Source,
    /// `const` lines and functions that stand before the text.
    pub(super) head: Head,
}

/// What a binding is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// A buffer of the plan.
    Buffer(usize),
    /// Index into [`Lowering::uploads`].
    Upload(usize),
    /// One u32, raised to 1 by a shader that met an index outside of its axis or an integer divided by 0.
    Faults,
}

/// `@group(0) @binding(its index)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) slot: Slot,
    pub(super) writes: bool,
    /// Whether floats lie there as halves, two in a word.
    pub(super) halves: bool,
    /// Elements that an invocation reads or writes together, from a place that such vectors share out.
    pub(super) together: usize,
}

impl Binding {
    /// Something that is read, element by element.
    pub(super) fn read(slot: Slot) -> Binding {
        Binding { slot, writes: false, halves: false, together: 1 }
    }

    /// The word that a shader raises.
    pub(super) fn faults() -> Binding {
        Binding { writes: true, ..Binding::read(Slot::Faults) }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Dispatch {
    pub(super) shader: Shader,
    pub(super) bindings: Vec<Binding>,
    /// The words of the shader's `var<immediate>`, at most 32.
    pub(super) push: Vec<u32>,
    pub(super) groups: [u32; 3],
    /// Additions and multiplications of products.
    pub(super) flops: u64,
    /// Whether these are done in tiles through shared memory.
    pub(super) tiled: bool,
    /// The axis along which it can be played in parts: the last word of `push` says which group a launch starts with.
    pub(super) cut: Option<usize>,
}

/// What is known before a run and lies on the device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Upload {
    /// Index into [`Plan::fixed`].
    pub(super) fixed: usize,
    pub(super) layout: Layout,
}

/// How something fixed lies on the device.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Layout {
    /// All its elements as they lie in the file, four bytes each.
    Raw,
    /// So many of its elements, four bytes each.
    Part {
        first: usize,
        count: usize,
    },
    /// Words that the planner computed, of nothing fixed.
    Table(Vec<u32>),
    Matrix(Matrix),
}

/// A fixed right-hand side: for every group the rows `(segment, segment, k)`, filled up with zeros to a multiple of four columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    /// The first element.
    pub(super) first: usize,
    /// How many, and elements from one to the next.
    pub(super) groups: (usize, usize),
    pub(super) segments: [(usize, usize); 2],
    pub(super) rows: (usize, usize),
    pub(super) columns: (usize, usize),
    /// Whether elements take two bytes.
    pub(super) halves: bool,
}

impl Matrix {
    /// Rows of a group.
    pub(super) fn depth(&self) -> usize {
        self.segments[0].0 * self.segments[1].0 * self.rows.0
    }

    /// Elements from row to row on the device.
    pub(super) fn stride(&self) -> usize {
        self.columns.0.next_multiple_of(4)
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.groups.0 * self.depth() * self.stride() * if self.halves { 2 } else { 4 }
    }
}

/// The planner of a program: it turns the steps of `plan` into dispatches within `limits`.
pub(super) struct Lowering<'a> {
    pub(super) plan: &'a Plan,
    pub(super) limits: &'a Limits,
    pub(super) precision: Precision,
    pub(super) uploads: Vec<Upload>,
}

impl Lowering<'_> {
    /// Where an operand's elements lie, as its view counts them.
    pub(super) fn slot(&mut self, operand: &Operand) -> Slot {
        match operand.at {
            At::Buffer(index) => Slot::Buffer(index),
            At::Fixed(fixed) => self.upload(Upload { fixed, layout: Layout::Raw }),
        }
    }

    /// A place for something fixed, one for all that ask for the same.
    pub(super) fn upload(&mut self, upload: Upload) -> Slot {
        let index = self.uploads.iter().position(|other| *other == upload).unwrap_or_else(|| {
            self.uploads.push(upload);
            self.uploads.len() - 1
        });
        Slot::Upload(index)
    }

    /// Whether the elements of a matrix are kept as halves: where they are in the file, or all are wanted so.
    pub(super) fn keeps_halves(&self, fixed: usize) -> bool {
        self.precision == Precision::F16
            || matches!(&self.plan.fixed[fixed].content, Content::Weight(weight, _) if weight.element.name() == "FLOAT16")
    }

    pub(super) fn reads(&mut self, operand: &Operand) -> Binding {
        let slot = self.slot(operand);
        let halves = matches!(slot, Slot::Buffer(index) if self.plan.buffers[index].dtype == DType::F16);
        Binding { halves, ..Binding::read(slot) }
    }

    pub(super) fn writes(&mut self, operand: &Operand) -> Binding {
        Binding { writes: true, ..self.reads(operand) }
    }
}

/// The dispatches of a step, none for one that makes no elements.
///
/// # Errors
/// `Unsupported` where no shader computes it within the limits.
pub(super) fn steps(lowering: &mut Lowering, step: &Step) -> Result<Vec<Dispatch>> {
    if step.write.view.volume() == 0 {
        return Ok(Vec::new());
    }
    let Work::Op(op) = &step.work else {
        return match &step.work {
            Work::Fill(value) => point::fill(lowering, step, *value),
            Work::Chain(links) => point::chain(lowering, step, links),
            _ => point::copy(lowering, step),
        }
        .map(|dispatch| vec![dispatch]);
    };
    let one = match op {
        Op::Conv(conv) => return conv::steps(lowering, step, conv),
        Op::Linear(activation) => return matrix::linear(lowering, step, *activation),
        Op::MatMul => return matrix::matmul(lowering, step),
        Op::Gather { axis } => return movement::gather(lowering, step, *axis),
        Op::GatherNd => movement::gather_nd(lowering, step),
        Op::GroupNorm { groups, epsilon, activation } => norm::group(lowering, step, *groups, *epsilon, *activation),
        Op::LayerNorm { epsilon } => norm::row(lowering, step, *epsilon, true),
        Op::RmsNorm { epsilon } => norm::row(lowering, step, *epsilon, false),
        Op::Attention { heads, scale } => attention::step(lowering, step, *heads, *scale),
        Op::Gated { activation, gate_last } => axis::gated(lowering, step, *activation, *gate_last),
        Op::Reduce { kind, axes, .. } => axis::reduce(lowering, step, *kind, axes),
        Op::ArgMax { axis, last, .. } => axis::arg_max(lowering, step, *axis, *last),
        Op::Softmax { axis } => axis::softmax(lowering, step, *axis),
        Op::Resize(resize) => picture::resize(lowering, step, resize),
        Op::Pool(pool) => picture::pool(lowering, step, pool),
        other => point::step(lowering, step, other),
    };
    one.map(|dispatch| vec![dispatch])
}

/// WGSL's type of elements of `dtype` on the device; other types have no step there.
pub(super) fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 | DType::F32 | DType::F64 => "f32",
        DType::I64 | DType::I32 | DType::I8 | DType::U8 | DType::Bool => "i32",
    }
}

/// Invocations of a group of an element-wise shader.
pub(super) const LINE: u32 = 64;

/// Groups for `count` invocations of [`LINE`] each, in a row or, where the row would be too long, in rows of the longest: a shader counts
/// `(group.y * groups.x + group.x) * LINE + invocation` and compares with `count`.
pub(super) fn lines(count: usize, limits: &Limits) -> [u32; 3] {
    spread(count.div_ceil(LINE as usize), limits)
}

/// The same for `count` groups.
pub(super) fn spread(count: usize, limits: &Limits) -> [u32; 3] {
    let longest = limits.groups[0] as usize;
    let rows = count.max(1).div_ceil(longest);
    [count.max(1).div_ceil(rows) as u32, rows as u32, 1]
}

/// `fn NAME(x: f32) -> f32` that is `activation`.
pub(super) fn activation(name: &str, activation: Activation) -> String {
    let mut text = String::new();
    let body = point::activation(activation);
    let _ = writeln!(text, "fn {name}(x: f32) -> f32 {{ return {body}; }}");
    text
}

#[cfg(test)]
mod tests;
