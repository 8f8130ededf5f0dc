//! The memory contract, on processes: what is predicted is what is taken, and a budget is kept or refused.

#![cfg(feature = "cli")]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder to write to, and what a run of `generate` said.
struct Made {
    folder: tempfile::TempDir,
    output: Output,
}

/// Without a cache.
fn generate(model: &str, arguments: &[&str]) -> Made {
    generate_with(Path::new(""), model, arguments)
}

fn generate_with(cache: &Path, model: &str, arguments: &[&str]) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    command.env("UNDIFFUSE_CACHE", cache);
    command.args(["generate", "a red apple", "--seed", "1", "--json", "--model"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(model)).args(arguments).arg("-o");
    let output = command.arg(folder.path().join("out.png")).output().unwrap();
    Made { folder, output }
}

impl Made {
    fn picture(&self) -> PathBuf {
        self.folder.path().join("out.png")
    }

    fn report(&self) -> Value {
        assert!(self.output.status.success(), "{}", self.error());
        serde_json::from_slice(&self.output.stdout).unwrap()
    }

    fn error(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn pixels(&self) -> Vec<u8> {
        image::open(self.picture()).unwrap().into_rgb8().into_raw()
    }
}

fn peak(report: &Value) -> f64 {
    report["peak_rss_bytes"].as_f64().unwrap()
}

fn predicted(report: &Value) -> f64 {
    report["memory"]["predicted_peak_bytes"].as_f64().unwrap()
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squared: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squared).log10()
}

const MODELS: [(&str, &[&str]); 9] = [
    ("models/sticker-64", &["--steps", "2"]),
    ("models/sticker-64", &["--steps", "2", "--low-memory"]),
    ("tests/golden/pipelines/flow", &["--steps", "1"]),
    ("tests/golden/pipelines/lcm-b", &["--steps", "1", "--size", "256x256"]),
    ("tests/golden/pipelines/sd1-a", &["--steps", "1"]),
    ("tests/golden/pipelines/sd1-a", &["--steps", "1", "--decoder-tile", "32"]),
    ("tests/golden/pipelines/sd2-b", &["--steps", "1", "--size", "256x128"]),
    ("tests/golden/pipelines/tiny-vae", &["--steps", "1", "--size", "256x256", "--low-memory"]),
    ("tests/golden/pipelines/turbo-f16", &["--steps", "1", "--size", "256x256"]),
];

/// Without a cache, with an empty one, and with what the run before has left in it.
#[test]
#[cfg(target_os = "linux")]
fn the_peak_is_known_beforehand() {
    for (model, arguments) in MODELS {
        let cache = tempfile::tempdir().unwrap();
        for (start, cache) in [("alone", Path::new("")), ("first", cache.path()), ("second", cache.path())] {
            let report = generate_with(cache, model, arguments).report();
            let (peak, predicted) = (peak(&report), predicted(&report));
            let allowed = (predicted * 0.1).max(20e6);
            let what = format!("{model} {arguments:?}, {start}: {peak} where {predicted} was predicted");
            assert!((peak - predicted).abs() <= allowed, "{what}");
            println!("{what}");
        }
    }
}

/// Weights that are read from their file by every step: less memory than one stage after the other, and the same picture.
#[test]
#[cfg(target_os = "linux")]
fn a_budget_is_kept_by_weights_that_stay_in_their_file() {
    let model = "models/sticker-64";
    let [lean_cache, cache] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut tightest = String::new();
    for start in ["first", "second"] {
        let lean = generate_with(lean_cache.path(), model, &["--steps", "2", "--low-memory", "--no-upscaler"]);
        let report = lean.report();
        let denoiser = report["memory"]["stages"][1]["memory"]["weights"].as_f64().unwrap();
        let budget = predicted(&report) - denoiser / 2.0;
        tightest = format!("{budget:.0}");
        let arguments = ["--steps", "2", "--no-upscaler", "--memory-budget", &tightest];
        let streamed = generate_with(cache.path(), model, &arguments);
        let report = streamed.report();
        assert!(peak(&report) <= budget, "{start}: {} of {budget}", peak(&report));
        let memory = &report["memory"];
        assert_eq!((&memory["streamed_weights"], &memory["decoder_tile"]), (&true.into(), &Value::Null), "{start}");
        assert!(
            (peak(&report) - predicted(&report)).abs() <= 20e6,
            "{start}: {} {}",
            peak(&report),
            predicted(&report)
        );
        assert!(streamed.pixels() == lean.pixels(), "{start}");
    }
    let arguments = ["--steps", "2", "--memory-budget", &tightest];
    let refused = generate(model, &arguments);
    assert!(refused.error().contains("or a cache folder to read the weights from"), "{}", refused.error());
}

