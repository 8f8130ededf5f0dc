//! From a checked ONNX graph to a [`Net`]. Shapes, types and folded values come from tract; attributes are read here.

mod convolution;
mod einsum;
mod movement;
mod norm;
mod point;

use super::attributes::Attributes;
use super::net::{Content, Net, Node, Value, ValueId};
use super::op::{Binary, Op};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::model::{Fact, Graph};
use crate::op::view::View;
use crate::value::{DType, Data, Tensor};
use std::collections::HashMap;
use std::sync::Arc;
use tract_onnx::pb::NodeProto;

/// A node that has no [`Op`], and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) node: String,
    pub(crate) op: String,
    pub(crate) why: String,
}

/// The net of `graph` for inputs of `shapes` (in the order of [`Graph::inputs`]).
///
/// # Errors
/// Those of [`Graph::facts`]; `Unsupported` that lists every node that cannot be imported, with the reason.
pub(crate) fn import(graph: &Graph, shapes: &[Vec<usize>]) -> Result<Net> {
    let facts = graph.facts(shapes)?;
    let mut import =
        Import { net: Net::default(), names: HashMap::new(), facts, opset: graph.opset(), refused: Vec::new() };
    for (port, shape) in graph.inputs().iter().zip(shapes) {
        let value =
            Value { name: port.name.clone(), dtype: port.dtype, shape: shape.clone(), content: Content::Computed };
        let id = import.net.add(value);
        import.net.inputs.push(id);
        import.names.insert(port.name.clone(), id);
    }
    for weight in graph.weights() {
        let content = match import.facts.get_mut(&weight.name).and_then(|fact| fact.content.take()) {
            Some(tensor) => Content::Constant(Arc::new(tensor)),
            // Integers that no tensor of ours can hold: who reads them is refused.
            None if !weight.is_float() => continue,
            None => Content::Weight(Arc::new(weight.clone()), View::dense(&weight.shape)),
        };
        let dtype = match &content {
            Content::Constant(tensor) => tensor.dtype(),
            _ => DType::F32,
        };
        let value = Value { name: weight.name.clone(), dtype, shape: weight.shape.clone(), content };
        let id = import.net.add(value);
        import.names.insert(weight.name.clone(), id);
    }
    graph.nodes().iter().for_each(|node| import.node(node));
    import.finish(graph)
}

/// The import under way.
struct Import {
    net: Net,
    names: HashMap<String, ValueId>,
    facts: HashMap<String, Fact>,
    opset: i64,
    refused: Vec<Refused>,
}

/// What a node becomes, or why it cannot.
type Imported = Result<(), String>;

