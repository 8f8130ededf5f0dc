//! The threads that engines share.

use crate::caught::hush_thread;
use crate::error::{Error, ErrorKind, Result};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// A pool of worker threads; clones share it. Results do not depend on how many threads there are.
#[derive(Debug, Clone)]
pub struct Threads {
    pool: Option<Arc<ThreadPool>>,
    count: usize,
}

impl Threads {
    /// `count` threads, or as many as the machine has cores, and no more than the [chosen board](crate::board::choose) has.
    ///
    /// # Errors
    /// `Io` when the operating system grants no more threads.
    pub fn new(count: Option<NonZeroUsize>) -> Result<Threads> {
        let count = count.map_or_else(cores, NonZeroUsize::get);
        let pool = if count > 1 { Some(Arc::new(pool(count)?)) } else { None };
        Ok(Threads { pool, count })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `work` on a thread of the pool, so that what it splits up need not wake the pool each time.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Runs `task(0)` to `task(count - 1)`, in any order. The task is behind a pointer: a pool's machinery is compiled once, not for
    /// each kernel.
    pub(crate) fn each(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        match &self.pool {
            Some(pool) if count > 1 => pool.install(|| (0..count).into_par_iter().with_max_len(1).for_each(task)),
            _ => (0..count).for_each(task),
        }
    }

    /// The pool, `None` for a single thread.
    pub(crate) fn pool(&self) -> Option<&Arc<ThreadPool>> {
        self.pool.as_ref()
    }
}

fn cores() -> usize {
    let here = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let board = crate::board::chosen().and_then(|board| board.cpu?.cores);
    board.map_or(here, |cores| cores.min(here))
}

fn pool(count: usize) -> Result<ThreadPool> {
    let builder = ThreadPoolBuilder::new().num_threads(count).thread_name(|index| format!("undiffuse-{index}"));
    builder.start_handler(|_| hush_thread()).build().map_err(|error| {
        Error::new(ErrorKind::Io, format!("cannot start {count} threads: {error}"))
            .advise("ask for fewer with --threads")
    })
}
