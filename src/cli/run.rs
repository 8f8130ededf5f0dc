//! `undiffuse run`: one ONNX graph on arrays.

mod budget;
mod compare;

use super::bytes::Bytes;
use super::inspect::Axis;
use crate::engine::{self, Account, Backend, Engine, Outputs, Precision, Threads, Weights};
use crate::model::{Dim, Graph, Port};
use crate::sampler::{Noise, TorchNoise};
use crate::value::{DType, Data, Tensor, elements};
use crate::{npy, system};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

/// Options of `undiffuse run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The graph
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Give this array to the input NAME; symbolic axes take their lengths from it
    #[arg(long, value_name = "NAME=F.npy")]
    input: Vec<Named>,
    /// Write the output NAME to this file
    #[arg(long, value_name = "NAME=F.npy")]
    output: Vec<Named>,
    /// Give also what the node or value NAME computes, and write it to F.npy, or print its statistics
    #[arg(long, value_name = "NAME[=F.npy]")]
    dump: Vec<Dump>,
    /// Run on the CPU engine and in tract, compare every value on the way, and fail at the first that differs by more than --tolerance
    #[arg(long, conflicts_with_all = ["dump", "output", "repeat", "backend"])]
    compare: bool,
    /// What --compare allows: the largest difference over the standard deviation of tract's value
    #[arg(long, value_name = "X", default_value = "1e-3", requires = "compare")]
    tolerance: f64,
    /// Draw the inputs that are not given: floats as torch.randn with this seed, integers from 0 to 15
    #[arg(long, value_name = "SEED")]
    random: Option<u64>,
    /// Length of the free axis NAME in what --random draws
    #[arg(long, value_name = "NAME=N", requires = "random")]
    axis: Vec<Axis>,
    /// Run this many times
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: NonZeroUsize,
    /// Threads [default: the machine's cores]; the outputs do not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// What computes: auto, cpu, tract or vulkan
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// How weights are kept: stored (as in the file) or int8
    #[arg(long, default_value = "stored", conflicts_with = "compare")]
    weights: Weights,
    /// How floats are stored on a Vulkan device: f32, or f16 (half the memory; sums stay f32) [default: f16 where it is found right and, by
    /// the backend auto, faster]
    #[arg(long, conflicts_with = "compare")]
    precision: Option<Precision>,
    #[command(flatten)]
    cache: super::cache::Args,
    /// Take no more memory than this in all (512M, 2G, or bytes): weights are read from the cache's file as they are needed, or it is refused
    #[arg(long, value_name = "BYTES", conflicts_with = "compare")]
    memory_budget: Option<Bytes>,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// `NAME=FILE` on the command line.
#[derive(Debug, Clone)]
struct Named {
    name: String,
    file: PathBuf,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                Ok(Named { name: name.to_owned(), file: file.into() })
            }
            _ => Err("write it as NAME=FILE.npy".into()),
        }
    }
}

/// `NAME` or `NAME=FILE` on the command line.
#[derive(Debug, Clone)]
struct Dump {
    name: String,
    file: Option<PathBuf>,
}

impl FromStr for Dump {
    type Err = String;

