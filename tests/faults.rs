//! Looking for a fault inside of a graph: `undiffuse run --dump` and `--compare`, as processes.

#![cfg(feature = "cli")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64/vae_decoder/model.onnx");
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    command
        .env("UNDIFFUSE_CACHE", "")
        .arg("run")
        .arg(model)
        .args(["--random", "3", "--axis", "batch=1"])
        .args(arguments)
        .output()
        .unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// The nodes of the plan's steps.
fn nodes() -> Vec<String> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64/vae_decoder/model.onnx");
    let graph = undiffuse::model::Graph::open(model).unwrap();
    let plan = undiffuse::engine::plan(
        &graph,
        &[(graph.inputs()[0].name.as_str(), &[1, 4, 16, 16])],
        &undiffuse::engine::Threads::new(None).unwrap(),
    );
    let plan = plan.unwrap();
    let node = |line: &str| Some(line.rsplit_once('(')?.1.trim_end_matches(')').to_owned());
    plan.listing.lines().filter(|line| line.contains("<-")).filter_map(node).collect()
}

#[test]
fn engines_give_the_same_values_inside() {
    let nodes = nodes();
    let folder = tempfile::tempdir().unwrap();
    let inside = &nodes[nodes.len() / 2];
    let arrays = ["cpu", "tract"].map(|backend| {
        let file = folder.path().join(backend).with_extension("npy");
        let dump = format!("{inside}={}", file.display());
        let output = run(&["--backend", backend, "--dump", &dump, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let outputs = report(&output)["outputs"].as_array().unwrap().len();
        assert_eq!(outputs, 2, "the graph's own output and the value");
        undiffuse::npy::read(&file).unwrap()
    });
    assert_eq!(arrays[0].shape(), arrays[1].shape());
    let [a, b] = arrays.map(|array| array.as_f32().unwrap().to_vec());
    assert!(a.iter().any(|x| *x != a[0]));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3), "{inside}");
}

#[test]
fn a_value_without_a_file_is_described() {
    let inside = nodes().remove(1);
    let output = run(&["--dump", &inside]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.lines().count() == 3 && text.contains(" std "), "{text}");
}

#[test]
fn what_is_not_in_the_graph_cannot_be_dumped() {
    let refused = |name: &str| String::from_utf8_lossy(&run(&["--dump", name]).stderr).into_owned();
    assert!(refused("nowhere").contains("has no node and no value \"nowhere\"; `undiffuse inspect --plan`"));
    let inside = nodes().remove(1);
    let part = &inside[..inside.len() - 1];
    assert!(refused(part).contains(&inside), "{}", refused(part));
}

#[test]
fn engines_are_compared_value_by_value() {
    let same = run(&["--compare", "--json"]);
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stderr));
    let same = report(&same);
    assert!(same["values"].as_u64().unwrap() > 10 && same["first"].is_null(), "{same}");
    assert!(same["worst"]["error"].as_f64().unwrap() < 1e-3);

    let differs = run(&["--compare", "--tolerance", "0"]);
    assert_eq!(differs.status.code(), Some(1));
    let message = String::from_utf8_lossy(&differs.stderr).into_owned();
    assert!(message.contains("the first value over 0e0 is") && nodes().iter().any(|node| message.contains(node)));
}
