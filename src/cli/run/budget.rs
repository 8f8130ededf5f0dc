//! A budget of memory for one graph.

use crate::engine::{Engine, Footprint};
use crate::error::{Error, ErrorKind, Result};
use crate::system;

/// Code and small things that are touched by a run for the first time.
const RUNNING: u64 = 2 << 20;

/// Largest resident set that is to be expected for inputs of `shapes`, `None` where it is not known; tells `engine` to stream its weights where
/// the budget is not kept otherwise.
///
/// # Errors
/// `Memory` when the budget cannot be kept, or cannot be known to be kept; those of planning.
pub fn keep(engine: &mut dyn Engine, shapes: &[(&str, &[usize])], budget: Option<u64>) -> Result<Option<u64>> {
    let planned = engine.plan(shapes)?;
    let base = |planned: &Footprint| Some(system::rss_bytes()?.saturating_sub(planned.held as u64) + RUNNING);
    let Some((base, planned)) = planned.and_then(|planned| Some((base(&planned)?, planned))) else {
        return if budget.is_some() { Err(unknown()) } else { Ok(None) };
    };
    let peak = base + planned.memory.peak() as u64;
    let Some(budget) = budget.filter(|budget| peak > *budget) else { return Ok(Some(peak)) };
    let least = base + planned.streamed.unwrap_or(planned.memory).peak() as u64;
    if least > budget {
        return Err(too_much(least, budget, planned.streamed.is_some()));
    }
    engine.stream(true);
    Ok(Some(least))
}

fn unknown() -> Error {
    let message = "the memory budget cannot be promised: what the graph takes is not known on this engine or system";
    Error::new(ErrorKind::Memory, message).advise("leave --memory-budget out")
}

fn too_much(least: u64, budget: u64, streamed: bool) -> Error {
    let [least, budget] = [least, budget].map(|bytes| bytes.div_ceil(1_000_000));
    let how = if streamed { " with weights read from their file" } else { "" };
    let cache = if streamed { "" } else { ", or a cache folder to read the weights from" };
    Error::new(ErrorKind::Memory, format!("the graph takes {least} MB at least{how}, the budget is {budget} MB"))
        .advise(format!("give {least} MB or more{cache}, or smaller inputs"))
}
