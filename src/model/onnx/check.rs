//! Checks of a decoded graph, before tract sees it: operator set, operators, wiring, sizes.

use super::element::Element;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::model::weights::{DataFiles, MOST_ELEMENTS, Weight};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::RangeInclusive;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};

/// Versions of ONNX's operator set whose meaning is known here.
pub(crate) const OPSETS: RangeInclusive<i64> = 9..=27;

/// An operator that cannot run, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Its type, with the domain where that is not ONNX's own: `com.microsoft.SkipLayerNormalization`.
    pub op: String,
    /// Names of its nodes.
    pub nodes: Vec<String>,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.op, self.nodes.join(", "))
    }
}

/// The version of ONNX's own operator set.
///
/// # Errors
/// `Unsupported` outside of [`OPSETS`], `Malformed` where the file names none.
pub(super) fn opset(model: &ModelProto) -> Result<i64> {
    if model.graph.is_none() {
        return Err(super::no_graph());
    }
    let own = model.opset_import.iter().find(|set| is_own(&set.domain));
    let Some(version) = own.map(|set| set.version) else {
        return fail!(Malformed, "the file does not say which operator set it was written for");
    };
    if OPSETS.contains(&version) {
        return Ok(version);
    }
    let (first, last) = (OPSETS.start(), OPSETS.end());
    fail!(Unsupported, "is written for operator set {version}; {first} to {last} are known")
        .map_err(|error: Error| error.advise(format!("export it again with opset_version={}", version.clamp(14, 18))))
}

pub(super) fn is_own(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// The name that messages use for a node: its own, else its first output, else its operator.
pub(super) fn node_name(node: &NodeProto) -> &str {
    let output = node.output.first().map(String::as_str).unwrap_or_default();
    [node.name.as_str(), output, node.op_type.as_str()].into_iter().find(|name| !name.is_empty()).unwrap_or("?")
}

/// The type of a node with its domain, where that is not ONNX's own.
pub(super) fn op_name(node: &NodeProto) -> String {
    if is_own(&node.domain) { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) }
}

/// Calls `visit` with each node of `graph` and of the graphs inside its nodes (`If`, `Loop`, `Scan`).
pub(super) fn each_node<'a>(graph: &'a GraphProto, visit: &mut dyn FnMut(&'a NodeProto)) {
    for node in &graph.node {
        visit(node);
        for attribute in &node.attribute {
            attribute.g.iter().chain(&attribute.graphs).for_each(|inner| each_node(inner, visit));
        }
    }
}

/// Every operator that tract has no builder for, in the order of their names.
pub(super) fn unsupported(model: &ModelProto) -> Vec<Unsupported> {
    let known = tract_onnx::onnx().op_register.0;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let local: HashSet<&str> = model.functions.iter().filter_map(|function| function.name.as_deref()).collect();
    let runs = |node: &NodeProto| {
        let own = is_own(&node.domain) || node.domain == "ai.onnx.ml";
        own && known.contains_key(&node.op_type) && !local.contains(node.op_type.as_str())
    };
    if let Some(graph) = &model.graph {
        each_node(graph, &mut |node| {
            if !runs(node) {
                found.entry(op_name(node)).or_default().push(node_name(node).to_owned());
            }
        });
    }
    found.into_iter().map(|(op, nodes)| Unsupported { op, nodes }).collect()
}

/// Refuses a graph with operators that cannot run, listing all of them.
pub(super) fn refuse(unsupported: &[Unsupported]) -> Result<()> {
    if unsupported.is_empty() {
        return Ok(());
    }
    let list = unsupported.iter().map(Unsupported::to_string).collect::<Vec<_>>().join("; ");
    fail!(Unsupported, "{} unsupported operator(s): {list}", unsupported.len())
}

/// Every value is made once, before it is read, and every output is made; `constants` are the names of the outer graph's initialisers.
///
/// # Errors
/// `Malformed` naming the node and the value; `Unsupported` for sparse initialisers.
pub(super) fn wiring<'a>(graph: &'a GraphProto, constants: impl Iterator<Item = &'a str>) -> Result<()> {
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map(|values| values.name.clone()).unwrap_or_default();
        return Err(Error::new(ErrorKind::Unsupported, "sparse initialisers are not supported").in_field(name));
    }
    if graph.output.is_empty() {
        return fail!(Malformed, "the graph has no outputs");
    }
    scope(graph, &constants.collect())
}

