//! Graphs and model directories that are sound: numbers against plain loops, dialects, element types, external data.

mod support;

use std::path::Path;
use support::Axis::{Fixed, Named};
use support::*;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;
use undiffuse::engine::reference::Reference;
use undiffuse::engine::{self, Backend, Engine, Threads};
use undiffuse::model::{DecoderPorts, DenoiserPorts, Graph, Model, Role, TextPorts};
use undiffuse::sampler::{Prediction, SamplerKind, Spacing};
use undiffuse::value::{DType, Tensor};

fn engine(graph: Graph, threads: usize) -> Box<dyn Engine> {
    engine::load(graph, Backend::Tract, &Threads::new(std::num::NonZeroUsize::new(threads)).unwrap()).unwrap()
}

fn run_one(file: &Path, inputs: &[(&str, &Tensor)], output: &str) -> Tensor {
    engine(Graph::open(file).unwrap(), 1).run(inputs).unwrap().take(output).unwrap()
}

fn array(shape: &[usize], seed: u64) -> Tensor {
    Tensor::new(shape, numbers(seed, shape.iter().product())).unwrap()
}

/// Weights of [`block`]: convolution 2 → 4 of 3x3, its bias, scale and shift of the norm, a matrix 4 → 3.
fn block_weights() -> [(&'static str, Vec<i64>, Vec<f32>); 5] {
    [
        ("kernel", vec![4, 2, 3, 3], numbers(11, 72)),
        ("bias", vec![4], numbers(12, 4)),
        ("scale", vec![4, 1, 1], numbers(13, 4)),
        ("shift", vec![4, 1, 1], numbers(14, 4)),
        ("matrix", vec![4, 3], numbers(15, 12)),
    ]
}

/// Convolution, GroupNorm in two groups as torch writes it, SiLU, mean over the picture, a matrix product.
fn block(float: DataType, opset: i64) -> Builder {
    let picture = [Named("batch"), Fixed(2), Named("height"), Named("width")];
    Builder::new(opset)
        .input("x", float, &picture)
        .weight(integers("groups", &[0, 2, -1]))
        .weight(integers("area", &[2, 3]))
        .node_with("Conv", &["x", "kernel", "bias"], "conv", vec![ints("pads", &[1, 1, 1, 1])])
        .node("Shape", &["conv"], "shape")
        .node("Reshape", &["conv", "groups"], "grouped")
        .node_with(
            "InstanceNormalization",
            &["grouped", "ones", "zeros"],
            "normed",
            vec![support::float("epsilon", 1e-5)],
        )
        .node("Reshape", &["normed", "shape"], "back")
        .node("Mul", &["back", "scale"], "scaled")
        .node("Add", &["scaled", "shift"], "shifted")
        .node("Sigmoid", &["shifted"], "gate")
        .node("Mul", &["shifted", "gate"], "silu")
        .node_with("ReduceMean", &["silu", "area"], "pooled", vec![int("keepdims", 0)])
        .node("MatMul", &["pooled", "matrix"], "y")
        .output("y", float, &[Named("batch"), Fixed(3)])
}

fn with_weights(mut builder: Builder, make: fn(&str, &[i64], &[f32]) -> TensorProto) -> Builder {
    for (name, dims, values) in block_weights() {
        builder = builder.weight(make(name, &dims, &values));
    }
    builder.weight(make("ones", &[2], &[1.0; 2])).weight(make("zeros", &[2], &[0.0; 2]))
}

/// [`block`] in plain f64 loops, for one picture `x` of 2 x `height` x `width`.
fn block_by_hand(x: &[f32], height: usize, width: usize, round: fn(f32) -> f32) -> Vec<f64> {
    let weight: Vec<Vec<f64>> = block_weights()
        .into_iter()
        .map(|(_, _, values)| values.into_iter().map(|v| f64::from(round(v))).collect())
        .collect();
    let [kernel, bias, scale, shift, matrix] = &weight[..] else { unreachable!() };
    let at = |channel: usize, row: isize, column: isize| {
        let inside = (0..height as isize).contains(&row) && (0..width as isize).contains(&column);
        if inside { f64::from(x[(channel * height + row as usize) * width + column as usize]) } else { 0.0 }
    };
    let conv = |out: usize, row: usize, column: usize| {
        let taps = (0..18).map(|tap| (tap / 9, tap % 9 / 3, tap % 3));
        let product = |(channel, dy, dx): (usize, usize, usize)| {
            kernel[out * 18 + channel * 9 + dy * 3 + dx]
                * at(channel, (row + dy) as isize - 1, (column + dx) as isize - 1)
        };
        bias[out] + taps.map(product).sum::<f64>()
    };
    let planes: Vec<Vec<f64>> =
        (0..4).map(|out| (0..height * width).map(|i| conv(out, i / width, i % width)).collect()).collect();
    let pooled: Vec<f64> = (0..4)
        .map(|out| {
            let group: Vec<f64> = planes[out / 2 * 2..out / 2 * 2 + 2].concat();
            let mean = group.iter().sum::<f64>() / group.len() as f64;
            let variance = group.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / group.len() as f64;
            let silu = |v: &f64| {
                let y = (v - mean) / (variance + 1e-5).sqrt() * scale[out] + shift[out];
                y / (1.0 + (-y).exp())
            };
            planes[out].iter().map(silu).sum::<f64>() / (height * width) as f64
        })
        .collect();
    (0..3).map(|column| (0..4).map(|row| pooled[row] * matrix[row * 3 + column]).sum()).collect()
}

#[test]
fn a_block_gives_the_numbers_of_plain_loops_at_every_known_opset() {
    let folder = tempfile::tempdir().unwrap();
    for opset in [18, 19, 20] {
        let file = with_weights(block(DataType::Float, opset), floats).save(folder.path().join("m.onnx"));
        let mut engine = engine(Graph::open(&file).unwrap(), 1);
        for (height, width) in [(5, 7), (8, 8), (1, 3)] {
            let x = array(&[1, 2, height, width], 3);
            let y = engine.run(&[("x", &x)]).unwrap().take("y").unwrap();
            let expected = block_by_hand(x.as_f32().unwrap(), height, width, |v| v);
            // f32 sums of at most 128 terms
            assert!(relative_error(y.as_f32().unwrap(), &expected) < 1e-5, "opset {opset}, {height}x{width}");
        }
    }
}

fn half(value: f32) -> f32 {
    half::f16::from_f32(value).to_f32()
}

#[test]
fn half_graphs_run_in_f32() {
    let folder = tempfile::tempdir().unwrap();
    let x = array(&[1, 2, 6, 5], 4);
    let expected = block_by_hand(x.as_f32().unwrap(), 6, 5, half);
    let all_half = with_weights(block(DataType::Float16, 17 + 1), halves).save(folder.path().join("half.onnx"));
    let y = run_one(&all_half, &[("x", &x)], "y");
    assert_eq!(y.dtype(), DType::F32);
    assert!(relative_error(y.as_f32().unwrap(), &expected) < 1e-5);

    let mut cast = block(DataType::Float, 18);
    let nodes = std::mem::take(&mut cast.graph().node);
    for (name, dims, values) in block_weights() {
        let stored = format!("{name}_half");
        cast = cast.weight(halves(&stored, &dims, &values));
        cast = cast.node_with("Cast", &[&stored], name, vec![int("to", DataType::Float as i64)]);
    }
    cast.graph().node.extend(nodes);
    let cast = cast.weight(floats("ones", &[2], &[1.0; 2])).weight(floats("zeros", &[2], &[0.0; 2]));
    let again = run_one(&cast.save(folder.path().join("cast.onnx")), &[("x", &x)], "y");
    assert_eq!(again, y, "the same f32 arithmetic on the same weights");
}

#[test]
fn casts_of_half_weights_cost_nothing_at_run_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = Builder::new(18)
        .input("x", DataType::Float, &[Named("n"), Fixed(1200)])
        // above the 4 MiB up to which tract folds constants
        .weight(halves("w", &[1200, 1200], &numbers(1, 1200 * 1200)))
        .node_with("Cast", &["w"], "wide", vec![int("to", DataType::Float as i64)])
        .node("MatMul", &["x", "wide"], "y")
        .output("y", DataType::Float, &[Named("n"), Fixed(1200)])
        .save(folder.path().join("m.onnx"));
    let mut reference = Reference::new(Graph::open(file).unwrap(), &Threads::new(None).unwrap());
    reference.prepare(&[("x", &[2, 1200])]).unwrap();
    let ops = reference.ops();
    assert!(ops.contains_key("OptMatMul") && !ops.contains_key("Cast"), "{ops:?}");
}

