//! Nets of one operator on a device, against the CPU engine. They need a device, so they are `ignored` unless asked for:
//! `UNDIFFUSE_DEVICE=llvmpipe UNDIFFUSE_VULKAN_VALIDATION=1 cargo test --release --lib vulkan -- --ignored`.

use super::*;
use crate::engine::{Threads, play_once};
use crate::graph::net::{Content, Net, Node, Value};
use crate::graph::op::{Activation, Binary, Conv, Op, Unary};
use crate::graph::{lower, place};
use crate::sampler::{Noise, TorchNoise};

/// What is given to a node.
#[derive(Clone)]
pub(super) enum Given {
    Input(Tensor),
    Fixed(Tensor),
    /// An input seen through a transpose.
    Turned(Tensor, Vec<usize>),
}

/// 3x3, of the same size, with nothing behind it.
pub(super) const PLAIN: Conv = Conv {
    kernel: [3, 3],
    stride: [1, 1],
    dilation: [1, 1],
    pads: [[1, 1], [1, 1]],
    groups: 1,
    upsample: false,
    activation: Activation::None,
};

pub(super) fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut values = vec![0.0; shape.iter().product()];
    TorchNoise::new(seed).fill(&mut values);
    Tensor::new(shape, values).unwrap()
}

/// A net of one node.
pub(super) fn net(op: Op, given: &[Given], shape: &[usize], dtype: DType) -> (Net, Vec<Tensor>) {
    let mut net = Net::default();
    let (mut inputs, mut tensors) = (Vec::new(), Vec::new());
    let mut input = |net: &mut Net, tensor: &Tensor| {
        let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
        let id = net.add(Value { name: "x".into(), dtype, shape, content: Content::Computed });
        net.inputs.push(id);
        tensors.push(tensor.clone());
        id
    };
    for each in given {
        inputs.push(match each {
            Given::Fixed(tensor) => Some(net.constant("w", tensor.clone())),
            Given::Input(tensor) => Some(input(&mut net, tensor)),
            Given::Turned(tensor, axes) => {
                let id = input(&mut net, tensor);
                let shape = axes.iter().map(|&axis| tensor.shape()[axis]).collect();
                let value = Value { name: "t".into(), dtype: tensor.dtype(), shape, content: Content::Computed };
                let output = net.add(value);
                let op = Op::Transpose(axes.clone());
                net.nodes.push(Node { name: "t".into(), op, inputs: vec![Some(id)], output });
                Some(output)
            }
        });
    }
    let output = net.add(Value { name: "y".into(), dtype, shape: shape.to_vec(), content: Content::Computed });
    net.nodes.push(Node { name: "n".into(), op, inputs, output });
    net.outputs.push(output);
    (net, tensors)
}

/// What the CPU and the device make of it. Halves, which are tried too, must come near what the CPU makes of such numbers.
pub(super) fn both(op: Op, given: &[Given], shape: &[usize], dtype: DType) -> [Tensor; 2] {
    let (net, tensors) = net(op.clone(), given, shape, dtype);
    // The greatest of their results are many deviations large, or no halves.
    let large = [Op::Unary(Unary::Exp), Op::Unary(Unary::Reciprocal), Op::Binary(Binary::Div)].contains(&op);
    if dtype == DType::F32 && !large {
        let rounded: Vec<Tensor> = tensors.iter().map(rounded).collect();
        let found = error(&made(between_copies(net.clone()), &rounded, Precision::F16));
        assert!(found < HALVES, "{op:?} in halves: {found:e}");
    }
    made(net, &tensors, Precision::F32)
}

