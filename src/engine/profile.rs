//! [`Profile`]: where the time of a plan goes.

use super::Precision;
use crate::graph::cost::cost;
use crate::graph::plan::Plan;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where an engine's time goes.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The Vulkan device, and how floats are stored on it; `None` for the CPU.
    pub device: Option<(String, Precision)>,
    /// Milliseconds of each run.
    pub runs_ms: Vec<f64>,
    /// By kernel, the most expensive first.
    pub families: Vec<Family>,
}

/// The steps of one kernel.
#[derive(Debug, Clone)]
pub struct Family {
    /// The kernel's name: `Conv`, `Linear`, `Attention`, …
    pub name: String,
    /// Steps in the plan.
    pub steps: usize,
    /// Milliseconds a run, on average.
    pub ms: f64,
    /// Additions and multiplications of products a run.
    pub flops: u64,
    /// Bytes read and written a run, as if nothing were cached.
    pub bytes: u64,
}

impl Profile {
    /// Of a plan whose steps took `times` in these runs together.
    pub(super) fn of(plan: &Plan, times: &[Duration], runs_ms: Vec<f64>) -> Profile {
        let families = families(plan, times, runs_ms.len());
        Profile { device: None, runs_ms, families }
    }
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
