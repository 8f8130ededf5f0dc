//! Takes `DequantizeLinear` of constants out of a graph, before tract reads it, which would compute all of them in f32: the node's value becomes
//! a weight that keeps its integers in the file and has a [`Scale`].

use super::check::{each_node, is_own, node_name};
use crate::error::{Error, Result, fail};
use crate::graph::attributes::Attributes;
use crate::model::scale::Scale;
use crate::model::weights::Weight;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{GraphProto, NodeProto};

/// The operator set since which there may be a scale for every place along an axis.
const AXES_SINCE: i64 = 13;

/// The `weights` of `graph`, in their order, with those that its `DequantizeLinear` nodes make behind them, and without those that nothing else
/// reads. Nodes whose operands are computed stay.
///
/// # Errors
/// `Unsupported` for blocks and for what is no integer, `Malformed` or `Mismatch` for scales and zero points that do not fit; each names the node.
pub(super) fn fold(graph: &mut GraphProto, weights: Vec<Weight>, opset: i64) -> Result<Vec<Weight>> {
    let known: HashMap<&str, &Weight> = weights.iter().map(|weight| (weight.name.as_str(), weight)).collect();
    let (mut made, mut spent) = (Vec::new(), HashSet::new());
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        match Operands::of(&node, &known) {
            Some(operands) => {
                let weight = operands.weight(&node, opset).map_err(|error| error.in_node(node_name(&node)))?;
                made.push(weight);
                spent.extend(node.input);
            }
            None => kept.push(node),
        }
    }
    graph.node = kept;
    let read = read(graph);
    let mut weights = weights;
    weights.retain(|weight| !spent.contains(&weight.name) || read.contains(&weight.name));
    weights.append(&mut made);
    Ok(weights)
}

/// The names of all values that nodes read or the graph gives.
fn read(graph: &GraphProto) -> HashSet<String> {
    let mut read: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    each_node(graph, &mut |node| read.extend(node.input.iter().cloned()));
    read
}

/// The constants that a node dequantises.
struct Operands<'a> {
    x: &'a Weight,
    scale: &'a Weight,
    zero: Option<&'a Weight>,
}

impl<'a> Operands<'a> {
    /// `None` for other nodes, and where an operand is computed.
    fn of(node: &NodeProto, known: &HashMap<&str, &'a Weight>) -> Option<Operands<'a>> {
        if node.op_type != "DequantizeLinear" || !is_own(&node.domain) || node.output.len() != 1 {
            return None;
        }
        let constant = |index: usize| known.get(node.input.get(index)?.as_str()).copied();
        let zero = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(_) => Some(constant(2)?),
            None => None,
        };
        Some(Operands { x: constant(0)?, scale: constant(1)?, zero })
    }

    fn weight(&self, node: &NodeProto, opset: i64) -> Result<Weight> {
        let attributes = Attributes(node);
        if !matches!(self.x.element.name(), "INT8" | "UINT8" | "INT16" | "UINT16" | "INT32") {
            return fail!(Unsupported, "it dequantises {}", self.x.element.name())
                .map_err(|error| field(error, self.x));
        }
        if attributes.int("block_size").unwrap_or(0) != 0 {
            return fail!(
                Unsupported,
                "scales of blocks are not supported; one for all or one a place along an axis is"
            );
        }
        let axis = self.axis(attributes.int("axis").unwrap_or(1), opset)?;
        let (scales, zeros) = (self.scales()?, self.zeros()?);
        let bytes = self.scale.bytes() + self.zero.map_or(0, Weight::bytes);
        let scale = Scale::new(scales, zeros, &self.x.shape, axis, bytes);
        Ok(self.x.scaled(&node.output[0], scale))
    }

    /// The axis of the scales, 0 where there is one for all; their shape fits it.
    fn axis(&self, axis: i64, opset: i64) -> Result<usize> {
        let (shape, scales) = (&self.x.shape, self.scale.shape.as_slice());
        if matches!(scales, [] | [1]) {
            return Ok(0);
        }
        let from_front = if axis < 0 { axis + shape.len() as i64 } else { axis };
        let Some(length) = usize::try_from(from_front).ok().and_then(|axis| shape.get(axis)) else {
            return fail!(Malformed, "axis {axis} of a weight {shape:?}");
        };
        if opset < AXES_SINCE {
            return fail!(Malformed, "{scales:?} scales; operator set {opset} knows one for all");
        }
        if scales != [*length] {
            return fail!(Mismatch, "scales {scales:?} for axis {axis} of a weight {shape:?}")
                .map_err(|error| field(error, self.scale));
        }
        Ok(from_front as usize)
    }

    fn scales(&self) -> Result<Vec<f32>> {
        let weight = self.scale;
        if !weight.is_float() {
            return fail!(Malformed, "scales of {}", weight.element.name()).map_err(|error| field(error, weight));
        }
        let mut scales = vec![0.0; weight.elements()];
        weight.widen_into(&mut scales);
        weight.release();
        match scales.iter().find(|scale| !scale.is_finite()) {
            Some(scale) => fail!(Malformed, "a scale is {scale}").map_err(|error| field(error, weight)),
            None => Ok(scales),
        }
    }

    fn zeros(&self) -> Result<Vec<i32>> {
        let Some(weight) = self.zero else { return Ok(Vec::new()) };
        if weight.element != self.x.element {
            return fail!(Mismatch, "zero points of {} for {}", weight.element.name(), self.x.element.name())
                .map_err(|error| field(error, weight));
        }
        if weight.elements() != self.scale.elements() {
            return fail!(Mismatch, "{} zero points for {} scales", weight.elements(), self.scale.elements())
                .map_err(|error| field(error, weight));
        }
        let mut numbers = vec![0.0; weight.elements()];
        let plain = Scale::new(vec![1.0], Vec::new(), &weight.shape, 0, 0);
        plain.widen(weight.element, weight.content(), 0, &mut numbers);
        weight.release();
        if weight.element.name() == "INT32" && numbers.iter().any(|zero| *zero != 0.0) {
            return fail!(Malformed, "INT32 has no zero points other than 0").map_err(|error| field(error, weight));
        }
        Ok(numbers.into_iter().map(|zero| zero as i32).collect())
    }
}

fn field(error: Error, weight: &Weight) -> Error {
    error.in_field(&weight.name)
}
