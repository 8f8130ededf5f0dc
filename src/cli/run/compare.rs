//! `undiffuse run --compare`: two engines, value by value.

use crate::engine::{self, Compared, Difference, Threads};
use crate::model::Graph;
use crate::value::Tensor;
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

/// Compares, prints what was found, and fails at a value over the tolerance.
pub(super) fn run(
    graph: &Graph,
    inputs: &[(&str, &Tensor)],
    tolerance: f64,
    threads: &Threads,
    as_json: bool,
) -> Result<()> {
    ensure!(tolerance >= 0.0, "--tolerance must not be negative");
    let compared = engine::compare(graph, inputs, tolerance, threads)?;
    let text =
        if as_json { serde_json::to_string_pretty(&object(&compared, tolerance))? + "\n" } else { listed(&compared) };
    crate::cli::print(&text)?;
    match &compared.first {
        None => Ok(()),
        Some(first) => bail!(
            "{}: the first value over {tolerance:e} is \"{}\" of the node \"{}\" ({} {:?}): {:.2e}",
            graph.file().display(),
            first.value,
            first.node,
            first.kernel,
            first.shape,
            first.error
        ),
    }
}

fn listed(compared: &Compared) -> String {
    let worst = compared.worst.as_ref();
    let worst = worst.map(|worst| format!("; the worst is {:.2e} at {} ({})", worst.error, worst.node, worst.kernel));
    format!("cpu and tract compared in {} values{}\n", compared.values, worst.unwrap_or_default())
}

fn object(compared: &Compared, tolerance: f64) -> Value {
    let difference = |found: &Difference| {
        json!({
            "node": found.node, "kernel": found.kernel, "value": found.value, "shape": found.shape,
            // JSON has no infinity.
            "error": found.error.is_finite().then_some(found.error),
        })
    };
    json!({
        "values": compared.values, "tolerance": tolerance,
        "first": compared.first.as_ref().map(difference), "worst": compared.worst.as_ref().map(difference),
    })
}
