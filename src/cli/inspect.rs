//! `undiffuse inspect`: what a model directory or an ONNX file holds, and what of it would not run.

use crate::model::{Dim, Graph, Model, Port, Stage};
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Options of `undiffuse inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model directory, or one graph
    #[arg(value_name = "DIR|MODEL.onnx")]
    path: PathBuf,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the directory or the graph from being read; what is read but would not run is part of the report.
pub fn run(args: Args) -> Result<()> {
    let report =
        if args.path.is_dir() { directory(&Model::open(&args.path)?)? } else { file(&Graph::read(&args.path)?) };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", text(&report));
    }
    Ok(())
}

fn directory(model: &Model) -> Result<Value> {
    let stages = model.stages().iter().map(stage).collect::<Result<Vec<_>>>()?;
    let scheduler = model.scheduler();
    Ok(json!({
        "model": model.root(), "class": model.class(),
        "scheduler": {
            "class": scheduler.class(), "sampler": scheduler.sampler().name(), "warning": scheduler.warning(),
        },
        "parameters": total(&stages, "parameters"), "bytes": total(&stages, "bytes"), "stages": stages,
    }))
}

fn total(stages: &[Value], what: &str) -> u64 {
    stages.iter().filter_map(|stage| stage[what].as_u64()).sum()
}

fn stage(stage: &Stage) -> Result<Value> {
    let graph = Graph::read(&stage.file)?;
    let mut report = file(&graph);
    report["name"] = json!(stage.name);
    report["role"] = json!(stage.role.to_string());
    if let Err(misfit) = stage.check(&graph) {
        report["would_not_run"].as_array_mut().into_iter().for_each(|list| list.push(json!(misfit.to_string())));
    }
    Ok(report)
}

fn file(graph: &Graph) -> Value {
    let summary = graph.summary();
    let refused: Vec<String> = graph.unsupported().iter().map(|op| format!("unsupported operator {op}")).collect();
    json!({
        "file": graph.file(), "producer": summary.producer, "opset": graph.opset(),
        "inputs": ports(graph.inputs()), "outputs": ports(graph.outputs()),
        "nodes": summary.nodes, "ops": summary.ops, "parameters": summary.parameters, "bytes": summary.bytes,
        "would_not_run": refused,
    })
}

fn ports(ports: &[Port]) -> Value {
    let one = |port: &Port| {
        let shape = port.shape.as_ref().map(|dims| dims.iter().map(dim).collect::<Vec<_>>());
        json!({ "name": port.name, "dtype": port.dtype.name(), "declared": port.declared, "shape": shape })
    };
    ports.iter().map(one).collect()
}

fn dim(dim: &Dim) -> Value {
    match dim {
        Dim::Fixed(length) => json!(length),
        Dim::Symbol(name) => json!(name),
        Dim::Unknown => Value::Null,
    }
}

fn text(report: &Value) -> String {
    let mut out = String::new();
    let Some(stages) = report["stages"].as_array() else { return graph_text(report) };
    let scheduler = &report["scheduler"];
    let _ = writeln!(out, "{} ({})", plain(&report["model"]), plain(&report["class"]));
    let _ = writeln!(out, "scheduler {} → {}", plain(&scheduler["class"]), plain(&scheduler["sampler"]));
    if let Some(warning) = scheduler["warning"].as_str() {
        let _ = writeln!(out, "  {warning}");
    }
    let _ = writeln!(out, "{} stages, {} parameters, {} bytes", stages.len(), report["parameters"], report["bytes"]);
    for stage in stages {
        let _ = write!(out, "\n{} ({})\n{}", plain(&stage["name"]), plain(&stage["role"]), graph_text(stage));
    }
    out
}

fn graph_text(graph: &Value) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "  file       {}", plain(&graph["file"]));
    let _ = writeln!(out, "  written by {}, operator set {}", plain(&graph["producer"]), graph["opset"]);
    let _ = writeln!(out, "  constants  {} parameters, {} bytes", graph["parameters"], graph["bytes"]);
    for (what, label) in [("inputs", "input"), ("outputs", "output")] {
        for port in list(&graph[what]) {
            let _ = writeln!(
                out,
                "  {label:<10} {} {} {}",
                plain(&port["name"]),
                plain(&port["declared"]),
                shape(&port["shape"])
            );
        }
    }
    let ops = graph["ops"].as_object().into_iter().flatten();
    let ops: Vec<String> = ops.map(|(op, count)| format!("{op} {count}")).collect();
    let _ = writeln!(out, "  {} nodes  {}", graph["nodes"], ops.join(", "));
    for refused in list(&graph["would_not_run"]) {
        let _ = writeln!(out, "  WOULD NOT RUN: {}", plain(refused));
    }
    out
}

fn shape(shape: &Value) -> String {
    if shape.is_null() {
        return "any shape".into();
    }
    format!("[{}]", list(shape).map(plain).collect::<Vec<_>>().join(", "))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text without its quotes; `?` for null.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "?".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
