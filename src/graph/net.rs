//! [`Net`]: a graph as operators on values with concrete shapes. What fusion works on.

use super::op::Op;
use crate::model::weights::Weight;
use crate::op::view::View;
use crate::value::{DType, Tensor};
use std::sync::Arc;

/// Index into [`Net::values`].
pub(crate) type ValueId = usize;

/// A graph of operators in an order in which they can run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Net {
    pub(crate) values: Vec<Value>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
}

#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// The file's name of it.
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) content: Content,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Given with each run, or made by a node.
    Computed,
    /// Known, in memory.
    Constant(Arc<Tensor>),
    /// Known, in the model's file, seen through a view.
    Weight(Arc<Weight>, View),
}

impl Content {
    /// Elements that views may count in: none of what is not known.
    pub(crate) fn elements(&self) -> usize {
        match self {
            Content::Computed => 0,
            Content::Constant(tensor) => tensor.len(),
            Content::Weight(weight, _) => weight.elements(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The file's name of it, that of the last node for a fused one.
    pub(crate) name: String,
    pub(crate) op: Op,
    /// `None` for optional operands that are not given.
    pub(crate) inputs: Vec<Option<ValueId>>,
    pub(crate) output: ValueId,
}

impl Node {
    /// The operand at `index`, if it is given.
    pub(crate) fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }
}

impl Net {
    pub(crate) fn add(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        self.values.len() - 1
    }

    /// A new constant.
    pub(crate) fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
        self.add(Value { name: name.to_owned(), dtype, shape, content: Content::Constant(Arc::new(tensor)) })
    }

    pub(crate) fn shape(&self, id: ValueId) -> &[usize] {
        &self.values[id].shape
    }

    /// The constant behind a value, if it is one in memory.
    pub(crate) fn known(&self, id: ValueId) -> Option<&Tensor> {
        match &self.values[id].content {
            Content::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Whether the value is the same in every run.
    pub(crate) fn is_fixed(&self, id: ValueId) -> bool {
        !matches!(self.values[id].content, Content::Computed)
    }

    /// The one number that a constant consists of, whatever its shape.
    pub(crate) fn scalar(&self, id: ValueId) -> Option<f32> {
        let values = self.known(id)?.as_f32()?;
        let first = *values.first()?;
        values.iter().all(|value| *value == first).then_some(first)
    }

    /// Drops nodes whose output nobody reads, keeping the order of the rest.
    pub(crate) fn sweep(&mut self) {
        let mut read = vec![false; self.values.len()];
        self.outputs.iter().for_each(|&id| read[id] = true);
        let mut kept = Vec::with_capacity(self.nodes.len());
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if read[node.output] {
                node.inputs.iter().flatten().for_each(|&id| read[id] = true);
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
    }
}
