mod attention;

use super::super::{import, lower, place};
use super::*;
use crate::engine::{self, Backend, Threads};
use crate::model::Graph;
use crate::value::Tensor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A graph of `tests/golden/pipelines` or of `models`.
fn file(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(if path.starts_with("sticker") { "models" } else { "tests/golden/pipelines" }).join(path)
}

/// Shapes for a graph's inputs: free axes get small lengths.
fn shapes(graph: &Graph) -> Vec<Vec<usize>> {
    let length = |port: &crate::model::Port, axis: usize| {
        let free = match (port.rank(), axis) {
            (Some(4), 2 | 3) => 16,
            (Some(2 | 3), 1) => 77,
            _ => 1,
        };
        port.fixed(axis).unwrap_or(free)
    };
    let shape = |port: &crate::model::Port| (0..port.rank().unwrap_or(0)).map(|axis| length(port, axis)).collect();
    graph.inputs().iter().map(shape).collect()
}

fn counts(path: &str) -> BTreeMap<&'static str, usize> {
    let graph = Graph::open(file(path)).unwrap();
    let mut net = import::import(&graph, &shapes(&graph)).unwrap();
    fuse(&mut net, |_| true).into_iter().filter(|(rule, count)| *count > 0 && *rule != "tidy").collect()
}

