//! `export`: trained weights to a model directory in the diffusers ONNX layout.

#[cfg(feature = "train")]
mod compare;
pub(crate) mod configs;
pub(crate) mod graphs;
pub(crate) mod onnxruntime;

use crate::net::autoencoder::{Autoencoder, LatentScale, SCALE_FILE};
use crate::net::bert::Bert;
use crate::net::denoiser::Denoiser;
use crate::net::onnx::Weights;
use crate::record::{Record, Records, files, records};
use crate::trained::{self, AUTOENCODER, DENOISER, TEXT, read_json};
use anyhow::{Context, Result, ensure};
#[cfg(feature = "train")]
use serde_json::Map;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use undiffuse::model::{Graph, UpscalerPorts};

/// Options of `export`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of `train denoiser` or `train student`.
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
    /// Steps that `generate` takes unless told [default: 10, of a student 4].
    #[arg(long)]
    steps: Option<u32>,
    /// Guidance that `generate` takes unless told [default: 2.5, of a student 1].
    #[arg(long)]
    guidance: Option<f32>,
    /// An `upscaler/` for the model, or a model directory that has one; its pictures are then enlarged by it instead of by interpolation.
    #[arg(long)]
    upscaler: Option<PathBuf>,
    /// Also compare the exported graphs with onnxruntime: a Python with `tools/python/requirements.txt` installed.
    #[arg(long, value_name = "PYTHON")]
    onnxruntime: Option<PathBuf>,
}

/// Runs `export`.
pub fn run(args: &Args) -> Result<()> {
    let parts = Parts::read(args)?;
    parts.write(&args.out)?;
    ["tokenizer", "scheduler"].iter().try_for_each(|folder| create(&args.out.join(folder)))?;
    write_tokenizer(&trained::tokenizer(&args.text), &args.out.join("tokenizer/tokenizer.json"))?;
    let few = trained::is_student(&args.denoiser)?;
    let (steps, guidance) = if few { (4, 1.0) } else { (10, 2.5) };
    let mut configs =
        configs::configs(&parts.denoiser, few, args.steps.unwrap_or(steps), args.guidance.unwrap_or(guidance));
    if let Some(upscaler) = &args.upscaler {
        take_upscaler(upscaler, &args.out.join(UPSCALER))?;
        configs[0].1[UPSCALER] = configs::onnx();
    }
    configs.into_iter().try_for_each(|(file, value)| write_json(&args.out.join(file), &value))?;
    println!("wrote {}", args.out.display());
    let mut record = Record::new("export");
    #[cfg(feature = "train")]
    {
        record = record.figure("from_the_trained_net", Map::from_iter(compared(&parts, &args.out)?));
    }
    #[cfg(not(feature = "train"))]
    println!("not compared with the trained nets: this program was built without the feature `train`");
    if let Some(python) = &args.onnxruntime {
        record = record.figure("from_onnxruntime", onnxruntime::check(python, &args.out)?);
    }
    keep(args, record)
}

#[cfg(feature = "train")]
fn compared(parts: &Parts, out: &Path) -> Result<impl Iterator<Item = (String, Value)>> {
    Ok(compare::report(parts, out)?.into_iter().map(|(stage, apart)| (stage.to_owned(), apart.into())))
}

/// Puts the records of what the model was made from, and `record`, into its directory; those of measurements there stay.
fn keep(args: &Args, mut record: Record) -> Result<()> {
    let sources: [(&str, &Path, &[&str], &[&str]); 3] = [
        ("autoencoder", &args.autoencoder, &AUTOENCODER, &records::AUTOENCODER),
        ("text", &args.text, &TEXT, &records::TEXT),
        ("denoiser", &args.denoiser, &DENOISER, &records::DENOISER),
    ];
    let mut all = Records::default();
    for (part, path, stages, made_by) in sources {
        for file in trained::files(path, stages) {
            record = record.input(format!("{part}/{}", files::name_in(path, &file)), &file)?;
        }
        all.extend(Records::that_made(path, made_by)?);
    }
    if let Some(upscaler) = &args.upscaler {
        all.extend(Records::that_made(upscaler, &records::UPSCALER)?);
    }
    record.outputs = files::graphs(&args.out)?;
    all.add(record);
    all.extend(Records::open(&args.out)?.without(|record| !record.stage.starts_with("evaluate")));
    all.write(&args.out)
}

/// The nets of a model and their weights.
struct Parts {
    bert: Bert,
    text: Weights,
    denoiser: Denoiser,
    unet: Weights,
    autoencoder: Autoencoder,
    coder: Weights,
    scale: LatentScale,
}

impl Parts {
    fn read(args: &Args) -> Result<Self> {
        let denoiser: Denoiser = read_json(&args.denoiser.join("config.json"))?;
        Ok(Self {
            bert: trained::text_encoder(&args.text)?,
            text: trained::weights(&args.text, &TEXT)?,
            unet: trained::weights(&args.denoiser, &DENOISER)?,
            autoencoder: Autoencoder::default(),
            coder: trained::weights(&args.autoencoder, &AUTOENCODER)?,
            scale: read_scale(&args.denoiser, denoiser.latent)?,
            denoiser,
        })
    }

    /// Writes the graph of every stage.
    fn write(&self, out: &Path) -> Result<()> {
        let file = |stage: &str| create(&out.join(stage)).map(|()| out.join(stage).join("model.onnx"));
        let side = self.denoiser.size;
        graphs::write_text_encoder(&self.bert, &self.text, &file("text_encoder")?)?;
        graphs::write_denoiser(&self.denoiser, &self.unet, &file("unet")?)?;
        graphs::write_encoder(&self.autoencoder, &self.coder, &self.scale, side, &file("vae_encoder")?)?;
        graphs::write_decoder(&self.autoencoder, &self.coder, side, &file("vae_decoder")?)
    }
}

const UPSCALER: &str = "upscaler";

/// Copies an upscaler's folder, or that of a model.
///
/// # Errors
/// If there is none, or it is not one that the runtime can use.
fn take_upscaler(from: &Path, to: &Path) -> Result<()> {
    let own = from.join(UPSCALER);
    let from = if own.is_dir() { own.as_path() } else { from };
    let graph = from.join("model.onnx");
    ensure!(graph.exists(), "{}: there is no upscaler; tools/python/convert_realesr.py writes one", graph.display());
    UpscalerPorts::of(&Graph::open(&graph)?)?;
    copy(from, to)
}

/// All files of a directory, and of those in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    create(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upscaler_is_taken_from_its_folder_or_a_model() {
        let shipped = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/sticker-64"));
        let folder = tempfile::tempdir().unwrap();
        for (index, from) in [shipped.to_owned(), shipped.join("upscaler")].iter().enumerate() {
            let to = folder.path().join(index.to_string());
            take_upscaler(from, &to).unwrap();
            for file in ["model.onnx", "config.json"] {
                assert!(
                    fs::read(to.join(file)).unwrap() == fs::read(shipped.join("upscaler").join(file)).unwrap(),
                    "{file}"
                );
            }
        }
        for (from, why) in [("vae_decoder", "is not an upscaler"), ("tokenizer", "there is no upscaler")] {
            let error = format!("{:#}", take_upscaler(&shipped.join(from), &folder.path().join("none")).unwrap_err());
            assert!(error.contains(why) && !folder.path().join("none").exists(), "{error}");
        }
    }
}
