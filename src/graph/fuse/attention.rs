//! `softmax(q kᵀ scale + mask) v`, however the exporter reshapes, transposes and scales on the way.
//!
//! Operands are followed back through reshapes and transposes as strided views, and match when the view is the one that heads side by side
//! in one row give.

use super::super::net::{Node, ValueId};
use super::super::op::{Binary, Op, Predicate};
use super::{Rewrite, Site, both};
use crate::op::view::View;

pub(super) fn rule(site: &Site, node: &Node) -> Option<Rewrite> {
    let (product, output) = below(site, node)?;
    let (weights, v) = (product.input(0)?, product.input(1)?);
    let softmax = guarded(site, weights)?;
    let rank = site.shape(weights).len();
    if softmax.op != (Op::Softmax { axis: rank - 1 }) {
        return None;
    }
    let (scores, mask) = masked(site, softmax.input(0)?);
    let mut scale = 1.0;
    let scores = scaled(site, scores, &mut scale);
    let inner = site.only(scores).filter(|n| n.op == Op::MatMul)?;
    let (q, k) = (scaled(site, inner.input(0)?, &mut scale), scaled(site, inner.input(1)?, &mut scale));

    let (batch, heads, t, s) = match *site.shape(weights) {
        [batch, heads, t, s] => (batch, heads, t, s),
        [heads, t, s] => (1, heads, t, s),
        _ => return None,
    };
    let (d, e) = (*site.shape(q).last()?, *site.shape(v).last()?);
    let sides = |rows: usize, width: usize| [rows * heads * width, width, heads * width, 1];
    let wanted =
        |strides: [usize; 4], shape: [usize; 4]| View { offset: 0, shape: shape.to_vec(), strides: strides.to_vec() };
    let q = source(site, q, rank, &wanted(sides(t, d), [batch, heads, t, d]), [batch, t, heads * d])?;
    let [a, b, c, one] = sides(s, d);
    let k = source(site, k, rank, &wanted([a, b, one, c], [batch, heads, d, s]), [batch, s, heads * d])?;
    let v = source(site, v, rank, &wanted(sides(s, e), [batch, heads, s, e]), [batch, s, heads * e])?;
    if mask.is_some_and(|mask| View::dense(site.shape(mask)).broadcast(site.shape(weights)).is_none()) {
        return None;
    }
    // What is read must be (B, T, H e): heads side by side, as they are written.
    let mut seen = wanted(sides(t, e), [batch, heads, t, e]);
    if rank == 3 {
        seen = seen.reshaped(&[heads, t, e])?;
    }
    let read = output.iter().try_fold(seen, |view, node| moved(site, &view, node))?;
    (read.is_dense() && read.shape == site.shape(node.output)).then_some(())?;
    if site.shape(node.output) != [batch, t, heads * e] {
        return None;
    }
    Some(Rewrite::Node(Op::Attention { heads, scale }, vec![Some(q), Some(k), Some(v), mask]))
}

/// The softmax, also behind the guard that exporters put against rows whose keys are all masked: the kernel gives them zeros too.
fn guarded<'a>(site: &Site<'a>, weights: ValueId) -> Option<&'a Node> {
    let node = site.only(weights)?;
    if node.op != Op::Where {
        return Some(node);
    }
    let (condition, zero, softmax) = (site.only(node.input(0)?)?, node.input(1)?, node.input(2)?);
    let guards = condition.op == Op::Predicate(Predicate::IsNan) && condition.input(0) == Some(softmax);
    if guards && site.scalar(zero) == Some(0.0) { site.maker(softmax) } else { None }
}

/// The product under `node`, and the reshapes and transposes behind it in their order.
fn below<'a>(site: &Site<'a>, node: &'a Node) -> Option<(&'a Node, Vec<&'a Node>)> {
    let (mut at, mut path) = (node, Vec::new());
    while matches!(at.op, Op::Reshape | Op::Transpose(_)) && path.len() < 4 {
        path.push(at);
        at = site.only(at.input(0)?)?;
    }
    path.reverse();
    (at.op == Op::MatMul).then_some((at, path))
}

fn moved(site: &Site, view: &View, node: &Node) -> Option<View> {
    match &node.op {
        Op::Reshape => view.reshaped(site.shape(node.output)),
        Op::Transpose(axes) => Some(view.permuted(axes)),
        _ => None,
    }
}

/// The scores without the mask that is added to them.
fn masked(site: &Site, id: ValueId) -> (ValueId, Option<ValueId>) {
    let add = site.only(id).filter(|n| n.op == Op::Binary(Binary::Add));
    let found = add.and_then(|add| {
        both(add).find(|(scores, _)| {
            let inner = scaled(site, *scores, &mut 1.0);
            site.only(inner).is_some_and(|n| n.op == Op::MatMul) && site.shape(*scores) == site.shape(id)
        })
    });
    found.map_or((id, None), |(scores, mask)| (scores, Some(mask)))
}

/// The value without the number that it is multiplied with or divided by, which goes into `scale`.
fn scaled(site: &Site, id: ValueId, scale: &mut f32) -> ValueId {
    let found = site.only(id).and_then(|node| {
        let (x, number) = site.with_scalar(node)?;
        match node.op {
            Op::Binary(Binary::Mul) => Some((x, number)),
            Op::Binary(Binary::Div) if node.input(0) == Some(x) => Some((x, 1.0 / number)),
            _ => None,
        }
    });
    match found {
        Some((x, number)) if site.shape(x) == site.shape(id) => {
            *scale *= number;
            x
        }
        _ => id,
    }
}

/// The value `(B, T, H d)` that `id` sees as `wanted` through reshapes and transposes.
fn source(site: &Site, id: ValueId, rank: usize, wanted: &View, shape: [usize; 3]) -> Option<ValueId> {
    let mut wanted = wanted.clone();
    if rank == 3 {
        wanted = wanted.reshaped(&wanted.shape[1..])?;
    }
    let mut path: Vec<&Node> = Vec::new();
    let mut at = id;
    loop {
        if site.shape(at) == shape {
            let seen = path.iter().rev().try_fold(View::dense(&shape), |view, node| moved(site, &view, node));
            if seen.is_some_and(|seen| seen.shape == wanted.shape && same(&seen, &wanted)) {
                return Some(at);
            }
        }
        let node = site.maker(at).filter(|n| matches!(n.op, Op::Reshape | Op::Transpose(_)) && path.len() < 6)?;
        path.push(node);
        at = node.input(0)?;
    }
}

fn same(a: &View, b: &View) -> bool {
    let strides = a.strides.iter().zip(&b.strides);
    a.offset == b.offset && a.shape.iter().zip(strides).all(|(length, (x, y))| *length == 1 || x == y)
}