/// Every graph of the fixtures and which rules match how often in it.
const WANTED: &[(&str, &[(&str, usize)])] = &[
    (
        "sd1-a/text_encoder/model.onnx",
        &[("attention", 2), ("linear", 12), ("linear-activation", 2), ("linear-residual", 4), ("silu", 2)],
    ),
    (
        "sd1-a/unet/model.onnx",
        &[
            ("attention", 8),
            ("conv-residual", 15),
            ("conv-row", 11),
            ("gated", 4),
            ("gelu", 4),
            ("group-norm", 27),
            ("linear", 40),
            ("linear-bias", 16),
            ("linear-residual", 12),
            ("norm-activation", 23),
            ("silu", 25),
            ("upsample-conv", 2),
        ],
    ),
    (
        "sd1-a/vae_decoder/model.onnx",
        &[
            ("attention", 1),
            ("conv-residual", 10),
            ("group-norm", 21),
            ("linear", 4),
            ("linear-bias", 4),
            ("norm-activation", 21),
            ("silu", 21),
            ("upsample-conv", 3),
        ],
    ),
    (
        "sd2-b/text_encoder/model.onnx",
        &[("attention", 2), ("gelu", 2), ("linear", 12), ("linear-activation", 2), ("linear-residual", 4)],
    ),
    (
        "sd2-b/unet/model.onnx",
        &[
            ("attention", 8),
            ("conv-residual", 8),
            ("conv-row", 8),
            ("gated", 4),
            ("gelu", 4),
            ("group-norm", 21),
            ("linear", 48),
            ("linear-bias", 24),
            ("linear-residual", 12),
            ("norm-activation", 17),
            ("silu", 19),
            ("upsample-conv", 1),
        ],
    ),
    (
        "sd2-b/vae_decoder/model.onnx",
        &[
            ("attention", 1),
            ("conv-residual", 8),
            ("group-norm", 17),
            ("linear", 4),
            ("linear-bias", 4),
            ("norm-activation", 17),
            ("silu", 17),
            ("upsample-conv", 2),
        ],
    ),
    (
        "lcm-b/text_encoder/model.onnx",
        &[("attention", 2), ("linear", 12), ("linear-activation", 2), ("linear-residual", 4), ("silu", 2)],
    ),
    (
        "lcm-b/unet/model.onnx",
        &[
            ("attention", 8),
            ("conv-residual", 12),
            ("conv-row", 8),
            ("gated", 4),
            ("gelu", 4),
            ("group-norm", 21),
            ("linear", 41),
            ("linear-bias", 16),
            ("linear-residual", 13),
            ("norm-activation", 17),
            ("silu", 19),
            ("upsample-conv", 1),
        ],
    ),
    (
        "lcm-b/vae_decoder/model.onnx",
        &[
            ("attention", 1),
            ("conv-residual", 8),
            ("group-norm", 17),
            ("linear", 4),
            ("linear-bias", 4),
            ("norm-activation", 17),
            ("silu", 17),
            ("upsample-conv", 2),
        ],
    ),
    (
        "turbo-f16/text_encoder/model.onnx",
        &[("attention", 2), ("gelu", 2), ("linear", 12), ("linear-activation", 2), ("linear-residual", 4)],
    ),
    (
        "turbo-f16/unet/model.onnx",
        &[
            ("attention", 8),
            ("conv-residual", 8),
            ("conv-row", 8),
            ("gated", 4),
            ("gelu", 4),
            ("group-norm", 21),
            ("linear", 48),
            ("linear-bias", 24),
            ("linear-residual", 12),
            ("norm-activation", 17),
            ("silu", 19),
            ("upsample-conv", 1),
        ],
    ),
    (
        "turbo-f16/vae_decoder/model.onnx",
        &[
            ("attention", 1),
            ("conv-residual", 8),
            ("group-norm", 17),
            ("linear", 4),
            ("linear-bias", 4),
            ("norm-activation", 17),
            ("silu", 17),
            ("upsample-conv", 2),
        ],
    ),
    (
        "tiny-vae/text_encoder/model.onnx",
        &[("attention", 2), ("gelu", 2), ("linear", 12), ("linear-activation", 2), ("linear-residual", 4)],
    ),
    (
        "tiny-vae/unet/model.onnx",
        &[
            ("attention", 6),
            ("conv-residual", 9),
            ("conv-row", 6),
            ("gated", 3),
            ("gelu", 3),
            ("group-norm", 16),
            ("linear", 30),
            ("linear-bias", 12),
            ("linear-residual", 9),
            ("norm-activation", 13),
            ("silu", 15),
            ("upsample-conv", 1),
        ],
    ),
    ("tiny-vae/vae_decoder/model.onnx", &[("conv-activation", 7), ("conv-residual", 3), ("upsample-conv", 2)]),
    (
        "flow/text_encoder/model.onnx",
        &[("attention", 2), ("linear", 12), ("linear-activation", 2), ("linear-residual", 4)],
    ),
    (
        "flow/unet/model.onnx",
        &[
            ("attention", 8),
            ("conv-residual", 12),
            ("conv-row", 8),
            ("gated", 4),
            ("group-norm", 21),
            ("linear", 40),
            ("linear-bias", 16),
            ("linear-residual", 12),
            ("norm-activation", 17),
            ("silu", 19),
            ("upsample-conv", 1),
        ],
    ),
    (
        "flow/vae_decoder/model.onnx",
        &[
            ("attention", 1),
            ("conv-residual", 8),
            ("group-norm", 17),
            ("linear", 4),
            ("linear-bias", 4),
            ("norm-activation", 17),
            ("silu", 17),
            ("upsample-conv", 2),
        ],
    ),
    (
        "static/text_encoder/model.onnx",
        &[("attention", 2), ("linear", 12), ("linear-activation", 2), ("linear-residual", 4), ("silu", 2)],
    ),
    (
        "static/unet/model.onnx",
        &[
            ("attention", 8),
            ("conv-residual", 12),
            ("conv-row", 8),
            ("gated", 4),
            ("gelu", 4),
            ("group-norm", 21),
            ("linear", 40),
            ("linear-bias", 16),
            ("linear-residual", 12),
            ("norm-activation", 17),
            ("silu", 19),
            ("upsample-conv", 1),
        ],
    ),
    (
        "static/vae_decoder/model.onnx",
        &[
            ("attention", 1),
            ("conv-residual", 8),
            ("group-norm", 17),
            ("linear", 4),
            ("linear-bias", 4),
            ("norm-activation", 17),
            ("silu", 17),
            ("upsample-conv", 2),
        ],
    ),
    (
        "sticker-64/text_encoder/model.onnx",
        &[
            ("attention", 2),
            ("gelu", 2),
            ("linear", 17),
            ("linear-activation", 2),
            ("linear-bias", 16),
            ("linear-residual", 4),
        ],
    ),
    (
        "sticker-64/unet/model.onnx",
        &[
            ("attention", 8),
            ("conv-residual", 12),
            ("group-norm", 19),
            ("group-norm-affine", 9),
            ("linear", 49),
            ("linear-activation", 2),
            ("linear-bias", 49),
            ("linear-residual", 10),
            ("modulation", 10),
            ("norm-activation", 19),
            ("silu", 24),
        ],
    ),
    (
        "sticker-64/vae_decoder/model.onnx",
        &[("conv-residual", 4), ("group-norm", 8), ("group-norm-affine", 8), ("norm-activation", 8), ("silu", 9)],
    ),
];

#[test]
fn every_rule_matches_as_often_as_it_should() {
    let mut wrong = Vec::new();
    for (path, wanted) in WANTED {
        let found = counts(path);
        if found != wanted.iter().copied().collect() {
            wrong.push(format!("(\"{path}\", &{:?}),", found.into_iter().collect::<Vec<_>>()));
        }
    }
    assert!(wrong.is_empty(), "these matched otherwise:\n{}", wrong.join("\n"));
}

