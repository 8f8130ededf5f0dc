//! How far the outputs of two graphs are apart, on seeded inputs.

use crate::draws::Draws;
use anyhow::{Context, Result};
use std::path::Path;
use undiffuse::engine::{Backend, Threads, load};
use undiffuse::model::{Dim, Graph, Port};
use undiffuse::value::Tensor;

/// Length of every axis that a graph leaves open.
const BATCH: usize = 2;
/// Ids that are no padding, in the front of each row.
const WORDS: usize = 12;

/// The largest difference of the first output and its root mean square, both over the standard deviation of what `a` gives.
///
/// # Errors
/// If a graph cannot be run.
pub fn between(a: &Path, b: &Path) -> Result<(f64, f64)> {
    let (a, b) = (played(a)?, played(b)?);
    let count = a.len() as f64;
    let mean = a.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let deviation = (a.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count).sqrt();
    let apart = || a.iter().zip(&b).map(|(a, b)| f64::from(a - b).abs());
    let typical = (apart().map(|d| d * d).sum::<f64>() / count).sqrt();
    Ok((apart().fold(0.0, f64::max) / deviation, typical / deviation))
}

fn played(file: &Path) -> Result<Vec<f32>> {
    let mut engine = load(Graph::open(file)?, Backend::Cpu, &Threads::new(None)?)?;
    let mut draws = Draws::new(0);
    let inputs = engine.inputs().iter().map(|port| Ok((port.name.clone(), drawn(port, &mut draws)?)));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let name = engine.outputs().first().context("the graph has no output")?.name.clone();
    Ok(engine.run(&given)?.take(&name)?.into_f32())
}

/// Ids with padding behind, timesteps from 0 to 1000, everything else unit normal.
fn drawn(port: &Port, draws: &mut Draws) -> Result<Tensor> {
    let length = |dim: &Dim| if let Dim::Fixed(length) = dim { *length } else { BATCH };
    let shape: Vec<usize> = port.shape.as_ref().context("an input has no shape")?.iter().map(length).collect();
    let count: usize = shape.iter().product();
    if !port.dtype.is_float() {
        let row = shape.last().copied().unwrap_or(1);
        let ids: Vec<i64> = (0..count).map(|i| if i % row < WORDS { 2 + draws.below(30) as i64 } else { 0 }).collect();
        return Ok(Tensor::new(&shape, ids)?);
    }
    if shape.len() < 2 {
        return Ok(Tensor::new(&shape, (0..count).map(|_| draws.unit() as f32 * 1000.0).collect::<Vec<_>>())?);
    }
    Ok(Tensor::new(&shape, (0..count).map(|_| normal(draws)).collect::<Vec<_>>())?)
}

/// Box and Muller 1958.
fn normal(draws: &mut Draws) -> f32 {
    let (radius, angle) = ((-2.0 * (1.0 - draws.unit()).ln()).sqrt(), std::f64::consts::TAU * draws.unit());
    (radius * angle.cos()) as f32
}
