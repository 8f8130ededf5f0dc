//! The whole set's outcome, as Markdown.

use super::case::{Case, Outcome};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use undiffuse::engine::Backend;

pub struct Run {
    rows: Vec<Row>,
}

struct Row {
    op: String,
    case: String,
    cpu: Outcome,
    vulkan: Outcome,
    tract: Outcome,
}

/// What expands a function stands under no single operator.
const SEVERAL: &str = "(several nodes)";

impl Run {
    pub fn of(cases: &[Case]) -> Run {
        let row = |case: &Case| Row {
            op: case.op().unwrap_or_else(|| SEVERAL.into()),
            case: case.name.clone(),
            cpu: case.outcome(Backend::Cpu),
            vulkan: case.outcome(Backend::Vulkan),
            tract: case.outcome(Backend::Tract),
        };
        Run { rows: cases.iter().map(row).collect() }
    }

    /// What README says of it.
    pub fn summary(&self) -> String {
        let [cpu, vulkan, tract] = [cpu, vulkan, tract].map(|of| passed(&self.rows, of));
        format!("CPU engine {cpu}, Vulkan {vulkan}, tract {tract} of {}", self.rows.len())
    }

    /// Wrong numbers and panics, one a line.
    pub fn failed(&self) -> Vec<String> {
        let mut failed = Vec::new();
        for row in &self.rows {
            for (engine, outcome) in [("cpu", &row.cpu), ("vulkan", &row.vulkan), ("tract", &row.tract)] {
                if let Outcome::Failed(why) = outcome {
                    failed.push(format!("{} ({}) on {engine}: {why}", row.case, row.op));
                }
            }
        }
        failed
    }
}

fn passed<'a>(rows: impl IntoIterator<Item = &'a Row>, of: fn(&Row) -> &Outcome) -> usize {
    rows.into_iter().filter(|row| *of(row) == Outcome::Passed).count()
}

fn cpu(row: &Row) -> &Outcome {
    &row.cpu
}

fn vulkan(row: &Row) -> &Outcome {
    &row.vulkan
}

fn tract(row: &Row) -> &Outcome {
    &row.tract
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ops: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        self.rows.iter().for_each(|row| ops.entry(&row.op).or_default().push(row));
        let (all, failed) = (self.rows.len(), self.failed().len());
        writeln!(f, "# ONNX conformance\n")?;
        writeln!(
            f,
            "Written by `UNDIFFUSE_DEVICE=llvmpipe UNDIFFUSE_BLESS=1 cargo test --release --test conformance -- --ignored`, after"
        )?;
        writeln!(
            f,
            "`tools/python/onnx_conformance.py` has fetched the data. `tools/check.sh` fails when this file is not what the run gives.\n"
        )?;
        write!(f, "The {all} node cases of PyPI `onnx` 1.22.0: the CPU engine passes {}, ", passed(&self.rows, cpu))?;
        write!(f, "Vulkan (lavapipe) {}, ", passed(&self.rows, vulkan))?;
        write!(f, "tract {}; {failed} fail. The rest is refused with a typed error ", passed(&self.rows, tract))?;
        writeln!(f, "that names the node; what only the CPU engine refuses runs on tract, the whole stage.\n")?;
        writeln!(
            f,
            "A case runs as ONNX wrote it, then with all operands but the first in the file, as exporters write them (`ConstantOfShape` and"
        )?;
        writeln!(
            f,
            "`Range`: all), and, where ONNX has it in f64 only, in f32. It passes if one form passes and no form gives wrong numbers. Tolerances"
        )?;
        writeln!(
            f,
            "are ONNX's (1e-3 relative, 1e-7 absolute) with 5e-6 of the largest number; graphs in 16-bit floats are computed in f32. \"several nodes\" are functions"
        )?;
        writeln!(f, "that ONNX expands into other operators.\n")?;
        writeln!(f, "| operator | cases | cpu | vulkan | tract | not on the CPU engine |\n|---|---|---|---|---|---|")?;
        for (op, rows) in ops.iter().filter(|(_, rows)| runs(rows)) {
            let [cpu, vulkan, tract] = [cpu, vulkan, tract].map(|of| passed(rows.iter().copied(), of));
            let (mut why, alone) = (reasons(rows, cpu_refuses), reasons(rows, vulkan_refuses));
            if !alone.is_empty() {
                write!(why, " Vulkan alone: {alone}")?;
            }
            writeln!(f, "| {op} | {} | {cpu} | {vulkan} | {tract} | {why} |", rows.len())?;
        }
        writeln!(f, "\nNot supported by any engine:")?;
        let none: Vec<String> =
            ops.iter().filter(|(_, rows)| !runs(rows)).map(|(op, rows)| format!("{op} ({})", rows.len())).collect();
        writeln!(f, "{}.", none.join(", "))
    }
}

/// Whether an engine passes any of the cases.
fn runs(rows: &[&Row]) -> bool {
    rows.iter().any(|row| row.cpu == Outcome::Passed || row.tract == Outcome::Passed)
}

fn cpu_refuses(row: &Row) -> Option<&Outcome> {
    Some(&row.cpu)
}

/// What the CPU engine runs and Vulkan does not.
fn vulkan_refuses(row: &Row) -> Option<&Outcome> {
    (row.cpu == Outcome::Passed).then_some(&row.vulkan)
}

/// Why an engine refuses, with how often.
fn reasons(rows: &[&Row], of: fn(&Row) -> Option<&Outcome>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for outcome in rows.iter().filter_map(|row| of(row)) {
        match outcome {
            Outcome::Passed => {}
            Outcome::Refused(why) => *counts.entry(reason(why)).or_default() += 1,
            Outcome::Failed(why) => *counts.entry(format!("**{why}**")).or_default() += 1,
        }
    }
    let mut text = String::new();
    for (why, count) in counts {
        let joint = if text.is_empty() { "" } else { "; " };
        write!(text, "{joint}{count}: {why}").unwrap();
    }
    text
}

/// An error without the names of a case's own values.
fn reason(why: &str) -> String {
    let known = [
        ("graphs that take or give ", " are not supported", " as input or output"),
        ("element type ", " where numbers belong", " elements"),
        ("element type ", ", which is not known here", " (a newer element type)"),
    ];
    for (before, behind, instead) in known {
        let middle = why.split_once(before).and_then(|(_, rest)| rest.split_once(behind));
        if let Some((middle, _)) = middle {
            return format!("{middle}{instead}");
        }
    }
    if why.contains("its type is not a tensor") {
        return "sequences and optional values".into();
    }
    if why.contains("unsupported operator") {
        return "an operator that neither engine has".into();
    }
    if why.contains("tract cannot run it") {
        return "tract cannot read the graph".into();
    }
    if why.contains("the shape or type of") {
        return "its shape depends on values".into();
    }
    match why.split_once(" node(s) have no step: ") {
        Some(("1", rest)) => rest.split_once("): ").map_or(rest, |(_, why)| why).into(),
        Some(_) => "several nodes without a step".into(),
        None => why.into(),
    }
}