#[test]
fn an_input_that_nothing_reads_may_be_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = with_weights(block(DataType::Float, 18), floats)
        .input("unused", DataType::Int64, &[Named("k")])
        .save(folder.path().join("m.onnx"));
    let (x, unused) = (array(&[1, 2, 4, 4], 1), Tensor::new(&[3], vec![0i64; 3]).unwrap());
    let y = run_one(&file, &[("unused", &unused), ("x", &x)], "y");
    let expected = block_by_hand(x.as_f32().unwrap(), 4, 4, |v| v);
    assert!(relative_error(y.as_f32().unwrap(), &expected) < 1e-5);
}

#[test]
fn open_channels_are_those_of_the_convolution_that_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = with_weights(block(DataType::Float, 18), floats);
    builder.graph().input[0] = value("x", DataType::Float, &[Named("b"), Named("channels"), Named("h"), Named("w")]);
    let graph = Graph::open(builder.save(folder.path().join("m.onnx"))).unwrap();
    assert_eq!(graph.inputs()[0].shape_text(), "[b, 2, h, w]");
}

#[test]
fn weights_may_lie_outside_in_one_file_or_in_many() {
    let folder = tempfile::tempdir().unwrap();
    let inside = with_weights(block(DataType::Float, 18), floats);
    let x = array(&[2, 2, 4, 4], 5);
    let expected = run_one(&inside.save(folder.path().join("inside.onnx")), &[("x", &x)], "y");
    for location in ["weights.pb", "model.onnx_data", "sub/model.onnx.data", "one-per-tensor"] {
        let mut outside = inside.clone();
        let mut bytes = vec![0u8; 64];
        for weight in &mut outside.graph().initializer {
            if location == "one-per-tensor" {
                let name = format!("{}.bin", weight.name);
                let content = externalise(weight, &name, 0);
                std::fs::write(folder.path().join(name), content).unwrap();
            } else {
                let offset = bytes.len() as u64;
                bytes.extend(externalise(weight, location, offset));
            }
        }
        let data = folder.path().join(location);
        std::fs::create_dir_all(data.parent().unwrap()).unwrap();
        std::fs::write(data, &bytes).unwrap();
        let y = run_one(&outside.save(folder.path().join("outside.onnx")), &[("x", &x)], "y");
        assert_eq!(y, expected, "{location}");
    }
}

