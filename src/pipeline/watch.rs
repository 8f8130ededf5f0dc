//! Who listens to a run.

use super::{Event, StepDone};
use crate::cancel::CancelToken;
use crate::error::{Result, fail};
use std::ops::ControlFlow;
use std::time::Duration;

/// Passes events on, and ends the run when it is told to.
pub(super) struct Watch<F> {
    cancel: CancelToken,
    on_event: F,
    /// How long each step took.
    pub steps: Vec<Duration>,
}

impl<F: FnMut(Event<'_>) -> ControlFlow<()>> Watch<F> {
    pub fn new(cancel: CancelToken, on_event: F) -> Self {
        Self { cancel, on_event, steps: vec![] }
    }

    /// # Errors
    /// `Cancelled`, as that of [`Watch::step`].
    pub fn stage(&mut self, name: &str) -> Result<()> {
        self.tell(Event::Stage(name))
    }

    /// # Errors
    /// `Cancelled` when the listener or the token says so.
    pub fn step(&mut self, step: StepDone<'_>) -> Result<()> {
        self.steps.push(step.time);
        log::info!("step {} of {}: {:.1?}", step.index + 1, step.of, step.time);
        self.tell(Event::Step(step))
    }

    fn tell(&mut self, event: Event<'_>) -> Result<()> {
        if (self.on_event)(event).is_break() || self.cancel.is_cancelled() {
            return fail!(Cancelled, "stopped after {} steps", self.steps.len());
        }
        Ok(())
    }
}
