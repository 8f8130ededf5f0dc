//! Pictures.
use super::{Dispatch, Lowering};
use crate::error::{Result, fail};
use crate::graph::op::{Pool, Resize};
use crate::graph::plan::Step;
pub(super) fn resize(_: &mut Lowering, _: &Step, _: &Resize) -> Result<Dispatch> { fail!(Unsupported, "resize") }
pub(super) fn pool(_: &mut Lowering, _: &Step, _: &Pool) -> Result<Dispatch> { fail!(Unsupported, "pool") }
