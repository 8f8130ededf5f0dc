//! Norms that exporters spell out, what is multiplied and added to them, and the activation behind.

use super::super::net::{Node, ValueId};
use super::super::op::{Activation, Binary, Op, Reduce, Unary};
use super::{Rewrite, Site, both, free_from};

/// Reshape, instance norm over the groups, reshape back.
pub(super) fn group(site: &Site, node: &Node) -> Option<Rewrite> {
    if node.op != Op::Reshape {
        return None;
    }
    let norm = site.only(node.input(0)?)?;
    let (groups, epsilon) = plain(site, norm)?;
    let before = site.maker(norm.input(0)?).filter(|n| n.op == Op::Reshape)?;
    let (x, shape) = (before.input(0)?, site.shape(node.output));
    let [n, g, ..] = *site.shape(norm.output) else { return None };
    // Groups of channels only if the first axis stays what it is.
    let by_channel = shape.len() >= 2 && n == shape[0] && g == groups && shape[1] % groups == 0;
    let op = Op::GroupNorm { groups, epsilon, activation: Activation::None };
    (by_channel && site.shape(x) == shape).then(|| Rewrite::Node(op, vec![Some(x)]))
}

/// Times gamma, plus beta.
pub(super) fn affine(site: &Site, node: &Node) -> Option<Rewrite> {
    if node.op != Op::Binary(Binary::Add) {
        return None;
    }
    let channels = *site.shape(node.output).get(1)?;
    let behind = site.shape(node.output).len() - 2;
    both(node).find_map(|(product, beta)| {
        let mul = site.only(product).filter(|n| n.op == Op::Binary(Binary::Mul))?;
        both(mul).find_map(|(normed, gamma)| {
            let vectors = [gamma, beta].iter().all(|id| site.is_vector(*id, behind, channels));
            let norm = site.only(normed).filter(|_| vectors)?;
            let (groups, epsilon) = plain(site, norm)?;
            let fits = site.shape(norm.output) == site.shape(node.output);
            let op = Op::GroupNorm { groups, epsilon, activation: Activation::None };
            fits.then(|| Rewrite::Node(op, vec![norm.input(0), Some(gamma), Some(beta)]))
        })
    })
}

/// Groups and epsilon of a group norm without gamma, beta and activation.
fn plain(site: &Site, norm: &Node) -> Option<(usize, f32)> {
    let Op::GroupNorm { groups, epsilon, activation: Activation::None } = norm.op else { return None };
    let gamma = norm.input(1).is_none_or(|gamma| site.is(gamma, 1.0));
    let beta = norm.input(2).is_none_or(|beta| site.scalar(beta) == Some(0.0));
    (gamma && beta && free_from(norm, 3)).then_some((groups, epsilon))
}

/// `norm (1 + scale) + shift` with a scale and a shift a channel: adaptive norms.
pub(super) fn modulated(site: &Site, node: &Node) -> Option<Rewrite> {
    if node.op != Op::Binary(Binary::Add) {
        return None;
    }
    let shape = site.shape(node.output);
    both(node).find_map(|(product, shift)| {
        let mul = site.only(product).filter(|n| n.op == Op::Binary(Binary::Mul))?;
        both(mul).find_map(|(normed, factor)| {
            let norm = site.only(normed).filter(|n| free_from(n, 3) && site.shape(n.output) == shape)?;
            let channel = match norm.op {
                Op::GroupNorm { activation: Activation::None, .. } => 1,
                Op::LayerNorm { .. } => shape.len() - 1,
                _ => return None,
            };
            let add = site.maker(factor).filter(|n| n.op == Op::Binary(Binary::Add))?;
            let (scale, one) = site.with_scalar(add)?;
            let rows = |id| one_a_channel(site.shape(id), shape, channel);
            if one != 1.0 || !rows(scale) || !rows(shift) {
                return None;
            }
            let mut inputs = norm.inputs.clone();
            inputs.resize(3, None);
            inputs.extend([Some(scale), Some(shift)]);
            Some(Rewrite::Node(norm.op.clone(), inputs))
        })
    })
}

/// Whether `(N, C)` with ones elsewhere.
fn one_a_channel(shape: &[usize], of: &[usize], channel: usize) -> bool {
    shape.len() == of.len()
        && shape.iter().enumerate().all(|(axis, l)| *l == if axis == 0 || axis == channel { of[axis] } else { 1 })
}

