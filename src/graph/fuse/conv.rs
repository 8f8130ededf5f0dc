//! Convolutions, what comes before them and what is added to them.

use super::super::net::Node;
use super::super::op::{Activation, Binary, Conv, Coordinates, Op, ResizeMode, Unary};
use super::{Rewrite, Site, both, computed, free_from, with_input};

/// Nearest enlargement by two, then a convolution of stride 1.
pub(super) fn upsampled(site: &Site, node: &Node) -> Option<Rewrite> {
    let Op::Conv(conv) = node.op else { return None };
    let resize = site.only(node.input(0)?)?;
    let Op::Resize(parameters) = resize.op else { return None };
    let nearest = match (parameters.mode, parameters.coordinates) {
        (ResizeMode::NearestFloor, Coordinates::Asymmetric) => true,
        (ResizeMode::NearestRoundPreferFloor | ResizeMode::NearestRoundPreferCeil, coordinates) => {
            matches!(coordinates, Coordinates::HalfPixel | Coordinates::PytorchHalfPixel)
        }
        _ => false,
    };
    let (from, to) = (site.shape(resize.input(0)?), site.shape(resize.output));
    let doubled = from[2] * 2 == to[2] && from[3] * 2 == to[3] && parameters.scales == [2.0, 2.0];
    let plain = conv.stride == [1, 1] && conv.dilation == [1, 1] && conv.groups == 1 && !conv.upsample;
    if !(nearest && doubled && plain) {
        return None;
    }
    let mut inputs = node.inputs.clone();
    inputs[0] = resize.input(0);
    Some(Rewrite::Node(Op::Conv(Conv { upsample: true, ..conv }), inputs))
}

fn plain<'a>(site: &Site<'a>, id: usize) -> Option<(&'a Node, Conv)> {
    let node = site.only(id)?;
    match node.op {
        Op::Conv(conv) if conv.activation == Activation::None => Some((node, conv)),
        _ => None,
    }
}

/// One number a picture and channel: the time embedding.
pub(super) fn row(site: &Site, node: &Node) -> Option<Rewrite> {
    both(node).filter(|_| node.op == Op::Binary(Binary::Add)).find_map(|(product, row)| {
        let (conv, parameters) = plain(site, product)?;
        let shape = site.shape(product);
        let one_a_channel = site.shape(row).len() == shape.len()
            && site
                .shape(row)
                .iter()
                .zip(shape)
                .enumerate()
                .all(|(axis, (l, of))| *l == if axis < 2 { *of } else { 1 });
        let fits = one_a_channel && site.shape(node.output) == shape && free_from(conv, 3) && computed(site, row);
        fits.then(|| with_input(&conv.inputs, 3, row))
            .flatten()
            .map(|inputs| Rewrite::Node(Op::Conv(parameters), inputs))
    })
}

pub(super) fn activated(site: &Site, node: &Node) -> Option<Rewrite> {
    let Op::Unary(Unary::Activation(activation)) = node.op else { return None };
    let (conv, parameters) = plain(site, node.input(0)?)?;
    free_from(conv, 4).then(|| Rewrite::Node(Op::Conv(Conv { activation, ..parameters }), conv.inputs.clone()))
}

pub(super) fn residual(site: &Site, node: &Node) -> Option<Rewrite> {
    both(node).filter(|_| node.op == Op::Binary(Binary::Add)).find_map(|(product, other)| {
        let conv = site.only(product).filter(|n| matches!(n.op, Op::Conv(_)) && free_from(n, 4))?;
        let alike = site.shape(other) == site.shape(product) && computed(site, other);
        alike.then(|| with_input(&conv.inputs, 4, other)).flatten().map(|inputs| Rewrite::Node(conv.op.clone(), inputs))
    })
}
