//! GEGLU and SwiGLU (Shazeer 2020): one half of a value times the activation of the other.

use super::super::net::Node;
use super::super::op::{Binary, Op, Unary};
use super::{Rewrite, Site, both};

pub(super) fn rule(site: &Site, node: &Node) -> Option<Rewrite> {
    both(node).filter(|_| node.op == Op::Binary(Binary::Mul)).find_map(|(plain, gate)| {
        let gate = site.only(gate)?;
        let Op::Unary(Unary::Activation(activation)) = gate.op else { return None };
        let (x, at) = half(site, plain)?;
        let (same, gate_at) = half(site, gate.input(0)?)?;
        let halves = x == same && at != gate_at;
        halves.then(|| Rewrite::Node(Op::Gated { activation, gate_last: gate_at == 1 }, vec![Some(x)]))
    })
}

/// What a value is the first (0) or second (1) half of, along the last axis.
fn half(site: &Site, id: usize) -> Option<(usize, usize)> {
    let slice = site.maker(id)?;
    let Op::Slice { axis, start, step: 1 } = slice.op else { return None };
    let x = slice.input(0)?;
    let (whole, part) = (site.shape(x), site.shape(id));
    let last = axis + 1 == whole.len() && whole[axis] == 2 * part[axis];
    match start {
        0 if last => Some((x, 0)),
        _ if last && start == part[axis] => Some((x, 1)),
        _ => None,
    }
}
