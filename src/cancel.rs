//! A flag that one thread raises and a running graph or pipeline reads.

use crate::error::{Result, fail};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a run to stop. Clones share one flag, so a signal handler or another thread may keep one.
///
/// The run looks at it between stages, after every denoising step, and inside of a graph between the steps of a plan on the CPU, between
/// submissions on a Vulkan device; it then ends with [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled). A token stays cancelled until [`reset`](Self::reset).
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    pub fn new() -> Self {
        Self::default()
    }

    /// Safe to call from a signal handler's thread, any number of times.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// # Errors
    /// `Cancelled` when it is.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return fail!(Cancelled, "stopped while a graph was run");
        }
        Ok(())
    }

    /// Makes the token usable for another run.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Release);
    }
}
