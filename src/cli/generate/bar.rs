//! The progress bar: on a terminal only.

use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressStyle};

use crate::pipeline::Event;

/// Draws on standard error where that is a terminal, nothing elsewhere.
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:12} {bar:30} {pos}/{len} {elapsed}");
        Self(ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    pub fn show(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Stage(name) => self.0.set_message(name.to_owned()),
            Event::Step(step) => {
                self.0.set_length(step.of as u64);
                self.0.set_position(step.index as u64 + 1);
            }
        }
        ControlFlow::Continue(())
    }

    pub fn finish(self) {
        self.0.finish_and_clear();
    }
}
