//! Gathers.
use super::{Dispatch, Lowering};
use crate::error::{Result, fail};
use crate::graph::plan::Step;
pub(super) fn gather(_: &mut Lowering, _: &Step, _: usize) -> Result<Vec<Dispatch>> { fail!(Unsupported, "gather") }
pub(super) fn gather_nd(_: &mut Lowering, _: &Step) -> Result<Dispatch> { fail!(Unsupported, "gather_nd") }
