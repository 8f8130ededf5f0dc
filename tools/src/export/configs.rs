//! The JSON files of a model directory.

use crate::net::denoiser::{Denoiser, LAST, SHIFT};
use crate::words::LENGTH;
use serde_json::{Value, json};

/// The JSON files of the directory, as diffusers names them, and our own `undiffuse.json`.
pub fn configs(net: &Denoiser, few: bool, steps: u32, guidance: f32) -> Vec<(&'static str, Value)> {
    let index = json!({
        "_class_name": "OnnxStableDiffusionPipeline", "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": onnx(), "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "unet": onnx(), "vae_encoder": onnx(), "vae_decoder": onnx(), "safety_checker": [null, null], "feature_extractor": [null, null],
    });
    let unet = json!({
        "_class_name": "UNet2DConditionModel", "in_channels": net.latent, "out_channels": net.latent,
        "sample_size": net.size, "cross_attention_dim": net.text, "time_cond_proj_dim": null,
    });
    let autoencoder = json!({
        "_class_name": "AutoencoderTiny", "latent_channels": net.latent, "in_channels": 3, "out_channels": 3,
        "scaling_factor": 1.0, "block_out_channels": [64, 64, 128],
    });
    let tokenizer = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LENGTH, "do_lower_case": true,
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    });
    let side = 16 * net.size;
    let own = json!({"steps": steps, "guidance": guidance, "display_size": [side, side]});
    vec![
        ("model_index.json", index),
        ("unet/config.json", unet),
        ("vae_encoder/config.json", autoencoder.clone()),
        ("vae_decoder/config.json", autoencoder),
        ("tokenizer/tokenizer_config.json", tokenizer),
        ("scheduler/scheduler_config.json", scheduler(few)),
        ("undiffuse.json", own),
    ]
}

/// What `model_index.json` says of a stage with a graph.
pub fn onnx() -> Value {
    json!(["diffusers", "OnnxRuntimeModel"])
}

/// `scheduler_config.json`: what [`schedule`](crate::net::denoiser::schedule) is read from, or, for a few-step student,
/// [`few_steps`](crate::net::denoiser::few_steps).
pub fn scheduler(few: bool) -> Value {
    let mut config = json!({
        "_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.42.1",
        "num_train_timesteps": 1000, "shift": if few { 1.0 } else { SHIFT }, "use_dynamic_shifting": false,
    });
    if few {
        config["shift_terminal"] = json!(LAST);
        config["stochastic_sampling"] = json!(true);
    }
    config
}
