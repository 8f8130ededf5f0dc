//! Whole pictures by Vulkan, beside the CPU's. Without a device they are `ignored`:
//! `UNDIFFUSE_DEVICE=llvmpipe UNDIFFUSE_VULKAN_VALIDATION=1 cargo test --release --test vulkan -- --ignored`.

#![cfg(feature = "vulkan")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use undiffuse::ErrorKind;
use undiffuse::engine::{self, Backend, CancelToken, Threads};
use undiffuse::model::Graph;
use undiffuse::value::Tensor;

/// CPU against Vulkan in f32, in decibels.
const PSNR: f64 = 50.0;
/// The same in f16.
const HALVES: f64 = 35.0;

fn undiffuse(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    command
        .env_remove("UNDIFFUSE_MODEL")
        // An option goes before it.
        .env("UNDIFFUSE_CACHE", "")
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// The decoded picture in f32, unless `more` says otherwise, and what was said of it.
fn made(model: &Path, backend: &str, more: &[&str]) -> (image::RgbImage, String) {
    shown(model, backend, &[&["--native"], more].concat())
}

/// The same at the size at which the model shows it.
fn shown(model: &Path, backend: &str, more: &[&str]) -> (image::RgbImage, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("picture.png");
    let (model, out) = (model.display().to_string(), out.display().to_string());
    let size = size(Path::new(&model));
    let mut arguments =
        vec!["generate", "a red apple", "--model", &model, "-o", &out, "--backend", backend, "--seed", "1"];
    arguments.extend(["--json", "--steps", "2"]);
    arguments.extend(more);
    if !more.contains(&"--precision") && !more.contains(&"--cache") {
        arguments.extend(["--precision", "f32"]);
    }
    if let Some(size) = &size {
        arguments.extend(["--size", size]);
    }
    let output = undiffuse(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{model} on {backend}: {said}");
    assert!(!said.contains("Vulkan:"), "{model}: the validation layer says {said}");
    let picture = image::open(&out).expect("a PNG").to_rgb8();
    (picture, String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The size of one of the model's goldens, which are small.
fn size(model: &Path) -> Option<String> {
    let files = std::fs::read_dir(model.join("goldens")).ok()?;
    let mut facts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    let facts: serde_json::Value = facts.find_map(|text| serde_json::from_str(&text).ok())?;
    Some(format!("{}x{}", facts["width"], facts["height"]))
}

fn psnr(a: &image::RgbImage, b: &image::RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let squares = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    let mse = squares.sum::<f64>() / a.as_raw().len() as f64;
    10.0 * (255.0_f64.powi(2) / mse.max(1e-6)).log10()
}

fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pipelines = std::fs::read_dir(root.join("tests/golden/pipelines")).expect("the fixtures");
    let mut models: Vec<PathBuf> = pipelines.map(|entry| entry.expect("a fixture").path()).collect();
    models.push(root.join("models/sticker-64"));
    models.retain(|model| model.join("model_index.json").exists());
    models.sort();
    models
}

#[test]
#[ignore = "needs a Vulkan device"]
fn every_model_makes_the_same_picture_as_the_cpu() {
    let models = models();
    assert!(models.len() > 6, "{models:?}");
    for model in models {
        let (wanted, _) = made(&model, "cpu", &[]);
        let (got, report) = made(&model, "vulkan", &[]);
        let near = psnr(&got, &wanted);
        println!("{}: {near:.1} dB", model.display());
        assert!(near >= PSNR, "{}: {near:.1} dB", model.display());
        let report: serde_json::Value = serde_json::from_str(&report).expect("a report");
        let stages = report["stages"].as_array().expect("stages");
        assert_eq!(stages.len(), 3);
        for stage in stages {
            assert_eq!((&stage["engine"], &stage["cpu_nodes"]), (&"vulkan".into(), &0.into()), "{stage}");
            assert!(stage["dispatches"].as_u64() > Some(0) && stage["device"].is_string(), "{stage}");
            let variants = stage["variants"].as_object().expect("variants").values().map(|count| count.as_u64());
            assert!((1..=64).contains(&variants.map(Option::unwrap).sum::<u64>()), "{stage}");
        }
        let (halves, _) = made(&model, "vulkan", &["--precision", "f16"]);
        let near = psnr(&halves, &wanted);
        println!("{} in halves: {near:.1} dB", model.display());
        assert!(halves != got, "{}: halves change nothing", model.display());
        assert!(near >= HALVES, "{} in halves: {near:.1} dB", model.display());
    }
}

/// Of the small upscaler only: the shipped one takes lavapipe, which does 0.2 GFLOP/s, half a minute a pass.
#[test]
#[ignore = "needs a Vulkan device"]
fn an_upscaler_makes_the_same_picture_as_the_cpu() {
    let model = support::upscaled::Upscaled::new();
    let (wanted, _) = shown(model.root(), "cpu", &[]);
    assert_eq!(wanted.height(), 128, "twice that of either golden");
    for (more, least) in [(&[][..], PSNR), (&["--precision", "f16"], HALVES), (&["--board", "generic"], PSNR)] {
        let (got, report) = shown(model.root(), "vulkan", more);
        let near = psnr(&got, &wanted);
        println!("upscaled {more:?}: {near:.1} dB");
        assert!(near >= least, "{more:?}: {near:.1} dB");
        let report: serde_json::Value = serde_json::from_str(&report).expect("a report");
        let stage = &report["stages"][3];
        assert_eq!((&stage["stage"], &stage["engine"]), (&"upscaler".into(), &"vulkan".into()), "{stage}");
        assert!(stage["dispatches"].as_u64() > Some(0) && stage["cpu_nodes"] == 0, "{stage}");
    }
}

/// Under what any device has, and under what the tightest board has: other tiles, and fewer steps in one.
#[test]
#[ignore = "needs a Vulkan device"]
fn boards_make_the_same_pictures_as_the_cpu() {
    for model in models() {
        let (wanted, _) = made(&model, "cpu", &[]);
        for board in ["generic", "raspberry-pi-5"] {
            let (got, _) = made(&model, "vulkan", &["--board", board]);
            let near = psnr(&got, &wanted);
            println!("{} on {board}: {near:.1} dB", model.display());
            assert!(near >= PSNR, "{} on {board}: {near:.1} dB", model.display());
        }
    }
}

#[test]
#[ignore = "needs a Vulkan device"]
fn the_same_seed_gives_the_same_bytes() {
    let model = &Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64");
    assert!(made(model, "vulkan", &[]).0 == made(model, "vulkan", &[]).0);
}

/// One graph, run as it is, then stopped, then run again.
#[test]
#[ignore = "needs a Vulkan device"]
fn a_run_that_is_cancelled_ends_early_and_the_next_is_whole() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64/vae_decoder/model.onnx");
    stopped_and_run_again(&file, Backend::Vulkan);
}

#[test]
fn a_run_that_is_cancelled_ends_early_on_the_cpu_too() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64/vae_decoder/model.onnx");
    stopped_and_run_again(&file, Backend::Cpu);
}

fn stopped_and_run_again(file: &Path, backend: Backend) {
    let threads = Threads::new(None).expect("threads");
    let mut engine = engine::load(Graph::open(file).expect("a graph"), backend, &threads).expect("an engine");
    let port = engine.inputs()[0].clone();
    let shape: Vec<usize> = (0..4).map(|axis| port.fixed(axis).unwrap_or(1)).collect();
    let latents: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32).sin()).collect();
    let latents = Tensor::new(&shape, latents).expect("a tensor");
    let mut run = |cancel: &CancelToken| {
        engine.heed(cancel);
        engine.run(&[(port.name.as_str(), &latents)])
    };
    let cancel = CancelToken::new();
    let whole = run(&cancel).expect("outputs");
    cancel.cancel();
    assert_eq!(run(&cancel).expect_err("it was stopped").kind(), ErrorKind::Cancelled);
    cancel.reset();
    assert_eq!(run(&cancel).expect("outputs"), whole);
}