/// The activation behind a group norm.
pub(super) fn activated(site: &Site, node: &Node) -> Option<Rewrite> {
    let Op::Unary(Unary::Activation(activation)) = node.op else { return None };
    let norm = site.only(node.input(0)?)?;
    match norm.op {
        Op::GroupNorm { groups, epsilon, activation: Activation::None } => {
            Some(Rewrite::Node(Op::GroupNorm { groups, epsilon, activation }, norm.inputs.clone()))
        }
        _ => None,
    }
}

/// `(x - mean) / sqrt(mean((x - mean)²) + ε) · gamma + beta`, over the last axis.
pub(super) fn layer(site: &Site, node: &Node) -> Option<Rewrite> {
    if node.op != Op::Binary(Binary::Add) {
        return None;
    }
    let width = *site.shape(node.output).last()?;
    both(node).find_map(|(product, beta)| {
        let mul = site.only(product).filter(|n| n.op == Op::Binary(Binary::Mul))?;
        both(mul).find_map(|(normed, gamma)| {
            let vectors = [gamma, beta].iter().all(|id| site.is_vector(*id, 0, width));
            let div = site.only(normed).filter(|n| vectors && n.op == Op::Binary(Binary::Div))?;
            let (centred, deviation) = (div.input(0)?, div.input(1)?);
            let sub = site.maker(centred).filter(|n| n.op == Op::Binary(Binary::Sub))?;
            let (x, mean) = (sub.input(0)?, sub.input(1)?);
            let epsilon = root_mean_square(site, deviation, centred)?;
            (mean_of_last(site, mean)? == x)
                .then(|| Rewrite::Node(Op::LayerNorm { epsilon }, vec![Some(x), Some(gamma), Some(beta)]))
        })
    })
}

/// `x / sqrt(mean(x²) + ε) · gamma` or `x · (1 / sqrt(…)) · gamma`, over the last axis.
pub(super) fn rms(site: &Site, node: &Node) -> Option<Rewrite> {
    if node.op != Op::Binary(Binary::Mul) {
        return None;
    }
    let width = *site.shape(node.output).last()?;
    both(node).find_map(|(normed, gamma)| {
        let inner = site.only(normed).filter(|_| site.is_vector(gamma, 0, width))?;
        let found = match inner.op {
            Op::Binary(Binary::Div) => Some((inner.input(0)?, inner.input(1)?)),
            Op::Binary(Binary::Mul) => both(inner).find_map(|(x, inverse)| {
                let n = site.maker(inverse)?;
                match n.op {
                    Op::Unary(Unary::Reciprocal) => Some((x, n.input(0)?)),
                    Op::Binary(Binary::Div) if site.is(n.input(0)?, 1.0) => Some((x, n.input(1)?)),
                    _ => None,
                }
            }),
            _ => None,
        };
        let (x, root) = found?;
        let epsilon = root_mean_square(site, root, x)?;
        Some(Rewrite::Node(Op::RmsNorm { epsilon }, vec![Some(x), Some(gamma)]))
    })
}

/// ε, if `id` is `sqrt(mean(x²) + ε)` over the last axis.
fn root_mean_square(site: &Site, id: ValueId, x: ValueId) -> Option<f32> {
    let sqrt = site.maker(id)?;
    let root = match sqrt.op {
        Op::Unary(Unary::Sqrt) => true,
        Op::Binary(Binary::Pow) => site.is(sqrt.input(1)?, 0.5),
        _ => false,
    };
    let add = site.maker(sqrt.input(0)?).filter(|n| root && n.op == Op::Binary(Binary::Add))?;
    let (mean, epsilon) = site.with_scalar(add)?;
    let square = site.maker(mean_of_last(site, mean)?)?;
    let squared = match square.op {
        Op::Binary(Binary::Pow) => square.input(0) == Some(x) && site.is(square.input(1)?, 2.0),
        Op::Binary(Binary::Mul) => square.inputs == [Some(x), Some(x)],
        _ => false,
    };
    squared.then_some(epsilon)
}

/// What is averaged over the last axis, which stays.
fn mean_of_last(site: &Site, id: ValueId) -> Option<ValueId> {
    let node = site.maker(id)?;
    let x = node.input(0)?;
    match &node.op {
        Op::Reduce { kind: Reduce::Mean, axes, keep: true } if *axes == [site.shape(x).len() - 1] => Some(x),
        _ => None,
    }
}
