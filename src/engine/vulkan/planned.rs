//! [`VulkanPlanned`]: what this engine makes of a graph within limits, told without a device.

use super::context::limits_of_wanted;
use super::dispatch::{Dispatch, Shader};
use super::hazard::barriers;
use super::limits::Limits;
use super::program::Program;
use super::ready::access;
use super::{memory_of, programmed};
use crate::board::{self, Board};
use crate::caught::catch;
use crate::engine::{Memory, Precision};
use crate::error::Result;
use crate::graph::cost::touched;
use crate::graph::op::Op;
use crate::graph::plan::{At, Plan, Work};
use crate::model::Graph;
use std::collections::{BTreeMap, HashMap};
use xxhash_rust::xxh3::xxh3_64;

/// What the Vulkan engine makes of a graph, before it touches a weight or a device.
#[derive(Debug, Clone)]
pub struct VulkanPlanned {
    /// Fusion rules, in the order in which they are tried, with how often each matched.
    pub fusions: Vec<(&'static str, usize)>,
    /// Steps of the plan by kernel, with how often each occurs.
    pub steps: BTreeMap<String, usize>,
    /// What running it allocates on the device.
    pub memory: Memory,
    /// Launches, in their order.
    pub dispatches: Vec<DispatchInfo>,
    /// How often commands are submitted: at most four thousand million operations at a time.
    pub submissions: usize,
    /// Compiled shaders, in the order of their first use.
    pub pipelines: Vec<PipelineInfo>,
    /// Additions and multiplications of products a run.
    pub flops: u64,
    /// How many of them are done in tiles through shared memory.
    pub tiled_flops: u64,
    /// Bytes that a run reads and writes, as if nothing were cached: intermediate values, and every weight once.
    pub bytes: u64,
}

/// One launch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DispatchInfo {
    /// Index into [`VulkanPlanned::pipelines`].
    pub pipeline: usize,
    /// Workgroups.
    pub groups: [u32; 3],
    /// Storage buffers that it binds.
    pub buffers: usize,
    /// Bytes of push constants.
    pub push: usize,
    /// Additions and multiplications of products.
    pub flops: u64,
    /// Whether a barrier stands before it.
    pub waits: bool,
    /// The first submission that it is in, counted from 0; where it is of many products, the next go on with it.
    pub submission: usize,
}

/// One compiled shader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineInfo {
    /// Its file under `shaders/`, without `.wgsl`.
    pub shader: &'static str,
    /// What the planner chose: the constants before its text, and a number for the rest.
    pub variant: String,
    /// Whether its products are done in tiles through shared memory.
    pub tiled: bool,
    /// Launches.
    pub dispatches: usize,
    /// SPIR-V.
    pub words: Vec<u32>,
}

/// Plans `graph` within `limits`, storing floats as `precision` says, for inputs of these shapes, by name.
///
/// # Errors
/// `Mismatch` when a shape is missing or is not what the graph takes; `Unsupported` that lists every node without a step, or every step which no
/// shader computes within `limits`; those of reading the graph.
pub fn plan_vulkan(
    graph: &Graph,
    shapes: &[(&str, &[usize])],
    limits: &Limits,
    precision: Precision,
) -> Result<VulkanPlanned> {
    let planned = || {
        let (plan, fusions) = crate::graph::build(graph, &graph.shapes(shapes)?)?;
        catch("the Vulkan engine", "planning", || {
            let (plan, program) = programmed(plan, limits, precision)?;
            VulkanPlanned::of(&plan, &program, fusions)
        })
    };
    planned().map_err(|error| error.in_file(graph.file()))
}

/// The limits that plans are made for here, and whose they are: those of the device that was chosen, else of the board that was chosen, else of
/// the first GPU, else what Vulkan promises of every device.
///
/// # Errors
/// `Unsupported` when the device that was chosen is not there.
pub fn vulkan_limits() -> Result<(String, Limits)> {
    let board = board::chosen();
    let generic = |board: Board| (board.name.clone(), board.vulkan.limits());
    match limits_of_wanted() {
        Ok(Some((name, limits, wanted))) if wanted || board.is_none() => {
            Ok((board.map_or(name.clone(), |board| format!("{name} as {}", board.name)), limits))
        }
        Err(error) => Err(error),
        Ok(_) => board.map_or_else(|| Board::open("generic"), Ok).map(generic),
    }
}

impl VulkanPlanned {
    fn of(plan: &Plan, program: &Program, fusions: Vec<(&'static str, usize)>) -> Result<VulkanPlanned> {
        let mut steps = BTreeMap::new();
        plan.steps.iter().for_each(|step| *steps.entry(step.work.name()).or_default() += 1);
        let (mut seen, mut pipelines) = (HashMap::new(), Vec::<PipelineInfo>::new());
        let accesses: Vec<_> = program.dispatches.iter().map(|dispatch| access(plan, dispatch)).collect();
        let (mut dispatches, cut) = (Vec::with_capacity(accesses.len()), program.submissions());
        let mut first = vec![0; accesses.len()];
        for (submission, parts) in cut.iter().enumerate().rev() {
            parts.iter().for_each(|part| first[part.dispatch] = submission);
        }
        for (dispatch, waits) in program.dispatches.iter().zip(barriers(&accesses)) {
            let Dispatch { shader, bindings, push, groups, flops, tiled, .. } = dispatch;
            let pipeline = match seen.get(&shader.text()) {
                Some(index) => *index,
                None => {
                    let words = shader.compile()?;
                    let (shader_name, variant) = (shader.source.name, variant(shader));
                    pipelines.push(PipelineInfo { shader: shader_name, variant, tiled: *tiled, dispatches: 0, words });
                    seen.insert(shader.text(), pipelines.len() - 1);
                    pipelines.len() - 1
                }
            };
            pipelines[pipeline].dispatches += 1;
            let (buffers, push) = (bindings.len(), push.len() * 4);
            let (groups, flops, submission) = (*groups, *flops, first[dispatches.len()]);
            dispatches.push(DispatchInfo { pipeline, groups, buffers, push, flops, waits, submission });
        }
        let (flops, tiled_flops) = program.flops();
        let memory = memory_of(plan, program);
        let bytes = moved(plan) + memory.weights as u64;
        let submissions = cut.len();
        Ok(VulkanPlanned { fusions, steps, memory, dispatches, submissions, pipelines, flops, tiled_flops, bytes })
    }
}

/// The constants, and a number that differs where anything else does.
fn variant(shader: &Shader) -> String {
    let constant = |line: &str| {
        let (name, value) = line.strip_prefix("const ")?.strip_suffix(';')?.split_once(" = ")?;
        match value {
            "true" => Some(name.to_owned()),
            "false" => None,
            number => Some(format!("{name}={}", number.trim_end_matches('u'))),
        }
    };
    let text = shader.head.text();
    let mut parts: Vec<String> = text.lines().filter_map(constant).collect();
    parts.push(format!("#{:04x}", xxh3_64(text.as_bytes()) as u16));
    parts.join(" ")
}

/// Bytes of intermediate values that the steps read and write; of a table only the rows that are asked for.
fn moved(plan: &Plan) -> u64 {
    let mut bytes = 0;
    for step in &plan.steps {
        let table = matches!(step.work, Work::Op(Op::Gather { .. } | Op::GatherNd));
        let reads = step.reads.iter().skip(usize::from(table)).flatten();
        let buffers = reads.chain([&step.write]).filter(|operand| matches!(operand.at, At::Buffer(_)));
        bytes += buffers.map(|operand| touched(&operand.view) * 4).sum::<u64>();
    }
    bytes
}
