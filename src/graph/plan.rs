//! [`Plan`]: what an engine plays. Plain data: it prints itself, and it can be checked without a device.

use super::net::Content;
use super::op::Op;
use crate::engine::Weights;
use crate::op::view::View;
use crate::value::DType;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Steps on buffers, in their order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) buffers: Vec<Buffer>,
    /// What is known before a run: constants and weights.
    #[serde(skip)]
    pub(crate) fixed: Vec<Fixed>,
    pub(crate) steps: Vec<Step>,
    /// The buffers, dense, that a run's inputs are written to, in the graph's order.
    pub(crate) inputs: Vec<usize>,
    /// What a run's outputs are read from, in the graph's order.
    pub(crate) outputs: Vec<Operand>,
    /// Bytes of the arena that holds all buffers.
    pub(crate) arena: usize,
    /// How an engine keeps the weights.
    pub(crate) weights: Weights,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Buffer {
    pub(crate) dtype: DType,
    pub(crate) elements: usize,
    /// Bytes from the arena's start.
    pub(crate) offset: usize,
    /// The first step that writes it and the last that reads it; inputs are written before step 0, outputs read after the last.
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Buffer {
    pub(crate) fn bytes(&self) -> usize {
        self.elements * self.dtype.size()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Fixed {
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// Where a step reads or writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Operand {
    pub(crate) at: At,
    pub(crate) view: View,
    pub(crate) dtype: DType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum At {
    Buffer(usize),
    /// Index into [`Plan::fixed`].
    Fixed(usize),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    /// The file's name of the node.
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) reads: Vec<Option<Operand>>,
    pub(crate) write: Operand,
    /// The name of the value that is complete after this step, where it is one of the net's.
    pub(crate) value: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Work {
    Op(Op),
    /// The elements of the only operand, in the order of the view that is written.
    Copy,
    /// One number everywhere.
    Fill(f32),
    /// Operations element by element, each of the step's operands and of links before it; the last is written. Made behind lowering, by an engine
    /// for which a value that is kept costs more than one that is passed on.
    Chain(Vec<Link>),
}

/// An operation of a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) op: Op,
    pub(crate) from: Vec<Source>,
    /// Of what it gives.
    pub(crate) dtype: DType,
}

/// What a link computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// Index into [`Step::reads`].
    Read(usize),
    /// Index of a link before it.
    Link(usize),
}

impl Work {
    pub(crate) fn name(&self) -> String {
        match self {
            Work::Op(op) => op.name(),
            Work::Copy => "Copy".into(),
            Work::Fill(_) => "Fill".into(),
            Work::Chain(_) => "Chain".into(),
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, index) = match self.at {
            At::Buffer(index) => ('b', index),
            At::Fixed(index) => ('w', index),
        };
        write!(f, "{letter}{index}{:?}", self.view.shape)?;
        if !self.view.is_dense() || self.view.offset > 0 {
            write!(f, "{:?}+{}", self.view.strides, self.view.offset)?;
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fixed) in self.fixed.iter().enumerate() {
            let kind = if matches!(fixed.content, Content::Weight(..)) { "weight" } else { "constant" };
            writeln!(f, "w{index} {kind} {}", fixed.name)?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            let reads: Vec<String> =
                step.reads.iter().map(|read| read.as_ref().map_or_else(|| "-".into(), Operand::to_string)).collect();
            writeln!(f, "{index:4} {:<12} {} <- {}  ({})", step.work.name(), step.write, reads.join(" "), step.name)?;
        }
        write!(f, "{} steps, {} buffers, arena {} bytes", self.steps.len(), self.buffers.len(), self.arena)
    }
}
