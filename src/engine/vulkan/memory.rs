//! Memory of a device: the arena of a plan, what is uploaded once, and what the host writes and reads.

use super::device::{Opened, failed};
use super::dispatch::{Layout, Matrix, Upload};
use crate::error::{Result, fail};
use crate::graph::net::Content;
use crate::graph::plan::Plan;
use crate::value::{Data, Tensor};
use half::f16;
use std::sync::Arc;
use vulkano::buffer::{Buffer, BufferCreateInfo, BufferUsage, Subbuffer};
use vulkano::memory::allocator::{AllocationCreateInfo, MemoryTypeFilter, StandardMemoryAllocator};

/// Allocates on an open device.
pub(super) struct Allocator(Arc<StandardMemoryAllocator>);

impl Allocator {
    pub(super) fn new(opened: &Opened) -> Allocator {
        Allocator(Arc::new(StandardMemoryAllocator::new_default(opened.device.clone())))
    }

    /// Words that only the device sees.
    pub(super) fn device(&self, words: usize) -> Result<Subbuffer<[u32]>> {
        let usage = BufferUsage::STORAGE_BUFFER | BufferUsage::TRANSFER_DST | BufferUsage::TRANSFER_SRC;
        self.buffer(words, usage, MemoryTypeFilter::PREFER_DEVICE)
    }

    /// Words that the host writes and reads.
    pub(super) fn host(&self, words: usize) -> Result<Subbuffer<[u32]>> {
        let usage = BufferUsage::TRANSFER_DST | BufferUsage::TRANSFER_SRC;
        self.buffer(words, usage, MemoryTypeFilter::PREFER_HOST | MemoryTypeFilter::HOST_RANDOM_ACCESS)
    }

    fn buffer(&self, words: usize, usage: BufferUsage, memory: MemoryTypeFilter) -> Result<Subbuffer<[u32]>> {
        let create = BufferCreateInfo { usage, ..BufferCreateInfo::default() };
        let allocation = AllocationCreateInfo { memory_type_filter: memory, ..AllocationCreateInfo::default() };
        Buffer::new_slice(self.0.clone(), create, allocation, words.max(4).next_multiple_of(4) as u64)
            .map_err(|error| failed(&format!("allocate {} bytes on the device", words * 4), error))
    }
}

/// The words of something fixed, as `upload` wants them.
///
/// # Errors
/// `Engine` for types that no plan holds.
pub(super) fn words(plan: &Plan, upload: &Upload) -> Result<Vec<u32>> {
    let content = || &plan.fixed[upload.fixed].content;
    match &upload.layout {
        Layout::Table(words) => Ok(words.clone()),
        Layout::Raw => raw(content()),
        Layout::Part { first, count } => part(content(), *first, *count),
        Layout::Matrix(matrix) => {
            let words = matrix.words(&floats(content())?);
            release(content());
            Ok(words)
        }
    }
}

/// Words that it takes.
pub(super) fn count(plan: &Plan, upload: &Upload) -> usize {
    match &upload.layout {
        Layout::Matrix(matrix) => matrix.bytes() / 4,
        Layout::Part { count, .. } => *count,
        Layout::Table(words) => words.len(),
        Layout::Raw => match &plan.fixed[upload.fixed].content {
            Content::Weight(weight, _) => weight.elements(),
            Content::Constant(tensor) => tensor.shape().iter().product(),
            Content::Computed => 0,
        },
    }
}

fn raw(content: &Content) -> Result<Vec<u32>> {
    match content {
        Content::Constant(tensor) => encode(tensor),
        Content::Weight(..) => Ok(floats(content)?.into_iter().map(f32::to_bits).collect()),
        Content::Computed => fail!(Engine, "a computed value is no constant"),
    }
}

fn part(content: &Content, first: usize, count: usize) -> Result<Vec<u32>> {
    if let Content::Weight(weight, _) = content {
        let mut floats = vec![0f32; count];
        weight.widen_part(first, &mut floats);
        return Ok(floats.into_iter().map(f32::to_bits).collect());
    }
    Ok(raw(content)?[first..][..count].to_vec())
}

fn floats(content: &Content) -> Result<Vec<f32>> {
    match content {
        Content::Weight(weight, _) => {
            let mut floats = vec![0f32; weight.elements()];
            weight.widen_into(&mut floats);
            Ok(floats)
        }
        Content::Constant(tensor) => match tensor.as_f32() {
            Some(floats) => Ok(floats.to_vec()),
            None => fail!(Engine, "a matrix of {}", tensor.dtype()),
        },
        Content::Computed => fail!(Engine, "a computed value is no constant"),
    }
}

fn release(content: &Content) {
    if let Content::Weight(weight, _) = content {
        weight.release();
    }
}

/// A tensor in words: integers that an i32 does not hold become its nearest.
pub(super) fn encode(tensor: &Tensor) -> Result<Vec<u32>> {
    let whole = |x: i64| x.clamp(i32::MIN.into(), i32::MAX.into()) as i32 as u32;
    Ok(match tensor.data() {
        Data::F32(values) => values.iter().map(|x| x.to_bits()).collect(),
        Data::F64(values) => values.iter().map(|x| (*x as f32).to_bits()).collect(),
        Data::F16(values) => values.iter().map(|x| x.to_f32().to_bits()).collect(),
        Data::I64(values) => values.iter().map(|x| whole(*x)).collect(),
        Data::I32(values) => values.iter().map(|x| *x as u32).collect(),
        Data::I8(values) => values.iter().map(|x| i32::from(*x) as u32).collect(),
        Data::U8(values) => values.iter().map(|x| u32::from(*x)).collect(),
        Data::Bool(values) => values.iter().map(|x| u32::from(*x)).collect(),
    })
}

impl Matrix {
    fn words(&self, floats: &[f32]) -> Vec<u32> {
        let stride = self.stride();
        let mut rows = Vec::with_capacity(self.groups.0 * self.depth() * stride);
        for group in 0..self.groups.0 {
            for (i, j) in (0..self.segments[0].0).flat_map(|i| (0..self.segments[1].0).map(move |j| (i, j))) {
                for k in 0..self.rows.0 {
                    let first = self.first
                        + group * self.groups.1
                        + i * self.segments[0].1
                        + j * self.segments[1].1
                        + k * self.rows.1;
                    rows.extend((0..self.columns.0).map(|n| floats[first + n * self.columns.1]));
                    rows.resize(rows.len().next_multiple_of(4), 0.0);
                }
            }
        }
        if !self.halves {
            return rows.into_iter().map(f32::to_bits).collect();
        }
        let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
        rows.chunks(2).map(|pair| half(pair[0]) | half(pair[1]) << 16).collect()
    }
}
