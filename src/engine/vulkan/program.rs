//! [`Program`]: a plan as dispatches within a device's limits. Plain data, made and checked without a device.

use super::dispatch::{Dispatch, Lowering, Upload, steps};
use super::limits::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::plan::Plan;

/// What is recorded once and replayed.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) dispatches: Vec<Dispatch>,
    /// The first dispatch of each step, and the number of all.
    pub(super) starts: Vec<usize>,
    pub(super) uploads: Vec<Upload>,
}

impl Program {
    /// # Errors
    /// `Unsupported` that lists every step which no shader computes within `limits`.
    pub(super) fn new(plan: &Plan, limits: &Limits) -> Result<Program> {
        let mut lowering = Lowering { plan, limits, uploads: Vec::new() };
        let (mut dispatches, mut starts, mut missing) = (Vec::new(), vec![0], Vec::new());
        for step in &plan.steps {
            match steps(&mut lowering, step) {
                Ok(made) => dispatches.extend(made),
                Err(error) => missing.push(error.in_node(&step.name).to_string()),
            }
            starts.push(dispatches.len());
        }
        if missing.is_empty() {
            return Ok(Program { dispatches, starts, uploads: lowering.uploads });
        }
        Err(Error::new(ErrorKind::Unsupported, format!("no shader for {}", missing.join("; "))))
    }
}
