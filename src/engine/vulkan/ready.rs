//! A program on a device: weights uploaded, commands recorded.

use super::context::Context;
use super::device::failed;
use super::dispatch::{Dispatch, Slot, Upload};
use super::hazard::{Access, barriers, unguarded};
use super::memory::{self, encode};
use super::program::Program;
use super::record::{Commands, Launch, Move, Recorder};
use super::submissions::Part;
use crate::engine::CancelToken;
use crate::error::{Result, fail};
use crate::graph::plan::{At, Operand, Plan};
use crate::value::{DType, Data, Tensor};
use std::sync::Arc;
use std::time::Duration;
use vulkano::buffer::Subbuffer;
use vulkano::descriptor_set::{DescriptorSet, WriteDescriptorSet};
use vulkano::pipeline::Pipeline;

/// After so long a submission counts as lost.
const PATIENCE: Duration = Duration::from_secs(300);
/// Words of the buffer through which weights go.
const STAGED: usize = 1 << 22;
/// Words of one allocation for weights, unless one weight alone takes more.
const CHUNK: usize = 1 << 26;

pub(super) struct Ready {
    plan: Plan,
    recorder: Recorder,
    commands: Vec<Commands>,
    /// What the host writes and reads.
    shared: Subbuffer<[u32]>,
    io: Io,
    _context: Arc<Context>,
}

/// Where in the shared words everything lies.
struct Io {
    inputs: Vec<Option<usize>>,
    /// Of buffers that outputs are read from, with the buffer.
    outputs: Vec<(usize, usize)>,
    /// Four words: 1 in the first when a shader met a bad index.
    faults: usize,
    /// Four words that stay 0.
    zeros: usize,
    words: usize,
}

impl Io {
    fn new(plan: &Plan) -> Io {
        let mut io = Io { inputs: Vec::new(), outputs: Vec::new(), faults: 0, zeros: 4, words: 8 };
        for &buffer in &plan.inputs {
            let used = plan.buffers[buffer].first != usize::MAX && plan.buffers[buffer].elements > 0;
            io.inputs.push(used.then_some(io.words));
            io.words += plan.buffers[buffer].elements.next_multiple_of(4);
        }
        for output in &plan.outputs {
            if let At::Buffer(buffer) = output.at
                && io.outputs.iter().all(|(other, _)| *other != buffer)
                && plan.buffers[buffer].elements > 0
            {
                io.outputs.push((buffer, io.words));
                io.words += plan.buffers[buffer].elements.next_multiple_of(4);
            }
        }
        io
    }
}

/// What the slots of a program are on a device.
struct Places<'a> {
    plan: &'a Plan,
    arena: Subbuffer<[u32]>,
    uploads: Vec<Subbuffer<[u32]>>,
    faults: Subbuffer<[u32]>,
}

impl Places<'_> {
    fn of(&self, slot: Slot) -> Subbuffer<[u32]> {
        match slot {
            Slot::Buffer(index) => self.buffer(index),
            Slot::Upload(index) => self.uploads[index].clone(),
            Slot::Faults => self.faults.clone(),
        }
    }

    /// Whole vectors of four words.
    fn buffer(&self, index: usize) -> Subbuffer<[u32]> {
        let buffer = &self.plan.buffers[index];
        let first = buffer.offset / 4;
        let words = buffer.bytes().max(1).next_multiple_of(16) / 4;
        self.arena.clone().slice(first as u64..(first + words) as u64)
    }
}

impl Ready {
    /// # Errors
    /// `Engine` when the device has not the memory, or a shader does not compile.
    pub(super) fn new(context: Arc<Context>, plan: Plan, program: &Program) -> Result<Ready> {
        let recorder = Recorder::new(&context.opened)?;
        Ready::recorded(context, recorder, plan, program)
    }

    /// The same, with a clock: see [`Ready::times`].
    ///
    /// # Errors
    /// Those of [`Ready::new`], `Unsupported` when the device has no clock.
    pub(super) fn timed(context: Arc<Context>, plan: Plan, program: &Program) -> Result<Ready> {
        let mut recorder = Recorder::new(&context.opened)?;
        recorder.keep_time()?;
        Ready::recorded(context, recorder, plan, program)
    }

    /// How long each launch took in the last run, in the order of [`Program::submissions`].
    ///
    /// # Errors
    /// `Engine` when the device does not tell.
    pub(super) fn times(&self) -> Result<Vec<Duration>> {
        let parts = self.commands.iter().map(|commands| self.recorder.times(commands));
        Ok(parts.collect::<Result<Vec<_>>>()?.concat())
    }