#[test]
#[cfg(unix)]
fn a_download_cache_may_link_graph_and_weights_to_its_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (folder.path().join("blobs"), folder.path().join("snapshots/1/unet"));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    let mut model = with_weights(block(DataType::Float, 18), floats);
    let bytes: Vec<u8> = {
        let mut all = vec![];
        for weight in &mut model.graph().initializer {
            let offset = all.len() as u64;
            all.extend(externalise(weight, "model.onnx_data", offset));
        }
        all
    };
    model.save(blobs.join("aaaa"));
    std::fs::write(blobs.join("bbbb"), bytes).unwrap();
    std::os::unix::fs::symlink("../../../blobs/aaaa", snapshot.join("model.onnx")).unwrap();
    std::os::unix::fs::symlink("../../../blobs/bbbb", snapshot.join("model.onnx_data")).unwrap();
    let x = array(&[1, 2, 4, 4], 5);
    assert_eq!(run_one(&snapshot.join("model.onnx"), &[("x", &x)], "y").shape(), [1, 3]);
}

/// Large enough for tract to share the work out: 32 → 96 channels at 24x24.
fn wide() -> Builder {
    let picture = [Fixed(1), Fixed(32), Fixed(24), Fixed(24)];
    Builder::new(18)
        .input("x", DataType::Float, &picture)
        .weight(floats("a", &[96, 32, 3, 3], &numbers(1, 96 * 32 * 9)))
        .weight(floats("b", &[576, 576], &numbers(2, 576 * 576)))
        .weight(integers("flat", &[96, 576]))
        .node_with("Conv", &["x", "a"], "conv", vec![ints("pads", &[1, 1, 1, 1])])
        .node("Reshape", &["conv", "flat"], "rows")
        .node("MatMul", &["rows", "b"], "product")
        .node_with("Softmax", &["product"], "y", vec![int("axis", 1)])
        .output("y", DataType::Float, &[Fixed(96), Fixed(576)])
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let folder = tempfile::tempdir().unwrap();
    let file = wide().save(folder.path().join("m.onnx"));
    let x = array(&[1, 32, 24, 24], 6);
    let run = |threads| engine(Graph::open(&file).unwrap(), threads).run(&[("x", &x)]).unwrap().take("y").unwrap();
    let alone = run(1);
    for threads in [2, 3, 4] {
        assert_eq!(run(threads), alone, "{threads} threads");
    }
}

