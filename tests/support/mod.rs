//! ONNX files built in the tests, message by message.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod sketch;
pub mod turbo;
pub mod upscaled;

use half::f16;
use prost::Message;
use std::path::{Path, PathBuf};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use tract_onnx::pb::*;

/// An axis of a declared shape: a length, or a name.
#[derive(Clone, Copy)]
pub enum Axis {
    Fixed(i64),
    Named(&'static str),
}

/// A graph under construction.
#[derive(Clone)]
pub struct Builder {
    pub model: ModelProto,
}

impl Builder {
    pub fn new(opset: i64) -> Builder {
        let set = OperatorSetIdProto { domain: String::new(), version: opset };
        let graph = Some(GraphProto { name: "g".into(), ..GraphProto::default() });
        Builder { model: ModelProto { ir_version: 8, opset_import: vec![set], graph, ..ModelProto::default() } }
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.model.graph.as_mut().unwrap()
    }

    pub fn input(mut self, name: &str, data_type: DataType, axes: &[Axis]) -> Builder {
        self.graph().input.push(value(name, data_type, axes));
        self
    }

    pub fn output(mut self, name: &str, data_type: DataType, axes: &[Axis]) -> Builder {
        self.graph().output.push(value(name, data_type, axes));
        self
    }

    pub fn weight(mut self, tensor: TensorProto) -> Builder {
        self.graph().initializer.push(tensor);
        self
    }

    pub fn node(self, op: &str, inputs: &[&str], output: &str) -> Builder {
        self.node_with(op, inputs, output, vec![])
    }

    pub fn node_with(mut self, op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> Builder {
        let input = inputs.iter().map(|name| (*name).to_owned()).collect();
        let (name, op_type) = (format!("/{output}"), op.to_owned());
        self.graph().node.push(NodeProto {
            input,
            output: vec![output.into()],
            name,
            op_type,
            attribute,
            ..NodeProto::default()
        });
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.model.encode_to_vec()
    }

    pub fn save(&self, file: impl AsRef<Path>) -> PathBuf {
        let file = file.as_ref();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, self.bytes()).unwrap();
        file.to_path_buf()
    }
}

pub fn value(name: &str, data_type: DataType, axes: &[Axis]) -> ValueInfoProto {
    let dimension = |axis: &Axis| {
        let value = Some(match axis {
            Axis::Fixed(length) => DimValue::DimValue(*length),
            Axis::Named(name) => DimValue::DimParam((*name).into()),
        });
        Dimension { value, ..Dimension::default() }
    };
    let shape = Some(TensorShapeProto { dim: axes.iter().map(dimension).collect() });
    let tensor = type_proto::Tensor { elem_type: data_type as i32, shape };
    let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() });
    ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
}

pub fn raw(name: &str, data_type: DataType, dims: &[i64], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: data_type as i32,
        dims: dims.to_vec(),
        raw_data,
        ..TensorProto::default()
    }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    raw(name, DataType::Float, dims, values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

pub fn halves(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    raw(name, DataType::Float16, dims, values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect())
}

pub fn integers(name: &str, values: &[i64]) -> TensorProto {
    let dims = [values.len() as i64];
    raw(name, DataType::Int64, &dims, values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// Moves a tensor's bytes to `offset` of a file called `location`, and gives them.
pub fn externalise(tensor: &mut TensorProto, location: &str, offset: u64) -> Vec<u8> {
    let bytes = std::mem::take(&mut tensor.raw_data);
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![
        entry("location", location.into()),
        entry("offset", offset.to_string()),
        entry("length", bytes.len().to_string()),
    ];
    bytes
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f, ..AttributeProto::default() }
}

pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: ints.to_vec(),
        ..AttributeProto::default()
    }
}

pub fn tensor(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Tensor as i32, t: Some(t), ..AttributeProto::default() }
}

/// Numbers from -1 to 1 from a linear congruential generator (Knuth's MMIX constants): the same on both sides of a comparison.
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32) / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Largest difference over the standard deviation of `expected`.
pub fn relative_error(actual: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let mean = expected.iter().sum::<f64>() / expected.len() as f64;
    let variance = expected.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / expected.len() as f64;
    let worst = actual.iter().zip(expected).map(|(a, e)| (f64::from(*a) - e).abs()).fold(0.0, f64::max);
    worst / variance.sqrt()
}

/// A denoiser, a text encoder and a decoder of a few numbers each, in the diffusers layout, as dialect A (diffusers' script) names them.
pub fn pipeline(root: &Path) {
    use Axis::{Fixed, Named};
    let latents = [Named("batch"), Fixed(4), Named("height"), Named("width")];
    Builder::new(18)
        .input("sample", DataType::Float, &latents)
        .input("timestep", DataType::Float, &[Named("batch")])
        .input("encoder_hidden_states", DataType::Float, &[Named("batch"), Named("sequence"), Fixed(8)])
        .weight(floats("w", &[8, 4], &numbers(1, 32)))
        .weight(integers("axes", &[1]))
        .weight(integers("last", &[2, 3]))
        .weight(integers("one", &[1, 2, 3]))
        .node_with("ReduceMean", &["encoder_hidden_states", "axes"], "pooled", vec![int("keepdims", 0)])
        .node("MatMul", &["pooled", "w"], "condition")
        .node("Unsqueeze", &["condition", "last"], "planes")
        .node("Unsqueeze", &["timestep", "one"], "time")
        .node("Mul", &["sample", "planes"], "scaled")
        .node("Add", &["scaled", "time"], "out_sample")
        .output("out_sample", DataType::Float, &latents)
        .save(root.join("unet/model.onnx"));
    Builder::new(18)
        .input("input_ids", DataType::Int32, &[Named("batch"), Named("sequence")])
        .weight(floats("table", &[16, 8], &numbers(2, 128)))
        .node("Gather", &["table", "input_ids"], "last_hidden_state")
        .output("last_hidden_state", DataType::Float, &[Named("batch"), Named("sequence"), Fixed(8)])
        .save(root.join("text_encoder/model.onnx"));
    Builder::new(18)
        .input("latent_sample", DataType::Float, &latents)
        .weight(floats("k", &[12, 4, 1, 1], &numbers(3, 48)))
        .node("Conv", &["latent_sample", "k"], "wide")
        .node_with("DepthToSpace", &["wide"], "sample", vec![int("blocksize", 2)])
        .output("sample", DataType::Float, &[Named("batch"), Fixed(3), Named("height_2"), Named("width_2")])
        .save(root.join("vae_decoder/model.onnx"));
    let json = |file: &str, text: &str| {
        let file = root.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    json(
        "model_index.json",
        r#"{"_class_name": "OnnxStableDiffusionPipeline", "unet": ["diffusers", "OnnxRuntimeModel"]}"#,
    );
    json(
        "scheduler/scheduler_config.json",
        r#"{"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}"#,
    );
    json(
        "vae_decoder/config.json",
        r#"{"_class_name": "AutoencoderKL", "block_out_channels": [32, 64], "latent_channels": 4}"#,
    );
    json("unet/config.json", r#"{"sample_size": 8, "in_channels": 4, "cross_attention_dim": [8, 8]}"#);
    json("text_encoder/config.json", r#"{"max_position_embeddings": 77, "hidden_size": 8, "vocab_size": 16}"#);
}