fn scope<'a>(graph: &'a GraphProto, outer: &HashSet<&'a str>) -> Result<()> {
    let mut made = outer.clone();
    made.extend(graph.input.iter().map(|input| input.name.as_str()));
    made.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    for node in &graph.node {
        step(node, &mut made).map_err(|error| error.in_node(node_name(node)))?;
    }
    match graph.output.iter().find(|output| !made.contains(output.name.as_str())) {
        Some(output) => {
            Err(Error::new(ErrorKind::Malformed, "no node makes this output of the graph").in_field(&output.name))
        }
        None => Ok(()),
    }
}

fn step<'a>(node: &'a NodeProto, made: &mut HashSet<&'a str>) -> Result<()> {
    if let Some(missing) = node.input.iter().find(|input| !input.is_empty() && !made.contains(input.as_str())) {
        return fail!(Malformed, "reads \"{missing}\", which nothing before it makes");
    }
    for attribute in &node.attribute {
        attribute.g.iter().chain(&attribute.graphs).try_for_each(|inner| scope(inner, made))?;
    }
    let mut outputs = node.output.iter().filter(|output| !output.is_empty());
    match outputs.find(|output| !made.insert(output.as_str())) {
        Some(twice) => fail!(Malformed, "makes \"{twice}\", which is made already"),
        None => Ok(()),
    }
}

/// Element types of every intermediate value that the file declares.
///
/// # Errors
/// `Unsupported` for strings and other types that are no numbers.
pub(super) fn value_types(values: &[ValueInfoProto]) -> Result<()> {
    for value in values {
        if let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|kind| kind.value.as_ref())
            && tensor.elem_type != 0
        {
            Element::of(tensor.elem_type).map_err(|error| error.in_field(&value.name))?;
        }
    }
    Ok(())
}

/// Constant arguments that make values out of nothing must not make absurd ones: tract would evaluate them while it reads the graph.
///
/// # Errors
/// `Malformed` naming the node.
pub(super) fn volumes(graph: &GraphProto, weights: &[Weight]) -> Result<()> {
    let constants: HashMap<&str, &Weight> = weights.iter().map(|weight| (weight.name.as_str(), weight)).collect();
    let mut inner = HashMap::new();
    each_node(graph, &mut |node| {
        if node.op_type == "Constant"
            && let (Some(name), Some(values)) = (node.output.first(), constant(node))
        {
            inner.insert(name.as_str(), values);
        }
    });
    let mut outcome = Ok(());
    each_node(graph, &mut |node| {
        let values = |index: usize| {
            let name = node.input.get(index)?.as_str();
            inner.get(name).cloned().or_else(|| constants.get(name)?.integers())
        };
        if outcome.is_ok() {
            outcome = volume(node, values).map_err(|error| error.in_node(node_name(node)));
        }
    });
    outcome
}

fn constant(node: &NodeProto) -> Option<Vec<i64>> {
    let attribute = node.attribute.first()?;
    match attribute.name.as_str() {
        "value" => {
            let (onnx, files) = (std::path::Path::new(""), &mut DataFiles::default());
            Weight::take(onnx, &mut attribute.t.clone()?, None, files).ok()?.integers()
        }
        "value_int" => Some(vec![attribute.i]),
        "value_ints" => Some(attribute.ints.clone()),
        _ => None,
    }
}

fn volume(node: &NodeProto, values: impl Fn(usize) -> Option<Vec<i64>>) -> Result<()> {
    let most = MOST_ELEMENTS as i64;
    let sane = |lengths: &[i64]| {
        let volume =
            lengths.iter().try_fold(1i64, |product, &length| product.checked_mul(length.checked_abs()?.max(1)));
        volume.is_some_and(|volume| volume <= most)
    };
    let sizes = match node.op_type.as_str() {
        "ConstantOfShape" => values(0),
        "Expand" | "Tile" | "OneHot" => values(1),
        "Pad" => values(1).map(|pads| pads.into_iter().max().into_iter().collect()),
        "Resize" => values(3),
        "Range" => span(&values),
        _ => None,
    };
    match sizes.filter(|sizes| !sane(sizes)) {
        Some(sizes) => {
            fail!(Malformed, "{} asks for absurd dimensions {sizes:?}: more than {most} elements", node.op_type)
        }
        None => Ok(()),
    }
}

/// Number of values of a `Range` with constant arguments.
fn span(values: &impl Fn(usize) -> Option<Vec<i64>>) -> Option<Vec<i64>> {
    let first = |index| values(index).and_then(|values| values.first().copied());
    let (start, limit, delta) = (first(0)?, first(1)?, first(2)?);
    let span = i128::from(limit) - i128::from(start);
    let count = span.checked_div(delta.into()).unwrap_or(0).max(0);
    Some(vec![i64::try_from(count).unwrap_or(i64::MAX)])
}
