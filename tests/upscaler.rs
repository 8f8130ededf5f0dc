//! The optional stage behind the decoder: a picture to a larger one.

#![cfg(feature = "cli")]

mod support;

use serde_json::Value;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};
use support::Axis::{Fixed, Named};
use support::upscaled::{Upscaled, beside, wide};
use support::{Builder, floats, relative_error};
use tract_onnx::pb::tensor_proto::DataType;
use undiffuse::ErrorKind;
use undiffuse::engine::{self, Backend, Cache, Threads, Weights};
use undiffuse::model::Graph;
use undiffuse::npy;
use undiffuse::pipeline::{Event, Generated, Options, Picture, Pipeline, Prompt, Request, Size};

/// The golden of `tiny-vae` that `tests/golden/upscaler/one.png` was made of.
fn request() -> Request {
    let mut request = Request::new(Prompt::new("portrait photo of a girl, photograph").unwrap());
    (request.seed, request.steps, request.guidance) = (11, Some(1), Some(0.0));
    request
}

fn cpu() -> Options {
    Options { backend: Backend::Cpu, ..Options::default() }
}

fn try_made(model: &Upscaled, options: Options, request: &Request) -> undiffuse::Result<Generated> {
    Pipeline::open(model.root(), options)?.generate(request, |_| ControlFlow::Continue(()))
}

fn made(model: &Upscaled, options: Options, request: &Request) -> Generated {
    try_made(model, options, request).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(model: &Upscaled) -> (ErrorKind, String) {
    let error = try_made(model, cpu(), &request()).expect_err("it cannot run");
    (error.kind(), error.to_string())
}

fn size(picture: &Picture) -> (u32, u32) {
    (picture.width(), picture.height())
}

fn stages(made: &Generated) -> Vec<&str> {
    made.report.stages.iter().map(|stage| stage.stage.as_str()).collect()
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squared: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squared.max(1e-9)).log10()
}

const WITH: [&str; 4] = ["text_encoder", "unet", "vae_decoder", "upscaler"];
const WITHOUT: [&str; 3] = ["text_encoder", "unet", "vae_decoder"];

#[test]
fn the_stage_gives_what_onnxruntime_gives() {
    let wanted = npy::read(beside("enlarged.npy")).unwrap();
    let picture = npy::read(beside("picture.npy")).unwrap();
    let values: Vec<f64> = wanted.as_f32().unwrap().iter().map(|x| f64::from(*x)).collect();
    for backend in [Backend::Cpu, Backend::Tract] {
        let graph = Graph::open(beside("upscaler/model.onnx")).unwrap();
        let mut engine = engine::load(graph, backend, &Threads::new(None).unwrap()).unwrap();
        let got = engine.run(&[("sample", &picture)]).unwrap().take("out_sample").unwrap();
        assert_eq!(got.shape(), wanted.shape());
        let error = relative_error(got.as_f32().unwrap(), &values);
        assert!(error < 1e-5, "{error:.1e} on {backend}");
    }
}

#[test]
fn the_picture_is_that_of_onnxruntime() {
    let (model, mut heard) = (Upscaled::new(), vec![]);
    let wanted = image::open(beside("one.png")).unwrap().into_rgb8();
    for (backend, threads) in [(Backend::Cpu, 1), (Backend::Cpu, 2), (Backend::Tract, 1)] {
        let options = Options { backend, threads: threads.try_into().ok(), ..Options::default() };
        let mut pipeline = Pipeline::open(model.root(), options).unwrap();
        heard.clear();
        let made = pipeline.generate(&request(), |event| {
            heard.extend(if let Event::Stage(name) = event { Some(name.to_owned()) } else { None });
            ControlFlow::Continue(())
        });
        let made = made.unwrap();
        assert_eq!(size(&made.picture), wanted.dimensions());
        let near = psnr(made.picture.rgb(), wanted.as_raw());
        assert!(near >= 60.0, "{near:.1} dB on {backend}");
        assert_eq!((stages(&made), &heard[..]), (WITH.to_vec(), &WITH.map(str::to_owned)[..]));
        let upscaler = &made.report.stages[3];
        assert!(upscaler.account.engine == backend.name() && upscaler.run_ms > 0.0, "{upscaler:?}");
        assert!(made.report.memory.upscaler && made.report.memory.upscaler_tile.is_none());
        assert_eq!((made.report.size.width, made.report.display_size.width), (64, 128));
    }
}

