//! The CPU engine: plays a plan with kernels of our own, on all threads; the bytes do not depend on their number.

mod arena;
mod attention;
mod axis;
mod fixed;
mod memory;
mod movement;
mod norm;
mod pack;
mod picture;
mod play;
mod point;
mod prepare;
mod profile;
mod saved;
mod store;
mod watched;

pub(super) use memory::{Place, memory};
pub(super) use profile::profile;
pub(super) use watched::Watched;

use super::account::ASKED;
use super::reference::Reference;
use super::{Account, Cache, CancelToken, Engine, Footprint, Outputs, Threads, Weights};
use crate::cache::{Publishing, not_kept};
use crate::caught::catch;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::graph::{self, plan::Plan};
use crate::model::mapped::Mapped;
use crate::model::{Graph, Port};
use crate::value::{DType, Tensor};
use arena::Arena;
use prepare::Prepared;
use saved::Saved;
use std::path::PathBuf;
use store::{Store, needs};

/// A graph on the CPU.
pub(crate) struct Cpu {
    file: PathBuf,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    threads: Threads,
    weights: Weights,
    graph: Graph,
    state: State,
    /// What was packed stays for plans of other shapes.
    store: Store,
    /// What is kept for the next start, where something is.
    saved: Option<Saved>,
    publishing: Vec<Publishing>,
    streamed: bool,
    cancel: CancelToken,
    why: String,
}

