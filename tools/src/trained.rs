//! The files of a trained network: in the folder of its run, or in an exported model directory.

use crate::net::bert::Bert;
use crate::net::onnx::{self, Weights};
use crate::words::{LENGTH, Words};
use anyhow::{Context, Result, bail};
use half::f16;
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// The stages of an exported model that hold the text encoder.
pub const TEXT: [&str; 1] = ["text_encoder"];
/// Those that hold the denoiser.
pub const DENOISER: [&str; 1] = ["unet"];
/// Those that hold the autoencoder.
pub const AUTOENCODER: [&str; 2] = ["vae_encoder", "vae_decoder"];

/// The file in a run's folder that holds its weights.
pub const WEIGHTS: &str = "weights.safetensors";

/// The file in a run's folder that says that it is a few-step student.
pub const STUDENT_FILE: &str = "student.json";

/// Where weights are: in one file, or in several that each hold a part.
///
/// `path` is a run's `weights.safetensors`, the run's folder, or an exported model directory, whose `stages` then hold them.
pub fn files(path: &Path, stages: &[&str]) -> Vec<PathBuf> {
    match path {
        file if !file.is_dir() => vec![file.to_owned()],
        model if is_exported(model) => stages.iter().map(|stage| model.join(stage).join("model.onnx")).collect(),
        run => vec![run.join(WEIGHTS)],
    }
}

/// Weights by name from the [`files`] of `path`: exact from a run, rounded to f16 or to eight bits from an exported model.
///
/// # Errors
/// If a file is missing or is not what it should be.
pub fn weights(path: &Path, stages: &[&str]) -> Result<Weights> {
    let mut weights = Weights::new();
    for file in files(path, stages) {
        let of_graph = file.extension().is_some_and(|extension| extension == "onnx");
        weights.extend(if of_graph { onnx::read_weights(&file)? } else { read_safetensors(&file)? });
    }
    Ok(weights)
}

/// The `tokenizer.json` that belongs to a text encoder's [`weights`].
pub fn tokenizer(path: &Path) -> PathBuf {
    match path {
        file if !file.is_dir() => file.with_file_name("tokenizer.json"),
        model if is_exported(model) => model.join("tokenizer/tokenizer.json"),
        run => run.join("tokenizer.json"),
    }
}

/// The sizes of a text encoder.
///
/// # Errors
/// If the run's `config.json`, or the exported model's tokenizer, cannot be read.
pub fn text_encoder(path: &Path) -> Result<Bert> {
    if is_exported(path) {
        return Ok(Bert::student(Words::open(&tokenizer(path))?.vocabulary() as i64, LENGTH as i64));
    }
    read_json(&path.join("config.json"))
}

/// Whether a denoiser is a few-step student: a run of `train student`, one of its files, or a model that was exported from it.
///
/// # Errors
/// If the exported model's scheduler cannot be read.
pub fn is_student(path: &Path) -> Result<bool> {
    if is_exported(path) {
        let scheduler: serde_json::Value = read_json(&path.join("scheduler/scheduler_config.json"))?;
        return Ok(scheduler["stochastic_sampling"] == true);
    }
    let run = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    Ok(run.join(STUDENT_FILE).exists())
}

fn is_exported(folder: &Path) -> bool {
    folder.join("model_index.json").exists()
}

/// Reads a JSON file.
///
/// # Errors
/// If it cannot be read, or holds something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: malformed", path.display()))
}

fn read_safetensors(path: &Path) -> Result<Weights> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{}: malformed", path.display()))?;
    let mut weights = Weights::new();
    for (name, view) in file.tensors() {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => bail!("{}: {name} is {other:?}, not f32 or f16", path.display()),
        };
        weights.insert(name, (view.shape().iter().map(|d| *d as i64).collect(), values));
    }
    Ok(weights)
}
