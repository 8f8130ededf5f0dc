//! `export`: trained weights to a model directory in the diffusers ONNX layout.

use crate::net::autoencoder::Autoencoder;
use crate::net::bert::Bert;
use crate::net::denoiser::{Denoiser, SHIFT};
use crate::net::onnx::proto::{FLOAT, INT64};
use crate::net::onnx::{Dim, Recorder, Weights};
use crate::words::LENGTH;
use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
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
    for stage in ["text_encoder", "unet", "vae_decoder", "tokenizer", "scheduler"] {
        let folder = args.out.join(stage);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    write_text_encoder(&bert, &read_weights(&args.text)?, &args.out.join("text_encoder/model.onnx"))?;
    write_denoiser(&denoiser, &read_weights(&args.denoiser)?, &args.out.join("unet/model.onnx"))?;
    let coder = read_weights(&args.autoencoder)?;
    write_decoder(&autoencoder, &coder, &denoiser, &args.out.join("vae_decoder/model.onnx"))?;
    let tokenizer = args.text.join("tokenizer.json");
    fs::copy(&tokenizer, args.out.join("tokenizer/tokenizer.json"))
        .with_context(|| format!("cannot copy {}", tokenizer.display()))?;
    configs(&denoiser, args).into_iter().try_for_each(|(file, value)| write_json(&args.out.join(file), &value))?;
    println!("wrote {}", args.out.display());
    Ok(())
}

fn write_text_encoder(net: &Bert, weights: &Weights, path: &Path) -> Result<()> {
    let recorder = Recorder::new("text_encoder", weights);
    let (batch, length) = (Dim::Named("batch"), Dim::Fixed(LENGTH as i64));
    let ids = recorder.input("input_ids", INT64, &[batch, length]);
    let states = net.forward(&recorder, &ids, LENGTH as i64);
    recorder.output(&states, "last_hidden_state", &[batch, length, Dim::Fixed(net.output.unwrap_or(net.width))]);
    recorder.write(path)
}

fn write_denoiser(net: &Denoiser, weights: &Weights, path: &Path) -> Result<()> {
    let recorder = Recorder::new("unet", weights);
    let batch = Dim::Named("batch");
    let side = Dim::Fixed(net.size);
    let shape = [batch, Dim::Fixed(net.latent), side, side];
    let sample = recorder.input("sample", FLOAT, &shape);
    let timestep = recorder.input("timestep", FLOAT, &[batch]);
    let text = [batch, Dim::Fixed(LENGTH as i64), Dim::Fixed(net.text)];
    let states = recorder.input("encoder_hidden_states", FLOAT, &text);
    let out = net.forward(&recorder, &sample, &timestep, &states);
    recorder.output(&out, "out_sample", &shape);
    recorder.write(path)
}

fn write_decoder(net: &Autoencoder, weights: &Weights, denoiser: &Denoiser, path: &Path) -> Result<()> {
    let recorder = Recorder::new("vae_decoder", weights);
    let batch = Dim::Named("batch");
    let (small, large) = (Dim::Fixed(denoiser.size), Dim::Fixed(4 * denoiser.size));
    let latent = recorder.input("latent_sample", FLOAT, &[batch, Dim::Fixed(net.latent), small, small]);
    let picture = net.decode(&recorder, &latent);
    recorder.output(&picture, "sample", &[batch, Dim::Fixed(3), large, large]);
    recorder.write(path)
}

