//! Attributes of an ONNX node.

use tract_onnx::pb::{AttributeProto, NodeProto};

/// Reads a node's attributes by name.
pub(crate) struct Attributes<'a>(pub(crate) &'a NodeProto);

impl<'a> Attributes<'a> {
    fn find(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// An integer.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.find(name).map(|attribute| attribute.i)
    }

    /// A number.
    pub(crate) fn float(&self, name: &str) -> Option<f32> {
        self.find(name).map(|attribute| attribute.f)
    }

    /// Integers.
    pub(crate) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.find(name).map(|attribute| &attribute.ints[..])
    }

    /// Integers that must not be negative.
    pub(crate) fn lengths(&self, name: &str) -> Option<Vec<usize>> {
        self.ints(name)?.iter().map(|&value| usize::try_from(value).ok()).collect()
    }

    /// A word.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.find(name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok())
    }
}
