//! Attention.
use super::{Dispatch, Lowering};
use crate::error::{Result, fail};
use crate::graph::plan::Step;
pub(super) fn step(_: &mut Lowering, _: &Step, _: usize, _: f32) -> Result<Dispatch> { fail!(Unsupported, "attention") }
