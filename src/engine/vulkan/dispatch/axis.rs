//! Steps along axes: reductions, softmax, gated halves.
use super::{Dispatch, Lowering};
use crate::error::{Result, fail};
use crate::graph::op::{Activation, Reduce};
use crate::graph::plan::Step;
pub(super) fn gated(_: &mut Lowering, _: &Step, _: Activation, _: bool) -> Result<Dispatch> { fail!(Unsupported, "gated") }
pub(super) fn reduce(_: &mut Lowering, _: &Step, _: Reduce, _: &[usize]) -> Result<Dispatch> { fail!(Unsupported, "reduce") }
pub(super) fn arg_max(_: &mut Lowering, _: &Step, _: usize, _: bool) -> Result<Dispatch> { fail!(Unsupported, "argmax") }
pub(super) fn softmax(_: &mut Lowering, _: &Step, _: usize) -> Result<Dispatch> { fail!(Unsupported, "softmax") }
