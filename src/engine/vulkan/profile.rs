//! Measures a plan launch by launch.

use super::context::Context;
use super::ready::Ready;
use super::{given, programmed};
use crate::caught::catch;
use crate::engine::{CancelToken, Precision, Profile};
use crate::error::Result;
use crate::graph;
use crate::model::Graph;
use crate::value::Tensor;
use std::time::{Duration, Instant};

/// See [`crate::engine::profile`].
pub(in crate::engine) fn profile(
    graph: &Graph,
    inputs: &[(&str, &Tensor)],
    repeat: usize,
    precision: Precision,
) -> Result<Profile> {
    let context = Context::shared(None)?;
    let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
    let (plan, _) = graph::build(graph, &graph.shapes(&shapes)?)?;
    let given = given(graph.inputs(), inputs)?;
    catch("the Vulkan engine", "running the plan", || {
        let (plan, program) = programmed(plan, &context.opened.limits, precision)?;
        let mut times = vec![Duration::ZERO; plan.steps.len()];
        let launched: Vec<usize> =
            program.submissions().iter().flatten().map(|part| program.steps[part.dispatch]).collect();
        let mut runs_ms = Vec::new();
        let mut ready = Ready::timed(context.clone(), plan.clone(), &program)?;
        for run in 0..=repeat {
            let started = Instant::now();
            ready.run(&given.iter().collect::<Vec<_>>(), &CancelToken::new())?;
            if run > 0 {
                runs_ms.push(started.elapsed().as_secs_f64() * 1e3);
                launched.iter().zip(ready.times()?).for_each(|(step, taken)| times[*step] += taken);
            }
        }
        let device = Some((context.opened.name.clone(), precision));
        Ok(Profile { device, ..Profile::of(&plan, &times, runs_ms) })
    })
}
