//! What a plan reads that is known before a run, as slices.

use crate::graph::net::Content;
use crate::graph::plan::Fixed;
use crate::model::weights::Weight;
use crate::value::{Data, Tensor};
use std::sync::{Arc, OnceLock};

/// One of [`Plan::fixed`](crate::graph::plan::Plan::fixed).
pub(super) struct Known {
    content: Content,
    /// A weight in f32 in the order of the file, or truth values as bytes; made when a kernel asks for it.
    floats: OnceLock<Vec<f32>>,
    bytes: OnceLock<Vec<u8>>,
}

impl Known {
    pub(super) fn new(fixed: &Fixed) -> Known {
        Known { content: fixed.content.clone(), floats: OnceLock::new(), bytes: OnceLock::new() }
    }

    pub(super) fn weight(&self) -> Option<&Arc<Weight>> {
        match &self.content {
            Content::Weight(weight, _) => Some(weight),
            _ => None,
        }
    }

    fn tensor(&self) -> &Tensor {
        match &self.content {
            Content::Constant(tensor) => tensor,
            _ => panic!("a weight is read as something else than numbers"),
        }
    }

    /// The numbers, as the views of operands count them.
    pub(super) fn f32(&self) -> &[f32] {
        match &self.content {
            Content::Constant(tensor) => tensor.as_f32().expect("a constant of f32"),
            Content::Weight(weight, _) => self.floats.get_or_init(|| floats(weight)),
            Content::Computed => panic!("a computed value is no constant"),
        }
    }

    pub(super) fn data(&self) -> &Data {
        self.tensor().data()
    }

    /// Truth values as bytes.
    pub(super) fn truths(&self) -> &[u8] {
        match self.data() {
            Data::Bool(values) => self.bytes.get_or_init(|| values.iter().map(|value| u8::from(*value)).collect()),
            Data::U8(values) => values,
            _ => panic!("a constant of bytes"),
        }
    }
}

/// A weight in f32.
fn floats(weight: &Weight) -> Vec<f32> {
    let mut floats = vec![0f32; weight.elements()];
    weight.widen_into(&mut floats);
    weight.release();
    floats
}