    fn recorded(context: Arc<Context>, recorder: Recorder, plan: Plan, program: &Program) -> Result<Ready> {
        let io = Io::new(&plan);
        let shared = context.allocator.host(io.words)?;
        shared.write().map_err(|error| failed("write to the device", error))?.fill(0);
        let mut ready = Ready { plan, recorder, commands: Vec::new(), shared, io, _context: context.clone() };
        let places = Places {
            plan: &ready.plan,
            arena: context.allocator.device(ready.plan.arena / 4 + 4)?,
            uploads: upload(&context, &mut ready.recorder, &ready.plan, &program.uploads)?,
            faults: context.allocator.device(4)?,
        };
        ready.commands = record(&context, &ready, &places, program)?;
        Ok(ready)
    }

    /// # Errors
    /// `Engine` when the device fails, `Mismatch` when an index points outside of its axis, `Cancelled` between submissions, when `cancel` says so.
    pub(super) fn run(&mut self, inputs: &[&Tensor], cancel: &CancelToken) -> Result<Vec<Tensor>> {
        {
            let mut shared = self.shared.write().map_err(|error| failed("write to the device", error))?;
            for (tensor, at) in inputs.iter().zip(&self.io.inputs) {
                if let Some(at) = at {
                    let words = encode(within(tensor)?)?;
                    shared[*at..][..words.len()].copy_from_slice(&words);
                }
            }
        }
        for commands in &mut self.commands {
            cancel.check()?;
            self.recorder.run(commands, PATIENCE)?;
        }
        let shared = self.shared.read().map_err(|error| failed("read from the device", error))?;
        if shared[self.io.faults] != 0 {
            return fail!(Mismatch, "an index lies outside of its axis, or a whole number is divided by zero");
        }
        self.plan.outputs.iter().map(|output| self.output(&shared, output)).collect()
    }

    fn output(&self, shared: &[u32], operand: &Operand) -> Result<Tensor> {
        let constant;
        let words = match operand.at {
            At::Buffer(buffer) => {
                let place = self.io.outputs.iter().find(|(other, _)| *other == buffer);
                place.map_or(&[][..], |(_, at)| &shared[*at..])
            }
            At::Fixed(fixed) => {
                constant = memory::words(&self.plan, &Upload { fixed, layout: super::dispatch::Layout::Raw })?;
                &constant
            }
        };
        let mut seen = Vec::with_capacity(operand.view.volume());
        operand.view.each(|at| seen.push(words[at]));
        Tensor::new(&operand.view.shape, decode(&seen, operand.dtype))
    }
}

/// A run's input, whose integers an i32 must hold.
fn within(tensor: &Tensor) -> Result<&Tensor> {
    if let Data::I64(values) = tensor.data()
        && let Some(value) = values.iter().find(|value| i32::try_from(**value).is_err())
    {
        return fail!(Mismatch, "{value} is more than an integer on the device holds");
    }
    Ok(tensor)
}

fn decode(words: &[u32], dtype: DType) -> Data {
    let real = |x: &u32| f32::from_bits(*x);
    match dtype {
        DType::F32 | DType::F16 => words.iter().map(real).collect::<Vec<f32>>().into(),
        DType::F64 => words.iter().map(|x| f64::from(real(x))).collect::<Vec<f64>>().into(),
        DType::I64 => words.iter().map(|x| i64::from(*x as i32)).collect::<Vec<i64>>().into(),
        DType::I32 => words.iter().map(|x| *x as i32).collect::<Vec<i32>>().into(),
        DType::I8 => words.iter().map(|x| *x as i8).collect::<Vec<i8>>().into(),
        DType::U8 => words.iter().map(|x| *x as u8).collect::<Vec<u8>>().into(),
        DType::Bool => Data::Bool(words.iter().map(|x| *x != 0).collect()),
    }
}

/// Places for all uploads, filled through a buffer that the host writes.
fn upload(
    context: &Context,
    recorder: &mut Recorder,
    plan: &Plan,
    uploads: &[Upload],
) -> Result<Vec<Subbuffer<[u32]>>> {
    let align = (context.opened.limits.alignment as usize / 4).max(4);
    let sizes: Vec<usize> =
        uploads.iter().map(|upload| memory::count(plan, upload).max(1).next_multiple_of(align)).collect();
    let staged = context.allocator.host(STAGED.min(sizes.iter().copied().max().unwrap_or(4)))?;
    let mut places: Vec<Subbuffer<[u32]>> = Vec::new();
    let (mut chunk, mut used): (Option<Subbuffer<[u32]>>, usize) = (None, 0);
    for (index, upload) in uploads.iter().enumerate() {
        let size = sizes[index];
        let room = chunk.take().filter(|buffer: &Subbuffer<[u32]>| buffer.len() >= (used + size) as u64);
        let buffer = match room {
            Some(buffer) => buffer,
            None => {
                used = 0;
                context.allocator.device(chunk_words(&sizes[index..]))?
            }
        };
        let place = buffer.clone().slice(used as u64..(used + size) as u64);
        used += size;
        chunk = Some(buffer);
        fill(recorder, &staged, &place, &memory::words(plan, upload)?)?;
        places.push(place);
    }
    Ok(places)
}

