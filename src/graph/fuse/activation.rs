//! Activations that exporters spell out.

use super::super::net::{Node, ValueId};
use super::super::op::{Activation, Binary, Op, Unary};
use super::{Rewrite, Site, both};

fn activation(x: ValueId, activation: Activation) -> Option<Rewrite> {
    Some(Rewrite::Node(Op::Unary(Unary::Activation(activation)), vec![Some(x)]))
}

fn is(node: &Node, op: Binary) -> bool {
    node.op == Op::Binary(op)
}

/// `x sigmoid(x)` and `x sigmoid(1.702 x)`.
pub(super) fn silu(site: &Site, node: &Node) -> Option<Rewrite> {
    if !is(node, Binary::Mul) {
        return None;
    }
    both(node).find_map(|(x, gate)| {
        let sigmoid = site.maker(gate).filter(|n| n.op == Op::Unary(Unary::Activation(Activation::Sigmoid)))?;
        let inner = sigmoid.input(0)?;
        if inner == x {
            return activation(x, Activation::Silu);
        }
        let scaled = site.maker(inner).filter(|n| is(n, Binary::Mul))?;
        let (same, factor) = site.with_scalar(scaled)?;
        (same == x && (factor - 1.702).abs() < 1e-4).then(|| activation(x, Activation::QuickGelu)).flatten()
    })
}

/// `x / 2 (1 + erf(x / √2))`, whichever factor comes first.
pub(super) fn gelu(site: &Site, node: &Node) -> Option<Rewrite> {
    product(site, node, &|site, gate, x| {
        let erf = shifted(site, gate).filter(|n| n.op == Op::Unary(Unary::Erf))?;
        let scaled = site.maker(erf.input(0)?)?;
        let (same, number) = site.with_scalar(scaled)?;
        let factor = match scaled.op {
            Op::Binary(Binary::Div) => 1.0 / number,
            Op::Binary(Binary::Mul) => number,
            _ => return None,
        };
        (same == x && (factor - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-4).then_some(())
    })
    .and_then(|x| activation(x, Activation::Gelu))
}

/// `x / 2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
pub(super) fn gelu_tanh(site: &Site, node: &Node) -> Option<Rewrite> {
    product(site, node, &|site, gate, x| {
        let tanh = Op::Unary(Unary::Activation(Activation::Tanh));
        let tanh = shifted(site, gate).filter(|n| n.op == tanh)?;
        let (sum, factor) = site.with_scalar(site.maker(tanh.input(0)?).filter(|n| is(n, Binary::Mul))?)?;
        let sum = site.maker(sum).filter(|n| is(n, Binary::Add))?;
        let cubic = both(sum).find_map(|(a, b)| (a == x).then_some(b))?;
        let (cube, weight) = site.with_scalar(site.maker(cubic).filter(|n| is(n, Binary::Mul))?)?;
        let right = (factor - 0.797_884_6).abs() < 1e-4 && (weight - 0.044715).abs() < 1e-5 && is_cube(site, cube, x);
        right.then_some(())
    })
    .and_then(|x| activation(x, Activation::GeluTanh))
}

fn is_cube(site: &Site, cube: ValueId, x: ValueId) -> bool {
    let Some(node) = site.maker(cube) else { return false };
    match node.op {
        Op::Binary(Binary::Pow) => node.input(0) == Some(x) && node.input(1).is_some_and(|power| site.is(power, 3.0)),
        Op::Binary(Binary::Mul) => both(node).any(|(square, other)| {
            let squared = site.maker(square).filter(|n| is(n, Binary::Mul));
            other == x && squared.is_some_and(|n| n.inputs == [Some(x), Some(x)])
        }),
        _ => false,
    }
}

/// The node under `1 + …`.
fn shifted<'a>(site: &Site<'a>, id: ValueId) -> Option<&'a Node> {
    let add = site.maker(id).filter(|n| is(n, Binary::Add))?;
    let (inner, one) = site.with_scalar(add)?;
    if one == 1.0 { site.maker(inner) } else { None }
}

/// `x`, where `node` is the product of `x`, one half and a value that `gate` accepts, in any order.
fn product(site: &Site, node: &Node, gate: &dyn Fn(&Site, ValueId, ValueId) -> Option<()>) -> Option<ValueId> {
    if !is(node, Binary::Mul) {
        return None;
    }
    // (x · gate) · ½
    if let Some((inner, half)) = site.with_scalar(node) {
        let inner = site.maker(inner).filter(|n| half == 0.5 && is(n, Binary::Mul))?;
        return both(inner).find_map(|(x, g)| gate(site, g, x).map(|()| x));
    }
    both(node).find_map(|(a, b)| {
        let halved = site.maker(a).filter(|n| is(n, Binary::Mul))?;
        let (inner, half) = site.with_scalar(halved)?;
        if half != 0.5 {
            return None;
        }
        // (½ · x) · gate, or x · (½ · gate)
        gate(site, b, inner).map(|()| inner).or_else(|| gate(site, inner, b).map(|()| b))
    })
}
