//! The Vulkan engine: plays the same plan as the CPU engine, with compute shaders.

mod chain;
mod compiled;
mod context;
mod device;
mod dispatch;
mod hazard;
mod limits;
mod memory;
mod narrow;
mod planned;
mod profile;
mod program;
mod ready;
mod record;
mod shader;
mod submissions;
#[cfg(test)]
mod tests;

use super::account::ASKED;
use super::{Account, Cache, CancelToken, Engine, Footprint, Memory, Outputs, Precision};
use crate::caught::catch;
use crate::error::{Error, Result, fail};
use crate::graph::plan::Plan;
use crate::graph::{self, place};
use crate::model::{Graph, Port};
use crate::value::{DType, Tensor};
use context::Context;
pub use context::choose_device;
pub(super) use context::{pick, wanted};
pub use device::Identity;
use dispatch::element;
pub use limits::Limits;
pub use planned::{DispatchInfo, PipelineInfo, VulkanPlanned, plan_vulkan, vulkan_limits};
pub(super) use profile::profile;
use program::{Counts, Program};
use ready::Ready;
use std::sync::Arc;

/// A graph on a Vulkan device.
pub(crate) struct Vulkan {
    graph: Graph,
    precision: Precision,
    cache: Option<Cache>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    context: Arc<Context>,
    cancel: CancelToken,
    state: State,
}

enum State {
    Idle,
    Planned { shapes: Vec<Vec<usize>>, plan: Box<Plan>, program: Program },
    Ready { shapes: Vec<Vec<usize>>, ready: Box<Ready>, memory: Memory, outputs: Vec<Vec<usize>>, counts: Counts },
}

impl Vulkan {
    /// What the driver compiles is kept in `cache`.
    ///
    /// # Errors
    /// `Unsupported` when there is no device.
    pub(crate) fn new(graph: Graph, precision: Precision, cache: Option<&Cache>) -> Result<Vulkan> {
        let context = Context::shared(cache)?;
        let (inputs, outputs) = (graph.inputs().to_vec(), graph.outputs().to_vec());
        let (cache, cancel) = (cache.cloned(), CancelToken::new());
        Ok(Vulkan { graph, precision, cache, inputs, outputs, context, cancel, state: State::Idle })
    }

    /// How floats are stored on the device.
    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// The device that it is on.
    pub(super) fn identity(&self) -> &Identity {
        &self.context.opened.identity
    }

    fn draw_up(&mut self, shapes: Vec<Vec<usize>>) -> Result<()> {
        match &self.state {
            State::Ready { shapes: own, .. } | State::Planned { shapes: own, .. } if *own == shapes => return Ok(()),
            _ => self.state = State::Idle,
        }
        let (plan, _) = graph::build(&self.graph, &shapes)?;
        let limits = self.context.opened.limits;
        let precision = self.precision;
        let (plan, program) = catch("the Vulkan engine", "planning", || programmed(plan, &limits, precision))?;
        let (all, tiled) = program.flops();
        log::debug!(
            "{}: {} steps as {} dispatches, {tiled} of {all} flops in tiles",
            self.graph.file().display(),
            plan.steps.len(),
            program.dispatches.len()
        );
        self.state = State::Planned { shapes, plan: Box::new(plan), program };
        Ok(())
    }

    fn in_file(&self, error: Error) -> Error {
        error.in_file(self.graph.file())
    }
}

/// A device that Vulkan offers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeviceInfo {
    /// The driver's name of it.
    pub name: String,
    /// What kind of device it is: `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu`, `Other`.
    pub kind: String,
    /// The driver and its version.
    pub driver: String,
    /// What tells it from others, and its driver from other versions of it.
    pub identity: Identity,
    /// What the planner may use of it.
    pub limits: Limits,
}

/// What tells them from each other, in the order of [`devices`].
///
/// # Errors
/// Those of [`devices`].
pub(super) fn identities() -> Result<Vec<Identity>> {
    Ok(device::Machine::find()?.devices()?.into_iter().map(|device| device.identity).collect())
}

/// The devices that compute, in the order in which they are numbered: GPUs first, those of type CPU last.
///
/// # Errors
/// `Unsupported` where there is no Vulkan.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    let found = device::Machine::find()?.devices()?;
    let info = |device: device::Found| {
        let kind = format!("{:?}", device.kind);
        DeviceInfo { name: device.name, kind, driver: device.driver, identity: device.identity, limits: device.limits }
    };
    Ok(found.into_iter().map(info).collect())
}

/// A plan whose elements take four bytes, or two where `precision` lets floats lie as halves, placed as the device aligns, and its dispatches.
fn programmed(mut plan: Plan, limits: &Limits, precision: Precision) -> Result<(Plan, Program)> {
    if let Some((limit, own, least)) = limits.lacking() {
        return fail!(Unsupported, "{limit} is {own}, and Vulkan promises {least} of every device");
    }
    narrow::narrow(&mut plan, limits.buffers as usize);
    chain::join(&mut plan, limits);
    laid_out(plan, limits, precision)
}

