//! Reads the weights back out of an exported graph, so that a shipped model is a checkpoint too.

use super::proto::{FLOAT16, INT64, Model, Tensor};
use super::rows::{ROWS, spread};
use super::{CONSTANT, TRANSPOSED, Weights, transposed};
use anyhow::{Context, Result, ensure};
use half::f16;
use prost::Message;
use std::collections::BTreeMap;
use std::path::Path;

/// What [`super::Recorder`] wrote of a graph's weights, under their training names and shapes: f16 initialisers, and tables of integers.
pub fn read_weights(path: &Path) -> Result<Weights> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let model = Model::decode(bytes.as_slice()).with_context(|| format!("{}: not an ONNX model", path.display()))?;
    let graph = model.graph.with_context(|| format!("{}: the model has no graph", path.display()))?;
    let (mut weights, mut places) = (Weights::new(), BTreeMap::<String, Vec<i64>>::new());
    for tensor in graph.initializer {
        let values = values(&tensor).with_context(|| format!("{}: {}", path.display(), tensor.name))?;
        match (tensor.data_type, tensor.name.strip_suffix(ROWS), tensor.name.strip_suffix(TRANSPOSED)) {
            (INT64, Some(table), _) => _ = places.insert(table.to_owned(), values.iter().map(|v| *v as i64).collect()),
            (INT64, ..) if tensor.name.starts_with(CONSTANT) => {}
            (FLOAT16, _, Some(name)) => _ = weights.insert(name.to_owned(), transposed(&tensor.dims, &values)),
            (FLOAT16 | INT64, ..) => _ = weights.insert(tensor.name, (tensor.dims, values)),
            _ => {}
        }
    }
    for (name, places) in places {
        let table = weights.get_mut(&name).and_then(|(dims, rows)| spread_rows(dims, rows, &places));
        ensure!(table.is_some(), "{}: {name}{ROWS} names rows that are not there", path.display());
    }
    ensure!(!weights.is_empty(), "{}: holds no f16 weights: was it written by `export`?", path.display());
    Ok(weights)
}

fn spread_rows(dims: &mut Vec<i64>, rows: &mut Vec<f32>, places: &[i64]) -> Option<()> {
    let width = *dims.get(1)?;
    *rows = spread(usize::try_from(width).ok()?, rows, places)?;
    *dims = vec![places.len() as i64, width];
    Some(())
}

/// The numbers of an initialiser, none of a kind that no weight has.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    let size = match tensor.data_type {
        FLOAT16 => 2,
        INT64 => 8,
        _ => return Ok(Vec::new()),
    };
    let (count, bytes) = (tensor.dims.iter().product::<i64>(), &tensor.raw_data);
    ensure!(bytes.len() as i64 == size * count, "holds {} bytes for {count} numbers", bytes.len());
    let half = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32();
    let whole = |b: &[u8; 8]| i64::from_le_bytes(*b) as f32;
    Ok(match size {
        2 => bytes.chunks_exact(2).map(half).collect(),
        _ => bytes.as_chunks().0.iter().map(whole).collect(),
    })
}