fn made(net: Net, tensors: &[Tensor], precision: Precision) -> [Tensor; 2] {
    let mut plan = lower::lower(&net);
    place::place(&mut plan);
    place::check(&plan).unwrap();
    let cpu = play_once(plan.clone(), tensors, &Threads::new(None).unwrap()).unwrap().remove(0);
    let context = Context::shared(None).unwrap();
    // Apart, so that what stands around a step does not become one with it.
    let (plan, program) = laid_out(plan, &context.opened.limits, precision).unwrap();
    let mut ready = Ready::new(context, plan, &program).unwrap();
    let given: Vec<&Tensor> = tensors.iter().collect();
    let device = ready.run(&given, &CancelToken::new()).unwrap().remove(0);
    assert!(ready.run(&given, &CancelToken::new()).unwrap()[0] == device, "a second run gives other bits");
    [cpu, device]
}

/// Floats as the halves nearest to them.
pub(super) fn rounded(tensor: &Tensor) -> Tensor {
    if tensor.dtype() == DType::F32 { tensor.clone().cast(DType::F16).cast(DType::F32) } else { tensor.clone() }
}

/// The net with two negations behind every input and before every output of floats: halves may lie inside of a plan, not at its edges.
pub(super) fn between_copies(mut net: Net) -> Net {
    let mut nodes = Vec::new();
    for input in net.inputs.clone() {
        if net.values[input].dtype == DType::F32 {
            let inner = twice_negated(&mut net, input, &mut nodes);
            let reads = net.nodes.iter_mut().flat_map(|node| &mut node.inputs);
            reads.filter(|id| **id == Some(input)).for_each(|id| *id = Some(inner));
        }
    }
    nodes.append(&mut net.nodes);
    let output = net.outputs[0];
    if net.values[output].dtype == DType::F32 {
        net.outputs[0] = twice_negated(&mut net, output, &mut nodes);
    }
    net.nodes = nodes;
    net
}

fn twice_negated(net: &mut Net, mut value: usize, nodes: &mut Vec<Node>) -> usize {
    for _ in 0..2 {
        let like = Value { content: Content::Computed, ..net.values[value].clone() };
        let output = net.add(like);
        let op = Op::Unary(Unary::Neg);
        nodes.push(Node { name: "copy".into(), op, inputs: vec![Some(value)], output });
        value = output;
    }
    value
}

/// The greatest difference over the deviation.
pub(super) fn error([cpu, device]: &[Tensor; 2]) -> f64 {
    assert_eq!((cpu.shape(), cpu.dtype()), (device.shape(), device.dtype()));
    crate::engine::compare::error(device.as_f32().unwrap(), cpu.as_f32().unwrap())
}

/// Sums of products in another order.
pub(super) const SUMS: f64 = 2e-5;
/// Halves: 2^-11 of weights and of results, which are up to a few deviations large.
pub(super) const HALVES: f64 = 5e-3;
/// Halves, where a step was split and what lies between its parts are halves too.
pub(super) const SPLIT_HALVES: f64 = 1e-2;
/// Functions of single numbers.
pub(super) const POINTS: f64 = 5e-6;

#[test]
#[ignore = "needs a Vulkan device"]
fn products_of_every_layout() {
    for (m, k, n) in [(1, 4, 4), (5, 7, 3), (77, 64, 130), (130, 96, 64), (3, 100, 17), (65, 33, 66), (256, 320, 640)] {
        let bias = Given::Fixed(noise(1, &[n]));
        let residual = Given::Input(noise(2, &[m, n]));
        let linear = |activation, given: &[Given]| error(&both(Op::Linear(activation), given, &[m, n], DType::F32));
        let (x, w) = (Given::Input(noise(3, &[m, k])), Given::Fixed(noise(4, &[k, n])));
        let found = linear(Activation::None, &[x.clone(), w.clone()]);
        assert!(found < SUMS, "linear {m} {k} {n}: {found:e}");
        let found = linear(Activation::Silu, &[x.clone(), w, bias, residual]);
        assert!(found < SUMS, "all of linear {m} {k} {n}: {found:e}");
        let other = Given::Input(noise(5, &[k, n]));
        let found = error(&both(Op::MatMul, &[x.clone(), other], &[m, n], DType::F32));
        assert!(found < SUMS, "matmul {m} {k} {n}: {found:e}");
        let turned = Given::Turned(noise(6, &[n, k]), vec![1, 0]);
        let found = error(&both(Op::MatMul, &[x, turned], &[m, n], DType::F32));
        assert!(found < SUMS, "matmul, turned, {m} {k} {n}: {found:e}");
    }
    let (a, b) = (Given::Input(noise(7, &[2, 3, 5, 8])), Given::Input(noise(8, &[3, 8, 9])));
    let found = error(&both(Op::MatMul, &[a.clone(), b], &[2, 3, 5, 9], DType::F32));
    assert!(found < SUMS, "a batch: {found:e}");
    let b = Given::Turned(noise(9, &[2, 3, 12, 8]), vec![0, 1, 3, 2]);
    let found = error(&both(Op::MatMul, &[a, b], &[2, 3, 5, 12], DType::F32));
    assert!(found < SUMS, "a turned batch: {found:e}");
}

