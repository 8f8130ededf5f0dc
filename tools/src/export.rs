//! `export`: trained weights to a model directory in the diffusers ONNX layout.

mod configs;
mod graphs;

use crate::net::autoencoder::{Autoencoder, LatentScale, SCALE_FILE};
use crate::net::denoiser::Denoiser;
use crate::trained::{self, AUTOENCODER, DENOISER, TEXT, read_json};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Options of `export`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of `train denoiser`.
    #[arg(long)]
    denoiser: PathBuf,
    /// Folder of `train autoencoder`, or an exported model directory.
    #[arg(long)]
    autoencoder: PathBuf,
    /// Folder of `train text`, or an exported model directory.
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
    let bert = trained::text_encoder(&args.text)?;
    let autoencoder = Autoencoder::default();
    for stage in ["text_encoder", "unet", "vae_encoder", "vae_decoder", "tokenizer", "scheduler"] {
        let folder = args.out.join(stage);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    graphs::write_text_encoder(
        &bert,
        &trained::weights(&args.text, &TEXT)?,
        &args.out.join("text_encoder/model.onnx"),
    )?;
    graphs::write_denoiser(
        &denoiser,
        &trained::weights(&args.denoiser, &DENOISER)?,
        &args.out.join("unet/model.onnx"),
    )?;
    let coder = trained::weights(&args.autoencoder, &AUTOENCODER)?;
    let (side, scale) = (denoiser.size, read_scale(&args.denoiser, denoiser.latent)?);
    graphs::write_encoder(&autoencoder, &coder, &scale, side, &args.out.join("vae_encoder/model.onnx"))?;
    graphs::write_decoder(&autoencoder, &coder, side, &args.out.join("vae_decoder/model.onnx"))?;
    write_tokenizer(&trained::tokenizer(&args.text), &args.out.join("tokenizer/tokenizer.json"))?;
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

fn write_tokenizer(from: &Path, to: &Path) -> Result<()> {
    let tokenizer = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    fs::write(to, tokenizer).with_context(|| format!("cannot write {}", to.display()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, serde_json::to_string_pretty(value)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}
