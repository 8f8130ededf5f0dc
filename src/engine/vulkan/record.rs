//! Commands recorded once and submitted as often as wanted.
//!
//! vulkano submits only command buffers that track resources and place barriers of their own; a plan knows its hazards better. So these are
//! recorded raw. Premises, on which every `unsafe` here rests:
//! * what commands name (pipelines, descriptor sets, buffers) is kept in [`Commands`] as long as they are, and for good where
//!   they were not waited for to the end;
//! * indices stay inside of what is bound: `graph/place.rs` checks every view against its buffer, tests check the shaders;
//! * between commands that touch the same bytes there is a barrier: `hazard.rs` places and proves them;
//! * they are submitted to one queue, by one thread at a time (`&mut`), and waited for before the host touches anything.
#![allow(unsafe_code)]

use super::device::{Opened, failed};
use crate::error::{Result, fail};
use ash::vk;
use std::sync::Arc;
use std::time::Duration;
use vulkano::VulkanObject;
use vulkano::buffer::Subbuffer;
use vulkano::command_buffer::allocator::{CommandBufferAllocator, StandardCommandBufferAllocator};
use vulkano::command_buffer::{
    BufferCopy, CommandBuffer, CommandBufferBeginInfo, CommandBufferLevel, CommandBufferUsage, CopyBufferInfo,
    RecordingCommandBuffer,
};
use vulkano::descriptor_set::DescriptorSet;
use vulkano::device::DeviceOwned;
use vulkano::pipeline::{ComputePipeline, Pipeline, PipelineBindPoint};
use vulkano::query::{QueryPool, QueryPoolCreateInfo, QueryResultFlags, QueryType};
use vulkano::sync::fence::{Fence, FenceCreateInfo};
use vulkano::sync::{AccessFlags, DependencyInfo, MemoryBarrier, PipelineStage, PipelineStages};

/// A dispatch with everything that it names.
pub(super) struct Launch {
    pub(super) pipeline: Arc<ComputePipeline>,
    pub(super) set: Arc<DescriptorSet>,
    pub(super) push: [u32; 32],
    pub(super) groups: [u32; 3],
    pub(super) waits: bool,
}

/// So many words from one place to another.
pub(super) struct Move {
    pub(super) from: Subbuffer<[u32]>,
    pub(super) to: Subbuffer<[u32]>,
}

/// Recorded commands, and what they name.
pub(super) struct Commands(Arc<Recorded>);

struct Recorded {
    buffer: CommandBuffer,
    _launches: Vec<Launch>,
    _moves: Vec<Move>,
    /// Read before the first launch and behind each.
    clock: Option<Arc<QueryPool>>,
}

/// Records and submits to the queue of one device.
pub(super) struct Recorder {
    allocator: Arc<dyn CommandBufferAllocator>,
    queue: Arc<vulkano::device::Queue>,
    fence: Arc<Fence>,
    /// Nanoseconds of a tick, where launches are timed.
    tick: Option<f32>,
}

impl Recorder {
    pub(super) fn new(opened: &Opened) -> Result<Recorder> {
        let allocator = Arc::new(StandardCommandBufferAllocator::new(opened.device.clone(), Default::default()));
        let fence = Fence::new(opened.device.clone(), FenceCreateInfo::default())
            .map_err(|error| failed("make a fence", error))?;
        Ok(Recorder { allocator, queue: opened.queue.clone(), fence: Arc::new(fence), tick: None })
    }

    /// From now on launches are recorded with the device's clock, each waiting for the one before.
    ///
    /// # Errors
    /// `Unsupported` when the device has no clock.
    pub(super) fn keep_time(&mut self) -> Result<()> {
        let physical = self.queue.device().physical_device();
        let family = &physical.queue_family_properties()[self.queue.queue_family_index() as usize];
        if family.timestamp_valid_bits.is_none() {
            return fail!(Unsupported, "{} has no clock for its queue", physical.properties().device_name);
        }
        self.tick = Some(physical.properties().timestamp_period);
        Ok(())
    }

    fn clock(&self, launches: usize) -> Result<Option<Arc<QueryPool>>> {
        if self.tick.is_none() || launches == 0 {
            return Ok(None);
        }
        let create = QueryPoolCreateInfo {
            query_count: launches as u32 + 1,
            ..QueryPoolCreateInfo::query_type(QueryType::Timestamp)
        };
        QueryPool::new(self.queue.device().clone(), create).map(Some).map_err(|error| failed("make a clock", error))
    }

    /// How long each launch took in the last run of `commands`; nothing where they are not timed.
    ///
    /// # Errors
    /// `Engine` when the device does not tell.
    pub(super) fn times(&self, commands: &Commands) -> Result<Vec<Duration>> {
        let (Some(clock), Some(tick)) = (&commands.0.clock, self.tick) else { return Ok(Vec::new()) };
        let mut read = vec![0u64; clock.query_count() as usize];
        clock
            .get_results(0..clock.query_count(), &mut read, QueryResultFlags::WAIT)
            .map_err(|error| failed("read the clock", error))?;
        let taken =
            |pair: &[u64]| Duration::from_nanos((pair[1].saturating_sub(pair[0]) as f64 * f64::from(tick)) as u64);
        Ok(read.windows(2).map(taken).collect())
    }

