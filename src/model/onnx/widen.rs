//! Turns a graph of 16-bit floats into one of f32, before tract reads it: 16-bit arithmetic is emulated on most CPUs and slow.
//!
//! Everything that names the type is rewritten: inputs, outputs, declared values, constants inside nodes, the targets of `Cast`. A Cast of
//! an f16 constant to f32, as exporters write for small files, thereby becomes a Cast of f32 to f32, which tract drops.

use super::check::{node_name, value_types};
use super::element::Element;
use crate::error::Result;
use crate::model::weights::{DataFiles, Weight};
use std::path::Path;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

/// Attributes that hold an element type.
const TYPES: [&str; 3] = ["to", "dtype", "output_dtype"];

/// Widens `graph`, which stands in `file`; constants inside nodes are loaded and checked on the way.
///
/// # Errors
/// Those of [`Weight::take`], naming the node.
pub(super) fn graph(file: &Path, graph: &mut GraphProto) -> Result<()> {
    value_types(&graph.value_info)?;
    for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        declared(value);
    }
    // Of the outer graph these are gone already: only bodies of `If` and `Loop` have some left.
    graph.initializer.iter_mut().try_for_each(|tensor| content(file, tensor))?;
    graph.node.iter_mut().try_for_each(|node| inside(file, node))
}

fn declared(value: &mut ValueInfoProto) {
    if let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut()) {
        tensor.elem_type = widened(tensor.elem_type);
    }
}

fn widened(data_type: i32) -> i32 {
    Element::of(data_type).map_or(data_type, |element| element.computed() as i32)
}

fn inside(file: &Path, node: &mut NodeProto) -> Result<()> {
    let name = node_name(node).to_owned();
    node.attribute
        .iter_mut()
        .try_for_each(|attribute| attribute_of(file, attribute))
        .map_err(|error| error.in_node(name))
}

fn attribute_of(file: &Path, attribute: &mut AttributeProto) -> Result<()> {
    if TYPES.contains(&attribute.name.as_str()) {
        attribute.i = i64::from(widened(i32::try_from(attribute.i).unwrap_or(0)));
    }
    attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(|tensor| content(file, tensor))?;
    attribute.g.iter_mut().chain(&mut attribute.graphs).try_for_each(|inner| graph(file, inner))
}

fn content(file: &Path, tensor: &mut TensorProto) -> Result<()> {
    *tensor = Weight::take(file, tensor, None, &mut DataFiles::default())?.to_proto()?;
    Ok(())
}
