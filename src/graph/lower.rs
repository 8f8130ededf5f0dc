//! From operators to steps: layout is decided here.
//!
//! Pictures lie channels-last, everything else row-major where a kernel wants it so. Reshapes, transposes, slices and broadcasts become
//! [views](View); where a kernel cannot read a value as it lies, a copy is put before it, once for all its readers.

use super::net::{Content, Net, Node, ValueId};
use super::op::Op;
use super::plan::{At, Buffer, Fixed, Operand, Plan, Step, Work};
use crate::op::view::View;
use crate::value::DType;
use std::collections::HashMap;

/// The steps of `net`; buffers have no place yet.
pub(crate) fn lower(net: &Net) -> Plan {
    let mut lower = Lower { net, plan: Plan::default(), places: vec![None; net.values.len()], copies: HashMap::new() };
    for &id in &net.inputs {
        let operand = lower.fresh(id, None);
        let At::Buffer(buffer) = operand.at else { continue };
        lower.plan.inputs.push(buffer);
        lower.places[id] = Some(operand);
    }
    net.nodes.iter().for_each(|node| lower.node(node));
    lower.plan.outputs = net.outputs.iter().map(|&id| lower.operand(id)).collect();
    lower.plan
}

struct Lower<'a> {
    net: &'a Net,
    plan: Plan,
    /// Where each value lies, from the time it is made.
    places: Vec<Option<Operand>>,
    /// Copies in other layouts, by what was copied and the order of the copy.
    copies: HashMap<(At, View, Vec<usize>), Operand>,
}