/// The device's own clock: every launch takes time, and the steps do what the CPU's do.
#[test]
#[ignore = "needs a Vulkan device"]
fn a_bench_times_every_launch() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64/unet/model.onnx").display().to_string();
    let ops = |more: &[&str]| {
        let output = undiffuse(&[&["bench", "--repeat", "1", "--json", "--model", &model], more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("Vulkan:"), "{said}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
        let stage = &report["stages"][0];
        assert_eq!(stage["device"].is_string(), more.contains(&"vulkan"), "{stage}");
        stage["ops"].as_array().expect("kernels").clone()
    };
    let of = |ops: &[serde_json::Value], name: &str| {
        let op = ops.iter().find(|op| op["op"] == name).unwrap_or_else(|| panic!("no {name} among {ops:?}"));
        assert!(op["ms"].as_f64() > Some(0.0), "{op}");
        let flops = op["gflops"].as_f64().expect("a rate") * op["ms"].as_f64().expect("a time");
        (op["steps"].as_u64(), flops)
    };
    let cpu = ops(&[]);
    for device in [ops(&["--backend", "vulkan"]), ops(&["--backend", "vulkan", "--precision", "f16"])] {
        for name in ["Conv", "Linear", "Attention"] {
            let ((steps, flops), (cpu_steps, cpu_flops)) = (of(&device, name), of(&cpu, name));
            assert_eq!(steps, cpu_steps, "{name}");
            assert!((flops / cpu_flops - 1.0).abs() < 1e-9, "{name}: {flops} and {cpu_flops}");
        }
    }
}

/// Halves are used, as nothing else is asked for and they are right; they are held to the CPU's numbers once.
#[test]
#[ignore = "needs a Vulkan device"]
fn what_is_right_is_known_to_the_next_start() {
    let model = &Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64");
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ["--cache", folder.path().to_str().expect("a name")];
    let verdicts = || {
        let files = std::fs::read_dir(folder.path()).expect("a cache").map(|entry| entry.expect("a file").path());
        let verdicts = files.filter(|file| file.extension().is_some_and(|ending| ending == "verdict"));
        verdicts
            .map(|file| std::fs::metadata(file).and_then(|facts| facts.modified()).expect("a date"))
            .collect::<Vec<_>>()
    };
    let (first, _) = made(model, "vulkan", &cache);
    let kept = verdicts();
    assert_eq!(kept.len(), 3, "a stage each");
    let (second, report) = made(model, "vulkan", &cache);
    assert!(first == second && verdicts() == kept, "tested again");
    let report: serde_json::Value = serde_json::from_str(&report).expect("a report");
    for stage in report["stages"].as_array().expect("stages") {
        assert_eq!((&stage["engine"], &stage["precision"]), (&"vulkan".into(), &"f16".into()), "{stage}");
        assert!(stage["why"].as_str().expect("a reason").contains("runs gave the same bits"), "{stage}");
    }
    assert!(first == made(model, "vulkan", &["--precision", "f16"]).0 && first != made(model, "vulkan", &[]).0);
}

#[test]
fn a_device_that_is_not_there_is_an_error_with_the_list() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64").display().to_string();
    let output = undiffuse(&["generate", "x", "--model", &model, "--backend", "vulkan", "--device", "no such device"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no such device") || said.contains("no Vulkan loader"), "{said}");
}
