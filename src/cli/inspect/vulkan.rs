//! What the Vulkan engine makes of a graph, for `inspect --plan --backend vulkan`.

use super::{list, plain};
use crate::engine::{self, Limits, Precision, VulkanPlanned};
use crate::error::Result;
use crate::model::Graph;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Whose limits a plan keeps within.
pub struct Within {
    pub name: String,
    pub limits: Limits,
    pub precision: Precision,
}

impl Within {
    /// Those of the device or board that was chosen.
    ///
    /// # Errors
    /// `Unsupported` when the device is not there.
    pub fn chosen(precision: Precision) -> Result<Within> {
        let (name, limits) = engine::vulkan_limits()?;
        Ok(Within { name, limits, precision })
    }

    pub fn plan(&self, graph: &Graph, shapes: &[(&str, &[usize])]) -> Value {
        match engine::plan_vulkan(graph, shapes, &self.limits, self.precision) {
            Ok(planned) => self.report(&planned),
            Err(error) => json!({ "backend": "vulkan", "board": self.name, "error": error.to_string() }),
        }
    }

    fn report(&self, planned: &VulkanPlanned) -> Value {
        let pipelines = planned.pipelines.iter().map(|pipeline| {
            json!({
                "shader": pipeline.shader, "variant": pipeline.variant, "tiled": pipeline.tiled,
                "dispatches": pipeline.dispatches, "spirv_bytes": pipeline.words.len() * 4,
            })
        });
        let share = if planned.flops == 0 { 1.0 } else { planned.tiled_flops as f64 / planned.flops as f64 };
        json!({
            "backend": "vulkan", "precision": self.precision.name(), "board": self.name, "limits": self.limits,
            "fusions": planned.fusions.iter().map(|(rule, n)| ((*rule).to_owned(), json!(n))).collect::<Map<_, _>>(),
            "steps": planned.steps, "arena_bytes": planned.memory.arena, "memory": planned.memory,
            "peak_bytes": planned.memory.peak(), "flops": planned.flops, "tiled_share": share, "bytes": planned.bytes,
            "pipelines": pipelines.collect::<Vec<_>>(), "dispatches": planned.dispatches,
            "submissions": planned.submissions,
        })
    }
}

/// The report's text.
pub fn text(plan: &Value) -> String {
    let mut out = String::new();
    let pipelines: Vec<&Value> = list(&plan["pipelines"]).collect();
    let dispatches: Vec<&Value> = list(&plan["dispatches"]).collect();
    let barriers = dispatches.iter().filter(|dispatch| dispatch["waits"] == true).count();
    let spirv: u64 = pipelines.iter().filter_map(|pipeline| pipeline["spirv_bytes"].as_u64()).sum();
    let _ = writeln!(out, "  for        {}", plain(&plan["board"]));
    let _ = writeln!(
        out,
        "  peak       {} bytes on the device, {} of them weights, {} intermediate values",
        plan["peak_bytes"], plan["memory"]["weights"], plan["arena_bytes"]
    );
    let _ = writeln!(
        out,
        "  products   {} operations, {:.1} % of them in tiles; {} bytes read and written",
        plan["flops"],
        plan["tiled_share"].as_f64().unwrap_or_default() * 100.0,
        plan["bytes"]
    );
    let submissions = plain(&plan["submissions"]);
    let _ = writeln!(out, "  dispatches {}, {barriers} barriers, {submissions} submissions", dispatches.len());
    let _ = writeln!(out, "  pipelines  {}, {spirv} bytes of SPIR-V", pipelines.len());
    for (index, pipeline) in pipelines.iter().enumerate() {
        let (shader, variant) = (plain(&pipeline["shader"]), plain(&pipeline["variant"]));
        let dispatches = plain(&pipeline["dispatches"]);
        let _ = writeln!(out, "    p{index:<3} {dispatches:>4} x {shader:<10} {variant}");
    }
    for (index, dispatch) in dispatches.iter().enumerate() {
        let pipeline = dispatch["pipeline"].as_u64().unwrap_or_default() as usize;
        let shader = pipelines.get(pipeline).map_or_else(String::new, |pipeline| plain(&pipeline["shader"]));
        let groups = list(&dispatch["groups"]).map(plain).collect::<Vec<_>>().join("x");
        let waits = if dispatch["waits"] == true { "|" } else { " " };
        let _ = writeln!(
            out,
            "    {waits}{index:4} {shader:<10} p{pipeline:<3} {groups:<12} {} operations",
            dispatch["flops"]
        );
    }
    out
}
