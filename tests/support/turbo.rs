//! A UNet of SD-Turbo's shape: its graph, and weights that take no room: 1.7 GB of zeros in a sparse file.

use super::Axis::Fixed;
use super::{Builder, float, int, integers, ints, tensor};
use std::fs::File;
use std::path::{Path, PathBuf};
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{AttributeProto, StringStringEntryProto, TensorProto};

const CHANNELS: [i64; 4] = [320, 640, 1280, 1280];
/// Of the text encoder's states, and of the embedded time.
const STATES: i64 = 1024;
const TIME: i64 = 1280;
/// Numbers of a head.
const HEAD: i64 = 64;
const WEIGHTS: &str = "weights.pb";

/// Writes the graph to `folder/model.onnx`: f16 weights in a file beside it, one picture of 64x64 latents, 77 words.
pub fn write(folder: &Path) -> PathBuf {
    let mut net = Net { builder: Builder::new(21), names: 0, bytes: 0 };
    net.builder = net
        .builder
        .input("sample", DataType::Float, &[Fixed(1), Fixed(4), Fixed(64), Fixed(64)])
        .input("timestep", DataType::Float, &[Fixed(1)])
        .input("encoder_hidden_states", DataType::Float, &[Fixed(1), Fixed(77), Fixed(STATES)]);
    let time = net.time();
    let out = net.unet(&time);
    net.node_to("Identity", &[&out], vec![], "out_sample");
    let shape = [Fixed(1), Fixed(4), Fixed(64), Fixed(64)];
    let file = net.builder.output("out_sample", DataType::Float, &shape).save(folder.join("model.onnx"));
    File::create(folder.join(WEIGHTS)).and_then(|weights| weights.set_len(net.bytes)).expect("a sparse file");
    file
}

struct Net {
    builder: Builder,
    names: usize,
    bytes: u64,
}

/// A picture `(1, channels, side, side)`.
#[derive(Clone)]
struct Picture {
    name: String,
    channels: i64,
    side: i64,
}

impl Net {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    /// f16 in the file beside, cast to f32.
    fn weight(&mut self, dims: &[i64]) -> String {
        let (stored, bytes) = (self.name(), dims.iter().product::<i64>() as u64 * 2);
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        self.builder.graph().initializer.push(TensorProto {
            name: stored.clone(),
            data_type: DataType::Float16 as i32,
            dims: dims.to_vec(),
            data_location: Some(DataLocation::External as i32),
            external_data: vec![
                entry("location", WEIGHTS.into()),
                entry("offset", self.bytes.to_string()),
                entry("length", bytes.to_string()),
            ],
            ..TensorProto::default()
        });
        self.bytes += bytes;
        self.node("Cast", &[&stored], vec![int("to", DataType::Float as i64)])
    }

    fn whole(&mut self, values: &[i64]) -> String {
        let name = self.name();
        self.builder.graph().initializer.push(integers(&name, values));
        name
    }

    fn number(&mut self, value: f32) -> String {
        let of = vec![tensor("value", super::floats("", &[1], &[value]))];
        self.node("Constant", &[], of)
    }

    fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = self.name();
        self.node_to(op, inputs, attributes, &name);
        name
    }

    fn node_to(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>, output: &str) {
        let builder = std::mem::replace(&mut self.builder, Builder::new(21));
        self.builder = builder.node_with(op, inputs, output, attributes);
    }

    fn silu(&mut self, x: &str) -> String {
        let gate = self.node("Sigmoid", &[x], vec![]);
        self.node("Mul", &[x, &gate], vec![])
    }

    fn linear(&mut self, x: &str, from: i64, to: i64, biased: bool) -> String {
        let weight = self.weight(&[from, to]);
        let product = self.node("MatMul", &[x, &weight], vec![]);
        if !biased {
            return product;
        }
        let bias = self.weight(&[to]);
        self.node("Add", &[&product, &bias], vec![])
    }

    fn conv(&mut self, x: &Picture, to: i64, kernel: i64, stride: i64) -> Picture {
        let (weight, bias) = (self.weight(&[to, x.channels, kernel, kernel]), self.weight(&[to]));
        let attributes =
            vec![ints("pads", &[kernel / 2; 4]), ints("strides", &[stride; 2]), ints("kernel_shape", &[kernel; 2])];
        let name = self.node("Conv", &[&x.name, &weight, &bias], attributes);
        Picture { name, channels: to, side: x.side / stride }
    }

    fn group_norm(&mut self, x: &Picture, epsilon: f32) -> Picture {
        let (gamma, beta) = (self.weight(&[x.channels]), self.weight(&[x.channels]));
        let attributes = vec![int("num_groups", 32), float("epsilon", epsilon)];
        let name = self.node("GroupNormalization", &[&x.name, &gamma, &beta], attributes);
        Picture { name, ..x.clone() }
    }

    fn layer_norm(&mut self, x: &str, width: i64) -> String {
        let (gamma, beta) = (self.weight(&[width]), self.weight(&[width]));
        self.node("LayerNormalization", &[x, &gamma, &beta], vec![int("axis", -1), float("epsilon", 1e-5)])
    }

    /// Sines and cosines of the step, then two layers.
    fn time(&mut self) -> String {
        let frequencies: Vec<f32> = (0..160).map(|i| (-(10_000f32.ln()) * i as f32 / 160.0).exp()).collect();
        let of = vec![tensor("value", super::floats("", &[1, 160], &frequencies))];
        let frequencies = self.node("Constant", &[], of);
        let axis = self.whole(&[1]);
        let column = self.node("Unsqueeze", &["timestep", &axis], vec![]);
        let angles = self.node("Mul", &[&column, &frequencies], vec![]);
        let (cos, sin) = (self.node("Cos", &[&angles], vec![]), self.node("Sin", &[&angles], vec![]));
        let both = self.node("Concat", &[&cos, &sin], vec![int("axis", -1)]);
        let hidden = self.linear(&both, 320, TIME, true);
        let hidden = self.silu(&hidden);
        self.linear(&hidden, TIME, TIME, true)
    }

    fn unet(&mut self, time: &str) -> String {
        let sample = Picture { name: "sample".into(), channels: 4, side: 64 };
        let mut x = self.conv(&sample, CHANNELS[0], 3, 1);
        let mut skips = vec![x.clone()];
        for (level, channels) in CHANNELS.into_iter().enumerate() {
            for _ in 0..2 {
                x = self.block(&x, channels, time, level < 3);
                skips.push(x.clone());
            }
            if level < 3 {
                x = self.conv(&x, channels, 3, 2);
                skips.push(x.clone());
            }
        }
        x = self.block(&x, 1280, time, true);
        x = self.residual(&x, 1280, time);
        for (level, channels) in CHANNELS.into_iter().enumerate().rev() {
            for _ in 0..3 {
                let skip = skips.pop().expect("as many as were pushed");
                let name = self.node("Concat", &[&x.name, &skip.name], vec![int("axis", 1)]);
                let joined = Picture { name, channels: x.channels + skip.channels, side: x.side };
                x = self.block(&joined, channels, time, level < 3);
            }
            if level > 0 {
                x = self.upsample(&x);
            }
        }
        let normed = self.group_norm(&x, 1e-5);
        let name = self.silu(&normed.name);
        self.conv(&Picture { name, ..normed }, 4, 3, 1).name
    }

    fn block(&mut self, x: &Picture, channels: i64, time: &str, attends: bool) -> Picture {
        let x = self.residual(x, channels, time);
        if attends { self.transformer(&x) } else { x }
    }

    fn residual(&mut self, x: &Picture, channels: i64, time: &str) -> Picture {
        let normed = self.group_norm(x, 1e-5);
        let name = self.silu(&normed.name);
        let first = self.conv(&Picture { name, ..normed }, channels, 3, 1);
        let told = self.silu(time);
        let told = self.linear(&told, TIME, channels, true);
        let axes = self.whole(&[2, 3]);
        let planes = self.node("Unsqueeze", &[&told, &axes], vec![]);
        let name = self.node("Add", &[&first.name, &planes], vec![]);
        let normed = self.group_norm(&Picture { name, ..first }, 1e-5);
        let name = self.silu(&normed.name);
        let second = self.conv(&Picture { name, ..normed }, channels, 3, 1);
        let short = if x.channels == channels { x.clone() } else { self.conv(x, channels, 1, 1) };
        let name = self.node("Add", &[&short.name, &second.name], vec![]);
        Picture { name, ..second }
    }

    fn transformer(&mut self, x: &Picture) -> Picture {
        let (width, places) = (x.channels, x.side * x.side);
        let normed = self.group_norm(x, 1e-6);
        let last = self.node("Transpose", &[&normed.name], vec![ints("perm", &[0, 2, 3, 1])]);
        let shape = self.whole(&[1, places, width]);
        let rows = self.node("Reshape", &[&last, &shape], vec![]);
        let mut rows = self.linear(&rows, width, width, true);
        for states in [None, Some("encoder_hidden_states")] {
            let normed = self.layer_norm(&rows, width);
            let (other, from, keys) = states.map_or((normed.as_str(), width, places), |name| (name, STATES, 77));
            let attended = self.attention(&normed, other, (width, from), (places, keys));
            rows = self.node("Add", &[&attended, &rows], vec![]);
        }
        let normed = self.layer_norm(&rows, width);
        let wide = self.linear(&normed, width, 8 * width, true);
        let halves = self.whole(&[4 * width, 4 * width]);
        let (plain, gate) = (self.name(), self.name());
        self.split(&wide, &halves, [&plain, &gate]);
        let gate = self.node("Gelu", &[&gate], vec![]);
        let gated = self.node("Mul", &[&plain, &gate], vec![]);
        let narrow = self.linear(&gated, 4 * width, width, true);
        rows = self.node("Add", &[&narrow, &rows], vec![]);
        let out = self.linear(&rows, width, width, true);
        let shape = self.whole(&[1, x.side, x.side, width]);
        let picture = self.node("Reshape", &[&out, &shape], vec![]);
        let first = self.node("Transpose", &[&picture], vec![ints("perm", &[0, 3, 1, 2])]);
        Picture { name: self.node("Add", &[&first, &x.name], vec![]), ..x.clone() }
    }

    /// `width` numbers a query, `from` a key; so many of both.
    fn attention(&mut self, x: &str, other: &str, (width, from): (i64, i64), (rows, keys): (i64, i64)) -> String {
        let (q, k, v) = (
            self.linear(x, width, width, false),
            self.linear(other, from, width, false),
            self.linear(other, from, width, false),
        );
        let heads = width / HEAD;
        let by_head = |net: &mut Net, x: &str, count: i64, perm: &[i64]| {
            let shape = net.whole(&[1, count, heads, HEAD]);
            let split = net.node("Reshape", &[x, &shape], vec![]);
            net.node("Transpose", &[&split], vec![ints("perm", perm)])
        };
        let q = by_head(self, &q, rows, &[0, 2, 1, 3]);
        let k = by_head(self, &k, keys, &[0, 2, 3, 1]);
        let v = by_head(self, &v, keys, &[0, 2, 1, 3]);
        let scores = self.node("MatMul", &[&q, &k], vec![]);
        let scale = self.number((HEAD as f32).sqrt().recip());
        let scaled = self.node("Mul", &[&scores, &scale], vec![]);
        let weights = self.node("Softmax", &[&scaled], vec![int("axis", -1)]);
        let made = self.node("MatMul", &[&weights, &v], vec![]);
        let back = self.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]);
        let shape = self.whole(&[1, rows, width]);
        let joined = self.node("Reshape", &[&back, &shape], vec![]);
        self.linear(&joined, width, width, true)
    }

    fn split(&mut self, x: &str, lengths: &str, outputs: [&str; 2]) {
        self.node_to("Split", &[x, lengths], vec![int("axis", -1)], outputs[0]);
        let node = self.builder.graph().node.last_mut().expect("it was just pushed");
        node.output = outputs.map(str::to_owned).to_vec();
    }

    fn upsample(&mut self, x: &Picture) -> Picture {
        let of = vec![tensor("value", super::floats("", &[4], &[1.0, 1.0, 2.0, 2.0]))];
        let scales = self.node("Constant", &[], of);
        let attributes = vec![
            text("mode", "nearest"),
            text("coordinate_transformation_mode", "asymmetric"),
            text("nearest_mode", "floor"),
        ];
        let name = self.node("Resize", &[&x.name, "", &scales], attributes);
        self.conv(&Picture { name, side: 2 * x.side, ..x.clone() }, x.channels, 3, 1)
    }
}

fn text(name: &str, s: &str) -> AttributeProto {
    let r#type = tract_onnx::pb::attribute_proto::AttributeType::String as i32;
    AttributeProto { name: name.into(), r#type, s: s.as_bytes().to_vec(), ..AttributeProto::default() }
}
