//! Independent tasks on the engine's threads, each with scratch of its own.

use crate::engine::Threads;
use std::sync::{Mutex, PoisonError};

/// Floats in a cache line: what scratch is aligned to and counted in.
const LINE: usize = 16;

/// Floats that `count` take when they start on a cache line of their own.
pub(crate) fn lines(count: usize) -> usize {
    count.next_multiple_of(LINE)
}

/// Bytes of scratch for `shared` floats and `each` floats for every thread, as [`split`] cuts it.
pub(crate) fn scratch_bytes(shared: usize, each: usize, threads: usize) -> usize {
    (lines(shared) + lines(each) * threads + LINE) * size_of::<f32>()
}

/// What every thread has for itself.
pub(crate) struct Each<'a>(Vec<Mutex<&'a mut [f32]>>);

/// Cuts `scratch` into `shared` floats and `each` floats for every one of `threads`, all on cache lines.
///
/// # Panics
/// When `scratch` is shorter than [`scratch_bytes`] says.
pub(crate) fn split(scratch: &mut [f32], shared: usize, each: usize, threads: usize) -> (&mut [f32], Each<'_>) {
    let needed = scratch_bytes(shared, each, threads) / size_of::<f32>();
    assert!(scratch.len() >= needed, "{} floats of scratch, {needed} needed", scratch.len());
    let skipped = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let (common, rest) = scratch[skipped..].split_at_mut(lines(shared));
    let own = lines(each);
    let mut parts = Vec::with_capacity(threads);
    let mut rest = &mut rest[..own * threads];
    for _ in 0..threads {
        let (part, others) = rest.split_at_mut(own);
        parts.push(Mutex::new(part));
        rest = others;
    }
    (&mut common[..shared], Each(parts))
}

impl Each<'_> {
    /// Runs `task(0)` to `task(count - 1)` in any order; each is given scratch that no other has at the same time.
    pub(crate) fn run(&self, threads: &Threads, count: usize, task: impl Fn(usize, &mut [f32]) + Sync) {
        threads.each(count, &|index| self.one(index, &task));
    }

    /// Runs a task on this thread.
    pub(crate) fn here(&self, index: usize, task: &impl Fn(usize, &mut [f32])) {
        self.one(index, task);
    }

    fn one(&self, index: usize, task: &impl Fn(usize, &mut [f32])) {
        let thread = rayon::current_thread_index().unwrap_or(0) % self.0.len();
        task(index, &mut self.0[thread].lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Runs `task(index, piece)` for every piece, in any order: pieces of an output that are written independently.
pub(crate) fn pieces<T: Send>(threads: &Threads, pieces: Vec<T>, task: impl Fn(usize, T) + Sync) {
    deal(threads, pieces, &task);
}

/// Runs `task(start, piece)` for runs of `length` elements of `output`; `start` is the first's index.
pub(crate) fn runs<T: Send>(threads: &Threads, output: &mut [T], length: usize, task: impl Fn(usize, &mut [T]) + Sync) {
    cut(threads, output, length.max(1), &task);
}

fn deal<T: Send>(threads: &Threads, pieces: Vec<T>, task: &(dyn Fn(usize, T) + Sync)) {
    let pieces: Vec<_> = pieces.into_iter().map(|piece| Mutex::new(Some(piece))).collect();
    threads.each(pieces.len(), &|index| {
        let piece = pieces[index].lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(piece) = piece {
            task(index, piece);
        }
    });
}

fn cut<T: Send>(threads: &Threads, output: &mut [T], length: usize, task: &(dyn Fn(usize, &mut [T]) + Sync)) {
    deal(threads, output.chunks_mut(length).collect(), &|index, piece| task(index * length, piece));
}

/// The part of `0..total` that falls to `index` when `count` share it as evenly as they can.
pub(crate) fn share(total: usize, count: usize, index: usize) -> std::ops::Range<usize> {
    total * index / count..total * (index + 1) / count
}

/// Memory that tasks write, each to places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: the address alone is shared; who writes through it promises that no two tasks touch the same float.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(floats: &mut [f32]) -> Shared {
        Shared(floats.as_mut_ptr())
    }

    /// The float at `offset`.
    ///
    /// # Safety
    /// `offset` lies in the slice that this was made of.
    #[inline(always)]
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}
