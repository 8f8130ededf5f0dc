//! `undiffuse bench`: where the time of a model goes, stage by stage and kernel by kernel.

use super::inspect::{Axis, shapes};
use super::run::drawn;
use crate::engine::{self, Backend, Precision, Profile, Threads};
use crate::model::{Graph, Model};
use crate::sampler::TorchNoise;
use crate::value::Tensor;
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Options of `undiffuse bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model directory, or one graph
    #[arg(long, value_name = "DIR|MODEL.onnx")]
    model: PathBuf,
    /// Length of the free axis NAME; axes that are not given are 1 long
    #[arg(long, value_name = "NAME=N")]
    axis: Vec<Axis>,
    /// Runs that are measured, after one that is not
    #[arg(long, value_name = "N", default_value = "5")]
    repeat: NonZeroUsize,
    /// On the CPU, or on a Vulkan device, by its own clock
    #[arg(long, value_name = "cpu|vulkan", default_value = "cpu")]
    backend: Backend,
    /// How floats are stored on a Vulkan device [default: f32]
    #[arg(long, value_name = "f32|f16")]
    precision: Option<Precision>,
    /// Threads [default: the machine's cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps a graph from being read, planned or run.
pub fn run(args: Args) -> Result<()> {
    let threads = Threads::new(args.threads)?;
    let graphs = if args.model.is_dir() {
        let stages = Model::open(&args.model)?;
        stages.stages().iter().map(|stage| Ok((stage.name.clone(), stage.open()?))).collect::<Result<Vec<_>>>()?
    } else {
        vec![(args.model.display().to_string(), Graph::open(&args.model)?)]
    };
    let mut stages = Vec::new();
    for (name, graph) in graphs {
        let profile = measure(&graph, &args, &threads)?;
        if !args.json {
            super::print(&text(&name, &profile))?;
        }
        stages.push(report(&name, &profile));
    }
    if args.json {
        let object =
            json!({ "model": args.model, "engine": args.backend.name(), "threads": threads.count(), "stages": stages });
        super::print(&(serde_json::to_string_pretty(&object)? + "\n"))?;
    }
    Ok(())
}

fn measure(graph: &Graph, args: &Args, threads: &Threads) -> Result<Profile> {
    let mut noise = TorchNoise::new(0);
    let symbols: HashMap<String, usize> = args.axis.iter().map(|axis| (axis.name.clone(), axis.length)).collect();
    let mut inputs = Vec::new();
    for (port, shape) in graph.inputs().iter().zip(shapes(graph, &args.axis)) {
        let fixed = crate::model::Port {
            shape: Some(shape.into_iter().map(crate::model::Dim::Fixed).collect()),
            ..port.clone()
        };
        inputs.push(drawn(&fixed, &mut noise, &symbols)?);
    }
    let named: Vec<(&str, &Tensor)> = graph.inputs().iter().map(|port| port.name.as_str()).zip(&inputs).collect();
    Ok(engine::profile(graph, &named, args.repeat.get(), (args.backend, args.precision), threads)?)
}

fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn report(name: &str, profile: &Profile) -> Value {
    let total: f64 = profile.families.iter().map(|family| family.ms).sum();
    let families: Vec<Value> = profile
        .families
        .iter()
        .map(|family| {
            json!({
                "op": family.name, "steps": family.steps, "ms": family.ms, "share": family.ms / total,
                "gflops": family.flops as f64 / family.ms / 1e6, "gbytes_per_s": family.bytes as f64 / family.ms / 1e6,
            })
        })
        .collect();
    let precision = profile.device.as_ref().map(|(_, precision)| precision.name());
    let device = profile.device.as_ref().map(|(device, _)| device);
    json!({
        "stage": name, "device": device, "precision": precision, "median_ms": median(&profile.runs_ms),
        "runs_ms": profile.runs_ms, "ops": families,
    })
}

fn text(name: &str, profile: &Profile) -> String {
    let total: f64 = profile.families.iter().map(|family| family.ms).sum();
    let on = profile.device.as_ref().map(|(device, precision)| format!(" on {device} in {}", precision.name()));
    let (on, median, runs) = (on.unwrap_or_default(), median(&profile.runs_ms), profile.runs_ms.len());
    let mut out = format!("{name}{on}: {median:.2} ms (median of {runs})\n");
    let _ = writeln!(out, "  {:<12} {:>6} {:>10} {:>7} {:>9} {:>7}", "op", "steps", "ms", "share", "GFLOP/s", "GB/s");
    for family in &profile.families {
        let _ = writeln!(
            out,
            "  {:<12} {:>6} {:>10.3} {:>6.1}% {:>9.1} {:>7.1}",
            family.name,
            family.steps,
            family.ms,
            100.0 * family.ms / total,
            family.flops as f64 / family.ms / 1e6,
            family.bytes as f64 / family.ms / 1e6
        );
    }
    out
}