#[test]
fn integers_and_truth_values_pass_through() {
    let folder = tempfile::tempdir().unwrap();
    let file = Builder::new(18)
        .input("a", DataType::Int32, &[Named("n")])
        .input("b", DataType::Int64, &[Named("n")])
        .node_with("Cast", &["a"], "wide", vec![int("to", DataType::Int64 as i64)])
        .node("Add", &["wide", "b"], "sum")
        .node("Less", &["wide", "b"], "less")
        .node("Shape", &["a"], "count")
        .output("sum", DataType::Int64, &[Named("n")])
        .output("less", DataType::Bool, &[Named("n")])
        .output("count", DataType::Int64, &[Fixed(1)])
        .save(folder.path().join("m.onnx"));
    // int64 is given where int32 is declared, and the other way round
    let a = Tensor::new(&[2], vec![1i64, 5]).unwrap();
    let b = Tensor::new(&[2], vec![2i32, -1]).unwrap();
    let mut outputs = engine(Graph::open(&file).unwrap(), 1).run(&[("b", &b), ("a", &a)]).unwrap();
    assert_eq!(outputs.take("sum").unwrap(), Tensor::new(&[2], vec![3i64, 4]).unwrap());
    assert_eq!(outputs.take("less").unwrap(), Tensor::new(&[2], vec![true, false]).unwrap());
    assert_eq!(outputs.take("count").unwrap(), Tensor::new(&[1], vec![2i64]).unwrap());
}

#[test]
fn a_directory_opens_and_its_stages_bind() {
    let folder = tempfile::tempdir().unwrap();
    pipeline(folder.path());
    std::fs::write(
        folder.path().join("undiffuse.json"),
        r#"{"steps": 3, "guidance": 1.5, "display_size": 64, "negative": "blur"}"#,
    )
    .unwrap();
    let model = Model::open(folder.path()).unwrap();
    let names: Vec<&str> = model.stages().iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["text_encoder", "unet", "vae_decoder"]);
    let denoiser = model.stage(Role::Denoiser).unwrap();
    assert_eq!(denoiser.config.sample_size, Some((8, 8)));
    assert_eq!(denoiser.config.cross_attention_dim, Some(8));
    let decoder = model.stage(Role::Decoder).unwrap();
    assert_eq!((decoder.config.scaling_factor, decoder.config.spatial_factor), (Some(0.18215), Some(2)));
    assert_eq!(model.settings().display_size, Some((64, 64)));

    let text = model.stage(Role::TextEncoder).unwrap().open().unwrap();
    let ports = TextPorts::of(&text).unwrap();
    let ids = Tensor::new(&[1, 3], vec![1i64, 2, 3]).unwrap();
    let states = engine(text, 1).run(&[(&ports.ids.name, &ids)]).unwrap().take(&ports.states.name).unwrap();
    let graph = denoiser.open().unwrap();
    let ports = DenoiserPorts::of(&graph).unwrap();
    let inputs = [
        (ports.sample.name.as_str(), &array(&[1, 4, 8, 8], 7)),
        (ports.timestep.name.as_str(), &ports.timestep.timestep(999.0, 1).unwrap()),
        (ports.states.name.as_str(), &states),
    ];
    let noise = engine(graph, 1).run(&inputs).unwrap().take(&ports.output.name).unwrap();
    assert_eq!(noise.shape(), [1, 4, 8, 8]);
    let graph = decoder.open().unwrap();
    let ports = DecoderPorts::of(&graph).unwrap();
    let picture = engine(graph, 1).run(&[(&ports.latents.name, &noise)]).unwrap().take(&ports.picture.name).unwrap();
    assert_eq!(picture.shape(), [1, 3, 16, 16]);
}

