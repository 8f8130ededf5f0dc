//! `export`: trained weights to a model directory in the diffusers ONNX layout.

mod configs;
mod graphs;

use crate::net::autoencoder::{Autoencoder, LatentScale, SCALE_FILE};
use crate::net::bert::Bert;
use crate::net::denoiser::Denoiser;
use crate::net::onnx::Weights;
use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Options of `export`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of `train denoiser`.
    #[arg(long)]
    denoiser: PathBuf,
    /// Folder of `train autoencoder`.
    #[arg(long)]
    autoencoder: PathBuf,
    /// Folder of `train text`.
    #[arg(long)]
    text: PathBuf,
    /// The model directory to write.
    #[arg(long)]
    out: PathBuf,
    /// Steps that `generate` takes unless told.
    #[arg(long, default_value_t = 10)]
    steps: u32,
    /// Guidance that `generate` takes unless told.
    #[arg(long, default_value_t = 2.5)]
    guidance: f32,
}

/// Runs `export`.
pub fn run(args: &Args) -> Result<()> {
    let denoiser: Denoiser = read_json(&args.denoiser.join("config.json"))?;
    let bert: Bert = read_json(&args.text.join("config.json"))?;
    let autoencoder = Autoencoder::default();
    for stage in ["text_encoder", "unet", "vae_encoder", "vae_decoder", "tokenizer", "scheduler"] {
        let folder = args.out.join(stage);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    graphs::write_text_encoder(&bert, &read_weights(&args.text)?, &args.out.join("text_encoder/model.onnx"))?;
    graphs::write_denoiser(&denoiser, &read_weights(&args.denoiser)?, &args.out.join("unet/model.onnx"))?;
    let coder = read_weights(&args.autoencoder)?;
    let (side, scale) = (denoiser.size, read_scale(&args.denoiser, denoiser.latent)?);
    graphs::write_encoder(&autoencoder, &coder, &scale, side, &args.out.join("vae_encoder/model.onnx"))?;
    graphs::write_decoder(&autoencoder, &coder, side, &args.out.join("vae_decoder/model.onnx"))?;
    let tokenizer = args.text.join("tokenizer.json");
    fs::copy(&tokenizer, args.out.join("tokenizer/tokenizer.json"))
        .with_context(|| format!("cannot copy {}", tokenizer.display()))?;
    let configs = configs::configs(&denoiser, args.steps, args.guidance);
    configs.into_iter().try_for_each(|(file, value)| write_json(&args.out.join(file), &value))?;
    println!("wrote {}", args.out.display());
    Ok(())
}

/// The scale of the latents that the denoiser was trained on.
fn read_scale(folder: &Path, channels: i64) -> Result<LatentScale> {
    let path = folder.join(SCALE_FILE);
    let scale: LatentScale = read_json(&path).context(
        "an older `train denoiser` began this run; start it again on the folder and it writes this file at once",
    )?;
    ensure!(scale.fits(channels), "{}: must hold {channels} means and {channels} deviations above 0", path.display());
    Ok(scale)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: malformed", path.display()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, serde_json::to_string_pretty(value)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The averaged weights of a training run's folder.
fn read_weights(folder: &Path) -> Result<Weights> {
    let path = folder.join("weights.safetensors");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{}: malformed", path.display()))?;
    let mut weights = Weights::new();
    for (name, view) in file.tensors() {
        ensure!(view.dtype() == Dtype::F32, "{}: {name} is {:?}, not f32", path.display(), view.dtype());
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        weights.insert(name, (view.shape().iter().map(|d| *d as i64).collect(), values));
    }
    Ok(weights)
}