impl Lower<'_> {
    fn node(&mut self, node: &Node) {
        let x = node.input(0);
        match &node.op {
            Op::Reshape => self.reshape(node),
            Op::Transpose(axes) => self.seen(node, |view| Some(view.permuted(axes))),
            Op::Slice { axis, start, step } => {
                let length = self.net.shape(node.output)[*axis];
                self.seen(node, |view| Some(view.sliced(*axis, *start, *step, length)));
            }
            Op::Expand => {
                let shape = self.net.shape(node.output);
                self.seen(node, |view| view.broadcast(shape));
            }
            Op::Conv(_) | Op::GroupNorm { .. } | Op::Resize(_) | Op::Pool(_) => self.picture(node),
            Op::Linear(_) | Op::MatMul | Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::Gated { .. } => {
                self.rows(node)
            }
            Op::Softmax { .. } => self.rows(node),
            Op::Attention { .. } => self.attention(node),
            Op::Unary(_) | Op::Predicate(_) | Op::Cast(_) => {
                let order = x.and_then(|id| self.operand(id).view.order());
                self.pointwise(node, order);
            }
            Op::Binary(_) | Op::Comparison(_) | Op::Logic(_) | Op::Where => {
                let order = self.common_order(node);
                self.pointwise(node, order);
            }
            Op::Concat { axis } => self.concat(node, *axis),
            Op::Pad { before, value } => self.pad(node, before, *value),
            Op::Gather { .. } | Op::GatherNd | Op::Reduce { .. } | Op::ArgMax { .. } => self.anyhow_read(node),
        }
    }

    /// Where a value lies; what is fixed is registered at its first use.
    fn operand(&mut self, id: ValueId) -> Operand {
        if let Some(place) = &self.places[id] {
            return place.clone();
        }
        let value = &self.net.values[id];
        let view = match &value.content {
            Content::Weight(_, view) => view.clone(),
            _ => View::dense(&value.shape),
        };
        self.plan.fixed.push(Fixed { name: value.name.clone(), content: value.content.clone() });
        let place = Operand { at: At::Fixed(self.plan.fixed.len() - 1), view, dtype: value.dtype };
        self.places[id] = Some(place.clone());
        place
    }

    /// A new buffer for a value, row-major or in `order`.
    fn fresh(&mut self, id: ValueId, order: Option<&[usize]>) -> Operand {
        let value = &self.net.values[id];
        self.buffer(value.dtype, &value.shape, order)
    }

    fn buffer(&mut self, dtype: DType, shape: &[usize], order: Option<&[usize]>) -> Operand {
        let view = order.map_or_else(|| View::dense(shape), |order| View::ordered(shape, order));
        let elements = view.volume();
        self.plan.buffers.push(Buffer { dtype, elements, offset: 0, first: usize::MAX, last: 0 });
        Operand { at: At::Buffer(self.plan.buffers.len() - 1), view, dtype }
    }

    /// The value of `operand` without gaps and repetitions, its axes in memory in `order`.
    fn ordered(&mut self, operand: Operand, order: &[usize], name: &str) -> Operand {
        if operand.view.is_ordered(order) {
            return operand;
        }
        let key = (operand.at, operand.view.clone(), order.to_vec());
        if let Some(copy) = self.copies.get(&key) {
            return copy.clone();
        }
        let copy = self.buffer(operand.dtype, &operand.view.shape.clone(), Some(order));
        self.copy(name, operand, copy.clone());
        self.copies.insert(key, copy.clone());
        copy
    }

    fn copy(&mut self, name: &str, from: Operand, to: Operand) {
        let step = Step { name: name.to_owned(), work: Work::Copy, reads: vec![Some(from)], write: to, value: None };
        self.plan.steps.push(step);
    }

    fn dense(&mut self, id: ValueId, name: &str) -> Operand {
        let operand = self.operand(id);
        let order: Vec<usize> = (0..operand.view.shape.len()).collect();
        self.ordered(operand, &order, name)
    }

    fn emit(&mut self, node: &Node, reads: Vec<Option<Operand>>, write: Operand) {
        self.places[node.output] = Some(write.clone());
        let value = Some(self.net.values[node.output].name.clone());
        let step = Step { name: node.name.clone(), work: Work::Op(node.op.clone()), reads, write, value };
        self.plan.steps.push(step);
    }

    /// A node that is nothing but another view of its operand.
    fn seen(&mut self, node: &Node, see: impl Fn(&View) -> Option<View>) {
        let Some(x) = node.input(0) else { return };
        let operand = self.operand(x);
        let view = see(&operand.view);
        // Broadcasting is checked by shape inference.
        let view = view.unwrap_or_else(|| View::dense(self.net.shape(node.output)));
        self.places[node.output] = Some(Operand { view, ..operand });
    }

    fn reshape(&mut self, node: &Node) {
        let Some(x) = node.input(0) else { return };
        let shape = self.net.shape(node.output).to_vec();
        let operand = self.operand(x);
        let reshaped = operand.view.reshaped(&shape);
        let (operand, view) = match reshaped {
            Some(view) => (operand, view),
            None => {
                let dense = self.dense(x, &node.name);
                let view = View { offset: dense.view.offset, ..View::dense(&shape) };
                (dense, view)
            }
        };
        self.places[node.output] = Some(Operand { view, ..operand });
    }

    /// Pictures `(N, C, …)`, in and out channels-last; vectors and rows dense; weights as they are.
    fn picture(&mut self, node: &Node) {
        let rank = self.net.shape(node.output).len();
        let order = channels_last(rank);
        let mut reads = Vec::new();
        for (index, input) in node.inputs.iter().enumerate() {
            let read = input.map(|id| {
                let operand = self.operand(id);
                let is_picture = index == 0 || (index == 4 && matches!(node.op, Op::Conv(_)));
                if is_picture {
                    self.ordered(operand, &order, &node.name)
                } else if index >= 3 {
                    self.dense(id, &node.name)
                } else {
                    operand
                }
            });
            reads.push(read);
        }
        let write = self.fresh(node.output, Some(&order));
        self.emit(node, reads, write);
    }

    /// Rows along the last axis: computed operands dense, fixed ones as they are.
    fn rows(&mut self, node: &Node) {
        let mut reads = Vec::new();
        for input in &node.inputs {
            let read = input.map(|id| {
                let operand = self.operand(id);
                let transposed = node.op == Op::MatMul && is_transposed(&operand.view);
                let stays = matches!(operand.at, At::Fixed(_)) && !matches!(node.op, Op::MatMul | Op::Softmax { .. });
                if stays || (transposed && reads_second(node, id)) { operand } else { self.dense(id, &node.name) }
            });
            reads.push(read);
        }
        let write = self.fresh(node.output, None);
        self.emit(node, reads, write);
    }

    /// q, k and v with contiguous rows of heads, the mask anyhow.
    fn attention(&mut self, node: &Node) {
        let mut reads = Vec::new();
        for (index, input) in node.inputs.iter().enumerate() {
            let read = input.map(|id| {
                let operand = self.operand(id);
                let rows = operand.view.strides.last() == Some(&1) || operand.view.shape.last() == Some(&1);
                if index == 3 || rows { operand } else { self.dense(id, &node.name) }
            });
            reads.push(read);
        }
        let write = self.fresh(node.output, None);
        self.emit(node, reads, write);
    }

    /// Element by element: the operands broadcast to the output, which is laid out in `order`.
    fn pointwise(&mut self, node: &Node, order: Option<Vec<usize>>) {
        let shape = self.net.shape(node.output).to_vec();
        let mut reads = Vec::new();
        for input in &node.inputs {
            let read = input.map(|id| {
                let operand = self.operand(id);
                let view = operand.view.broadcast(&shape).unwrap_or_else(|| View::dense(&shape));
                Operand { view, ..operand }
            });
            reads.push(read);
        }
        let write = self.fresh(node.output, order.as_deref());
        self.emit(node, reads, write);
    }

    /// The layout of the first operand that has the output's shape and no gaps.
    fn common_order(&mut self, node: &Node) -> Option<Vec<usize>> {
        let shape = self.net.shape(node.output);
        let full: Vec<ValueId> =
            node.inputs.iter().flatten().copied().filter(|&id| self.net.shape(id) == shape).collect();
        full.into_iter().find_map(|id| self.operand(id).view.order())
    }

    fn concat(&mut self, node: &Node, axis: usize) {
        let ids: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        let order = ids.iter().find_map(|&id| self.operand(id).view.order().filter(|_| self.net.shape(id).len() > 1));
        let whole = self.fresh(node.output, order.as_deref());
        let mut start = 0;
        for (index, &id) in ids.iter().enumerate() {
            let from = self.operand(id);
            let length = from.view.shape[axis];
            let to = Operand { view: whole.view.sliced(axis, start, 1, length), ..whole.clone() };
            start += length;
            self.copy(&node.name, from, to);
            if index + 1 == ids.len()
                && let Some(step) = self.plan.steps.last_mut()
            {
                step.value = Some(self.net.values[node.output].name.clone());
            }
        }
        self.places[node.output] = Some(whole);
    }

    fn pad(&mut self, node: &Node, before: &[usize], value: f32) {
        let Some(x) = node.input(0) else { return };
        let from = self.operand(x);
        let whole = self.fresh(node.output, from.view.order().as_deref());
        let fill = Step {
            name: node.name.clone(),
            work: Work::Fill(value),
            reads: Vec::new(),
            write: whole.clone(),
            value: None,
        };
        self.plan.steps.push(fill);
        let inside = before.iter().zip(&from.view.shape).enumerate();
        let view =
            inside.fold(whole.view.clone(), |view, (axis, (start, length))| view.sliced(axis, *start, 1, *length));
        self.copy(&node.name, from, Operand { view, ..whole.clone() });
        if let Some(step) = self.plan.steps.last_mut() {
            step.value = Some(self.net.values[node.output].name.clone());
        }
        self.places[node.output] = Some(whole);
    }

    /// Operands as they lie; the output row-major.
    fn anyhow_read(&mut self, node: &Node) {
        let reads = node.inputs.iter().map(|input| input.map(|id| self.operand(id))).collect();
        let write = self.fresh(node.output, None);
        self.emit(node, reads, write);
    }
}

/// `(N, …, C)` in memory for `(N, C, …)`.
fn channels_last(rank: usize) -> Vec<usize> {
    std::iter::once(0).chain(2..rank).chain(std::iter::once(1).filter(|_| rank > 1)).collect()
}

/// Whether the last two axes lie in memory the other way round, without gaps.
fn is_transposed(view: &View) -> bool {
    let rank = view.shape.len();
    let mut order: Vec<usize> = (0..rank).collect();
    if rank < 2 {
        return false;
    }
    order.swap(rank - 1, rank - 2);
    view.is_ordered(&order)
}

fn reads_second(node: &Node, id: ValueId) -> bool {
    node.input(1) == Some(id) && node.input(0) != Some(id)
}