#[test]
#[ignore = "needs a Vulkan device"]
fn convolutions_of_every_kind() {
    let plain = PLAIN;
    let cases = [
        (plain, [2, 8, 9, 7], 12),
        (plain, [1, 3, 16, 16], 5),
        (Conv { kernel: [1, 1], pads: [[0; 2]; 2], ..plain }, [1, 16, 8, 8], 20),
        (Conv { stride: [2, 2], pads: [[0, 0], [1, 1]], ..plain }, [1, 4, 11, 8], 64),
        (Conv { dilation: [2, 3], pads: [[2, 3], [2, 3]], ..plain }, [1, 6, 13, 12], 70),
        (Conv { groups: 2, activation: Activation::Relu, ..plain }, [2, 8, 6, 6], 8),
        (Conv { groups: 6, stride: [2, 1], ..plain }, [1, 6, 9, 10], 6),
        (Conv { upsample: true, ..plain }, [1, 8, 5, 6], 9),
        (Conv { kernel: [5, 2], pads: [[2, 0], [1, 1]], ..plain }, [1, 5, 9, 9], 33),
    ];
    for (conv, [n, c, h, w], outputs) in cases {
        let along = |length: usize, axis: usize| {
            let seen = if conv.upsample { length * 2 } else { length };
            (seen + conv.pads[0][axis] + conv.pads[1][axis] - (conv.kernel[axis] - 1) * conv.dilation[axis] - 1)
                / conv.stride[axis]
                + 1
        };
        let shape = [n, outputs, along(h, 0), along(w, 1)];
        let weight = noise(1, &[outputs, c / conv.groups, conv.kernel[0], conv.kernel[1]]);
        let x = Given::Turned(noise(2, &[n, h, w, c]), vec![0, 3, 1, 2]);
        let mut given = vec![x, Given::Fixed(weight)];
        let found = error(&both(Op::Conv(conv), &given, &shape, DType::F32));
        assert!(found < SUMS, "{conv:?} of {c} to {outputs}: {found:e}");
        given.push(Given::Fixed(noise(3, &[outputs])));
        given.push(Given::Input(noise(4, &[n, outputs, 1, 1])));
        given.push(Given::Input(noise(5, &shape)));
        let found = error(&both(Op::Conv(conv), &given, &shape, DType::F32));
        assert!(found < SUMS, "all of {conv:?} of {c} to {outputs}: {found:e}");
    }
}

