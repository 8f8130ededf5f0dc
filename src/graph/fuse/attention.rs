//! `softmax(q kᵀ scale + mask) v`, however the exporter reshapes, transposes and scales on the way.
//!
//! Operands are followed back through reshapes and transposes as strided views, and match when the view is the one that heads side by side
//! in one row, or below each other in one column, give.

use super::super::net::{Node, ValueId};
use super::super::op::{Binary, Op, Predicate};
use super::{Rewrite, Site, both};
use crate::op::view::View;

pub(super) fn rule(site: &Site, node: &Node) -> Option<Rewrite> {
    joined(site, node, |batch, all| batch < all || all == 1)
}

/// One head a picture. Tried when all that has more is joined: heads of all pictures on one axis look like pictures, too.
pub(super) fn single(site: &Site, node: &Node) -> Option<Rewrite> {
    joined(site, node, |batch, all| batch == all && all > 1)
}

/// `wanted` says which pictures of how many heads in all, on one axis, are looked for.
fn joined(site: &Site, node: &Node, wanted: impl Fn(usize, usize) -> bool) -> Option<Rewrite> {
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
    if mask.is_some_and(|mask| View::dense(site.shape(mask)).broadcast(site.shape(weights)).is_none()) {
        return None;
    }
    let product = Product { q: inner.input(0)?, k: inner.input(1)?, v, weights, mask, scale };
    match *site.shape(weights) {
        [batch, heads, ..] if rank == 4 => product.joined(site, [batch, heads], node, &output),
        // Heads of all pictures on one axis.
        [all, ..] if rank == 3 => (1..=all)
            .filter(|&batch| all.is_multiple_of(batch) && wanted(batch, all) && (batch == 1 || mask.is_none()))
            .find_map(|batch| product.joined(site, [batch, all / batch], node, &output)),
        _ => None,
    }
}

/// The operands of both products, weights `(B, H, T, S)` or `(B H, T, S)` between them.
struct Product {
    q: ValueId,
    k: ValueId,
    v: ValueId,
    weights: ValueId,
    mask: Option<ValueId>,
    scale: f32,
}

impl Product {
    fn joined(&self, site: &Site, [batch, heads]: [usize; 2], node: &Node, output: &[&Node]) -> Option<Rewrite> {
        let rank = site.shape(self.weights).len();
        let [.., t, s] = *site.shape(self.weights) else { return None };
        let (d, e) = (*site.shape(self.q).last()?, *site.shape(self.v).last()?);
        let mut scale = self.scale;
        let (q, k, v) = (
            Heads { sizes: [batch, heads, t, d], rank, transposed: false },
            Heads { sizes: [batch, heads, s, d], rank, transposed: true },
            Heads { sizes: [batch, heads, s, e], rank, transposed: false },
        );
        let (q, k, v) = (
            q.source(site, self.q, &mut scale)?,
            k.source(site, self.k, &mut scale)?,
            v.source(site, self.v, &mut 1.0)?,
        );
        // What is read must be heads side by side, as they are written.
        let shape = site.shape(node.output);
        let read = output.iter().rev().try_fold(View::dense(shape), |view, node| undone(site, &view, node))?;
        let heads_out = Heads { sizes: [batch, heads, t, e], rank, transposed: false };
        let layout = Layout::ALL.into_iter().find(|layout| {
            layout.fits(heads_out.sizes, shape) && heads_out.seen(*layout).is_some_and(|seen| same(&read, &seen))
        })?;
        let op = Op::Attention { heads, scale };
        let layouts = [q.1, k.1, v.1];
        let turned = (0..3).filter(|&operand| layouts[operand] == Layout::Columns).collect();
        let inputs = vec![Some(q.0), Some(k.0), Some(v.0), self.mask];
        let result = (layout == Layout::Columns).then(|| layout.shape(heads_out.sizes));
        Some(Rewrite::Turned { op, inputs, turned, result })
    }
}

/// How the rows of all heads lie in a value.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// `(B, T, H d)`.
    Rows,
    /// `(B, H d, T)`, as convolutions give them.
    Columns,
}

