//! Reads the weights back out of an exported graph, so that a shipped model is a checkpoint too.

use super::proto::{FLOAT, FLOAT16, Graph, INT8, Model, Tensor};
use super::{TRANSPOSED, Weights, eight, transposed};
use anyhow::{Context, Result, bail, ensure};
use half::f16;
use prost::Message;
use std::path::Path;

/// Decodes a graph.
///
/// # Errors
/// If it cannot be read, or is none.
pub fn read_model(path: &Path) -> Result<Model> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Model::decode(bytes.as_slice()).with_context(|| format!("{}: not an ONNX model", path.display()))
}

/// The weights of a graph that [`super::Recorder`] wrote, in f16 or in eight bits, under their training names and shapes.
pub fn read_weights(path: &Path) -> Result<Weights> {
    let graph = read_model(path)?.graph.with_context(|| format!("{}: the model has no graph", path.display()))?;
    let mut weights = Weights::new();
    for tensor in graph.initializer.iter().filter(|tensor| [FLOAT16, INT8].contains(&tensor.data_type)) {
        let values = values(tensor, &graph).with_context(|| format!("{}: {}", path.display(), tensor.name))?;
        match tensor.name.strip_suffix(TRANSPOSED) {
            Some(name) => weights.insert(name.into(), transposed(&tensor.dims, &values)),
            None => weights.insert(tensor.name.clone(), (tensor.dims.clone(), values)),
        };
    }
    ensure!(!weights.is_empty(), "{}: holds no weights: was it written by `export`?", path.display());
    Ok(weights)
}

fn values(tensor: &Tensor, graph: &Graph) -> Result<Vec<f32>> {
    let (count, size) = (tensor.dims.iter().product::<i64>(), if tensor.data_type == FLOAT16 { 2 } else { 1 });
    let fits = tensor.raw_data.len() as i64 == size * count;
    ensure!(fits, "holds {} bytes for {count} numbers", tensor.raw_data.len());
    if tensor.data_type == FLOAT16 {
        return Ok(halves(&tensor.raw_data));
    }
    let (scales, axis) = scales(tensor, graph).context("nothing says what its integers stand for")?;
    if tensor.dims.get(axis) != Some(&(scales.len() as i64)) {
        bail!("has {} scales for axis {axis} of {:?}", scales.len(), tensor.dims);
    }
    let codes: Vec<i8> = tensor.raw_data.iter().map(|byte| *byte as i8).collect();
    Ok(eight::dequantized(&codes, &scales, &tensor.dims, axis))
}

/// The scales of a weight in eight bits, and their axis.
fn scales(tensor: &Tensor, graph: &Graph) -> Option<(Vec<f32>, usize)> {
    let mut nodes = graph.node.iter().filter(|node| node.op_type == "DequantizeLinear");
    let node = nodes.find(|node| node.input.first() == Some(&tensor.name))?;
    let scale = graph.initializer.iter().find(|other| node.input.get(1) == Some(&other.name))?;
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis")?.i;
    let numbers = scale.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    (scale.data_type == FLOAT).then_some((numbers, usize::try_from(axis).ok()?))
}

pub(super) fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<2>().0.iter().map(|pair| f16::from_le_bytes(*pair).to_f32()).collect()
}