#[test]
#[ignore = "needs a Vulkan device"]
fn element_by_element() {
    let shape = [2, 6, 5, 8];
    let wide =
        Given::Input(Tensor::new(&shape, (0..480).map(|i| i as f32 * 0.05 - 12.0).collect::<Vec<f32>>()).unwrap());
    let activations = [
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Relu,
        Activation::LeakyRelu(0.1),
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Clamp { lo: -1.0, hi: f32::INFINITY },
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Activation::HardSwish,
        Activation::Elu(0.7),
    ];
    let functions = [
        Unary::Abs,
        Unary::Ceil,
        Unary::Cos,
        Unary::Erf,
        Unary::Floor,
        Unary::Neg,
        Unary::Reciprocal,
        Unary::Round,
        Unary::Sign,
        Unary::Sin,
        Unary::Softplus,
    ];
    let all = activations.into_iter().map(Unary::Activation).chain(functions);
    for op in all {
        let found = error(&both(Op::Unary(op), std::slice::from_ref(&wide), &shape, DType::F32));
        assert!(found < POINTS, "{op:?}: {found:e}");
    }
    let positive = Given::Input(Tensor::new(&[480], (1..481).map(|i| i as f32 * 0.1).collect::<Vec<f32>>()).unwrap());
    for op in [Unary::Exp, Unary::Log, Unary::Sqrt] {
        let found = error(&both(Op::Unary(op), std::slice::from_ref(&positive), &[480], DType::F32));
        // The greatest of the exponentials is ten deviations large.
        assert!(found < 10.0 * POINTS, "{op:?}: {found:e}");
    }
    let turned = Given::Turned(noise(1, &[2, 5, 8, 6]), vec![0, 3, 1, 2]);
    let row = Given::Fixed(noise(2, &[6, 1, 1]));
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max, Binary::PRelu] {
        for other in
            [row.clone(), Given::Input(noise(3, &shape)), Given::Fixed(noise(4, &[8])), Given::Fixed(noise(5, &[]))]
        {
            let found = error(&both(Op::Binary(op), &[turned.clone(), other], &shape, DType::F32));
            assert!(found < POINTS, "{op:?}: {found:e}");
        }
    }
}

#[test]
#[ignore = "needs a Vulkan device"]
fn whole_numbers_and_truths() {
    let types = [DType::F32, DType::F64, DType::I64, DType::I32, DType::I8, DType::U8, DType::Bool];
    let values: Vec<f32> = (0..12).map(|i| (i % 7) as f32).collect();
    for (from, to) in types.into_iter().flat_map(|from| types.map(|to| (from, to))) {
        let x = Given::Turned(Tensor::new(&[3, 4], values.clone()).unwrap().cast(from), vec![1, 0]);
        let [cpu, device] = both(Op::Cast(to), &[x], &[4, 3], to);
        assert!(cpu == device, "{from} to {to}: {cpu:?} {device:?}");
    }
    let whole = |values: &[i64]| Given::Input(Tensor::new(&[values.len()], values.to_vec()).unwrap());
    let (a, b) = (whole(&[7, -7, 7, -7]), whole(&[2, 2, -2, -2]));
    for op in [Binary::Div, Binary::Mod { fmod: false }, Binary::Mod { fmod: true }, Binary::Mul, Binary::Pow] {
        let b = if op == Binary::Pow { whole(&[2, 3, 0, 1]) } else { b.clone() };
        let [cpu, device] = both(Op::Binary(op), &[a.clone(), b], &[4], DType::I64);
        assert!(cpu == device, "{op:?}: {cpu:?} {device:?}");
    }
    let open = Activation::Clamp { lo: f32::NEG_INFINITY, hi: 1.5 };
    for op in [open, Activation::Clamp { lo: -3.0, hi: 5.0 }, Activation::Relu, Activation::LeakyRelu(0.5)] {
        let x = whole(&[7, -8, 0, i64::from(i32::MIN)]);
        let [cpu, device] = both(Op::Unary(Unary::Activation(op)), &[x], &[4], DType::I64);
        assert!(cpu == device, "{op:?}: {cpu:?} {device:?}");
    }
}

/// Runs last by its name: everything before it was heard by the validation layer, if it is on.
#[test]
#[ignore = "needs a Vulkan device"]
fn zz_the_validation_layer_says_nothing() {
    let x = Given::Input(noise(1, &[4, 4]));
    both(Op::Unary(Unary::Neg), &[x], &[4, 4], DType::F32);
    assert_eq!(device::messages(), 0);
}
