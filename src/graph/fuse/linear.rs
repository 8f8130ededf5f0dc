//! Products with a weight, and what is added to them.

use super::super::net::Node;
use super::super::op::{Activation, Binary, Op, Unary};
use super::{Rewrite, Site, both, computed, free_from, with_input};

/// `x (…, K)` times a fixed `(K, N)`.
pub(super) fn rule(site: &Site, node: &Node) -> Option<Rewrite> {
    let (x, weight) = (node.input(0)?, node.input(1)?);
    let product = node.op == Op::MatMul && site.net.is_fixed(weight) && computed(site, x);
    let shapes = site.shape(weight).len() == 2 && site.shape(x).len() >= 2;
    (product && shapes).then(|| Rewrite::Node(Op::Linear(Activation::None), vec![Some(x), Some(weight)]))
}

pub(super) fn bias(site: &Site, node: &Node) -> Option<Rewrite> {
    let width = *site.shape(node.output).last()?;
    both(node).filter(|_| node.op == Op::Binary(Binary::Add)).find_map(|(product, bias)| {
        let linear = site.only(product).filter(|n| n.op == Op::Linear(Activation::None) && free_from(n, 2))?;
        let fits = site.is_vector(bias, 0, width) && site.shape(product) == site.shape(node.output);
        fits.then(|| with_input(&linear.inputs, 2, bias))
            .flatten()
            .map(|inputs| Rewrite::Node(linear.op.clone(), inputs))
    })
}

pub(super) fn activated(site: &Site, node: &Node) -> Option<Rewrite> {
    let Op::Unary(Unary::Activation(activation)) = node.op else { return None };
    let linear = site.only(node.input(0)?)?;
    let plain = linear.op == Op::Linear(Activation::None) && free_from(linear, 3);
    plain.then(|| Rewrite::Node(Op::Linear(activation), linear.inputs.clone()))
}

pub(super) fn residual(site: &Site, node: &Node) -> Option<Rewrite> {
    both(node).filter(|_| node.op == Op::Binary(Binary::Add)).find_map(|(product, other)| {
        let linear = site.only(product).filter(|n| matches!(n.op, Op::Linear(_)) && free_from(n, 3))?;
        let alike = site.shape(other) == site.shape(product) && computed(site, other);
        alike
            .then(|| with_input(&linear.inputs, 3, other))
            .flatten()
            .map(|inputs| Rewrite::Node(linear.op.clone(), inputs))
    })
}
