//! A whole pipeline of a chosen width, random and quick, for what is tested of the command and not of the numbers.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tract_onnx::pb::tensor_proto::DataType;

use super::Axis::{Fixed, Named};
use super::{Builder, floats, int, integers, ints, numbers};

/// Width of the text states.
const STATES: i64 = 16;

/// A model directory that is gone when it is dropped. Its pictures are 16x16 from latents of 8x8.
pub struct Sketch {
    dir: TempDir,
}

impl Sketch {
    pub fn new() -> Self {
        Self::of_width(8)
    }

    /// The three stages have about 9 `width`² weights each.
    pub fn of_width(width: i64) -> Self {
        let sketch = Self { dir: tempfile::tempdir().unwrap() };
        sketch.copy_tokenizer();
        sketch.write_configs();
        text_encoder(width).save(sketch.path("text_encoder/model.onnx"));
        denoiser(width, 1.0).save(sketch.path("unet/model.onnx"));
        decoder(width).save(sketch.path("vae_decoder/model.onnx"));
        sketch
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// A denoiser whose output is no number.
    pub fn spoil(&self) {
        denoiser(8, f32::NAN).save(self.path("unet/model.onnx"));
    }

    pub fn write(&self, file: &str, json: Value) {
        fs::create_dir_all(self.path(file).parent().unwrap()).unwrap();
        fs::write(self.path(file), json.to_string()).unwrap();
    }

    fn copy_tokenizer(&self) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer/clip");
        fs::create_dir(self.path("tokenizer")).unwrap();
        for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), self.path("tokenizer").join(file.file_name())).unwrap();
        }
    }

    fn write_configs(&self) {
        let part = json!(["diffusers", "OnnxRuntimeModel"]);
        let parts = json!({"_class_name": "OnnxStableDiffusionPipeline", "text_encoder": part, "unet": part, "vae_decoder": part});
        self.write("model_index.json", parts);
        self.write("unet/config.json", json!({"sample_size": 8, "in_channels": 4, "block_out_channels": [8, 8]}));
        self.write(
            "vae_decoder/config.json",
            json!({"block_out_channels": [8, 8], "latent_channels": 4, "scaling_factor": 0.5}),
        );
        self.scheduler("EulerDiscreteScheduler", json!({"timestep_spacing": "trailing"}));
    }

    /// The scheduler of `class`, with Stable Diffusion's training schedule and what `more` says.
    pub fn scheduler(&self, class: &str, more: Value) {
        let mut config = json!({
            "_class_name": class, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.write("scheduler/scheduler_config.json", config);
    }
}

fn weight(name: &str, dims: &[i64]) -> tract_onnx::pb::TensorProto {
    let count: i64 = dims.iter().product();
    let fan_in = (count / dims[0]) as f32;
    let seed = name.bytes().map(u64::from).sum();
    let values: Vec<f32> = numbers(seed, count as usize).into_iter().map(|x| x * (3.0 / fan_in).sqrt()).collect();
    floats(name, dims, &values)
}

fn text_encoder(width: i64) -> Builder {
    let wide = 4 * width;
    Builder::new(17)
        .input("input_ids", DataType::Int32, &[Named("batch"), Named("sequence")])
        .weight(weight("table", &[4096, STATES]))
        .weight(weight("up", &[STATES, wide]))
        .weight(weight("middle", &[wide, wide / 2]))
        .weight(weight("down", &[wide / 2, STATES]))
        .node("Gather", &["table", "input_ids"], "embedded")
        .node("MatMul", &["embedded", "up"], "raised")
        .node("Tanh", &["raised"], "bent")
        .node("MatMul", &["bent", "middle"], "mixed")
        .node("MatMul", &["mixed", "down"], "last_hidden_state")
        .output("last_hidden_state", DataType::Float, &[Named("batch"), Named("sequence"), Fixed(STATES)])
}

fn denoiser(width: i64, scale: f32) -> Builder {
    let latents = [Named("batch"), Fixed(4), Named("height"), Named("width")];
    Builder::new(17)
        .input("sample", DataType::Float, &latents)
        .input("timestep", DataType::Float, &[Named("batch")])
        .input("encoder_hidden_states", DataType::Float, &[Named("batch"), Named("sequence"), Fixed(STATES)])
        .weight(weight("in", &[width, 4, 1, 1]))
        .weight(weight("middle", &[width, width, 3, 3]))
        .weight(weight("out", &[4, width, 1, 1]))
        .weight(weight("condition", &[STATES, width]))
        .weight(floats("per_mille", &[1], &[0.001]))
        .weight(floats("scale", &[1], &[scale]))
        .weight(integers("axis", &[1]))
        .weight(integers("plane", &[2, 3]))
        .node_with("ReduceMean", &["encoder_hidden_states"], "pooled", vec![ints("axes", &[1]), int("keepdims", 0)])
        .node("MatMul", &["pooled", "condition"], "asked")
        .node("Unsqueeze", &["timestep", "axis"], "column")
        .node("Mul", &["column", "per_mille"], "time")
        .node("Add", &["asked", "time"], "told")
        .node("Unsqueeze", &["told", "plane"], "planes")
        .node("Conv", &["sample", "in"], "wide")
        .node("Add", &["wide", "planes"], "shifted")
        .node("Tanh", &["shifted"], "bent")
        .node_with("Conv", &["bent", "middle"], "mixed", vec![ints("pads", &[1, 1, 1, 1])])
        .node("Add", &["mixed", "bent"], "joined")
        .node("Conv", &["joined", "out"], "narrow")
        .node("Mul", &["narrow", "scale"], "out_sample")
        .output("out_sample", DataType::Float, &latents)
}

fn decoder(width: i64) -> Builder {
    Builder::new(17)
        .input("latent_sample", DataType::Float, &[Named("batch"), Fixed(4), Named("height"), Named("width")])
        .weight(weight("in", &[width, 4, 1, 1]))
        .weight(weight("middle", &[width, width, 3, 3]))
        .weight(weight("out", &[12, width, 1, 1]))
        .node("Conv", &["latent_sample", "in"], "wide")
        .node("Tanh", &["wide"], "bent")
        .node_with("Conv", &["bent", "middle"], "mixed", vec![ints("pads", &[1, 1, 1, 1])])
        .node("Conv", &["mixed", "out"], "twelve")
        .node_with("DepthToSpace", &["twelve"], "folded", vec![int("blocksize", 2)])
        .node("Tanh", &["folded"], "sample")
        .output("sample", DataType::Float, &[Named("batch"), Fixed(3), Named("rows"), Named("columns")])
}
