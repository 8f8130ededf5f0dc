//! A plan whose values are looked at while it is played.

use super::{Arena, Prepared, play};
use crate::caught::catch;
use crate::engine::compare::{self, Difference};
use crate::engine::{Outputs, Threads};
use crate::error::Result;
use crate::graph::plan::{Plan, Step};
use crate::graph::{self};
use crate::model::Graph;
use crate::value::{DType, Tensor};
use std::collections::HashSet;

/// A graph on the CPU engine with one set of inputs.
pub(in crate::engine) struct Watched<'a> {
    graph: &'a Graph,
    inputs: &'a [(&'a str, &'a Tensor)],
    threads: &'a Threads,
    plan: Plan,
    prepared: Prepared,
    arena: Arena,
}

impl<'a> Watched<'a> {
    pub(in crate::engine) fn new(
        graph: &'a Graph,
        inputs: &'a [(&'a str, &'a Tensor)],
        threads: &'a Threads,
    ) -> Result<Watched<'a>> {
        let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        let (plan, _) = graph::build(graph, &graph.shapes(&shapes)?)?;
        let prepared = super::prepare_once(&plan, threads)?;
        let arena = Arena::new(plan.arena)?;
        Ok(Watched { graph, inputs, threads, plan, prepared, arena })
    }

    /// The floating values that steps complete and that the file has a name for, with their bytes.
    pub(in crate::engine) fn values(&self) -> Vec<(String, usize)> {
        let made: HashSet<&str> = self.graph.nodes().iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let steps = self.plan.steps.iter().filter_map(|step| Some((named(step)?, step)));
        steps
            .filter(|(name, _)| made.contains(name))
            .map(|(name, step)| (name.to_owned(), step.write.view.volume() * size_of::<f32>()))
            .collect()
    }

    /// Plays the plan and tells `look` how far each value is from that of the same name and shape in `expected`.
    pub(in crate::engine) fn compare(
        &mut self,
        expected: &Outputs,
        mut look: impl FnMut(Difference) + Send,
    ) -> Result<()> {
        let Watched { graph, inputs, threads, plan, prepared, arena } = self;
        super::profile::write(graph, plan, arena, inputs)?;
        catch("the CPU engine", "running the plan", || {
            play::watched(plan, prepared, arena, threads, &mut |played| {
                let Some(name) = named(played.step) else { return Ok(()) };
                let Some(wanted) = expected.get(name) else { return Ok(()) };
                let got = play::read_output(plan, played.fixed, played.arena, &played.step.write)?;
                if let (Some(got_values), Some(wanted_values)) = (got.as_f32(), wanted.as_f32())
                    && got.shape() == wanted.shape()
                {
                    let error = compare::error(got_values, wanted_values);
                    look(difference(played.step, name, &got, error));
                }
                Ok(())
            })
        })
    }
}

fn named(step: &Step) -> Option<&str> {
    step.value.as_deref().filter(|_| step.write.dtype == DType::F32)
}

fn difference(step: &Step, value: &str, got: &Tensor, error: f64) -> Difference {
    let (node, kernel) = (step.name.clone(), step.work.name());
    Difference { node, kernel, value: value.to_owned(), shape: got.shape().to_vec(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::Op;
    use crate::graph::plan::Work;
    use crate::sampler::{Noise, TorchNoise};
    use std::path::Path;

    /// A step in the middle is made wrong: it, not what follows from it, is named.
    #[test]
    fn the_first_wrong_step_is_named() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pipelines/sd1-a/unet/model.onnx");
        let graph = Graph::open(file).unwrap();
        let tensors: Vec<Tensor> = graph
            .inputs()
            .iter()
            .map(|port| {
                let shape: Vec<usize> =
                    (0..port.rank().unwrap_or(0)).map(|axis| port.fixed(axis).unwrap_or([1, 4, 8, 8][axis])).collect();
                let mut values = vec![0.0; shape.iter().product()];
                TorchNoise::new(1).fill(&mut values);
                Tensor::new(&shape, values).unwrap().cast(port.dtype)
            })
            .collect();
        let inputs: Vec<(&str, &Tensor)> = graph.inputs().iter().map(|port| port.name.as_str()).zip(&tensors).collect();
        let threads = Threads::new(None).unwrap();
        let right = compare::compare(&graph, &inputs, 1e-3, &threads).unwrap();
        assert!(right.first.is_none() && right.values > 20, "{right:?}");

        let mut watched = Watched::new(&graph, &inputs, &threads).unwrap();
        let norms: Vec<usize> = (0..watched.plan.steps.len())
            .filter(|&index| matches!(watched.plan.steps[index].work, Work::Op(Op::GroupNorm { .. })))
            .collect();
        let broken = norms[norms.len() / 2];
        watched.plan.steps[broken].work = Work::Fill(7.0);
        let step = watched.plan.steps[broken].clone();
        let names: Vec<String> = watched.values().into_iter().map(|(name, _)| name).collect();
        let expected = compare::in_tract(&graph, &inputs, &names, &threads).unwrap();
        let mut over = Vec::new();
        watched.compare(&expected, |found| over.extend((found.error > 1e-3).then_some(found))).unwrap();
        assert_eq!((&over[0].node, Some(&over[0].value)), (&step.name, step.value.as_ref()));
        assert!(over.len() > 1);
    }
}