/// The JSON files of the directory, as diffusers names them, and our own `undiffuse.json`.
fn configs(net: &Denoiser, args: &Args) -> Vec<(&'static str, Value)> {
    let onnx = || json!(["diffusers", "OnnxRuntimeModel"]);
    let index = json!({
        "_class_name": "OnnxStableDiffusionPipeline", "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": onnx(), "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "unet": onnx(), "vae_decoder": onnx(), "safety_checker": [null, null], "feature_extractor": [null, null],
    });
    let unet = json!({
        "_class_name": "UNet2DConditionModel", "in_channels": net.latent, "out_channels": net.latent,
        "sample_size": net.size, "cross_attention_dim": net.text, "time_cond_proj_dim": null,
    });
    let decoder = json!({
        "_class_name": "AutoencoderTiny", "latent_channels": net.latent, "out_channels": 3, "scaling_factor": 1.0,
        "block_out_channels": [64, 64, 128],
    });
    let tokenizer = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LENGTH, "do_lower_case": true,
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    });
    let scheduler = json!({
        "_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.42.1",
        "num_train_timesteps": 1000, "shift": SHIFT, "use_dynamic_shifting": false,
    });
    let side = 16 * net.size;
    let own = json!({"steps": args.steps, "guidance": args.guidance, "display_size": [side, side]});
    vec![
        ("model_index.json", index),
        ("unet/config.json", unet),
        ("vae_decoder/config.json", decoder),
        ("tokenizer/tokenizer_config.json", tokenizer),
        ("scheduler/scheduler_config.json", scheduler),
        ("undiffuse.json", own),
    ]
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

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;
    use crate::net::onnx::read_weights as read_back;
    use crate::net::params::{Params, generator_lock};
    use crate::net::torch::Torch;
    use crate::train::run::no_grad;
    use tch::{Device, Kind, Tensor};
    use undiffuse::engine::{Backend, Threads, load};
    use undiffuse::model::Graph;
    use undiffuse::value::Tensor as Array;

    /// Draws every parameter of a network anew, the zeroed ones too, and rounds it as the file will.
    fn randomise(params: &Params) {
        let _guard = tch::no_grad_guard();
        for (name, mut tensor) in params.all() {
            let offset = if name.ends_with("norm1.weight") || name.contains("Norm.weight") { 1.0 } else { 0.0 };
            let drawn = tensor.randn_like() * 0.1 + offset;
            tensor.copy_(&drawn.to_kind(Kind::Half).to_kind(Kind::Float));
        }
    }

    fn weights(params: &Params) -> Weights {
        let values = |t: &Tensor| Vec::<f32>::try_from(t.detach().flatten(0, -1)).unwrap();
        params.all().iter().map(|(k, t)| (k.clone(), (t.size(), values(t)))).collect()
    }

    /// Largest difference over the deviation of `want`.
    fn distance(path: &Path, inputs: &[(&str, Array)], output: &str, want: &Tensor) -> f64 {
        let mut engine = load(Graph::open(path).unwrap(), Backend::Tract, &Threads::new(None).unwrap()).unwrap();
        let inputs: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (*n, a)).collect();
        let got = engine.run(&inputs).unwrap().take(output).unwrap();
        assert_eq!(got.shape().iter().map(|d| *d as i64).collect::<Vec<_>>(), want.size());
        let got = Tensor::from_slice(&got.into_f32()).reshape(want.size());
        (got - want).abs().max().double_value(&[]) / want.std(false).double_value(&[])
    }

    fn array(tensor: &Tensor) -> Array {
        let shape: Vec<usize> = tensor.size().iter().map(|d| *d as usize).collect();
        Array::new(&shape, Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap()).unwrap()
    }

    fn random(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn exported_denoiser_is_the_trained_one_and_reads_back() {
        let _lock = generator_lock();
        let net = Denoiser { latent: 4, size: 8, channels: [8, 16, 24], heads: [2, 3], text: 12, condition: 16 };
        let params = Params::fresh(1, Device::Cpu);
        let (x, t, states) =
            (random(&[2, 4, 8, 8]), Tensor::from_slice(&[900.0f32, 20.0]), random(&[2, LENGTH as i64, 12]));
        let run = || no_grad(|| net.forward(&Torch(&params), &x, &t, &states));
        let _ = run();
        randomise(&params);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        write_denoiser(&net, &weights(&params), &path).unwrap();
        let inputs = [("sample", array(&x)), ("timestep", array(&t)), ("encoder_hidden_states", array(&states))];
        let apart = distance(&path, &inputs, "out_sample", &run());
        assert!(apart < 1e-4, "{apart}");
        assert_eq!(read_back(&path).unwrap(), weights(&params));
    }

    #[test]
    fn exported_decoder_is_the_trained_one() {
        let _lock = generator_lock();
        let net = Autoencoder { latent: 4, encoder: [8, 8], decoder: [16, 8] };
        let denoiser = Denoiser { size: 8, ..Denoiser::default() };
        let params = Params::fresh(2, Device::Cpu);
        let latent = random(&[1, 4, 8, 8]);
        let run = || no_grad(|| net.decode(&Torch(&params), &latent));
        let _ = run();
        randomise(&params);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        write_decoder(&net, &weights(&params), &denoiser, &path).unwrap();
        let apart = distance(&path, &[("latent_sample", array(&latent))], "sample", &run());
        assert!(apart < 1e-4, "{apart}");
    }

    #[test]
    fn exported_text_encoder_is_the_trained_one() {
        let _lock = generator_lock();
        let net = Bert {
            vocabulary: 50,
            width: 24,
            heads: 3,
            feed_forward: 32,
            output: Some(10),
            ..Bert::student(50, LENGTH as i64)
        };
        let params = Params::fresh(3, Device::Cpu);
        let ids: Vec<i64> = (0..LENGTH as i64).map(|i| if i < 9 { 2 + 5 * i } else { 0 }).collect();
        let tensor = Tensor::from_slice(&ids).reshape([1, -1]);
        let run = || no_grad(|| net.forward(&Torch(&params), &tensor, LENGTH as i64));
        let _ = run();
        randomise(&params);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        write_text_encoder(&net, &weights(&params), &path).unwrap();
        let inputs = [("input_ids", Array::new(&[1, LENGTH], ids.clone()).unwrap())];
        let apart = distance(&path, &inputs, "last_hidden_state", &run());
        assert!(apart < 1e-4, "{apart}");
    }

    #[test]
    fn weights_that_do_not_fit_are_all_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_denoiser(&Denoiser::default(), &Weights::new(), &folder.path().join("m.onnx")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("in.weight: missing") && text.contains("up1.1.conv2.bias: missing"), "{text}");
    }
}
