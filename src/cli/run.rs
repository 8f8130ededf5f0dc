//! `undiffuse run`: one ONNX graph on arrays.

use crate::engine::{self, Backend, Engine, Outputs, Threads};
use crate::model::{Dim, Graph, Port};
use crate::sampler::{Noise, TorchNoise};
use crate::value::{DType, Tensor, elements};
use crate::{npy, system};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
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
    /// Draw the inputs that are not given: floats as torch.randn with this seed, integers from 0 to 15
    #[arg(long, value_name = "SEED")]
    random: Option<u64>,
    /// Run this many times
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: NonZeroUsize,
    /// Threads [default: the machine's cores]; the outputs do not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// What computes: auto, cpu or tract
    #[arg(long, default_value = "auto")]
    backend: Backend,
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

/// Runs the command.
///
/// # Errors
/// Whatever is wrong with the graph, the arrays or the files to write; NaN and infinity in an output.
pub fn run(args: Args) -> Result<()> {
    args.output.iter().try_for_each(|output| system::check_writable(&output.file))?;
    let given = args.input.iter().map(|input| Ok((input.name.clone(), npy::read(&input.file)?)));
    let mut inputs: HashMap<String, Tensor> = given.collect::<Result<_>>()?;
    let started = Instant::now();
    let graph = Graph::open(&args.model)?;
    check_outputs(&graph, &args.output)?;
    if let Some(seed) = args.random {
        draw(&graph, seed, &mut inputs)?;
    }
    let mut engine = engine::load(graph, args.backend, &Threads::new(args.threads)?)?;
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    engine.prepare(&inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect::<Vec<_>>())?;
    let load_ms = milliseconds(started);
    let (outputs, runs_ms) = repeat(&mut *engine, &inputs, args.repeat)?;
    write(&outputs, &args.output)?;
    report(&args, &*engine, load_ms, &runs_ms, &outputs)?;
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
fn draw(graph: &Graph, seed: u64, inputs: &mut HashMap<String, Tensor>) -> Result<()> {
    let mut noise = TorchNoise::new(seed);
    let symbols = symbols(graph, inputs);
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
        dim => bail!("`{}`: the axis {dim} has no fixed length; give it with --input {}=F.npy", port.name, port.name),
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

fn write(outputs: &Outputs, wanted: &[Named]) -> Result<()> {
    for Named { name, file } in wanted {
        npy::write(file, outputs.get(name).context("an output vanished")?)?;
    }
    Ok(())
}

fn report(args: &Args, engine: &dyn Engine, load_ms: f64, runs_ms: &[f64], outputs: &Outputs) -> Result<()> {
    if args.json {
        let outputs: Vec<Value> = outputs.iter().map(|(name, tensor)| described(name, tensor)).collect();
        let object = json!({
            "model": args.model, "engine": engine.name(), "load_ms": load_ms, "runs_ms": runs_ms,
            "peak_rss_bytes": system::peak_rss_bytes(), "outputs": outputs,
        });
        super::print(&(serde_json::to_string_pretty(&object)? + "\n"))?;
        return Ok(());
    }
    let best = runs_ms.iter().copied().fold(f64::INFINITY, f64::min);
    let (name, count) = (engine.name(), runs_ms.len());
    let mut text = format!("{name}: loaded in {load_ms:.1} ms, {count} run(s), fastest {best:.1} ms\n");
    for (name, tensor) in outputs.iter() {
        text += &format!("{name} {} {:?}\n", tensor.dtype(), tensor.shape());
    }
    super::print(&text)
}

fn described(name: &str, tensor: &Tensor) -> Value {
    json!({ "name": name, "shape": tensor.shape(), "dtype": tensor.dtype().name() })
}