#[test]
fn the_native_size_and_smaller_ones_need_no_upscaler() {
    let model = Upscaled::new();
    let native = made(&model, cpu(), &Request { native: true, ..request() });
    assert_eq!((size(&native.picture), stages(&native)), ((64, 64), WITHOUT.to_vec()));
    assert!(!native.report.memory.upscaler && native.report.warnings.is_empty());
    for side in [64, 48] {
        model.show_at(side);
        let made = made(&model, cpu(), &request());
        assert_eq!((made.picture.width(), stages(&made)), (side as u32, WITHOUT.to_vec()));
        assert!(made.picture == native.picture.resampled(Size::new(side, side).unwrap()).unwrap());
    }
}

#[test]
fn without_an_upscaler_the_picture_is_interpolated() {
    let model = Upscaled::new();
    let native = made(&model, cpu(), &Request { native: true, ..request() });
    let with = made(&model, cpu(), &request());
    let without = made(&model, Options { no_upscaler: true, ..cpu() }, &request());
    let interpolated = native.picture.resampled(Size::new(128, 128).unwrap()).unwrap();
    assert!(without.picture == interpolated && with.picture != interpolated);
    assert_eq!((stages(&without), &without.report.warnings[..]), (WITHOUT.to_vec(), &[][..]));
    std::fs::remove_dir_all(model.root().join("upscaler")).unwrap();
    let absent = made(&model, cpu(), &request());
    assert!(absent.picture == interpolated && stages(&absent) == WITHOUT);
}

#[test]
fn what_is_not_hit_exactly_is_resampled() {
    let model = Upscaled::new();
    let twice = made(&model, cpu(), &request()).picture;
    for side in [100, 192] {
        model.show_at(side);
        let made = made(&model, cpu(), &request());
        assert_eq!(stages(&made), WITH);
        assert!(made.picture == twice.resampled(Size::new(side, side).unwrap()).unwrap(), "{side}");
    }
}

#[test]
fn pictures_of_other_sizes_are_enlarged_by_the_same_factor() {
    let model = Upscaled::new();
    let request = Request { size: Some(Size::new(96, 32).unwrap()), ..request() };
    let made = made(&model, cpu(), &request);
    assert_eq!((size(&made.picture), stages(&made)), ((192, 64), WITH.to_vec()));
}

/// Large ones in tiles: this upscaler looks at single pixels, so that they must not be seen at all.
#[test]
fn large_pictures_are_enlarged_in_tiles() {
    let model = Upscaled::new();
    model.replace(&wide(8, false), None);
    let request = Request { size: Some(Size::new(352, 64).unwrap()), ..request() };
    let tiled = made(&model, cpu(), &request);
    assert_eq!((size(&tiled.picture), tiled.report.memory.upscaler_tile), ((704, 128), Some(320)));
    let native = made(&model, cpu(), &Request { native: true, ..request }).picture;
    let repeated = |i: usize| native.rgb()[((i / 3 / 704 / 2) * 352 + i / 3 % 704 / 2) * 3 + i % 3];
    assert!(tiled.picture.rgb().iter().enumerate().all(|(i, byte)| byte.abs_diff(repeated(i)) <= 1));
}