    fn from_str(text: &str) -> Result<Dump, String> {
        match text.split_once('=') {
            None if !text.is_empty() => Ok(Dump { name: text.to_owned(), file: None }),
            _ => text.parse().map(|Named { name, file }| Dump { name, file: Some(file) }),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever is wrong with the graph, the arrays or the files to write; NaN and infinity in an output.
pub fn run(args: Args) -> Result<()> {
    let files =
        args.output.iter().map(|output| &output.file).chain(args.dump.iter().filter_map(|dump| dump.file.as_ref()));
    files.into_iter().try_for_each(|file| system::check_writable(file))?;
    let given = args.input.iter().map(|input| Ok((input.name.clone(), npy::read(&input.file)?)));
    let mut inputs: HashMap<String, Tensor> = given.collect::<Result<_>>()?;
    let started = Instant::now();
    let mut graph = Graph::open(&args.model)?;
    check_outputs(&graph, &args.output)?;
    if let Some(seed) = args.random {
        draw(&graph, seed, &args.axis, &mut inputs)?;
    }
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let threads = Threads::new(args.threads)?;
    if args.compare {
        return compare::run(&graph, &inputs, args.tolerance, &threads, args.json);
    }
    let dumped = watch(&mut graph, &args.dump, &inputs)?;
    // A budget is promised on the CPU alone.
    let kept = args.memory_budget.is_some() && args.backend == Backend::Auto;
    let backend = if kept { Backend::Cpu } else { args.backend };
    let mut engine =
        engine::load_with(graph, backend, args.weights, args.precision, &threads, args.cache.cache().as_ref())?;
    let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
    let predicted = budget::keep(&mut *engine, &shapes, args.memory_budget.map(|bytes| bytes.0))?;
    engine.prepare(&shapes)?;
    let load_ms = milliseconds(started);
    let (outputs, runs_ms) = repeat(&mut *engine, &inputs, args.repeat)?;
    write(&outputs, args.output.iter().map(|output| (&*output.name, &*output.file)))?;
    let to_files = dumped.iter().filter_map(|(value, file)| Some((value.as_str(), file.as_deref()?)));
    write(&outputs, to_files)?;
    report(&args, &*engine, (load_ms, &runs_ms, predicted), &outputs)?;
    outputs.iter().try_for_each(|(name, tensor)| Ok(tensor.check_finite(name)?))
}

fn check_outputs(graph: &Graph, wanted: &[Named]) -> Result<()> {
    let names: Vec<&str> = graph.outputs().iter().map(|port| port.name.as_str()).collect();
    match wanted.iter().find(|wanted| !names.contains(&wanted.name.as_str())) {
        Some(missing) => bail!("the graph has no output \"{}\"; it gives {}", missing.name, names.join(", ")),
        None => Ok(()),
    }
}

fn repeat(engine: &mut dyn Engine, inputs: &[(&str, &Tensor)], times: NonZeroUsize) -> Result<(Outputs, Vec<f64>)> {
    let mut timed = || -> Result<(Outputs, f64)> {
        let started = Instant::now();
        Ok((engine.run(inputs)?, milliseconds(started)))
    };
    let (mut outputs, first) = timed()?;
    let mut runs_ms = vec![first];
    for _ in 1..times.get() {
        let (again, taken) = timed()?;
        outputs = again;
        runs_ms.push(taken);
    }
    Ok((outputs, runs_ms))
}

pub(super) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Fills in what is not given, in the graph's order, with one generator.
fn draw(graph: &Graph, seed: u64, axes: &[Axis], inputs: &mut HashMap<String, Tensor>) -> Result<()> {
    let mut noise = TorchNoise::new(seed);
    let mut symbols = symbols(graph, inputs);
    symbols.extend(axes.iter().map(|axis| (axis.name.clone(), axis.length)));
    for port in graph.inputs() {
        if !inputs.contains_key(&port.name) {
            inputs.insert(port.name.clone(), drawn(port, &mut noise, &symbols)?);
        }
    }
    Ok(())
}

/// Lengths that the given arrays give to symbolic axes.
fn symbols(graph: &Graph, given: &HashMap<String, Tensor>) -> HashMap<String, usize> {
    let ports = graph.inputs().iter().filter_map(|port| Some((port.shape.as_ref()?, given.get(&port.name)?)));
    let axes = ports.flat_map(|(dims, tensor)| dims.iter().zip(tensor.shape()));
    axes.filter_map(|(dim, &length)| match dim {
        Dim::Symbol(name) => Some((name.clone(), length)),
        _ => None,
    })
    .collect()
}

pub(super) fn drawn(port: &Port, noise: &mut TorchNoise, symbols: &HashMap<String, usize>) -> Result<Tensor> {
    let length = |dim: &Dim| match dim {
        Dim::Fixed(length) => Ok(*length),
        Dim::Symbol(name) if symbols.contains_key(name) => Ok(symbols[name]),
        dim => bail!(
            "`{}`: the axis {dim} has no fixed length; give it with --input {}=F.npy or --axis {dim}=N",
            port.name,
            port.name
        ),
    };
    let dims = port.shape.as_ref();
    let dims =
        dims.with_context(|| format!("`{0}`: the graph declares no shape; give --input {0}=F.npy", port.name))?;
    let shape: Vec<usize> = dims.iter().map(length).collect::<Result<_>>()?;
    let count = elements(&shape).filter(|&count| count <= 1 << 28).context("too large to draw")?;
    let mut values = vec![0f32; count];
    noise.fill(&mut values);
    if !port.dtype.is_float() {
        let most = if port.dtype == DType::Bool { 2.0 } else { 16.0 };
        values.iter_mut().for_each(|value| *value = (value.abs() * 1000.0).floor() % most);
    }
    Ok(Tensor::new(&shape, values)?.cast(port.dtype))
}

/// The values that are asked for become outputs; each with its file.
fn watch(graph: &mut Graph, dumps: &[Dump], inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Option<PathBuf>)>> {
    let mut values = Vec::new();
    for Dump { name, file } in dumps {
        let found = graph.values_of(name)?;
        if file.is_some() && found.len() > 1 {
            bail!("the node \"{name}\" makes {} values; name one of {}", found.len(), found.join(", "));
        }
        values.extend(found.into_iter().map(|value| (value, file.clone())));
    }
    if !values.is_empty() {
        let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        let shapes = graph.shapes(&shapes)?;
        graph.watch(&values.iter().map(|(value, _)| value.clone()).collect::<Vec<_>>(), &shapes)?;
    }
    Ok(values)
}

fn write<'a>(outputs: &Outputs, wanted: impl Iterator<Item = (&'a str, &'a Path)>) -> Result<()> {
    for (name, file) in wanted {
        npy::write(file, outputs.get(name).context("an output vanished")?)?;
    }
    Ok(())
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Told {
    #[serde(flatten)]
    account: Account,
    #[serde(flatten)]
    object: Value,
}

fn report(
    args: &Args,
    engine: &dyn Engine,
    (load_ms, runs_ms, predicted): (f64, &[f64], Option<u64>),
    outputs: &Outputs,
) -> Result<()> {
    // Before anything is allocated for the report.
    let peak = system::peak_rss_bytes();
    if args.json {
        let outputs: Vec<Value> = outputs.iter().map(|(name, tensor)| described(name, tensor)).collect();
        let object = json!({
            "model": args.model, "load_ms": load_ms, "runs_ms": runs_ms,
            "predicted_peak_bytes": predicted, "peak_rss_bytes": peak, "outputs": outputs,
        });
        let object = Told { account: engine.account(), object };
        super::print(&(serde_json::to_string_pretty(&object)? + "\n"))?;
        return Ok(());
    }
    let best = runs_ms.iter().copied().fold(f64::INFINITY, f64::min);
    let (name, count) = (engine.name(), runs_ms.len());
    let mut text = format!("{name}: loaded in {load_ms:.1} ms, {count} run(s), fastest {best:.1} ms\n");
    for (name, tensor) in outputs.iter() {
        text += &format!("{name} {} {:?} {}\n", tensor.dtype(), tensor.shape(), Statistics::of(tensor));
    }
    super::print(&text)
}

fn described(name: &str, tensor: &Tensor) -> Value {
    let Statistics { mean, deviation, least, most } = Statistics::of(tensor);
    json!({
        "name": name, "shape": tensor.shape(), "dtype": tensor.dtype().name(),
        "mean": mean, "std": deviation, "min": least, "max": most,
    })
}

/// Of all elements of an array; zeros for an empty one.
struct Statistics {
    mean: f64,
    deviation: f64,
    least: f64,
    most: f64,
}

impl Statistics {
    fn of(tensor: &Tensor) -> Statistics {
        let Data::F64(values) = tensor.clone().cast(DType::F64).into_data() else { unreachable!("cast to f64") };
        let count = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / count;
        let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        let least = values.iter().copied().reduce(f64::min).unwrap_or_default();
        let most = values.iter().copied().reduce(f64::max).unwrap_or_default();
        Statistics { mean, deviation, least, most }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statistics { mean, deviation, least, most } = self;
        write!(f, "mean {mean:.4} std {deviation:.4} from {least:.4} to {most:.4}")
    }
}
