//! `undiffuse inspect` and `undiffuse bench`, as processes.

#![cfg(feature = "cli")]

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn inspect(path: &str, arguments: &[&str]) -> Output {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    Command::new(env!("CARGO_BIN_EXE_undiffuse")).arg("inspect").arg(model).args(arguments).output().unwrap()
}

fn report(path: &str, arguments: &[&str]) -> Value {
    let output = inspect(path, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_plan_says_what_was_fused_and_how_much_memory_it_takes() {
    let one = report("models/sticker-64/unet/model.onnx", &["--plan"]);
    let two = report("models/sticker-64/unet/model.onnx", &["--plan", "--axis", "batch=2"]);
    assert_eq!(two["plan"]["inputs"][0], json!({ "name": "sample", "shape": [2, 4, 16, 16] }));
    assert_eq!((&one["plan"]["fusions"]["attention"], &one["plan"]["steps"]["Attention"]), (&json!(8), &json!(8)));
    let (one, two) = (one["plan"]["arena_bytes"].as_u64().unwrap(), two["plan"]["arena_bytes"].as_u64().unwrap());
    assert!(one > 0 && two > one * 3 / 2 && two <= one * 5 / 2, "{one} {two}");
}

#[test]
fn an_axis_without_a_length_is_a_usage_error() {
    let output = inspect("models/sticker-64", &["--plan", "--axis", "batch"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("write it as NAME=LENGTH"));
}

#[test]
fn a_directory_lists_the_plans_of_its_stages() {
    let report = report("models/sticker-64", &["--plan"]);
    let stages = report["stages"].as_array().unwrap();
    assert!(stages.len() >= 3 && stages.iter().all(|stage| stage["plan"]["arena_bytes"].is_u64()), "{report}");
}

#[test]
fn a_bench_measures_every_stage() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64");
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    let output = command.args(["bench", "--repeat", "1", "--json", "--model"]).arg(model).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages = report["stages"].as_array().unwrap();
    let unet = stages.iter().find(|stage| stage["stage"] == "unet").unwrap();
    let ops = unet["ops"].as_array().unwrap();
    let conv = ops.iter().find(|op| op["op"] == "Conv").unwrap();
    assert!(conv["steps"] == 30 && conv["ms"].as_f64().unwrap() > 0.0, "{conv}");
    let shares: f64 = ops.iter().map(|op| op["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9);
}

#[test]
fn a_bench_refuses_what_it_would_not_measure() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64/vae_decoder/model.onnx");
    for (more, wanted) in [
        (&["--precision", "f16"][..], "cpu computes in f32; leave the precision out"),
        (&["--backend", "tract"], "tract is not measured step by step; use the backend cpu or vulkan"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
        let output = command.args(["bench", "--model"]).arg(&model).args(more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(wanted) && said.contains("model.onnx"), "{said}");
    }
}

#[test]
fn whoever_stops_reading_causes_no_panic() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64");
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    command.arg("inspect").arg(model).arg("--plan").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
