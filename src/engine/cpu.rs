//! The CPU engine: plays a plan with kernels of our own, on all threads; the bytes do not depend on their number.

mod arena;
mod attention;
mod axis;
mod fixed;
mod memory;
mod movement;
mod norm;
mod picture;
mod play;
mod point;
mod prepare;
mod profile;
mod watched;

pub(super) use memory::memory;
pub(super) use profile::profile;
pub(super) use watched::Watched;

use super::reference::Reference;
use super::{Engine, Footprint, Outputs, Threads, Weights};
use crate::caught::catch;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::graph::{self, plan::Plan};
use crate::model::{Graph, Port};
use crate::value::{DType, Tensor};
use arena::Arena;
use prepare::Prepared;
use std::path::PathBuf;

/// A graph on the CPU.
pub(crate) struct Cpu {
    file: PathBuf,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    threads: Threads,
    weights: Weights,
    graph: Graph,
    state: State,
}

enum State {
    Idle,
    /// Nothing is allocated yet.
    Planned {
        shapes: Vec<Vec<usize>>,
        plan: Box<Plan>,
    },
    Ready(Box<Ready>),
    /// What cannot be lowered runs in tract, the whole of it.
    Fallback(Box<Reference>),
}

/// A plan with everything that it needs, for one set of shapes.
struct Ready {
    shapes: Vec<Vec<usize>>,
    plan: Plan,
    prepared: Prepared,
    arena: Arena,
}

impl Cpu {
    pub(crate) fn new(graph: Graph, weights: Weights, threads: &Threads) -> Cpu {
        Cpu {
            file: graph.file().to_path_buf(),
            inputs: graph.inputs().to_vec(),
            outputs: graph.outputs().to_vec(),
            threads: threads.clone(),
            weights,
            graph,
            state: State::Idle,
        }
    }

    /// Makes a plan for `shapes`, unless there is one.
    fn draw_up(&mut self, shapes: Vec<Vec<usize>>) -> Result<()> {
        match &self.state {
            State::Ready(ready) if ready.shapes == shapes => return Ok(()),
            State::Planned { shapes: planned, .. } if *planned == shapes => return Ok(()),
            _ => self.state = State::Idle,
        }
        match graph::build(&self.graph, &shapes) {
            Ok((plan, _)) => {
                let plan = Box::new(Plan { weights: self.weights, ..plan });
                self.state = State::Planned { shapes, plan };
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                log::warn!("{}: {error}; it runs on tract, which is slower", self.file.display());
                self.state = State::Fallback(Box::new(Reference::new(self.graph.clone(), &self.threads)));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl Ready {
    fn new(shapes: Vec<Vec<usize>>, plan: Plan, threads: &Threads) -> Result<Ready> {
        let prepared = catch("the CPU engine", "packing weights", || Prepared::new(&plan, threads))?;
        let arena = Arena::new(plan.arena)?;
        Ok(Ready { shapes, plan, prepared, arena })
    }

    fn run(
        &mut self,
        inputs: &[Port],
        outputs: &[Port],
        given: &[(&str, &Tensor)],
        threads: &Threads,
    ) -> Result<Outputs> {
        for (port, &buffer) in inputs.iter().zip(&self.plan.inputs) {
            let Some((_, tensor)) = given.iter().find(|(name, _)| *name == port.name) else {
                return fail!(Mismatch, "the input is not given").map_err(|error: Error| error.in_field(&port.name));
            };
            let converted = if tensor.dtype() == port.dtype { None } else { Some(port.convert((*tensor).clone())?) };
            let buffer = &self.plan.buffers[buffer];
            if buffer.first != usize::MAX {
                play::write_input(&mut self.arena, buffer, converted.as_ref().unwrap_or(tensor))?;
            }
        }
        play::steps(&self.plan, &mut self.prepared, &mut self.arena, threads)?;
        let read = outputs.iter().zip(&self.plan.outputs).map(|(port, operand)| {
            let tensor = play::read_output(&self.plan, &self.prepared.fixed, &self.arena, operand)?;
            Ok((port.name.clone(), if tensor.dtype() == port.dtype { tensor } else { tensor.cast(port.dtype) }))
        });
        read.collect::<Result<_>>().map(Outputs::new)
    }
}

impl Engine for Cpu {
    fn name(&self) -> &'static str {
        match &self.state {
            State::Fallback(reference) => reference.name(),
            _ => "cpu",
        }
    }

    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn plan(&mut self, shapes: &[(&str, &[usize])]) -> Result<Option<Footprint>> {
        if !matches!(self.state, State::Fallback(_)) {
            let in_file = |error: Error| error.in_file(&self.file);
            let complete = crate::model::complete(&self.inputs, shapes).map_err(in_file)?;
            self.draw_up(complete).map_err(|error| error.in_file(&self.file))?;
        }
        let (plan, held) = match &self.state {
            State::Planned { plan, .. } => (&**plan, false),
            State::Ready(ready) => (&ready.plan, true),
            State::Idle | State::Fallback(_) => return Ok(None),
        };
        let outputs = plan.outputs.iter().map(|output| output.view.shape.clone()).collect();
        Ok(Some(Footprint { memory: memory(plan, &self.threads), held, outputs }))
    }

    fn prepare(&mut self, shapes: &[(&str, &[usize])]) -> Result<()> {
        if !matches!(self.state, State::Fallback(_)) {
            let complete = crate::model::complete(&self.inputs, shapes).map_err(|error| error.in_file(&self.file))?;
            self.draw_up(complete).map_err(|error| error.in_file(&self.file))?;
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Planned { shapes, plan } => {
                let ready = Ready::new(shapes, *plan, &self.threads).map_err(|error| error.in_file(&self.file))?;
                self.state = State::Ready(Box::new(ready));
            }
            other => self.state = other,
        }
        match &mut self.state {
            State::Fallback(reference) => reference.prepare(shapes),
            _ => Ok(()),
        }
    }

    fn run(&mut self, given: &[(&str, &Tensor)]) -> Result<Outputs> {
        let shapes: Vec<_> = given.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        self.prepare(&shapes)?;
        match &mut self.state {
            State::Fallback(reference) => reference.run(given),
            State::Ready(ready) => catch("the CPU engine", "running the plan", || {
                ready.run(&self.inputs, &self.outputs, given, &self.threads)
            })
            .map_err(|error| error.in_file(&self.file)),
            State::Idle | State::Planned { .. } => fail!(Engine, "the graph is not prepared"),
        }
    }
}

/// Whether a plan may hold values of this type.
pub(super) fn is_known(dtype: DType) -> bool {
    !matches!(dtype, DType::F16)
}

/// Plays a plan once, for tests of what makes plans.
#[cfg(test)]
pub(crate) fn play_once(plan: Plan, inputs: &[Tensor], threads: &Threads) -> Result<Vec<Tensor>> {
    let mut prepared = Prepared::new(&plan, threads)?;
    let mut arena = Arena::new(plan.arena)?;
    for (tensor, &buffer) in inputs.iter().zip(&plan.inputs) {
        if plan.buffers[buffer].first != usize::MAX {
            play::write_input(&mut arena, &plan.buffers[buffer], tensor)?;
        }
    }
    play::steps(&plan, &mut prepared, &mut arena, threads)?;
    plan.outputs.iter().map(|operand| play::read_output(&plan, &prepared.fixed, &arena, operand)).collect()
}

#[cfg(test)]
mod tests;
