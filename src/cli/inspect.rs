//! `undiffuse inspect`: what a model directory or an ONNX file holds, and what of it would not run.

use crate::engine::{self, Threads};
use crate::model::{Dim, Graph, Model, Port, Stage};
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

/// Options of `undiffuse inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model directory, or one graph
    #[arg(value_name = "DIR|MODEL.onnx")]
    path: PathBuf,
    /// Add what the CPU engine makes of each graph: fusions, steps, bytes of intermediate values
    #[arg(long)]
    plan: bool,
    /// Length of the free axis NAME in a plan; axes that are not given are 1 long
    #[arg(long, value_name = "NAME=N", requires = "plan")]
    axis: Vec<Axis>,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// `NAME=N` on the command line.
#[derive(Debug, Clone)]
pub struct Axis {
    pub(super) name: String,
    pub(super) length: usize,
}

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Axis, String> {
        let parsed = text.split_once('=').and_then(|(name, length)| Some((name.to_owned(), length.parse().ok()?)));
        match parsed {
            Some((name, length)) if !name.is_empty() && length > 0 => Ok(Axis { name, length }),
            _ => Err("write it as NAME=LENGTH".into()),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the directory or the graph from being read; what is read but would not run is part of the report.
pub fn run(args: Args) -> Result<()> {
    let planner = if args.plan { Some((&args.axis[..], Threads::new(None)?)) } else { None };
    let report = if args.path.is_dir() {
        directory(&Model::open(&args.path)?, planner.as_ref())?
    } else {
        file(&Graph::read(&args.path)?, planner.as_ref())
    };
    if args.json {
        super::print(&(serde_json::to_string_pretty(&report)? + "\n"))
    } else {
        super::print(&text(&report))
    }
}

/// Lengths of free axes, and the threads that plans are made for.
type Planner<'a> = (&'a [Axis], Threads);

fn directory(model: &Model, planner: Option<&Planner>) -> Result<Value> {
    let stages = model.stages().iter().map(|entry| stage(entry, planner)).collect::<Result<Vec<_>>>()?;
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

fn stage(stage: &Stage, planner: Option<&Planner>) -> Result<Value> {
    let graph = Graph::read(&stage.file)?;
    let mut report = file(&graph, planner);
    report["name"] = json!(stage.name);
    report["role"] = json!(stage.role.to_string());
    if let Err(misfit) = stage.check(&graph) {
        report["would_not_run"].as_array_mut().into_iter().for_each(|list| list.push(json!(misfit.to_string())));
    }
    Ok(report)
}

fn file(graph: &Graph, planner: Option<&Planner>) -> Value {
    let summary = graph.summary();
    let refused: Vec<String> = graph.unsupported().iter().map(|op| format!("unsupported operator {op}")).collect();
    let mut report = json!({
        "file": graph.file(), "producer": summary.producer, "opset": graph.opset(),
        "inputs": ports(graph.inputs()), "outputs": ports(graph.outputs()),
        "nodes": summary.nodes, "ops": summary.ops, "parameters": summary.parameters, "bytes": summary.bytes,
        "would_not_run": refused,
    });
    if let Some((axes, threads)) = planner {
        report["plan"] = plan(graph, axes, threads);
    }
    report
}

/// A shape for each of a graph's inputs; free axes are as long as `axes` say, else 1.
pub(super) fn shapes(graph: &Graph, axes: &[Axis]) -> Vec<Vec<usize>> {
    let length = |dim: &Dim| match dim {
        Dim::Fixed(length) => *length,
        Dim::Symbol(name) => axes.iter().find(|axis| axis.name == *name).map_or(1, |axis| axis.length),
        Dim::Unknown => 1,
    };
    let shape = |port: &Port| port.shape.as_ref().map_or(Vec::new(), |dims| dims.iter().map(length).collect());
    graph.inputs().iter().map(shape).collect()
}

fn plan(graph: &Graph, axes: &[Axis], threads: &Threads) -> Value {
    let shapes = shapes(graph, axes);
    let named: Vec<_> =
        graph.inputs().iter().zip(&shapes).map(|(port, shape)| (port.name.as_str(), shape.as_slice())).collect();
    match engine::plan(graph, &named, threads) {
        Ok(plan) => json!({
            "inputs": named.iter().map(|(name, shape)| json!({ "name": name, "shape": shape })).collect::<Vec<_>>(),
            "fusions": plan.fusions.iter().map(|(rule, count)| ((*rule).to_owned(), json!(count))).collect::<Map<_, _>>(),
            "steps": plan.steps, "arena_bytes": plan.memory.arena, "memory": plan.memory,
            "peak_bytes": plan.memory.peak(),
            "streamed": plan.streamed, "streamed_peak_bytes": plan.streamed.peak(), "listing": plan.listing.lines().collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "error": error.to_string() }),
    }
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
    let plan = &graph["plan"];
    if let Some(error) = plan["error"].as_str() {
        let _ = writeln!(out, "  NO PLAN: {error}");
    } else if !plan.is_null() {
        let counts = |what: &Value| {
            let counts = what.as_object().into_iter().flatten();
            let counts: Vec<String> =
                counts.filter(|(_, n)| n.as_u64() != Some(0)).map(|(name, n)| format!("{name} {n}")).collect();
            counts.join(", ")
        };
        let _ = writeln!(out, "  fused      {}", counts(&plan["fusions"]));
        let _ = writeln!(out, "  steps      {}", counts(&plan["steps"]));
        let _ = writeln!(out, "  arena      {} bytes", plan["arena_bytes"]);
        let _ = writeln!(
            out,
            "  peak       {} bytes, {} of them packed weights; {} where those stay in the cache's file (--memory-budget)",
            plan["peak_bytes"], plan["memory"]["weights"], plan["streamed_peak_bytes"]
        );
        list(&plan["listing"]).for_each(|line| {
            let _ = writeln!(out, "    {}", plain(line));
        });
    }
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
