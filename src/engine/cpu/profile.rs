//! Measures a plan step by step.

use super::{Arena, play};
use crate::caught::catch;
use crate::engine::{Family, Profile, Threads};
use crate::error::Result;
use crate::graph::cost::cost;
use crate::graph::{self, plan::Plan};
use crate::model::Graph;
use crate::value::Tensor;
use std::collections::BTreeMap;
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
    Ok(Profile { families: families(&plan, &times, repeat), runs_ms })
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

fn families(plan: &Plan, times: &[Duration], repeat: usize) -> Vec<Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for (step, time) in plan.steps.iter().zip(times) {
        let (name, cost) = (step.work.name(), cost(step));
        let family = families.entry(name.clone()).or_insert(Family { name, steps: 0, ms: 0.0, flops: 0, bytes: 0 });
        family.steps += 1;
        family.ms += time.as_secs_f64() * 1e3 / repeat.max(1) as f64;
        family.flops += cost.flops;
        family.bytes += cost.bytes;
    }
    let mut families: Vec<Family> = families.into_values().collect();
    families.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    families
}