enum State {
    Idle,
    /// Nothing is allocated yet.
    Planned {
        shapes: Vec<Vec<usize>>,
        plan: Box<Plan>,
        is_kept: bool,
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
    pub(crate) fn new(graph: Graph, weights: Weights, threads: &Threads, cache: Option<&Cache>) -> Cpu {
        Cpu {
            file: graph.file().to_path_buf(),
            inputs: graph.inputs().to_vec(),
            outputs: graph.outputs().to_vec(),
            threads: threads.clone(),
            weights,
            saved: cache.map(|cache| Saved::new(&graph, weights, cache)),
            graph,
            state: State::Idle,
            store: Store::default(),
            publishing: Vec::new(),
            streamed: false,
            cancel: CancelToken::new(),
            why: ASKED.into(),
        }
    }

    /// Says why it was chosen where nobody asked for it.
    pub(super) fn because(self, why: impl Into<String>) -> Cpu {
        Cpu { why: why.into(), ..self }
    }

    /// Finds or makes a plan for `shapes`, unless it is at hand.
    fn draw_up(&mut self, shapes: Vec<Vec<usize>>) -> Result<()> {
        match &self.state {
            State::Ready(ready) if ready.shapes == shapes => return Ok(()),
            State::Planned { shapes: planned, .. } if *planned == shapes => return Ok(()),
            _ => self.state = State::Idle,
        }
        // Whatever of it an earlier plan has read is not part of the next one's peak.
        self.store.file().into_iter().for_each(|file| file.release());
        if let Some(plan) = self.saved.as_ref().and_then(|saved| saved.plan(&self.graph, &shapes)) {
            self.find_weights(&plan);
            self.state = State::Planned { shapes, plan: Box::new(plan), is_kept: true };
            return Ok(());
        }
        match graph::build(&self.graph, &shapes) {
            Ok((plan, _)) => {
                let plan = Plan { weights: self.weights, ..plan };
                self.find_weights(&plan);
                self.state = State::Planned { shapes, plan: Box::new(plan), is_kept: false };
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

    /// Maps the weights that were kept, if there are any and none that fit are at hand.
    fn find_weights(&mut self, plan: &Plan) {
        let needs = needs(plan);
        if let Some(saved) = &self.saved
            && !self.store.has(&needs)
            && let Some(store) = saved.weights(&needs)
        {
            self.store = store;
        }
    }

    /// Packs what the plan needs and is not packed yet.
    fn pack(&mut self, plan: &Plan) -> Result<()> {
        let needs = needs(plan);
        if self.store.has(&needs) {
            return Ok(());
        }
        if let Some(saved) = &self.saved {
            match saved.keep_weights(&needs, &self.threads) {
                Ok((store, publishing)) => {
                    self.store = store;
                    self.publishing.push(publishing);
                    return Ok(());
                }
                Err(error) if self.streamed => return Err(cannot_stream(saved, error)),
                Err(error) => not_kept(&error),
            }
        }
        if self.store.file().is_some() {
            self.store = Store::default();
        }
        self.store.fill(&needs, &self.threads);
        Ok(())
    }

    fn get_ready(&mut self, shapes: Vec<Vec<usize>>, plan: Plan, is_kept: bool) -> Result<Ready> {
        let ready = catch("the CPU engine", "packing weights", || {
            self.pack(&plan)?;
            let prepared = Prepared::new(&plan, &self.store, &self.threads)?;
            let arena = Arena::new(plan.arena)?;
            Ok(Ready { shapes, plan, prepared, arena })
        })?;
        if let Some(saved) = self.saved.as_ref().filter(|_| !is_kept) {
            saved.keep_plan(&ready.plan, &ready.shapes);
        }
        Ok(ready)
    }

    fn footprint(&self, plan: &Plan, is_ready: bool) -> Footprint {
        let is_packed = self.store.has(&needs(plan));
        let in_file = self.saved.is_some() && (self.store.file().is_some() || !is_packed);
        let in_place = |place: Place| memory(plan, &self.threads, place, is_packed);
        let streamed = in_file.then(|| in_place(Place::Streamed));
        let memory = in_place(Place::Memory);
        let held = match (is_ready, streamed.filter(|_| self.streamed)) {
            (false, _) => self.store.owned(),
            (true, Some(streamed)) => streamed.peak(),
            (true, None) => memory.peak(),
        };
        let outputs = plan.outputs.iter().map(|output| output.view.shape.clone()).collect();
        Footprint { memory, streamed, held, outputs }
    }
}

fn cannot_stream(saved: &Saved, error: std::io::Error) -> Error {
    let message = format!("the weights cannot be put into a file, to be read from there: {error}");
    Error::new(ErrorKind::Memory, message)
        .in_file(saved.folder())
        .advise("give more memory, or a folder with room for the cache")
}

impl Ready {
    fn run(
        &mut self,
        (inputs, outputs): (&[Port], &[Port]),
        given: &[(&str, &Tensor)],
        (threads, cancel): (&Threads, &CancelToken),
        streamed: Option<&Mapped>,
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
        match streamed {
            Some(file) => play::streamed(&self.plan, &mut self.prepared, &mut self.arena, (threads, cancel), file)?,
            None => play::steps(&self.plan, &mut self.prepared, &mut self.arena, (threads, cancel))?,
        }
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
        Ok(match &self.state {
            State::Planned { plan, .. } => Some(self.footprint(plan, false)),
            State::Ready(ready) => Some(self.footprint(&ready.plan, true)),
            State::Idle | State::Fallback(_) => None,
        })
    }

    fn prepare(&mut self, shapes: &[(&str, &[usize])]) -> Result<()> {
        if !matches!(self.state, State::Fallback(_)) {
            let complete = crate::model::complete(&self.inputs, shapes).map_err(|error| error.in_file(&self.file))?;
            self.draw_up(complete).map_err(|error| error.in_file(&self.file))?;
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Planned { shapes, plan, is_kept } => {
                let ready = self.get_ready(shapes, *plan, is_kept).map_err(|error| error.in_file(&self.file))?;
                self.state = State::Ready(Box::new(ready));
            }
            other => self.state = other,
        }
        match &mut self.state {
            State::Fallback(reference) => reference.prepare(shapes),
            _ => Ok(()),
        }
    }

    fn stream(&mut self, streamed: bool) {
        self.streamed = streamed;
    }

    fn heed(&mut self, cancel: &CancelToken) {
        self.cancel = cancel.clone();
    }

    fn account(&self) -> Account {
        let cpu_nodes = match &self.state {
            State::Idle => 0,
            State::Planned { plan, .. } => plan.steps.len(),
            State::Ready(ready) => ready.plan.steps.len(),
            State::Fallback(reference) => {
                let why = format!("{}; an operator of the graph has no step in the CPU engine", self.why);
                return Account { why, ..reference.account() };
            }
        };
        Account { engine: "cpu", cpu_nodes, why: self.why.clone(), ..Account::default() }
    }

    fn run(&mut self, given: &[(&str, &Tensor)]) -> Result<Outputs> {
        let shapes: Vec<_> = given.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        self.prepare(&shapes)?;
        match &mut self.state {
            State::Fallback(reference) => reference.run(given),
            State::Ready(ready) => catch("the CPU engine", "running the plan", || {
                let streamed = self.store.file().filter(|_| self.streamed);
                let way = (&self.threads, &self.cancel);
                ready.run((&self.inputs, &self.outputs), given, way, streamed.map(|file| &**file))
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

/// Packs all weights of a plan in memory, for whoever plays it once.
fn prepare_once(plan: &Plan, threads: &Threads) -> Result<Prepared> {
    catch("the CPU engine", "packing weights", || {
        let mut store = Store::default();
        store.fill(&needs(plan), threads);
        Prepared::new(plan, &store, threads)
    })
}

/// Plays a plan once, for tests of what makes plans.
#[cfg(test)]
pub(crate) fn play_once(plan: Plan, inputs: &[Tensor], threads: &Threads) -> Result<Vec<Tensor>> {
    let mut prepared = prepare_once(&plan, threads)?;
    let mut arena = Arena::new(plan.arena)?;
    for (tensor, &buffer) in inputs.iter().zip(&plan.inputs) {
        if plan.buffers[buffer].first != usize::MAX {
            play::write_input(&mut arena, &plan.buffers[buffer], tensor)?;
        }
    }
    play::steps(&plan, &mut prepared, &mut arena, (threads, &CancelToken::new()))?;
    plan.outputs.iter().map(|operand| play::read_output(&plan, &prepared.fixed, &arena, operand)).collect()
}

#[cfg(test)]
mod tests;
