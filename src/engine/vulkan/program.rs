//! [`Program`]: a plan as dispatches within a device's limits. Plain data, made and checked without a device.

use super::dispatch::{Dispatch, Lowering, Slot, Upload, steps};
use super::limits::Limits;
use super::submissions::MOST_FLOPS;
use crate::engine::Precision;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::graph::plan::{At, Plan};
use crate::value::DType;
use std::collections::{BTreeMap, HashSet};

/// What is recorded once and replayed.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) dispatches: Vec<Dispatch>,
    /// Of each dispatch, the step that it is of.
    pub(super) steps: Vec<usize>,
    pub(super) uploads: Vec<Upload>,
    /// Products of one submission, at most.
    pub(super) most_flops: u64,
}

/// How much is recorded.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) dispatches: usize,
    /// Distinct pipelines, by the name of their shader.
    pub(super) variants: BTreeMap<&'static str, usize>,
}

impl Program {
    /// # Errors
    /// `Unsupported` that lists every step which no shader computes within `limits`.
    pub(super) fn new(plan: &Plan, limits: &Limits, precision: Precision) -> Result<Program> {
        let mut lowering = Lowering { plan, limits, precision, uploads: Vec::new() };
        let (mut dispatches, mut of, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for (index, step) in plan.steps.iter().enumerate() {
            match steps(&mut lowering, step).and_then(|made| within(made, limits)) {
                Ok(made) => {
                    of.extend(std::iter::repeat_n(index, made.len()));
                    dispatches.extend(made);
                }
                Err(error) => missing.push(error.in_node(&step.name).to_string()),
            }
        }
        if missing.is_empty() {
            let uploads = lowering.uploads;
            return Ok(Program { dispatches, steps: of, uploads, most_flops: MOST_FLOPS });
        }
        Err(Error::new(ErrorKind::Unsupported, format!("no shader for {}", missing.join("; "))))
    }

    /// Buffers of floats inside of the plan that are written in pairs only, so that halves can lie there, two in a word.
    pub(super) fn paired(&self, plan: &Plan) -> Vec<usize> {
        let seen = |index: &usize| {
            plan.inputs.contains(index) || plan.outputs.iter().any(|output| output.at == At::Buffer(*index))
        };
        let writes: Vec<_> =
            self.dispatches.iter().flat_map(|dispatch| &dispatch.bindings).filter(|b| b.writes).collect();
        let in_pairs = |index: &usize| {
            let mut own = writes.iter().filter(|binding| binding.slot == Slot::Buffer(*index)).peekable();
            own.peek().is_some() && own.all(|binding| binding.together.is_multiple_of(2))
        };
        let floats = |index: &usize| plan.buffers[*index].dtype == DType::F32;
        (0..plan.buffers.len()).filter(floats).filter(|index| !seen(index)).filter(in_pairs).collect()
    }

    pub(super) fn counts(&self) -> Counts {
        let shaders: HashSet<(&'static str, &str)> =
            self.dispatches.iter().map(|dispatch| (dispatch.shader.source.name, dispatch.shader.head.text())).collect();
        let mut variants = BTreeMap::new();
        shaders.into_iter().for_each(|(name, _)| *variants.entry(name).or_default() += 1);
        Counts { dispatches: self.dispatches.len(), variants }
    }

    /// Additions and multiplications of products, and how many of them are done in tiles.
    pub(super) fn flops(&self) -> (u64, u64) {
        let of = |tiled: bool| {
            let counted = self.dispatches.iter().filter(|dispatch| dispatch.tiled || !tiled);
            counted.map(|dispatch| dispatch.flops).sum()
        };
        (of(false), of(true))
    }
}

/// Dispatches that bind and push no more than they may.
fn within(dispatches: Vec<Dispatch>, limits: &Limits) -> Result<Vec<Dispatch>> {
    for Dispatch { shader, bindings, push, .. } in &dispatches {
        let (bound, pushed) = (bindings.len(), push.len() * 4);
        if bound > limits.buffers as usize || pushed > limits.push as usize {
            let (shader, buffers, push) = (shader.source.name, limits.buffers, limits.push);
            return fail!(
                Unsupported,
                "{shader} binds {bound} buffers and pushes {pushed} bytes, the device allows {buffers} and {push}"
            );
        }
    }
    Ok(dispatches)
}

#[cfg(test)]
mod tests {
    use super::super::hazard::{Access, barriers, unguarded};
    use super::super::ready::access;
    use super::*;
    use crate::graph::build;
    use crate::model::Graph;
    use std::collections::HashSet;
    use std::path::{Path, PathBuf};

    fn graphs() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let pipelines = std::fs::read_dir(root.join("tests/golden/pipelines")).unwrap();
        let mut folders: Vec<PathBuf> = pipelines.map(|entry| entry.unwrap().path()).collect();
        folders.push(root.join("models/sticker-64"));
        let stages = ["text_encoder", "unet", "transformer", "vae_decoder", "vae_encoder"];
        let files = folders.iter().flat_map(|folder| stages.map(|stage| folder.join(stage).join("model.onnx")));
        files.filter(|file| file.exists()).collect()
    }

    /// Shapes for a graph: what the file leaves open is 2 pictures of 16x16, or 7 words.
    fn shapes(graph: &Graph) -> Vec<Vec<usize>> {
        let open = |port: &crate::model::Port, axis: usize| match (axis, port.rank()) {
            (0, _) => 2,
            (1, Some(4)) => 4,
            (_, Some(4)) => 16,
            _ => 7,
        };
        let of = |port: &crate::model::Port| {
            (0..port.rank().unwrap_or(0)).map(|axis| port.fixed(axis).unwrap_or_else(|| open(port, axis))).collect()
        };
        graph.inputs().iter().map(of).collect()
    }

    #[test]
    fn every_network_fits_the_least_device() {
        let files = graphs();
        assert!(files.len() > 20, "{files:?}");
        for file in files {
            let graph = Graph::open(&file).unwrap();
            let Ok((plan, _)) = build(&graph, &shapes(&graph)) else { continue };
            let (plan, program) = super::super::programmed(plan, &Limits::LEAST, Precision::F32)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let shaders: HashSet<String> = program.dispatches.iter().map(|dispatch| dispatch.shader.text()).collect();
            assert!(shaders.len() <= 64, "{} pipelines for {}", shaders.len(), file.display());
            let (all, tiled) = program.flops();
            assert!(tiled * 100 >= all * 95, "{}: products outside of tiles", file.display());
            assert!(plan.steps.iter().all(|step| matches!(step.write.at, At::Buffer(_))));
        }
    }

    #[test]
    fn shaders_compile_within_the_least_limits() {
        let mut seen = HashSet::new();
        for file in graphs() {
            let graph = Graph::open(&file).unwrap();
            let Ok((plan, _)) = build(&graph, &shapes(&graph)) else { continue };
            let (_, program) = super::super::programmed(plan, &Limits::LEAST, Precision::F32).unwrap();
            for dispatch in &program.dispatches {
                assert!(dispatch.push.len() * 4 <= Limits::LEAST.push as usize, "{}", dispatch.shader.source.name);
                assert!(dispatch.bindings.len() <= Limits::LEAST.buffers as usize, "{}", dispatch.shader.source.name);
                if seen.insert(dispatch.shader.text()) {
                    let (shared, invocations) = dispatch.shader.demands().unwrap();
                    assert!(shared <= Limits::LEAST.shared, "{}: {shared} bytes", dispatch.shader.source.name);
                    assert!(invocations <= Limits::LEAST.invocations, "{}", dispatch.shader.source.name);
                }
            }
        }
        assert!(seen.len() > 30);
    }

    #[test]
    fn no_barrier_of_a_network_can_be_left_out() {
        let mut tried = 0;
        for file in graphs() {
            let graph = Graph::open(&file).unwrap();
            let Ok((plan, _)) = build(&graph, &shapes(&graph)) else { continue };
            let (plan, program) = super::super::programmed(plan, &Limits::LEAST, Precision::F32).unwrap();
            let accesses: Vec<Access> = program.dispatches.iter().map(|dispatch| access(&plan, dispatch)).collect();
            let whole = barriers(&accesses);
            assert_eq!(unguarded(&accesses, &whole), None, "{}", file.display());
            for index in (0..whole.len()).filter(|&index| whole[index]) {
                let mut without = whole.clone();
                without[index] = false;
                assert!(unguarded(&accesses, &without).is_some(), "{}: barrier {index}", file.display());
                tried += 1;
            }
        }
        assert!(tried > 1000, "{tried} barriers");
    }
}