impl Import {
    fn node(&mut self, node: &NodeProto) {
        let folded: Vec<bool> = node.output.iter().map(|name| name.is_empty() || self.fold(name)).collect();
        if folded.iter().all(|folded| *folded) {
            return;
        }
        if let Err(why) = self.translate(node) {
            let name = [&node.name, &node.output[0]].into_iter().find(|name| !name.is_empty()).cloned();
            self.refused.push(Refused { node: name.unwrap_or_default(), op: node.op_type.clone(), why });
            // Readers of what it would make are refused for their own reasons only.
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                if let Ok(value) = self.computed(name) {
                    let id = self.net.add(value);
                    self.names.entry(name.clone()).or_insert(id);
                }
            }
        }
    }

    /// Registers the output `name` if its content is known.
    fn fold(&mut self, name: &str) -> bool {
        let Some(tensor) = self.facts.get_mut(name).and_then(|fact| fact.content.take()) else { return false };
        let id = self.net.constant(name, tensor);
        self.names.insert(name.to_owned(), id);
        true
    }

    fn translate(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        if let Some(op) = point::unary(&node.op_type, &attributes) {
            return self.emit(node, op, &[0]);
        }
        if let Some(op) = point::binary(&node.op_type, &attributes) {
            return self.chain(node, op);
        }
        match node.op_type.as_str() {
            "Pow" => self.pow(node),
            "Clip" => self.clip(node),
            "Cast" | "CastLike" => self.cast(node),
            "DequantizeLinear" => self.dequantize(node),
            "Where" => self.emit(node, Op::Where, &[0, 1, 2]),
            "Conv" => self.conv(node),
            "MaxPool" | "AveragePool" => self.pool(node),
            "GlobalAveragePool" => self.global_pool(node),
            "Resize" | "Upsample" => self.resize(node),
            "MatMul" => self.matmul(node),
            "Gemm" => self.gemm(node),
            "InstanceNormalization" | "GroupNormalization" => self.group_norm(node),
            "LayerNormalization" => self.layer_norm(node),
            "BatchNormalization" => self.batch_norm(node),
            "Softmax" => self.softmax(node),
            "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL2" => self.reduce(node),
            "ArgMax" => self.arg_max(node),
            "Einsum" => self.einsum(node),
            "Swish" => self.swish(node),
            "RMSNormalization" => self.rms_norm(node),
            "Identity" => self.alias(node),
            "Dropout" => self.dropout(node),
            "Trilu" => self.trilu(node),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "DepthToSpace" => self.depth_to_space(node),
            "Concat" => self.concat(node),
            "Slice" => self.slice(node),
            "Split" => self.split(node),
            "Expand" => self.emit(node, Op::Expand, &[0]),
            "Gather" => self.gather(node),
            "GatherND" => self.gather_nd(node),
            "Pad" => self.pad(node),
            "PRelu" => self.emit(node, Op::Binary(Binary::PRelu), &[0, 1]),
            _ => Err("there is no step for this operator".into()),
        }
    }

    /// One node with the operands at `operands`.
    fn emit(&mut self, node: &NodeProto, op: Op, operands: &[usize]) -> Imported {
        let inputs = operands.iter().map(|&index| self.input(node, index).map(Some)).collect::<Result<_, _>>()?;
        self.push(node, op, inputs)
    }

    /// One node that makes `node`'s first output.
    fn push(&mut self, node: &NodeProto, op: Op, inputs: Vec<Option<ValueId>>) -> Imported {
        self.make(node, 0, op, inputs)
    }

    /// One node that makes `node`'s output at `index`.
    fn make(&mut self, node: &NodeProto, index: usize, op: Op, inputs: Vec<Option<ValueId>>) -> Imported {
        let value = self.computed(&node.output[index])?;
        let output = self.net.add(value);
        self.names.insert(node.output[index].clone(), output);
        self.net.nodes.push(Node { name: node_name(node), op, inputs, output });
        Ok(())
    }

    /// One more node, on the way to `node`'s output.
    fn between(&mut self, node: &NodeProto, op: Op, inputs: &[ValueId], shape: &[usize], dtype: DType) -> ValueId {
        let name = format!("{}.{}", node_name(node), self.net.nodes.len());
        let output =
            self.net.add(Value { name: name.clone(), dtype, shape: shape.to_vec(), content: Content::Computed });
        self.net.nodes.push(Node { name, op, inputs: inputs.iter().copied().map(Some).collect(), output });
        output
    }

    /// `node`'s output is the value `id` under another name.
    fn rename(&mut self, node: &NodeProto, id: ValueId) -> Imported {
        self.names.insert(node.output[0].clone(), id);
        Ok(())
    }

    fn alias(&mut self, node: &NodeProto) -> Imported {
        let id = self.input(node, 0)?;
        self.rename(node, id)
    }

    fn input(&self, node: &NodeProto, index: usize) -> Result<ValueId, String> {
        self.optional(node, index)
            .ok_or_else(|| format!("its operand {index} is missing, or of a type that cannot be computed with"))
    }

    fn optional(&self, node: &NodeProto, index: usize) -> Option<ValueId> {
        let name = node.input.get(index).filter(|name| !name.is_empty())?;
        self.names.get(name).copied()
    }

    /// Whether the output at `index` has a name, so that somebody may read it.
    fn gives(&self, node: &NodeProto, index: usize) -> bool {
        node.output.get(index).is_some_and(|name| !name.is_empty())
    }

    fn dtype(&self, id: ValueId) -> DType {
        self.net.values[id].dtype
    }

    /// The integers of a constant operand.
    fn integers(&self, node: &NodeProto, index: usize) -> Result<Option<Vec<i64>>, String> {
        let Some(id) = self.optional(node, index) else { return Ok(None) };
        let known = self.net.known(id).map(|tensor| tensor.clone().cast(DType::I64).into_data());
        match known {
            Some(Data::I64(values)) => Ok(Some(values)),
            _ => Err(format!("its operand {index} is not constant")),
        }
    }

    /// A fresh value for the output `name`.
    fn computed(&self, name: &str) -> Result<Value, String> {
        let fact = self.facts.get(name).ok_or_else(|| format!("the shape or type of \"{name}\" is not known"))?;
        Ok(Value { name: name.to_owned(), dtype: fact.dtype, shape: fact.shape.clone(), content: Content::Computed })
    }

    fn output_shape(&self, node: &NodeProto) -> Result<Vec<usize>, String> {
        Ok(self.computed(&node.output[0])?.shape)
    }

    /// Operators of two operands that take more: one after the other.
    fn chain(&mut self, node: &NodeProto, op: Op) -> Imported {
        let operands = (0..node.input.len()).map(|index| self.input(node, index)).collect::<Result<Vec<_>, _>>()?;
        match operands[..] {
            [] => Err("it has no operands".into()),
            [one] => self.rename(node, one),
            [a, b] => self.push(node, op, vec![Some(a), Some(b)]),
            [ref first @ .., last] => {
                let (shape, dtype) = (self.output_shape(node)?, self.net.values[last].dtype);
                let joined =
                    first[1..].iter().fold(first[0], |a, &b| self.between(node, op.clone(), &[a, b], &shape, dtype));
                self.push(node, op, vec![Some(joined), Some(last)])
            }
        }
    }

    fn finish(mut self, graph: &Graph) -> Result<Net> {
        refuse(&self.refused)?;
        for port in graph.outputs() {
            match self.names.get(&port.name) {
                Some(&id) => self.net.outputs.push(id),
                None => {
                    return fail!(Engine, "nothing makes this output")
                        .map_err(|error: Error| error.in_field(&port.name));
                }
            }
        }
        self.net.sweep();
        Ok(self.net)
    }
}

fn refuse(refused: &[Refused]) -> Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = refused.iter().map(|node| format!("{} ({}): {}", node.node, node.op, node.why)).collect();
    Err(Error::new(ErrorKind::Unsupported, format!("{} node(s) have no step: {}", list.len(), list.join("; "))))
}

fn node_name(node: &NodeProto) -> String {
    if node.name.is_empty() { node.output[0].clone() } else { node.name.clone() }
}

/// An axis that may count from behind.
fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_front).ok().filter(|axis| *axis < rank.max(1)).ok_or_else(|| format!("axis {axis} of {rank}"))
}

/// A constant vector of f32.
fn vector(values: Vec<f32>, shape: &[usize]) -> Result<Tensor, String> {
    Tensor::new(shape, values).map_err(|error| error.to_string())
}
