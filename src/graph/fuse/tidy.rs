//! What exporters leave behind: arithmetic with neutral constants, reshapes of reshapes, transposes of transposes.

use super::super::net::Node;
use super::super::op::{Binary, Op};
use super::{Rewrite, Site};

pub(super) fn rule(site: &Site, node: &Node) -> Option<Rewrite> {
    let x = node.input(0)?;
    match &node.op {
        Op::Binary(op) => neutral(site, node, *op),
        Op::Reshape | Op::Expand if site.shape(x) == site.shape(node.output) => Some(Rewrite::Alias(x)),
        Op::Reshape => {
            let before = site.maker(x).filter(|before| before.op == Op::Reshape)?;
            Some(Rewrite::Node(Op::Reshape, before.inputs.clone()))
        }
        Op::Transpose(axes) if axes.iter().enumerate().all(|(place, axis)| place == *axis) => Some(Rewrite::Alias(x)),
        Op::Transpose(axes) => {
            let before = site.maker(x)?;
            let Op::Transpose(first) = &before.op else { return None };
            let joined = axes.iter().map(|&axis| first[axis]).collect();
            Some(Rewrite::Node(Op::Transpose(joined), before.inputs.clone()))
        }
        _ => None,
    }
}

fn neutral(site: &Site, node: &Node, op: Binary) -> Option<Rewrite> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let shape = site.shape(node.output);
    let same = |x: usize, constant: usize, neutral: f32| {
        site.shape(x) == shape && site.net.values[x].dtype.is_float() && site.scalar(constant) == Some(neutral)
    };
    match op {
        Binary::Add if same(a, b, 0.0) => Some(Rewrite::Alias(a)),
        Binary::Add if same(b, a, 0.0) => Some(Rewrite::Alias(b)),
        Binary::Sub if same(a, b, 0.0) => Some(Rewrite::Alias(a)),
        Binary::Mul if same(a, b, 1.0) => Some(Rewrite::Alias(a)),
        Binary::Mul if same(b, a, 1.0) => Some(Rewrite::Alias(b)),
        Binary::Div if same(a, b, 1.0) => Some(Rewrite::Alias(a)),
        _ => None,
    }
}
