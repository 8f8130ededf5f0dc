//! Channels of picture-like inputs where the file leaves them open: the convolution that reads them knows.

use crate::model::port::{Dim, Port};
use crate::model::weights::Weight;
use std::collections::HashMap;
use tract_onnx::pb::{GraphProto, NodeProto};

/// Fixes axis 1 of each four-axis input that a convolution with constant weights reads. (diffusers' own ONNX script declares it symbolic.)
pub(super) fn settle(graph: &GraphProto, weights: &[Weight], inputs: &mut [Port]) {
    let shapes: HashMap<&str, &[usize]> =
        weights.iter().map(|weight| (weight.name.as_str(), &weight.shape[..])).collect();
    let makers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node))).collect();
    for port in inputs.iter_mut().filter(|port| port.rank() == Some(4) && port.fixed(1).is_none()) {
        let reader = graph.node.iter().find(|node| node.op_type == "Conv" && node.input.first() == Some(&port.name));
        let channels = reader.and_then(|node| taken(node, &shapes, &makers));
        if let (Some(channels), Some(dims)) = (channels, port.shape.as_mut()) {
            dims[1] = Dim::Fixed(channels);
        }
    }
}

fn taken(conv: &NodeProto, shapes: &HashMap<&str, &[usize]>, makers: &HashMap<&str, &NodeProto>) -> Option<usize> {
    let groups = conv.attribute.iter().find(|attribute| attribute.name == "group").map_or(1, |attribute| attribute.i);
    let kernel = constant(conv.input.get(1)?, shapes, makers)?;
    kernel.get(1)?.checked_mul(usize::try_from(groups).ok()?).filter(|&channels| channels > 0)
}

/// The shape of a constant, also through the Cast or Identity that exporters put behind some.
fn constant<'a>(
    name: &str,
    shapes: &HashMap<&str, &'a [usize]>,
    makers: &HashMap<&str, &NodeProto>,
) -> Option<&'a [usize]> {
    if let Some(shape) = shapes.get(name) {
        return Some(shape);
    }
    let node = makers.get(name).filter(|node| matches!(node.op_type.as_str(), "Cast" | "Identity"))?;
    node.input.first().and_then(|inner| shapes.get(inner.as_str()).copied())
}
