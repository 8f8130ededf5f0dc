//! Measures a plan step by step.

use super::{Arena, play};
use crate::caught::catch;
use crate::engine::{Profile, Threads};
use crate::error::Result;
use crate::graph::{self, plan::Plan};
use crate::model::Graph;
use crate::value::Tensor;
use std::time::{Duration, Instant};

/// See [`crate::engine::profile`].
pub(in crate::engine) fn profile(
    graph: &Graph,
    inputs: &[(&str, &Tensor)],
    repeat: usize,
    threads: &Threads,
) -> Result<Profile> {
    let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
    let (plan, _) = graph::build(graph, &graph.shapes(&shapes)?)?;
    let mut times = vec![Duration::ZERO; plan.steps.len()];
    let runs_ms = catch("the CPU engine", "running the plan", || {
        let mut prepared = super::prepare_once(&plan, threads)?;
        let mut arena = Arena::new(plan.arena)?;
        let mut runs = Vec::new();
        for run in 0..=repeat {
            write(graph, &plan, &mut arena, inputs)?;
            let started = Instant::now();
            play::watched(&plan, &mut prepared, &mut arena, threads, &mut |played| {
                times[played.index] += if run > 0 { played.taken } else { Duration::ZERO };
                Ok(())
            })?;
            if run > 0 {
                runs.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(runs)
    })?;
    Ok(Profile::of(&plan, &times, runs_ms))
}

/// Writes a run's inputs to their buffers.
pub(super) fn write(graph: &Graph, plan: &Plan, arena: &mut Arena, inputs: &[(&str, &Tensor)]) -> Result<()> {
    for (port, &buffer) in graph.inputs().iter().zip(&plan.inputs) {
        let buffer = &plan.buffers[buffer];
        if let Some((_, tensor)) = inputs.iter().find(|(name, _)| *name == port.name)
            && buffer.first != usize::MAX
        {
            play::write_input(arena, buffer, &port.convert((*tensor).clone())?)?;
        }
    }
    Ok(())
}