impl Layout {
    const ALL: [Layout; 2] = [Layout::Rows, Layout::Columns];

    fn shape(self, [batch, heads, rows, width]: [usize; 4]) -> [usize; 3] {
        match self {
            Layout::Rows => [batch, rows, heads * width],
            Layout::Columns => [batch, heads * width, rows],
        }
    }

    /// Whether a result of `shape` is in this layout; columns may be pictures of as many pixels.
    fn fits(self, sizes: [usize; 4], shape: &[usize]) -> bool {
        let own = self.shape(sizes);
        shape == own || (self == Layout::Columns && shape.len() > 3 && shape[..2] == own[..2])
    }

    /// `(B, H, T, d)` in a dense value.
    fn heads(self, sizes: [usize; 4]) -> View {
        let [_, heads, rows, width] = sizes;
        let [row, column] = match self {
            Layout::Rows => [heads * width, 1],
            Layout::Columns => [1, rows],
        };
        View { offset: 0, shape: sizes.to_vec(), strides: vec![heads * rows * width, width * column, row, column] }
    }
}

/// An operand of a product: `(B, H, T, d)`, or with `B` and `H` on one axis where the rank is 3; `transposed` with the last two exchanged.
struct Heads {
    sizes: [usize; 4],
    rank: usize,
    transposed: bool,
}

impl Heads {
    /// How it is seen in a value in `layout`, if strides can say it.
    fn seen(&self, layout: Layout) -> Option<View> {
        let view = layout.heads(self.sizes);
        let view = if self.transposed { view.permuted(&[0, 1, 3, 2]) } else { view };
        match view.shape[..] {
            [batch, heads, rows, columns] if self.rank == 3 => view.reshaped(&[batch * heads, rows, columns]),
            _ => Some(view),
        }
    }

    /// The value that `id` sees so through reshapes and transposes, and through products with numbers, which go into `scale`: rows, if there are, else
    /// columns.
    fn source(&self, site: &Site, id: ValueId, scale: &mut f32) -> Option<(ValueId, Layout)> {
        let mut path: Vec<&Node> = Vec::new();
        let mut columns = None;
        let (mut at, mut factor) = (id, *scale);
        loop {
            at = scaled(site, at, &mut factor);
            if self.is_seen(site, at, Layout::Rows, &path) {
                *scale = factor;
                return Some((at, Layout::Rows));
            }
            if columns.is_none() && self.is_seen(site, at, Layout::Columns, &path) {
                columns = Some((at, factor));
            }
            match site.maker(at).filter(|n| matches!(n.op, Op::Reshape | Op::Transpose(_)) && path.len() < 6) {
                Some(node) => {
                    path.push(node);
                    at = node.input(0)?;
                }
                None => break,
            }
        }
        let (found, factor) = columns?;
        *scale = factor;
        Some((found, Layout::Columns))
    }

    /// Whether it is seen so, from `at` in `layout` along `path` upwards.
    fn is_seen(&self, site: &Site, at: ValueId, layout: Layout, path: &[&Node]) -> bool {
        let shape = site.shape(at);
        if layout.shape(self.sizes) != shape {
            return false;
        }
        let seen = path.iter().rev().try_fold(View::dense(shape), |view, node| moved(site, &view, node));
        seen.zip(self.seen(layout)).is_some_and(|(seen, wanted)| same(&seen, &wanted))
    }
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

/// How the operand of `node` is seen where its result is seen as `view`.
fn undone(site: &Site, view: &View, node: &Node) -> Option<View> {
    match &node.op {
        Op::Reshape => view.reshaped(site.shape(node.input(0)?)),
        Op::Transpose(axes) => {
            let mut back = vec![0; axes.len()];
            axes.iter().enumerate().for_each(|(to, &from)| back[from] = to);
            Some(view.permuted(&back))
        }
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

fn same(a: &View, b: &View) -> bool {
    let strides = a.strides.iter().zip(&b.strides);
    a.offset == b.offset
        && a.shape == b.shape
        && a.shape.iter().zip(strides).all(|(length, (x, y))| *length == 1 || x == y)
}