/// Words of the next allocation: as many of `sizes` as are together no more than [`CHUNK`], one at least.
fn chunk_words(sizes: &[usize]) -> usize {
    let mut words = 0;
    for &size in sizes {
        if words > 0 && words + size > CHUNK {
            break;
        }
        words += size;
    }
    words
}

fn fill(recorder: &mut Recorder, staged: &Subbuffer<[u32]>, place: &Subbuffer<[u32]>, words: &[u32]) -> Result<()> {
    let mut at = 0;
    for part in words.chunks(staged.len() as usize) {
        staged.write().map_err(|error| failed("write to the device", error))?[..part.len()].copy_from_slice(part);
        let from = staged.clone().slice(..part.len() as u64);
        let to = place.clone().slice(at..at + part.len() as u64);
        at += part.len() as u64;
        let mut commands = recorder.record(vec![Move { from, to }], Vec::new(), Vec::new())?;
        recorder.run(&mut commands, PATIENCE)?;
    }
    Ok(())
}

/// All dispatches, cut into submissions; inputs come with the first, outputs go with the last.
fn record(context: &Context, ready: &Ready, places: &Places, program: &Program) -> Result<Vec<Commands>> {
    let accesses: Vec<Access> = program.dispatches.iter().map(|dispatch| access(&ready.plan, dispatch)).collect();
    let waits = barriers(&accesses);
    if let Some((earlier, later)) = unguarded(&accesses, &waits) {
        return fail!(Engine, "dispatch {later} does not wait for {earlier}");
    }
    let part = |at: usize, words: usize| ready.shared.clone().slice(at as u64..(at + words) as u64);
    let mut before = vec![Move { from: part(ready.io.zeros, 4), to: places.faults.clone() }];
    for (&buffer, at) in ready.plan.inputs.iter().zip(&ready.io.inputs) {
        if let Some(at) = at {
            let to = places.buffer(buffer);
            before.push(Move { from: part(*at, to.len() as usize), to });
        }
    }
    let mut after = vec![Move { from: places.faults.clone(), to: part(ready.io.faults, 4) }];
    for &(buffer, at) in &ready.io.outputs {
        let from = places.buffer(buffer);
        after.push(Move { to: part(at, from.len() as usize), from });
    }
    let cut = program.submissions();
    let last = cut.len() - 1;
    let mut all = Vec::with_capacity(cut.len());
    for (index, parts) in cut.iter().enumerate() {
        let launches = parts
            .iter()
            .map(|part| launch(context, places, &program.dispatches[part.dispatch], part, waits[part.dispatch]));
        let moves = std::mem::take(&mut before);
        let after = if index == last { std::mem::take(&mut after) } else { Vec::new() };
        all.push(ready.recorder.record(moves, launches.collect::<Result<_>>()?, after)?);
    }
    Ok(all)
}

fn launch(context: &Context, places: &Places, dispatch: &Dispatch, part: &Part, waits: bool) -> Result<Launch> {
    let pipeline = context.pipeline(dispatch)?;
    let writes = dispatch.bindings.iter().enumerate();
    let writes = writes.map(|(index, binding)| WriteDescriptorSet::buffer(index as u32, places.of(binding.slot)));
    let layout = pipeline.layout().set_layouts()[0].clone();
    let set = DescriptorSet::new(context.sets.clone(), layout, writes, [])
        .map_err(|error| failed("bind buffers", error).in_field(dispatch.shader.source.name))?;
    let mut push = [0; 32];
    push[..dispatch.push.len()].copy_from_slice(&dispatch.push);
    if dispatch.cut.is_some() {
        push[dispatch.push.len() - 1] = part.first;
    }
    Ok(Launch { pipeline, set, push, groups: part.groups, waits: waits && part.first == 0 })
}

/// What a dispatch touches of the arena.
pub(super) fn access(plan: &Plan, dispatch: &Dispatch) -> Access {
    let mut access = Access::default();
    for binding in &dispatch.bindings {
        if let Slot::Buffer(index) = binding.slot {
            let buffer = &plan.buffers[index];
            let bytes = buffer.offset..buffer.offset + buffer.bytes();
            if binding.writes { access.writes.push(bytes) } else { access.reads.push(bytes) }
        }
    }
    access
}
