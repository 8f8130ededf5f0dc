//! What a plan reads that is known before a run, as slices.

use super::store::{Floats, Store};
use crate::graph::net::Content;
use crate::graph::plan::Fixed;
use crate::value::{Data, Tensor};
use std::sync::{Arc, OnceLock};

/// One of [`Plan::fixed`](crate::graph::plan::Plan::fixed).
pub(super) enum Known {
    /// With truth values as bytes, made when a kernel asks for them.
    Constant(Arc<Tensor>, OnceLock<Vec<u8>>),
    /// In f32 in the order of the file, where kernels read it so.
    Weight(Option<Floats>),
}

impl Known {
    pub(super) fn new(fixed: &Fixed, store: &Store) -> Known {
        match &fixed.content {
            Content::Constant(tensor) => Known::Constant(tensor.clone(), OnceLock::new()),
            Content::Weight(weight, _) => Known::Weight(store.floats(&weight.name)),
            Content::Computed => Known::Weight(None),
        }
    }

    /// The numbers, as the views of operands count them.
    pub(super) fn f32(&self) -> &[f32] {
        match self {
            Known::Constant(tensor, _) => tensor.as_f32().expect("a constant of f32"),
            Known::Weight(floats) => floats.as_deref().expect("a weight that kernels read as numbers"),
        }
    }

    pub(super) fn data(&self) -> &Data {
        match self {
            Known::Constant(tensor, _) => tensor.data(),
            Known::Weight(_) => panic!("a weight is read as something else than f32"),
        }
    }

    /// Truth values as bytes.
    pub(super) fn truths(&self) -> &[u8] {
        match (self, self.data()) {
            (Known::Constant(_, bytes), Data::Bool(values)) => {
                bytes.get_or_init(|| values.iter().map(|value| u8::from(*value)).collect())
            }
            (_, Data::U8(values)) => values,
            _ => panic!("a constant of bytes"),
        }
    }
}