#[test]
fn every_rule_matches_somewhere() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, wanted) in WANTED {
        wanted.iter().for_each(|(rule, count)| *seen.entry(rule).or_default() += count);
    }
    let spelled: Vec<&str> = spelled_out().into_iter().map(|(rule, _)| rule).collect();
    let never: Vec<&str> = RULES
        .iter()
        .map(|rule| rule.name)
        .filter(|name| *name != "tidy" && !seen.contains_key(name) && !spelled.contains(name))
        .collect();
    assert!(never.is_empty(), "rules that no test reaches: {never:?}");
}

/// What a net computes, played as it is.
fn play(net: &super::Net, inputs: &[Tensor]) -> Vec<Tensor> {
    let mut plan = lower::lower(net);
    place::place(&mut plan);
    place::check(&plan).unwrap();
    engine::play_once(plan, inputs, &Threads::new(std::num::NonZeroUsize::new(1)).unwrap()).unwrap()
}

fn inputs(graph: &Graph) -> Vec<Tensor> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let drawn = |(port, shape): (&crate::model::Port, Vec<usize>)| {
        let count = shape.iter().product();
        let scale = if port.dtype.is_float() { 2.0 } else { 100.0 };
        let values: Vec<f32> =
            (0..count).map(|_| (next() - if port.dtype.is_float() { 0.5 } else { 0.0 }) * scale).collect();
        Tensor::new(&shape, values).unwrap().cast(port.dtype)
    };
    graph.inputs().iter().zip(shapes(graph)).map(drawn).collect()
}

/// max |a - b| / std a.
fn distance(a: &[Tensor], b: &[Tensor]) -> f64 {
    let mut worst = 0f64;
    for (a, b) in a.iter().zip(b) {
        let (Some(a), Some(b)) = (a.as_f32(), b.as_f32()) else { continue };
        let mean = a.iter().map(|x| f64::from(*x)).sum::<f64>() / a.len() as f64;
        let std = (a.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / a.len() as f64).sqrt();
        let far = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        worst = worst.max(far / std.max(1e-12));
    }
    worst
}

/// max |d| / std from tract. On such inputs tract itself is up to 2.5e-4 from onnxruntime 1.32 with the shipped denoiser, this engine 1.2e-5.
const REFERENCE: f64 = 1e-3;

/// Each rule alone changes no number beyond rounding.
#[test]
fn each_rule_alone_keeps_the_numbers() {
    for path in ["sd1-a/unet/model.onnx", "tiny-vae/text_encoder/model.onnx", "sticker-64/unet/model.onnx"] {
        let graph = Graph::open(file(path)).unwrap();
        let net = import::import(&graph, &shapes(&graph)).unwrap();
        let inputs = inputs(&graph);
        let plain = play(&net, &inputs);
        for rule in RULES {
            let mut fused = net.clone();
            let matches: usize = fuse(&mut fused, |name| name == rule.name).iter().map(|(_, count)| count).sum();
            if matches > 0 {
                let far = distance(&plain, &play(&fused, &inputs));
                assert!(far < 1e-4, "{path}: {} moves the output by {far:.1e} of its std", rule.name);
            }
        }
        let reference = engine::load(graph.clone(), Backend::Tract, &Threads::new(None).unwrap());
        let names = graph.inputs().iter().map(|port| port.name.as_str());
        let given: Vec<(&str, &Tensor)> = names.zip(&inputs).collect();
        let tract: Vec<Tensor> =
            reference.unwrap().run(&given).unwrap().iter().map(|(_, tensor)| tensor.clone()).collect();
        let far = distance(&tract, &plain);
        assert!(far < REFERENCE, "{path}: the unfused net is {far:.1e} of tract's std from what tract computes");
    }
}

/// Builds nets by hand, for what the exporters of the fixtures do not spell out.
struct Sketch(super::Net);

impl Sketch {
    fn new(shape: &[usize]) -> (Sketch, ValueId) {
        let mut net = super::Net::default();
        let x = net.add(super::super::net::Value {
            name: "x".into(),
            dtype: crate::value::DType::F32,
            shape: shape.to_vec(),
            content: Content::Computed,
        });
        net.inputs.push(x);
        (Sketch(net), x)
    }

    fn constant(&mut self, values: Vec<f32>) -> ValueId {
        let shape = if values.len() == 1 { vec![] } else { vec![values.len()] };
        self.0.constant("c", Tensor::new(&shape, values).unwrap())
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let value = super::super::net::Value {
            name: "v".into(),
            dtype: crate::value::DType::F32,
            shape: shape.to_vec(),
            content: Content::Computed,
        };
        let output = self.0.add(value);
        let inputs = inputs.iter().copied().map(Some).collect();
        self.0.nodes.push(Node { name: "n".into(), op, inputs, output });
        output
    }

    fn finish(mut self, output: ValueId) -> super::Net {
        self.0.outputs.push(output);
        self.0
    }
}

