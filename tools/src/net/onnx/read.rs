//! Reads the weights back out of an exported graph, so that a shipped model is a checkpoint too.

use super::proto::{FLOAT16, Model};
use super::{TRANSPOSED, Weights, transposed};
use anyhow::{Context, Result, ensure};
use half::f16;
use prost::Message;
use std::path::Path;

/// The f16 initialisers of a graph that [`super::Recorder`] wrote, under their training names and shapes.
pub fn read_weights(path: &Path) -> Result<Weights> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let model = Model::decode(bytes.as_slice()).with_context(|| format!("{}: not an ONNX model", path.display()))?;
    let graph = model.graph.with_context(|| format!("{}: the model has no graph", path.display()))?;
    let mut weights = Weights::new();
    for tensor in graph.initializer.into_iter().filter(|t| t.data_type == FLOAT16) {
        let count: i64 = tensor.dims.iter().product();
        let fits = tensor.raw_data.len() as i64 == 2 * count;
        ensure!(fits, "{}: {} holds {} bytes for {count} numbers", path.display(), tensor.name, tensor.raw_data.len());
        let values: Vec<f32> =
            tensor.raw_data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        match tensor.name.strip_suffix(TRANSPOSED) {
            Some(name) => weights.insert(name.into(), transposed(&tensor.dims, &values)),
            None => weights.insert(tensor.name, (tensor.dims, values)),
        };
    }
    ensure!(!weights.is_empty(), "{}: holds no f16 weights: was it written by `export`?", path.display());
    Ok(weights)
}
