//! [`Graph`]: an ONNX file, decoded and checked here before tract sees it.
//!
//! tract panics at some files and copies every constant. So the protobuf is decoded first, its constants are taken out
//! ([`Weight`]), everything declared is checked, 16-bit floats are turned into f32, and only then does tract get
//! the nodes, with the constants put back as its own tensors.

mod channels;
mod check;
mod dequantize;
pub(crate) mod element;
mod facts;
mod file;
mod stamp;
mod summary;
mod translate;
mod watch;
mod widen;

pub use check::Unsupported;
pub(crate) use facts::Fact;
pub use summary::Summary;
pub(crate) use translate::{datum_type, foreign};

use super::mapped::Mapped;
use super::port::{Port, names};
use super::weights::{DataFiles, Weight, lengths};
use crate::error::{Error, ErrorKind, Result, fail};
use element::Element;
use std::path::{Path, PathBuf};
use tract_onnx::pb::{
    GraphProto, ModelProto, TensorProto, TensorShapeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};

/// A checked ONNX graph with its constants, not yet prepared for any engine.
#[derive(Debug, Clone)]
pub struct Graph {
    file: PathBuf,
    /// The file's content without the outer graph's initialisers.
    model: ModelProto,
    weights: Vec<Weight>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// How many of the outputs the file declares; the others were [watched](Graph::watch).
    own_outputs: usize,
    opset: i64,
    unsupported: Vec<Unsupported>,
    /// Of the file without its weights.
    digest: u128,
}

impl Graph {
    /// Reads `file` and checks that all of it can run.
    ///
    /// # Errors
    /// Those of [`Graph::read`], and `Unsupported` that lists every operator that cannot run, with its nodes.
    pub fn open(file: impl AsRef<Path>) -> Result<Graph> {
        let graph = Graph::read(file)?;
        check::refuse(&graph.unsupported).map_err(|error| error.in_file(&graph.file))?;
        Ok(graph)
    }

    /// Reads `file`; operators that cannot run are only noted (see [`Graph::unsupported`]), for whoever inspects it.
    ///
    /// # Errors
    /// `NotFound` or `Io`; `Malformed` for what is not an ONNX file, is cut short, declares absurd dimensions or is wired wrongly;
    /// `Mismatch` when a constant has not as many bytes as its shape needs; `Unsupported` for operator sets and element types outside
    /// of what is known. Each names the file and the node or tensor.
    pub fn read(file: impl AsRef<Path>) -> Result<Graph> {
        let file = file.as_ref();
        Self::decode(file).map_err(|error| error.in_file(file))
    }

    fn decode(file: &Path) -> Result<Graph> {
        let file::Decoded { mut model, initializers, digest } = file::decode(file)?;
        let opset = check::opset(&model)?;
        let unsupported = check::unsupported(&model);
        let graph = model.graph.as_mut().ok_or_else(no_graph)?;
        check::wiring(graph, initializers.iter().map(|(tensor, _)| tensor.name.as_str()))?;
        let weights = take_weights(file, graph, initializers)?;
        let weights = dequantize::fold(graph, weights, opset)?;
        let mut inputs = ports(&graph.input)?;
        channels::settle(graph, &weights, &mut inputs);
        let outputs = ports(&graph.output)?;
        widen::graph(file, graph)?;
        check::volumes(graph, &weights)?;
        let own_outputs = outputs.len();
        let file = file.to_path_buf();
        Ok(Graph { file, model, weights, inputs, outputs, own_outputs, opset, unsupported, digest })
    }

    /// The outer graph's nodes, in an order in which they can run.
    pub(crate) fn nodes(&self) -> &[tract_onnx::pb::NodeProto] {
        self.model.graph.as_ref().map_or(&[], |graph| &graph.node)
    }

    /// The outer graph's initialisers.
    pub(crate) fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What must be given, in the file's order. Channels that the file leaves open are those of the convolution that reads them.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What it computes, in the file's order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The version of ONNX's own operator set that the file was written for.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Operators that cannot run; empty for a graph from [`Graph::open`].
    pub fn unsupported(&self) -> &[Unsupported] {
        &self.unsupported
    }

