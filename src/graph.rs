//! The build line between model and engine: load -> **fuse -> lower -> place** -> play.
//!
//! [`import`] turns a checked ONNX graph into a [`net::Net`]: ONNX's operators with concrete shapes, everything constant folded away; shapes,
//! types and folded values are tract's. [`fuse`] joins operators, rule by rule. [`lower`] turns the net into steps on strided
//! [views](crate::op::view::View) of buffers, [`place`] gives the buffers their offsets in one arena. What comes out is a [`plan::Plan`]: plain data, which
//! any engine can play.

pub(crate) mod attributes;
pub(crate) mod cost;
pub(crate) mod fuse;
pub(crate) mod import;
pub(crate) mod lower;
pub(crate) mod net;
pub(crate) mod op;
pub(crate) mod place;
pub(crate) mod plan;

use crate::caught::catch;
use crate::error::Result;
use crate::model::Graph;

/// How often each fusion rule matched, by its name.
pub(crate) type Matches = Vec<(&'static str, usize)>;

/// The whole build line: the plan of `graph` for inputs of `shapes` (in the order of [`Graph::inputs`]), and what was fused on the way.
///
/// # Errors
/// Those of [`import::import`], above all `Unsupported` with every node that has no step.
pub(crate) fn build(graph: &Graph, shapes: &[Vec<usize>]) -> Result<(plan::Plan, Matches)> {
    catch("the planner", "planning the graph", || planned(graph, shapes))
}

fn planned(graph: &Graph, shapes: &[Vec<usize>]) -> Result<(plan::Plan, Matches)> {
    let mut net = import::import(graph, shapes)?;
    let matches = fuse::fuse(&mut net, |_| true);
    let mut plan = lower::lower(&net);
    place::place(&mut plan);
    place::check(&plan)?;
    Ok((plan, matches))
}
