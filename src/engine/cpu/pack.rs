//! Packs what is fixed, for products and convolutions.

use super::prepare::Kind;
use crate::engine::Threads;
use crate::graph::net::Content;
use crate::model::weights::Weight;
use crate::op::conv::Filters;
use crate::op::matrix::{self, Element, Packed, Storage};
use crate::op::view::View;
use std::borrow::Cow;

/// The matrices that a step of `kind` reads for a weight that it sees through `view`; pages of the file that were read are given back.
pub(super) fn pack(content: &Content, view: &View, kind: &Kind, threads: &Threads) -> Vec<Packed> {
    let packed = match kind {
        Kind::Plain => Vec::new(),
        Kind::Conv { conv, storage, .. } => {
            let raw = Raw::of(content, view);
            Filters::new(*conv, &raw.bytes, raw.element(), *storage, threads).packed().to_vec()
        }
        Kind::Linear { storage, .. } => vec![linear(&Raw::whole(content, view), view, *storage, threads)],
    };
    if let Content::Weight(weight, _) = content {
        weight.release();
    }
    packed
}

fn linear(raw: &Raw, view: &View, storage: Storage, threads: &Threads) -> Packed {
    let [rows, columns] = view.shape[..] else { panic!("a linear layer's weight has two axes") };
    let view = matrix::View {
        bytes: &raw.bytes[view.offset * raw.element().size()..],
        element: raw.element(),
        segments: 1,
        length: rows,
        columns,
        segment_stride: 0,
        stride: view.strides[0],
        column_stride: view.strides[1],
    };
    Packed::new(&view, storage, threads)
}

/// The bytes of something fixed in a type that can be packed.
struct Raw<'a> {
    bytes: Cow<'a, [u8]>,
    stored: Stored,
}

/// How the elements of something fixed are kept before they are packed.
#[derive(Debug, PartialEq)]
pub(super) enum Stored {
    F32,
    F16,
    /// With the scale of every column of the matrix that is made of them.
    Int8(Vec<f32>),
}

impl<'a> Raw<'a> {
    /// As it lies in the file or in memory; `view` is what a kernel sees of it.
    fn whole(content: &'a Content, view: &View) -> Raw<'a> {
        match content {
            Content::Weight(weight, _) if let Some(stored) = packable(weight, view) => {
                Raw { bytes: weight.content().into(), stored }
            }
            _ => Raw { bytes: bytes(&floats(content)).into(), stored: Stored::F32 },
        }
    }

    /// In the order of `view`.
    fn of(content: &'a Content, view: &View) -> Raw<'a> {
        if view.is_dense() && view.offset == 0 {
            return Raw::whole(content, view);
        }
        let floats = floats(content);
        let mut ordered = Vec::with_capacity(view.volume());
        view.each(|at| ordered.push(floats[at]));
        Raw { bytes: bytes(&ordered).into(), stored: Stored::F32 }
    }

    fn element(&self) -> Element<'_> {
        match &self.stored {
            Stored::F32 => Element::F32,
            Stored::F16 => Element::F16,
            Stored::Int8(scales) => Element::Int8(scales),
        }
    }
}

/// How the elements lie in the file, where they can be packed from there for a kernel that sees them through `view`: a matrix, or the dense filters
/// of a convolution.
pub(super) fn packable(weight: &Weight, view: &View) -> Option<Stored> {
    match (weight.element.name(), &weight.scale) {
        ("FLOAT", _) => Some(Stored::F32),
        ("FLOAT16", _) => Some(Stored::F16),
        ("INT8", Some(scale)) if view.offset == 0 => {
            let along = |axis: usize| (view.shape[axis], view.strides[axis]);
            let (rows, columns) = match view.shape.len() {
                0 | 1 => return None,
                2 => (along(0), along(1)),
                _ => ((view.shape[1..].iter().product(), 1), along(0)),
            };
            scale.of_columns(rows, columns).map(Stored::Int8)
        }
        _ => None,
    }
}

fn floats(content: &Content) -> Cow<'_, [f32]> {
    match content {
        Content::Constant(tensor) => tensor.as_f32().expect("a constant of f32").into(),
        Content::Weight(weight, _) => widened(weight).into(),
        Content::Computed => panic!("a computed value is no constant"),
    }
}

/// A weight in f32, in the order of the file.
pub(super) fn widened(weight: &Weight) -> Vec<f32> {
    let mut floats = vec![0f32; weight.elements()];
    weight.widen_into(&mut floats);
    weight.release();
    floats
}

/// As they lie in memory.
pub(super) fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}
