//! [`Account`]: what runs a graph, on what, and why.

use serde::Serialize;
use std::collections::BTreeMap;

/// What ran a graph last, or would run it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Account {
    /// `cpu`, `tract` or `vulkan`.
    pub engine: &'static str,
    /// The Vulkan device's name.
    pub device: Option<String>,
    /// How floats are stored on it: `f32` or `f16`.
    pub precision: Option<&'static str>,
    /// Launches of shaders that a run takes; 0 before it is planned.
    pub dispatches: usize,
    /// Steps of the plan, or tract's nodes, that a run computes on the CPU; 0 before it is planned.
    pub cpu_nodes: usize,
    /// Distinct pipelines, by the name of their shader.
    pub variants: BTreeMap<&'static str, usize>,
    /// Why this engine.
    pub why: String,
    /// What went wrong on the device that the graph ran on at first.
    pub fell: Option<String>,
}

/// Why an engine runs that the caller named.
pub(super) const ASKED: &str = "asked for";