/// One graph under a budget: what `run` predicts, takes and refuses.
#[test]
#[cfg(target_os = "linux")]
fn a_graph_keeps_a_budget_too() {
    let cache = tempfile::tempdir().unwrap();
    let run = |cache: &Path, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
        let graph = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64/unet/model.onnx");
        command.env("UNDIFFUSE_CACHE", cache).arg("run").arg(graph).args(["--random", "1", "--json"]).args(arguments);
        command.args(["--axis", "batch=1"]).output().unwrap()
    };
    let report = |output: Output| -> Value {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    report(run(cache.path(), &[]));
    let free = report(run(cache.path(), &[]));
    let budget = free["predicted_peak_bytes"].as_f64().unwrap() * 0.75;
    let budget_text = format!("{budget:.0}");
    let arguments = ["--memory-budget", budget_text.as_str(), "--repeat", "2"];
    let kept = report(run(cache.path(), &arguments));
    for report in [&free, &kept] {
        let predicted = report["predicted_peak_bytes"].as_f64().unwrap();
        assert!((peak(report) - predicted).abs() <= 20e6, "{} {predicted}", peak(report));
    }
    assert!(peak(&kept) <= budget && peak(&free) > budget, "{} {} {budget}", peak(&kept), peak(&free));
    assert_eq!(kept["outputs"], free["outputs"]);
    for (cache, arguments, why) in [
        (Path::new(""), arguments, "or a cache folder to read the weights from"),
        (
            cache.path(),
            ["--memory-budget", "1M", "--repeat", "1"],
            " MB at least with weights read from their file, the budget is 1 MB",
        ),
        (cache.path(), ["--memory-budget", "9G", "--backend", "tract"], "the memory budget cannot be promised"),
    ] {
        let refused = run(cache, &arguments);
        assert_eq!(refused.status.code(), Some(1));
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_budget_is_kept_by_tiles_and_the_picture_stays() {
    let free = generate("tests/golden/pipelines/sd1-a", &["--steps", "1"]);
    let tight = generate("tests/golden/pipelines/sd1-a", &["--steps", "1", "--memory-budget", "80M"]);
    let (free_report, report) = (free.report(), tight.report());
    assert!(peak(&free_report) > 80e6 && peak(&report) <= 80e6, "{} {}", peak(&free_report), peak(&report));
    assert_eq!(
        (&report["memory"]["low_memory"], &report["memory"]["budget_bytes"]),
        (&true.into(), &80_000_000.into())
    );
    assert!(free_report["memory"]["decoder_tile"].is_null() && report["memory"]["decoder_tile"].is_u64());
    let likeness = psnr(&free.pixels(), &tight.pixels());
    assert!(likeness >= 40.0, "{likeness} dB");
}

/// The decoders of both kinds, in tiles of half the picture's side.
#[test]
fn tiles_are_not_seen() {
    for model in ["tests/golden/pipelines/sd1-a", "tests/golden/pipelines/tiny-vae"] {
        let size = ["--steps", "1", "--size", "512x512"];
        let whole = generate(model, &size);
        let tiled = generate(model, &[&size[..], &["--decoder-tile", "32"]].concat());
        whole.report();
        tiled.report();
        let likeness = psnr(&whole.pixels(), &tiled.pixels());
        assert!((40.0..200.0).contains(&likeness), "{model}: {likeness} dB");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let made = generate("models/sticker-64", &["--memory-budget", "10M"]);
    assert_eq!(made.output.status.code(), Some(1));
    let error = made.error();
    for part in
        ["the budget is 10 MB", "text_encoder ", "unet ", "vae_decoder ", " or more", "or ask for a smaller picture"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!made.picture().exists());
}

#[test]
fn what_is_not_known_is_not_promised() {
    let made = generate("models/sticker-64", &["--memory-budget", "10G", "--backend", "tract"]);
    assert_eq!(made.output.status.code(), Some(1));
    assert!(made.error().contains("what text_encoder takes is not known: it runs on tract"), "{}", made.error());
}

#[test]
fn a_budget_is_a_number_of_bytes() {
    for text in ["lots", "12Q", "-1", "99999999999999G"] {
        let made = generate("models/sticker-64", &[&format!("--memory-budget={text}")]);
        assert_eq!(made.output.status.code(), Some(2), "{text}: {}", made.error());
    }
}

/// Eight bits a weight: less memory, as predicted, and nearly the same latents.
#[test]
fn int8_weights_take_less_and_draw_the_same() {
    let sketch = support::sketch::Sketch::of_width(512);
    let wide = sketch.root().to_str().unwrap();
    for model in [wide, "tests/golden/pipelines/sd1-a"] {
        let (stored, int8) =
            (generate(model, &["--steps", "4"]), generate(model, &["--steps", "4", "--weights", "int8"]));
        let (a, b) = (stored.report(), int8.report());
        let likeness = psnr(&stored.pixels(), &int8.pixels());
        assert!((40.0..200.0).contains(&likeness), "{model}: {likeness} dB");
        let weights = |report: &Value| report["memory"]["stages"][1]["memory"]["weights"].as_f64().unwrap();
        assert!(weights(&b) < weights(&a) * 0.75, "{model}: {} {}", weights(&a), weights(&b));
        if model == wide {
            assert!(weights(&b) < weights(&a) * 0.6 && peak(&b) < peak(&a), "{} {}", weights(&a), weights(&b));
        }
    }
    let refused = generate("models/sticker-64", &["--weights", "int8", "--backend", "tract"]);
    assert_eq!(refused.output.status.code(), Some(1));
    assert!(refused.error().contains("tract keeps weights as they are stored"), "{}", refused.error());
}