/// As it is: steps are neither split nor joined, and whether the device keeps Vulkan's promises is not asked.
fn laid_out(mut plan: Plan, limits: &Limits, precision: Precision) -> Result<(Plan, Program)> {
    for buffer in &mut plan.buffers {
        buffer.dtype = if element(buffer.dtype) == "i32" { DType::I32 } else { DType::F32 };
    }
    if precision == Precision::F16 {
        for index in Program::new(&plan, limits, precision)?.paired(&plan) {
            plan.buffers[index].dtype = DType::F16;
        }
    }
    place::place_aligned(&mut plan, (limits.alignment as usize).max(64));
    place::check(&plan)?;
    let program = Program::new(&plan, limits, precision)?;
    if let Some(buffer) = plan.buffers.iter().find(|buffer| buffer.bytes() as u64 > limits.range) {
        return fail!(Unsupported, "a value of {} bytes, the device binds {}", buffer.bytes(), limits.range)
            .map_err(|error: Error| error.advise("ask for a smaller picture, or for a decoder in tiles"));
    }
    Ok((plan, program))
}

/// A run's inputs in the graph's order and types.
fn given(ports: &[Port], inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
    let of = |port: &Port| match inputs.iter().find(|(name, _)| *name == port.name) {
        Some((_, tensor)) if tensor.dtype() == port.dtype => Ok((*tensor).clone()),
        Some((_, tensor)) => port.convert((*tensor).clone()),
        None => fail!(Mismatch, "the input is not given").map_err(|error: Error| error.in_field(&port.name)),
    };
    ports.iter().map(of).collect()
}

fn memory_of(plan: &Plan, program: &Program) -> Memory {
    let weights = program.uploads.iter().map(|upload| memory::count(plan, upload) * 4).sum();
    Memory { weights, arena: plan.arena, ..Memory::default() }
}

fn shapes_of(plan: &Plan) -> Vec<Vec<usize>> {
    plan.outputs.iter().map(|output| output.view.shape.clone()).collect()
}

impl Engine for Vulkan {
    fn name(&self) -> &'static str {
        "vulkan"
    }

    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn plan(&mut self, shapes: &[(&str, &[usize])]) -> Result<Option<Footprint>> {
        let shapes = self.graph.shapes(shapes)?;
        self.draw_up(shapes).map_err(|error| self.in_file(error))?;
        Ok(match &self.state {
            State::Idle => None,
            State::Planned { plan, program, .. } => {
                Some(Footprint { memory: memory_of(plan, program), streamed: None, held: 0, outputs: shapes_of(plan) })
            }
            State::Ready { memory, outputs, .. } => {
                let held = memory.weights + memory.arena;
                Some(Footprint { memory: *memory, streamed: None, held, outputs: outputs.clone() })
            }
        })
    }

    fn prepare(&mut self, shapes: &[(&str, &[usize])]) -> Result<()> {
        self.plan(shapes)?;
        if matches!(self.state, State::Ready { .. }) {
            return Ok(());
        }
        let State::Planned { shapes, plan, program } = std::mem::replace(&mut self.state, State::Idle) else {
            return Ok(());
        };
        let (memory, outputs, counts) = (memory_of(&plan, &program), shapes_of(&plan), program.counts());
        let context = self.context.clone();
        let ready = catch("the Vulkan engine", "uploading weights", || Ready::new(context, *plan, &program))
            .map_err(|error| self.in_file(error))?;
        self.context.compiled.keep(self.cache.as_ref());
        self.state = State::Ready { shapes, ready: Box::new(ready), memory, outputs, counts };
        Ok(())
    }

    /// Weights lie on the device.
    fn stream(&mut self, _: bool) {}

    fn heed(&mut self, cancel: &CancelToken) {
        self.cancel = cancel.clone();
    }

    fn account(&self) -> Account {
        let Counts { dispatches, variants } = match &self.state {
            State::Idle => Counts::default(),
            State::Planned { program, .. } => program.counts(),
            State::Ready { counts, .. } => counts.clone(),
        };
        let device = Some(self.context.opened.name.clone());
        let precision = Some(self.precision.name());
        Account {
            engine: self.name(),
            device,
            precision,
            dispatches,
            variants,
            why: ASKED.into(),
            ..Account::default()
        }
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Outputs> {
        let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        self.prepare(&shapes)?;
        let given = given(&self.inputs, inputs)?;
        let State::Ready { ready, .. } = &mut self.state else { return fail!(Engine, "the graph was not prepared") };
        let tensors = catch("the Vulkan engine", "running the plan", || {
            ready.run(&given.iter().collect::<Vec<_>>(), &self.cancel)
        })
        .map_err(|error| error.in_file(self.graph.file()))?;
        let named = self.outputs.iter().zip(tensors).map(|(port, tensor)| {
            (port.name.clone(), if tensor.dtype() == port.dtype { tensor } else { tensor.cast(port.dtype) })
        });
        Ok(Outputs::new(named.collect()))
    }
}