/// A graph with the ports of a denoiser, which only adds them up.
fn denoiser(names: [&str; 4], timestep: (DataType, &[Axis])) -> Builder {
    let [sample, time, states, output] = names;
    let latents = [Named("batch"), Fixed(4), Fixed(8), Fixed(8)];
    Builder::new(18)
        .input(sample, DataType::Float, &latents)
        .input(time, timestep.0, timestep.1)
        .input(states, DataType::Float, &[Named("batch"), Fixed(2), Fixed(8)])
        .node_with("Cast", &[time], "seconds", vec![int("to", DataType::Float as i64)])
        .node_with("ReduceMean", &["seconds"], "t", vec![int("keepdims", 0)])
        .node_with("ReduceMean", &[states], "s", vec![int("keepdims", 0)])
        .node("Add", &["t", "s"], "both")
        .node("Add", &[sample, "both"], output)
        .output(output, DataType::Float, &latents)
}

#[test]
fn names_ranks_and_types_of_every_dialect_bind() {
    let folder = tempfile::tempdir().unwrap();
    let diffusers = ["sample", "timestep", "encoder_hidden_states", "out_sample"];
    let tract = ["sample", "timestep", "encoder_hidden_states", "noise_pred"];
    let strange = ["noisy", "tau", "prompt", "prediction"];
    type Case<'a> = ([&'a str; 4], (DataType, &'a [Axis]), Vec<usize>);
    let cases: [Case; 6] = [
        (diffusers, (DataType::Float, &[Named("batch")]), vec![2]),
        (diffusers, (DataType::Float, &[]), vec![]),
        (diffusers, (DataType::Int64, &[Fixed(1)]), vec![1]),
        (diffusers, (DataType::Int32, &[Named("steps")]), vec![2]),
        (tract, (DataType::Float16, &[Fixed(1)]), vec![1]),
        (strange, (DataType::Int64, &[]), vec![]),
    ];
    for (index, (names, timestep, shape)) in cases.into_iter().enumerate() {
        let file = denoiser(names, timestep).save(folder.path().join("m.onnx"));
        let graph = Graph::open(&file).unwrap();
        let ports = DenoiserPorts::of(&graph).unwrap();
        assert_eq!([&*ports.sample.name, &*ports.timestep.name, &*ports.states.name, &*ports.output.name], names);
        let t = ports.timestep.timestep(7.0, 2).unwrap();
        assert_eq!(t.shape(), shape, "case {index}");
        let zeros = Tensor::new(&[2, 4, 8, 8], vec![0f32; 512]).unwrap();
        let states = Tensor::new(&[2, 2, 8], vec![1f32; 32]).unwrap();
        let inputs = [(names[0], &zeros), (names[1], &t), (names[2], &states)];
        let y = engine(graph, 1).run(&inputs).unwrap().take(names[3]).unwrap();
        assert!(y.as_f32().unwrap().iter().all(|&y| y == 8.0), "case {index}");
    }
}

#[test]
fn the_scheduler_class_picks_the_sampler_and_its_schedule() {
    let folder = tempfile::tempdir().unwrap();
    pipeline(folder.path());
    let read = |json: &str| {
        std::fs::write(folder.path().join("scheduler/scheduler_config.json"), json).unwrap();
        Model::open(folder.path()).unwrap().scheduler().clone()
    };
    let turbo = read(
        r#"{"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
            "prediction_type": "v_prediction", "timestep_spacing": "trailing", "steps_offset": 1, "trained_betas": null,
            "lambda_min_clipped": -Infinity, "use_karras_sigmas": false, "_diffusers_version": "0.42.1"}"#,
    );
    assert_eq!((turbo.sampler(), turbo.warning()), (SamplerKind::Euler, None));
    let schedule = turbo.schedule(SamplerKind::Euler).unwrap();
    assert_eq!((schedule.prediction, schedule.spacing, schedule.steps_offset), (Prediction::V, Spacing::Trailing, 1));
    assert_eq!((schedule.beta_start, schedule.lambda_min_clipped), (0.00085, f64::NEG_INFINITY));

    let pndm = read(r#"{"_class_name": "PNDMScheduler", "skip_prk_steps": true, "steps_offset": 1}"#);
    assert_eq!(pndm.sampler(), SamplerKind::DpmPp2m);
    assert!(pndm.warning().unwrap().contains("PNDMScheduler is not there; dpm++2m"));
    let flow = read(r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}"#);
    assert_eq!(flow.sampler(), SamplerKind::FlowEuler);
    assert_eq!(flow.schedule(SamplerKind::FlowEuler).unwrap().shift, 3.0);
}
