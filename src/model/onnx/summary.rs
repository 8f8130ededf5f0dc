//! What `undiffuse inspect` says about a graph.

use super::Graph;
use super::check::{each_node, op_name};
use std::collections::BTreeMap;

/// Counts over a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Nodes, those of inner graphs included.
    pub nodes: usize,
    /// Operator types, with how often each occurs.
    pub ops: BTreeMap<String, usize>,
    /// Elements of all floating-point constants of two or more values: the trained parameters.
    pub parameters: u64,
    /// Bytes of all constants as they lie on disk.
    pub bytes: u64,
    /// Who wrote the file, as it says itself: `pytorch 2.11.0`.
    pub producer: String,
}

impl Graph {
    /// Counts what is in the graph.
    pub fn summary(&self) -> Summary {
        let mut ops = BTreeMap::new();
        if let Some(graph) = &self.model.graph {
            each_node(graph, &mut |node| *ops.entry(op_name(node)).or_default() += 1);
        }
        let dequantized = self.weights.iter().filter(|weight| weight.scale.is_some()).count();
        if dequantized > 0 {
            *ops.entry("DequantizeLinear".to_owned()).or_default() += dequantized;
        }
        let floats = self.weights.iter().filter(|weight| weight.is_float() && weight.elements() > 1);
        Summary {
            nodes: ops.values().sum(),
            ops,
            parameters: floats.map(|weight| weight.elements() as u64).sum(),
            bytes: self.weights.iter().map(|weight| weight.bytes() as u64).sum(),
            producer: format!("{} {}", self.model.producer_name, self.model.producer_version).trim().to_owned(),
        }
    }
}