    /// One shape for each of the graph's inputs, in its order, from those given by name.
    ///
    /// # Errors
    /// `Mismatch` when an input is missing, unknown, or of a shape that the graph does not take; the message lists what the graph takes.
    pub fn shapes(&self, given: &[(&str, &[usize])]) -> Result<Vec<Vec<usize>>> {
        complete(&self.inputs, given).map_err(|error| error.in_file(&self.file))
    }
}

/// Orders what was given by name as the `inputs` stand, and checks it against their declared shapes.
pub(crate) fn complete(inputs: &[Port], given: &[(&str, &[usize])]) -> Result<Vec<Vec<usize>>> {
    if let Some((name, _)) = given.iter().find(|(name, _)| inputs.iter().all(|port| port.name != *name)) {
        return fail!(Mismatch, "the graph has no such input; it takes {}", names(inputs))
            .map_err(|error: Error| error.in_field(*name));
    }
    let shape = |port: &Port| {
        let Some((_, shape)) = given.iter().find(|(name, _)| *name == port.name) else {
            return fail!(Mismatch, "the input is not given; the graph takes {}", names(inputs))
                .map_err(|error: Error| error.in_field(&port.name));
        };
        port.accepts(shape)?;
        Ok(shape.to_vec())
    };
    inputs.iter().map(shape).collect()
}

fn no_graph() -> Error {
    Error::new(ErrorKind::Malformed, "is not an ONNX file: it holds no graph").advise("fetch or export it again")
}

/// Checks the initialisers; they may also be listed among the inputs (ONNX IR 3), as defaults, and leave that list.
fn take_weights(
    file: &Path,
    graph: &mut GraphProto,
    initializers: Vec<(TensorProto, Option<Mapped>)>,
) -> Result<Vec<Weight>> {
    let mut files = DataFiles::default();
    let take = |(mut tensor, payload)| Weight::take(file, &mut tensor, payload, &mut files);
    let weights = initializers.into_iter().map(take).collect::<Result<Vec<_>>>()?;
    let names: std::collections::HashSet<&str> = weights.iter().map(|weight| weight.name.as_str()).collect();
    graph.input.retain(|input| !names.contains(input.name.as_str()));
    Ok(weights)
}

fn ports(values: &[ValueInfoProto]) -> Result<Vec<Port>> {
    values.iter().map(|value| port(value).map_err(|error| error.in_field(&value.name))).collect()
}

fn port(value: &ValueInfoProto) -> Result<Port> {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return fail!(Unsupported, "its type is not a tensor");
    };
    let element = Element::of(tensor.elem_type)?;
    let Some(dtype) = element.port() else {
        return fail!(Unsupported, "graphs that take or give {} are not supported", element.name());
    };
    let shape = tensor.shape.as_ref().map(dims).transpose()?;
    Ok(Port { name: value.name.clone(), dtype, declared: element.name().to_owned(), shape })
}

fn dims(shape: &TensorShapeProto) -> Result<Vec<super::Dim>> {
    use super::Dim;
    use tensor_shape_proto::dimension::Value;
    let fixed: Vec<i64> = shape.dim.iter().filter_map(fixed_dim).collect();
    lengths(&fixed)?;
    let dim = |dim: &tensor_shape_proto::Dimension| match &dim.value {
        Some(Value::DimValue(length)) if *length >= 0 => Dim::Fixed(*length as usize),
        Some(Value::DimParam(name)) if !name.is_empty() => Dim::Symbol(name.clone()),
        _ => Dim::Unknown,
    };
    Ok(shape.dim.iter().map(dim).collect())
}

/// Some exporters write -1 for "unknown".
fn fixed_dim(dim: &tensor_shape_proto::Dimension) -> Option<i64> {
    match dim.value {
        Some(tensor_shape_proto::dimension::Value::DimValue(length)) if length >= 0 => Some(length),
        _ => None,
    }
}
