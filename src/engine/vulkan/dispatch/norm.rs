//! Norms.
use super::{Dispatch, Lowering};
use crate::error::{Result, fail};
use crate::graph::op::Activation;
use crate::graph::plan::Step;
pub(super) fn group(_: &mut Lowering, _: &Step, _: usize, _: f32, _: Activation) -> Result<Dispatch> { fail!(Unsupported, "group") }
pub(super) fn row(_: &mut Lowering, _: &Step, _: f32, _: bool) -> Result<Dispatch> { fail!(Unsupported, "row") }
