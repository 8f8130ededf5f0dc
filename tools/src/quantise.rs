//! `quantise`: an exported model with its large weights in eight bits, and what that costs.

mod distance;

use crate::export::{copy, onnxruntime};
use crate::net::onnx::{Rounded, in_eight_bits, read_model, write_model};
use crate::record::{Record, Records, files};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Options of `quantise`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A model directory that `export` wrote
    model: PathBuf,
    /// The model directory to write
    #[arg(long)]
    out: PathBuf,
    /// Stages whose weights become eight bits; the others stay as they are
    #[arg(long, value_delimiter = ',', default_value = "text_encoder,unet,vae_decoder,vae_encoder")]
    stages: Vec<String>,
    /// Also compare the graphs with onnxruntime: a Python with `tools/python/requirements.txt` installed
    #[arg(long, value_name = "PYTHON")]
    onnxruntime: Option<PathBuf>,
}

/// Runs `quantise`.
///
/// # Errors
/// If a stage is missing or not one that `export` wrote, a file cannot be read or written, or a graph does not run.
pub fn run(args: &Args) -> Result<()> {
    ensure!(args.model.join("model_index.json").exists(), "{}: is no model directory", args.model.display());
    ensure!(!args.out.exists(), "{}: exists already", args.out.display());
    let file = |folder: &Path, stage: &str| folder.join(stage).join("model.onnx");
    let stages = args.stages.iter().map(|stage| (stage, file(&args.model, stage), file(&args.out, stage)));
    let models = stages
        .map(|(stage, from, to)| {
            let mut model = read_model(&from)?;
            let rounded = in_eight_bits(&mut model).with_context(|| from.display().to_string())?;
            Ok((stage, from, to, model, rounded))
        })
        .collect::<Result<Vec<_>>>()?;
    copy(&args.model, &args.out)?;
    let mut record = Record::new("quantise");
    for (stage, from, to, model, rounded) in models {
        write_model(&model, &to)?;
        let became = Became::of((&from, &to), rounded)?;
        println!("{stage}: {}", became.line());
        record = record.figure(stage, became);
    }
    println!("wrote {}", args.out.display());
    if let Some(python) = &args.onnxruntime {
        record = record.figure("from_onnxruntime", onnxruntime::check(python, &args.out)?);
    }
    (record.inputs, record.outputs) = (files::graphs(&args.model)?, files::graphs(&args.out)?);
    let mut records = Records::open(&args.out)?;
    records.add(record);
    records.write(&args.out)
}

/// What became of a stage.
#[derive(Serialize)]
struct Became {
    megabytes_before: f64,
    megabytes: f64,
    tensors: usize,
    numbers: usize,
    /// Root mean square of what rounding moved the weights by, over that of the weights.
    rounded_by_percent: f64,
    /// Root mean square and maximum of what its output moved by, over the output's deviation.
    typical: f64,
    largest: f64,
}

impl Became {
    fn of((from, to): (&Path, &Path), rounded: Rounded) -> Result<Self> {
        let megabytes = |file: &Path| fs::metadata(file).map(|facts| facts.len() as f64 / 1e6);
        let (largest, typical) = distance::between(from, to)?;
        Ok(Self {
            megabytes_before: megabytes(from)?,
            megabytes: megabytes(to)?,
            tensors: rounded.tensors,
            numbers: rounded.numbers,
            rounded_by_percent: 100.0 * rounded.share(),
            typical,
            largest,
        })
    }

    fn line(&self) -> String {
        format!(
            "{:.2} MB -> {:.2} MB; {} weights of {} numbers, rounded by {:.2} %; outputs apart by {:.1e} of their std, at most {:.1e}",
            self.megabytes_before,
            self.megabytes,
            self.tensors,
            self.numbers,
            self.rounded_by_percent,
            self.typical,
            self.largest,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::graphs::write_encoder;
    use crate::net::autoencoder::{Autoencoder, LatentScale};
    use crate::trained::{AUTOENCODER, weights};

    fn quantise(model: &Path, out: &Path) -> Result<()> {
        let stages = vec!["vae_encoder".to_owned()];
        run(&Args { model: model.to_owned(), out: out.to_owned(), stages, onnxruntime: None })
    }

    #[test]
    fn a_stage_becomes_smaller_and_everything_else_stays() {
        let shipped = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/sticker-64"));
        let folder = tempfile::tempdir().unwrap();
        let (model, out) = (folder.path().join("large"), folder.path().join("small"));
        copy(shipped, &model).unwrap();
        let coder = weights(shipped, &AUTOENCODER).unwrap();
        let scale = LatentScale { mean: vec![0.0; 4], deviation: vec![1.0; 4] };
        write_encoder(&Autoencoder::default(), &coder, &scale, 16, &model.join("vae_encoder/model.onnx")).unwrap();
        quantise(&model, &out).unwrap();
        let size = |model: &Path| fs::metadata(model.join("vae_encoder/model.onnx")).unwrap().len();
        assert!(size(&out) * 10 < size(&model) * 7, "{} of {}", size(&out), size(&model));
        for file in ["unet/model.onnx", "upscaler/model.onnx", "upscaler/config.json", "undiffuse.json"] {
            assert!(fs::read(out.join(file)).unwrap() == fs::read(model.join(file)).unwrap(), "{file}");
        }
        let kept = weights(&out, &AUTOENCODER).unwrap();
        assert!(coder.keys().eq(kept.keys()), "a checkpoint still");
        // The shipped model was quantised before.
        let records = Records::open(&out).unwrap();
        let record = records.get("quantise-2").unwrap();
        assert!(records.get("train-student").is_some() && record.outputs == files::graphs(&out).unwrap());
        assert_ne!(record.inputs["vae_encoder/model.onnx"], record.outputs["vae_encoder/model.onnx"]);
        assert!(record.figures["vae_encoder"]["largest"].as_f64().unwrap() > 0.0, "{record:?}");
        let error = quantise(&model, &out).unwrap_err().to_string();
        assert!(error.ends_with("small: exists already"), "{error}");
    }

    #[test]
    fn graphs_of_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (model, out) = (folder.path().join("other"), folder.path().join("small"));
        fs::create_dir_all(model.join("vae_encoder")).unwrap();
        fs::write(model.join("model_index.json"), "{}").unwrap();
        // `ModelProto.producer_name`.
        fs::write(model.join("vae_encoder/model.onnx"), b"\x12\x07pytorch").unwrap();
        let error = format!("{:#}", quantise(&model, &out).unwrap_err());
        assert!(error.contains("was written by \"pytorch\", not by `export`") && !out.exists(), "{error}");
    }
}
