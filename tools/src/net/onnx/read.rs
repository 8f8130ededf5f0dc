//! Reads the weights back out of an exported graph, so that a shipped model is a checkpoint too.

use super::proto::{FLOAT, FLOAT16, Graph, INT8, INT64, Model, Tensor};
use super::rows::{ROWS, spread};
use super::{CONSTANT, TRANSPOSED, Weights, eight, transposed};
use anyhow::{Context, Result, bail, ensure};
use half::f16;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Decodes a graph.
///
/// # Errors
/// If it cannot be read, or is none.
pub fn read_model(path: &Path) -> Result<Model> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Model::decode(bytes.as_slice()).with_context(|| format!("{}: not an ONNX model", path.display()))
}

/// What [`super::Recorder`] wrote of a graph's weights, in f16 or in eight bits, and of its tables of integers, under their training names
/// and shapes.
pub fn read_weights(path: &Path) -> Result<Weights> {
    let graph = read_model(path)?.graph.with_context(|| format!("{}: the model has no graph", path.display()))?;
    let (mut weights, mut places) = (Weights::new(), BTreeMap::<String, Vec<i64>>::new());
    for tensor in &graph.initializer {
        let values = || values(tensor, &graph).with_context(|| format!("{}: {}", path.display(), tensor.name));
        let (name, dims) = (tensor.name.as_str(), tensor.dims.clone());
        match (tensor.data_type, name.strip_suffix(ROWS), name.strip_suffix(TRANSPOSED)) {
            (INT64, Some(table), _) => _ = places.insert(table.to_owned(), integers(tensor)),
            (INT64, ..) if name.starts_with(CONSTANT) => {}
            (FLOAT16 | INT8, _, Some(name)) => _ = weights.insert(name.to_owned(), transposed(&dims, &values()?)),
            (FLOAT16 | INT8 | INT64, ..) => _ = weights.insert(name.to_owned(), (dims, values()?)),
            _ => {}
        }
    }
    for (name, places) in places {
        let table = weights.get_mut(&name).and_then(|(dims, rows)| spread_rows(dims, rows, &places));
        ensure!(table.is_some(), "{}: {name}{ROWS} names rows that are not there", path.display());
    }
    ensure!(!weights.is_empty(), "{}: holds no weights: was it written by `export`?", path.display());
    Ok(weights)
}

/// How many numbers of a graph were trained: those of its initialisers that are no integers, nor what integers of eight bits stand for
/// (scales), nor constants of the recorder's.
///
/// # Errors
/// If the file is no graph.
pub fn count_parameters(path: &Path) -> Result<usize> {
    let graph = read_model(path)?.graph.with_context(|| format!("{}: the model has no graph", path.display()))?;
    let widened = graph.node.iter().filter(|node| node.op_type == "DequantizeLinear");
    let scales: BTreeSet<&str> = widened.flat_map(|node| node.input.iter().skip(1)).map(String::as_str).collect();
    let trained = |tensor: &&Tensor| {
        [FLOAT, FLOAT16, INT8].contains(&tensor.data_type)
            && !scales.contains(tensor.name.as_str())
            && !tensor.name.starts_with(CONSTANT)
    };
    Ok(graph.initializer.iter().filter(trained).map(|tensor| tensor.dims.iter().product::<i64>().max(0) as usize).sum())
}

fn spread_rows(dims: &mut Vec<i64>, rows: &mut Vec<f32>, places: &[i64]) -> Option<()> {
    let width = *dims.get(1)?;
    *rows = spread(usize::try_from(width).ok()?, rows, places)?;
    *dims = vec![places.len() as i64, width];
    Some(())
}

/// The numbers of an initialiser of a kind that weights have.
fn values(tensor: &Tensor, graph: &Graph) -> Result<Vec<f32>> {
    let size = match tensor.data_type {
        INT8 => 1,
        FLOAT16 => 2,
        _ => 8,
    };
    let (count, bytes) = (tensor.dims.iter().product::<i64>(), &tensor.raw_data);
    ensure!(bytes.len() as i64 == size * count, "holds {} bytes for {count} numbers", bytes.len());
    match tensor.data_type {
        FLOAT16 => return Ok(halves(bytes)),
        INT64 => return Ok(integers(tensor).into_iter().map(|v| v as f32).collect()),
        _ => {}
    }
    let (scales, axis) = scales(tensor, graph).context("nothing says what its integers stand for")?;
    if tensor.dims.get(axis) != Some(&(scales.len() as i64)) {
        bail!("has {} scales for axis {axis} of {:?}", scales.len(), tensor.dims);
    }
    let codes: Vec<i8> = bytes.iter().map(|byte| *byte as i8).collect();
    Ok(eight::dequantized(&codes, &scales, &tensor.dims, axis))
}

fn integers(tensor: &Tensor) -> Vec<i64> {
    tensor.raw_data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
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