    /// `before`, then `launches`, then `after`, each waiting for the one before and the first for all that was submitted earlier.
    pub(super) fn record(&self, before: Vec<Move>, launches: Vec<Launch>, after: Vec<Move>) -> Result<Commands> {
        let wrong = |error| failed("record commands", error);
        let begin = CommandBufferBeginInfo { usage: CommandBufferUsage::MultipleSubmit, ..Default::default() };
        let family = self.queue.queue_family_index();
        let clock = self.clock(launches.len())?;
        let mut commands =
            RecordingCommandBuffer::new(self.allocator.clone(), family, CommandBufferLevel::Primary, begin)
                .map_err(wrong)?;
        // SAFETY: see the premises above.
        unsafe {
            wait(&mut commands, Stage::All, Stage::Transfer);
            before.iter().for_each(|each| copy(&mut commands, each));
            wait(&mut commands, Stage::Transfer, Stage::Compute);
            if let Some(clock) = &clock {
                commands.reset_query_pool_unchecked(clock, 0..clock.query_count());
                commands.write_timestamp_unchecked(clock, 0, PipelineStage::BottomOfPipe);
            }
            for (index, each) in launches.iter().enumerate() {
                launch(&mut commands, each, clock.is_some());
                if let Some(clock) = &clock {
                    commands.write_timestamp_unchecked(clock, index as u32 + 1, PipelineStage::BottomOfPipe);
                }
            }
            wait(&mut commands, Stage::Compute, Stage::Transfer);
            after.iter().for_each(|each| copy(&mut commands, each));
            wait(&mut commands, Stage::Transfer, Stage::Host);
            let buffer = commands.end().map_err(|error| failed("record commands", error))?;
            let moves = before.into_iter().chain(after).collect();
            Ok(Commands(Arc::new(Recorded { buffer, _launches: launches, _moves: moves, clock })))
        }
    }

    /// Submits and waits until all is done.
    ///
    /// # Errors
    /// `Engine` when the device is lost, out of memory, or not done after `patience`.
    pub(super) fn run(&mut self, commands: &mut Commands, patience: Duration) -> Result<()> {
        let buffers = [commands.0.buffer.handle()];
        let submit = vk::SubmitInfo::default().command_buffers(&buffers);
        let device = self.queue.device();
        // SAFETY: the queue is held by the guard, the fence is not in use: it was waited for and reset after the last run.
        let result = self.queue.with(|_guard| unsafe {
            (device.fns().v1_0.queue_submit)(self.queue.handle(), 1, &raw const submit, self.fence.handle())
        });
        result.result().map_err(|error| failed("submit to the device", error))?;
        self.fence.wait(Some(patience)).map_err(|error| {
            // The device may be at it yet: what it uses is not given back any more.
            std::mem::forget((commands.0.clone(), self.fence.clone(), self.allocator.clone()));
            failed("wait for the device", error)
        })?;
        // SAFETY: nothing is pending on a fence that was waited for.
        unsafe { self.fence.reset() }.map_err(|error| failed("use the fence again", error))
    }
}

#[derive(Clone, Copy)]
enum Stage {
    All,
    Host,
    Transfer,
    Compute,
}

impl Stage {
    fn flags(self) -> (PipelineStages, AccessFlags) {
        match self {
            Stage::All => (PipelineStages::ALL_COMMANDS, AccessFlags::MEMORY_READ | AccessFlags::MEMORY_WRITE),
            Stage::Host => (PipelineStages::HOST, AccessFlags::HOST_READ | AccessFlags::HOST_WRITE),
            Stage::Transfer => (PipelineStages::ALL_TRANSFER, AccessFlags::TRANSFER_READ | AccessFlags::TRANSFER_WRITE),
            Stage::Compute => (PipelineStages::COMPUTE_SHADER, AccessFlags::SHADER_READ | AccessFlags::SHADER_WRITE),
        }
    }
}

unsafe fn wait(commands: &mut RecordingCommandBuffer, from: Stage, to: Stage) {
    let ((src_stages, src_access), (dst_stages, dst_access)) = (from.flags(), to.flags());
    let barrier = MemoryBarrier { src_stages, src_access, dst_stages, dst_access, ..MemoryBarrier::default() };
    let info = DependencyInfo { memory_barriers: [barrier].into_iter().collect(), ..DependencyInfo::default() };
    unsafe { commands.pipeline_barrier_unchecked(&info) };
}

unsafe fn copy(commands: &mut RecordingCommandBuffer, each: &Move) {
    let info = CopyBufferInfo {
        regions: [BufferCopy { size: each.from.size().min(each.to.size()), ..BufferCopy::default() }]
            .into_iter()
            .collect(),
        ..CopyBufferInfo::buffers(each.from.clone(), each.to.clone())
    };
    unsafe { commands.copy_buffer_unchecked(&info) };
}

unsafe fn launch(commands: &mut RecordingCommandBuffer, each: &Launch, alone: bool) {
    unsafe {
        if each.waits || alone {
            wait(commands, Stage::Compute, Stage::Compute);
        }
        commands.bind_pipeline_compute_unchecked(&each.pipeline);
        let layout = each.pipeline.layout();
        commands.bind_descriptor_sets_unchecked(PipelineBindPoint::Compute, layout, 0, &[each.set.as_raw()], &[]);
        commands.push_constants_unchecked(layout, 0, &each.push);
        commands.dispatch_unchecked(each.groups);
    }
}