/// Exports of others: other names, no config, values from 0 to 255, a batch and a size of their own.
#[test]
fn upscalers_of_others_are_understood() {
    let model = Upscaled::new();
    let native = made(&model, cpu(), &Request { native: true, ..request() }).picture;
    let repeated: Vec<u8> =
        (0..128 * 128 * 3).map(|i| native.rgb()[((i / 3 / 128 / 2) * 64 + i / 3 % 128 / 2) * 3 + i % 3]).collect();
    let enlarging = |axes: [support::Axis; 4]| {
        let last = axes.map(|axis| if let Fixed(n @ 16..) = axis { Fixed(2 * n) } else { axis });
        let last = if let Named(_) = last[2] { [last[0], last[1], Named("rows"), Named("columns")] } else { last };
        Builder::new(17)
            .input("input", DataType::Float, &axes)
            .weight(floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0]))
            .node("Resize", &["input", "", "scales"], "output")
            .output("output", DataType::Float, &last)
    };
    let free = [Named("n"), Fixed(3), Named("h"), Named("w")];
    for (axes, config) in [
        (free, None),
        (free, Some(r#"{"value_range": [0, 255]}"#)),
        (free, Some(r#"{"value_range": [-1, 1], "upscale": 2}"#)),
        ([Fixed(2), Fixed(3), Fixed(64), Fixed(64)], None),
        ([Fixed(1), Fixed(3), Fixed(32), Named("w")], None),
    ] {
        model.replace(&enlarging(axes), config);
        let made = made(&model, cpu(), &request());
        assert!(stages(&made) == WITH, "{config:?}");
        let furthest = made.picture.rgb().iter().zip(&repeated).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(furthest <= Some(1), "{config:?}: {furthest:?}");
    }
}

#[test]
fn what_is_no_upscaler_is_refused_by_name() {
    let model = Upscaled::new();
    let picture = [Named("batch"), Fixed(3), Named("height"), Named("width")];
    let larger = [Named("batch"), Fixed(3), Named("rows"), Named("columns")];
    let start = |axes: &[support::Axis]| Builder::new(17).input("sample", DataType::Float, axes);
    let twice = |builder: Builder, axes: &[support::Axis]| {
        let builder = builder.weight(floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0]));
        builder.node("Resize", &["sample", "", "scales"], "out_sample").output("out_sample", DataType::Float, axes)
    };
    let diffusion = start(&picture).input("timestep", DataType::Int64, &[Named("batch")]).input(
        "encoder_hidden_states",
        DataType::Float,
        &[Named("batch"), Named("tokens"), Fixed(8)],
    );
    let latents = [Named("batch"), Fixed(4), Named("height"), Named("width")];
    let fixed = [Fixed(1), Fixed(3), Fixed(96), Fixed(96)];
    let same = start(&picture).node("Relu", &["sample"], "out_sample").output("out_sample", DataType::Float, &larger);
    for (graph, config, kind, parts) in [
        (
            twice(diffusion, &larger),
            None,
            ErrorKind::Unsupported,
            &["upscaler/model.onnx: this upscaler also needs `timestep`", "`encoder_hidden_states`"][..],
        ),
        (
            twice(start(&latents), &[Named("batch"), Fixed(4), Named("rows"), Named("columns")]),
            None,
            ErrorKind::Mismatch,
            &["upscaler/model.onnx: is not an upscaler: it takes `sample` ", "[batch, 4, height, width]"],
        ),
        (
            twice(start(&fixed), &[Fixed(1), Fixed(3), Fixed(192), Fixed(192)]),
            None,
            ErrorKind::Mismatch,
            &["upscaler/model.onnx: `sample`: ", "[1, 3, 96, 96], the decoded picture is 64x64", "--no-upscaler"],
        ),
        (same, None, ErrorKind::Mismatch, &["upscaler/config.json: `upscale`: the upscaler enlarges 1 times"]),
        (
            twice(start(&picture), &larger),
            Some(r#"{"upscale": 4}"#),
            ErrorKind::Mismatch,
            &[
                "the upscaler made [1, 3, 128, 128] where [1, 3, 256, 256] was expected; upscale in upscaler/config.json",
            ],
        ),
        (
            twice(start(&picture), &larger),
            Some(r#"{"upscale": 1000}"#),
            ErrorKind::Malformed,
            &["upscaler/config.json: `upscale`: is 1000; 2 to 16 make sense"],
        ),
        (
            twice(start(&picture), &larger),
            Some(r#"{"value_range": [1, 0]}"#),
            ErrorKind::Malformed,
            &["upscaler/config.json: `value_range`: is [1,0], not two numbers, the smaller first"],
        ),
    ] {
        model.replace(&graph, config);
        let (found, message) = refused(&model);
        assert_eq!(found, kind, "{message}");
        parts.iter().for_each(|part| assert!(message.contains(part), "{part:?}: {message}"));
        if kind != ErrorKind::Malformed {
            made(&model, Options { no_upscaler: true, ..cpu() }, &request());
        }
    }
}

#[test]
fn no_number_is_no_picture() {
    let model = Upscaled::new();
    let mut spoilt = wide(8, false);
    spoilt.graph().initializer[1] = floats("back", &[12, 8, 1, 1], &[f32::NAN; 96]);
    model.replace(&spoilt, None);
    let (kind, message) = refused(&model);
    assert!(kind == ErrorKind::NotFinite && message.contains("the enlarged picture"), "{message}");
}

#[test]
fn a_run_is_stopped_before_its_picture_is_enlarged() {
    let model = Upscaled::new();
    let mut pipeline = Pipeline::open(model.root(), cpu()).unwrap();
    let stopped = pipeline.generate(&request(), |event| match event {
        Event::Stage("upscaler") => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    let cancel = pipeline.cancel_token();
    let stopped = pipeline.generate(&request(), |event| {
        if let Event::Stage("upscaler") = event {
            cancel.cancel();
        }
        ControlFlow::Continue(())
    });
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    cancel.reset();
    assert_eq!(stages(&pipeline.generate(&request(), |_| ControlFlow::Continue(())).unwrap()), WITH);
}

#[test]
fn little_memory_a_cache_and_a_second_picture_change_nothing() {
    let model = Upscaled::new();
    let plain = made(&model, cpu(), &request());
    let low = made(&model, Options { low_memory: true, ..cpu() }, &request());
    assert!(low.picture == plain.picture && low.report.memory.low_memory && stages(&low) == WITH);
    let folder = tempfile::tempdir().unwrap();
    let cached = || Options { cache: Some(Cache::new(folder.path())), ..cpu() };
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    made(&model, Options { no_upscaler: true, ..cached() }, &request());
    let before = files();
    let mut pipeline = Pipeline::open(model.root(), cached()).unwrap();
    for _ in 0..2 {
        let made = pipeline.generate(&request(), |_| ControlFlow::Continue(())).unwrap();
        assert!(made.picture == plain.picture);
    }
    assert!(files() > before, "the stage's plan and weights are kept too");
    assert!(made(&model, cached(), &request()).picture == plain.picture);
}

#[test]
fn eight_bits_a_weight_draw_nearly_the_same() {
    let model = Upscaled::new();
    let plain = made(&model, cpu(), &request());
    let int8 = made(&model, Options { weights: Weights::Int8, ..cpu() }, &request());
    let near = psnr(int8.picture.rgb(), plain.picture.rgb());
    assert!((35.0..200.0).contains(&near), "{near:.1} dB");
}

fn undiffuse(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    command.env("UNDIFFUSE_CACHE", "").args(arguments).output().unwrap()
}

/// A run of `generate` in a process of its own: its report and its picture.
fn process(model: &Path, more: &[&str]) -> (Value, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.png");
    let (root, file) = (model.to_str().unwrap(), out.to_str().unwrap());
    let arguments = ["generate", "a cat", "--seed", "1", "--steps", "1", "--json", "--model", root, "-o", file];
    let output = undiffuse(&[&arguments, more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (serde_json::from_slice(&output.stdout).unwrap(), image::open(out).unwrap().into_rgb8().into_raw())
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {report}"))
}

/// What the memory of activations is too large for is enlarged in smaller tiles.
#[test]
#[cfg(target_os = "linux")]
fn a_budget_is_kept_by_smaller_tiles() {
    let model = Upscaled::new();
    model.replace(&wide(256, false), None);
    let size = ["--size", "256x256"];
    let (free, whole) = process(model.root(), &[&size[..], &["--low-memory"]].concat());
    let budget = number(&free, "/memory/predicted_peak_bytes") - 20e6;
    let budget_text = format!("{budget:.0}");
    let (kept, tiled) = process(model.root(), &[&size[..], &["--memory-budget", &budget_text]].concat());
    assert!(number(&free, "/peak_rss_bytes") > budget && number(&kept, "/peak_rss_bytes") <= budget, "{kept}");
    assert!(kept["memory"]["upscaler"] == true && number(&kept, "/memory/upscaler_tile") < 256.0, "{kept}");
    assert!(kept["warnings"].as_array().unwrap().is_empty() && psnr(&whole, &tiled) > 50.0);
}

/// What the memory of weights is too large for is left out, and it is said.
#[test]
#[cfg(target_os = "linux")]
fn an_upscaler_that_does_not_fit_the_budget_is_left_out() {
    let model = Upscaled::new();
    model.replace(&wide(3072, true), None);
    let (free, with) = process(model.root(), &["--low-memory"]);
    let budget = number(&free, "/memory/predicted_peak_bytes") - 20e6;
    let budget_text = format!("{budget:.0}");
    let (kept, without) = process(model.root(), &["--memory-budget", &budget_text]);
    assert!(number(&free, "/peak_rss_bytes") > budget && number(&kept, "/peak_rss_bytes") <= budget, "{kept}");
    assert_eq!((&kept["memory"]["upscaler"], kept["stages"].as_array().unwrap().len()), (&false.into(), 3));
    let warning = kept["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("the upscaler does not fit the memory budget of "), "{warning}");
    let (_, plain) = process(model.root(), &["--no-upscaler"]);
    assert!(without == plain && with != plain);
}

#[test]
fn inspect_and_bench_know_the_stage() {
    let model = Upscaled::new();
    let root = model.root().to_str().unwrap();
    let report = |arguments: &[&str]| -> Value {
        let output = undiffuse(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let inspected = report(&["inspect", root, "--json"]);
    let stage = &inspected["stages"][3];
    assert_eq!((&stage["name"], &stage["role"]), (&"upscaler".into(), &"upscaler".into()));
    assert_eq!(stage["would_not_run"], serde_json::json!([]));
    let graph = model.root().join("upscaler/model.onnx");
    let axes = ["--axis", "height=16", "--axis", "width=16"];
    let bench = ["bench", "--json", "--repeat", "1", "--model", graph.to_str().unwrap()];
    let benched = report(&[&bench[..], &axes[..]].concat());
    let ops: Vec<&str> =
        benched["stages"][0]["ops"].as_array().unwrap().iter().filter_map(|op| op["op"].as_str()).collect();
    assert!(ops.contains(&"Conv") && ops.contains(&"PRelu"), "{ops:?}");
}