/// Rules with a net in which each matches once.
fn spelled_out() -> Vec<(&'static str, super::Net)> {
    use super::super::op::{Activation, Binary, Reduce, Unary};
    let shape = [2, 3, 8];
    let (add, sub, mul, div) =
        (Op::Binary(Binary::Add), Op::Binary(Binary::Sub), Op::Binary(Binary::Mul), Op::Binary(Binary::Div));
    let mean = Op::Reduce { kind: Reduce::Mean, axes: vec![2], keep: true };
    let ramp = |from: f32| (0..8).map(|i| from + i as f32 * 0.1).collect::<Vec<f32>>();

    let (mut s, x) = Sketch::new(&shape);
    let average = s.node(mean.clone(), &[x], &[2, 3, 1]);
    let centred = s.node(sub, &[x, average], &shape);
    let two = s.constant(vec![2.0]);
    let square = s.node(Op::Binary(Binary::Pow), &[centred, two], &shape);
    let variance = s.node(mean.clone(), &[square], &[2, 3, 1]);
    let epsilon = s.constant(vec![1e-5]);
    let shifted = s.node(add.clone(), &[variance, epsilon], &[2, 3, 1]);
    let deviation = s.node(Op::Unary(Unary::Sqrt), &[shifted], &[2, 3, 1]);
    let normed = s.node(div.clone(), &[centred, deviation], &shape);
    let (gamma, beta) = (s.constant(ramp(0.5)), s.constant(ramp(-0.2)));
    let scaled = s.node(mul.clone(), &[normed, gamma], &shape);
    let out = s.node(add.clone(), &[scaled, beta], &shape);
    let layer = s.finish(out);

    let (mut s, x) = Sketch::new(&shape);
    let square = s.node(mul.clone(), &[x, x], &shape);
    let average = s.node(mean, &[square], &[2, 3, 1]);
    let epsilon = s.constant(vec![1e-6]);
    let shifted = s.node(add.clone(), &[average, epsilon], &[2, 3, 1]);
    let root = s.node(Op::Unary(Unary::Sqrt), &[shifted], &[2, 3, 1]);
    let inverse = s.node(Op::Unary(Unary::Reciprocal), &[root], &[2, 3, 1]);
    let normed = s.node(mul.clone(), &[x, inverse], &shape);
    let gamma = s.constant(ramp(0.5));
    let out = s.node(mul.clone(), &[gamma, normed], &shape);
    let rms = s.finish(out);

    let (mut s, x) = Sketch::new(&shape);
    let three = s.constant(vec![3.0]);
    let cube = s.node(Op::Binary(Binary::Pow), &[x, three], &shape);
    let weight = s.constant(vec![0.044715]);
    let cubic = s.node(mul.clone(), &[cube, weight], &shape);
    let sum = s.node(add.clone(), &[x, cubic], &shape);
    let factor = s.constant(vec![0.797_884_6]);
    let inner = s.node(mul.clone(), &[sum, factor], &shape);
    let tanh = s.node(Op::Unary(Unary::Activation(Activation::Tanh)), &[inner], &shape);
    let one = s.constant(vec![1.0]);
    let gate = s.node(add, &[tanh, one], &shape);
    let half = s.constant(vec![0.5]);
    let halved = s.node(mul.clone(), &[x, half], &shape);
    let out = s.node(mul, &[halved, gate], &shape);
    let gelu = s.finish(out);

    let (mut s, x) = Sketch::new(&shape);
    let turned = s.node(Op::Transpose(vec![0, 2, 1]), &[x], &[2, 8, 3]);
    let scores = s.node(Op::MatMul, &[x, turned], &[2, 3, 3]);
    let weights = s.node(Op::Softmax { axis: 2 }, &[scores], &[2, 3, 3]);
    let out = s.node(Op::MatMul, &[weights, x], &shape);
    let single = s.finish(out);
    vec![("attention-single", single), ("layer-norm", layer), ("rms-norm", rms), ("gelu-tanh", gelu)]
}

#[test]
fn spelled_out_operators_are_joined_and_keep_the_numbers() {
    let x: Vec<f32> = (0..48).map(|i| ((i * 37 % 48) as f32 - 20.0) / 9.0).collect();
    let inputs = [Tensor::new(&[2, 3, 8], x).unwrap()];
    for (rule, net) in spelled_out() {
        let plain = play(&net, &inputs);
        let mut fused = net.clone();
        assert_eq!(fuse(&mut fused, |name| name == rule), [(rule, 1)]);
        assert_eq!(fused.nodes.len(), 1, "{rule} leaves nodes behind");
        let far = distance(&plain, &play(&fused, &inputs));
        assert!(far < 1e-5, "{rule} moves the output by {far:.1e} of its std");
    }
}
