//! Steps that bind more buffers than a device allows become several: what was fused into them is done behind them, element by element, and
//! attention with a mask by its products.

use crate::graph::net::Content;
use crate::graph::op::{Activation, Binary, Comparison, Op, Unary};
use crate::graph::plan::{At, Buffer, Fixed, Operand, Plan, Step, Work};
use crate::op::view::View;
use crate::value::{DType, Tensor};
use std::sync::Arc;

/// Splits the steps of `plan` that touch more than `buffers` buffers each; lifetimes and offsets are then to be set anew.
pub(super) fn narrow(plan: &mut Plan, buffers: usize) {
    for step in std::mem::take(&mut plan.steps) {
        let touched = step.reads.iter().flatten().count() + 1;
        let mut chain = Chain { plan, name: step.name.clone() };
        match &step.work {
            Work::Op(op) if touched > buffers => match op.clone() {
                Op::Conv(conv) => chain.ended(&step, Op::Conv(plain_conv(conv)), conv.activation, 2),
                Op::Linear(activation) => chain.ended(&step, Op::Linear(Activation::None), activation, 2),
                Op::GroupNorm { groups, epsilon, activation } => {
                    let plain = Op::GroupNorm { groups, epsilon, activation: Activation::None };
                    chain.adapted(&step, plain, activation, 1);
                }
                Op::LayerNorm { epsilon } => {
                    let channel = step.write.view.shape.len() - 1;
                    chain.adapted(&step, Op::LayerNorm { epsilon }, Activation::None, channel);
                }
                Op::Attention { heads, scale } => chain.attention(&step, heads, scale),
                _ => plan.steps.push(step),
            },
            _ => plan.steps.push(step),
        }
    }
    // Steps have other numbers now.
    for buffer in &mut plan.buffers {
        (buffer.first, buffer.last) = (usize::MAX, 0);
    }
}

fn plain_conv(conv: crate::graph::op::Conv) -> crate::graph::op::Conv {
    crate::graph::op::Conv { activation: Activation::None, ..conv }
}

/// Steps that together do what one did.
struct Chain<'a> {
    plan: &'a mut Plan,
    name: String,
}

impl Chain<'_> {
    /// A product with its bias, then the operands behind it: row and residual of a convolution, residual of a linear layer.
    fn ended(&mut self, step: &Step, op: Op, activation: Activation, bias: usize) {
        let reads = step.reads.iter().take(bias + 1).cloned().collect();
        let behind = |index: usize| step.reads.get(index).and_then(Option::as_ref);
        let (shift, residual) = match op {
            Op::Conv(_) => (behind(bias + 1), behind(bias + 2)),
            _ => (None, behind(bias + 1)),
        };
        let mut last = self.push(op, reads, &step.write);
        if let Some(shift) = shift {
            last = self.binary(Binary::Add, last, spread(shift, &step.write));
        }
        last = self.activated(activation, last);
        if let Some(residual) = residual {
            let view = View { offset: residual.view.offset, ..step.write.view.clone() };
            last = self.binary(Binary::Add, last, Operand { view, ..residual.clone() });
        }
        self.finish(step, &last);
    }

    /// A norm with gamma and beta, then `y (1 + scale) + shift` of rows `(N, C)`.
    fn adapted(&mut self, step: &Step, op: Op, activation: Activation, channel: usize) {
        let reads = step.reads.iter().take(3).cloned().collect();
        let row = |index: usize| {
            let operand = step.reads.get(index).and_then(Option::as_ref)?;
            let shape = &step.write.view.shape;
            let mut strides = vec![0; shape.len()];
            strides[0] = shape[channel];
            strides[channel] = 1;
            Some(Operand {
                view: View { offset: operand.view.offset, shape: shape.clone(), strides },
                ..operand.clone()
            })
        };
        let mut last = self.push(op, reads, &step.write);
        if let Some(scale) = row(3) {
            let grown = self.binary(Binary::Mul, last.clone(), scale);
            last = self.binary(Binary::Add, last, grown);
        }
        if let Some(shift) = row(4) {
            last = self.binary(Binary::Add, last, shift);
        }
        last = self.activated(activation, last);
        self.finish(step, &last);
    }

    /// `softmax(q kᵀ scale + mask) v` with the scores in memory.
    fn attention(&mut self, step: &Step, heads: usize, scale: f32) {
        let [Some(q), Some(k), Some(v), mask] = std::array::from_fn(|index| step.reads.get(index).cloned().flatten())
        else {
            return self.plan.steps.push(step.clone());
        };
        let [q, k, v] = [q, k, v].map(|operand| self.dense(&by_head(&operand, heads)));
        let keys = Operand { view: k.view.permuted(&[0, 1, 3, 2]), ..k };
        let (rows, columns) = (q.view.shape[2], keys.view.shape[3]);
        let shape = [q.view.shape[0], heads, rows, columns];
        let scores = self.fresh(&View::dense(&shape), q.dtype);
        self.step(Op::MatMul, vec![Some(q), Some(keys)], &scores);
        let number = self.number(scale, &shape);
        let mut last = self.binary(Binary::Mul, scores, number);
        if let Some(mask) = mask {
            last = self.binary(Binary::Add, last.clone(), spread(&mask, &last));
        }
        let weights = self.push(Op::Softmax { axis: 3 }, vec![Some(last.clone())], &last);
        let weights = self.without(weights, last);
        let made = View::dense(&[shape[0], heads, rows, v.view.shape[3]]);
        let made = self.fresh(&made, v.dtype);
        self.step(Op::MatMul, vec![Some(weights), Some(v)], &made);
        let write = by_head(&step.write, heads);
        let value = step.value.clone();
        let copy = Step { name: self.name.clone(), work: Work::Copy, reads: vec![Some(made)], write, value };
        self.plan.steps.push(copy);
    }

    /// Weights are 0 where scores are -∞, also where the whole row is.
    fn without(&mut self, weights: Operand, scores: Operand) -> Operand {
        let shape = weights.view.shape.clone();
        let (none, zero) = (self.number(f32::NEG_INFINITY, &shape), self.number(0.0, &shape));
        let masked = self.fresh(&View::dense(&shape), DType::Bool);
        self.step(Op::Comparison(Comparison::Equal), vec![Some(scores), Some(none)], &masked);
        let write = weights.clone();
        self.push(Op::Where, vec![Some(masked), Some(zero), Some(weights)], &write)
    }

    fn activated(&mut self, activation: Activation, last: Operand) -> Operand {
        if activation == Activation::None {
            return last;
        }
        let write = last.clone();
        self.push(Op::Unary(Unary::Activation(activation)), vec![Some(last)], &write)
    }

    fn binary(&mut self, op: Binary, a: Operand, b: Operand) -> Operand {
        let write = a.clone();
        self.push(Op::Binary(op), vec![Some(a), Some(b)], &write)
    }

    /// A step whose output is laid out as `like`.
    fn push(&mut self, op: Op, reads: Vec<Option<Operand>>, like: &Operand) -> Operand {
        let write = self.fresh(&View { offset: 0, ..like.view.clone() }, like.dtype);
        self.step(op, reads, &write);
        write
    }

    fn step(&mut self, op: Op, reads: Vec<Option<Operand>>, write: &Operand) {
        let (name, write) = (self.name.clone(), write.clone());
        self.plan.steps.push(Step { name, work: Work::Op(op), reads, write, value: None });
    }

    /// The last step writes what the whole did.
    fn finish(&mut self, step: &Step, last: &Operand) {
        let Some(end) = self.plan.steps.last_mut() else { return };
        debug_assert_eq!(end.write, *last);
        end.write = step.write.clone();
        end.value.clone_from(&step.value);
    }

    fn fresh(&mut self, view: &View, dtype: DType) -> Operand {
        let elements = view.extent();
        self.plan.buffers.push(Buffer { dtype, elements, offset: 0, first: usize::MAX, last: 0 });
        Operand { at: At::Buffer(self.plan.buffers.len() - 1), view: view.clone(), dtype }
    }

    fn dense(&mut self, operand: &Operand) -> Operand {
        let write = self.fresh(&View::dense(&operand.view.shape), operand.dtype);
        let (name, reads) = (self.name.clone(), vec![Some(operand.clone())]);
        self.plan.steps.push(Step { name, work: Work::Copy, reads, write: write.clone(), value: None });
        write
    }

    /// One number for a whole shape.
    fn number(&mut self, value: f32, shape: &[usize]) -> Operand {
        let content = Content::Constant(Arc::new(Tensor::scalar(value)));
        self.plan.fixed.push(Fixed { name: self.name.clone(), content });
        let view = View { offset: 0, shape: shape.to_vec(), strides: vec![0; shape.len()] };
        Operand { at: At::Fixed(self.plan.fixed.len() - 1), view, dtype: DType::F32 }
    }
}

/// `operand` broadcast to what `write` shows.
fn spread(operand: &Operand, write: &Operand) -> Operand {
    let shape = &write.view.shape;
    let view = operand.view.broadcast(shape).unwrap_or_else(|| View::dense(shape));
    Operand { view, ..operand.clone() }
}

/// `(B, T, H·d)` as `(B, H, T, d)`.
fn by_head(operand: &Operand, heads: usize) -> Operand {
    let View { offset, shape, strides } = &operand.view;
    let width = shape[2] / heads;
    let view = View {
        offset: *offset,
        shape: vec![shape[0], heads, shape[1], width],
        strides: vec![strides[0], width * strides[2], strides[1], strides[2]],
    };
    Operand { view, ..operand.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Given, PLAIN, net, noise};
    use super::*;
    use crate::engine::{Threads, compare, play_once};
    use crate::graph::op::Conv;
    use crate::graph::{lower, place};

    /// Fails unless the net's plan, narrowed to four buffers, touches no more and computes the same.
    fn narrowed(op: Op, given: &[Given], shape: &[usize]) {
        let (net, tensors) = net(op.clone(), given, shape, DType::F32);
        let mut plan = lower::lower(&net);
        let mut narrow_plan = plan.clone();
        narrow(&mut narrow_plan, 4);
        let touched = |step: &Step| step.reads.iter().flatten().count() + 1;
        assert!(narrow_plan.steps.len() > plan.steps.len(), "{op:?}");
        assert!(narrow_plan.steps.iter().all(|step| touched(step) <= 4), "{op:?}");
        let threads = Threads::new(None).unwrap();
        let [whole, parts] = [&mut plan, &mut narrow_plan].map(|plan| {
            place::place(plan);
            place::check(plan).unwrap();
            play_once(plan.clone(), &tensors, &threads).unwrap().remove(0)
        });
        assert_eq!(whole.shape(), parts.shape());
        let far = compare::error(parts.as_f32().unwrap(), whole.as_f32().unwrap());
        assert!(far < 1e-5, "{op:?}: {far:e}");
    }

    #[test]
    fn what_follows_a_product_is_done_behind_it() {
        let conv = Conv { activation: Activation::Silu, ..PLAIN };
        let shape = [2, 8, 5, 6];
        let x = Given::Turned(noise(1, &[2, 5, 6, 4]), vec![0, 3, 1, 2]);
        let mut given = vec![x, Given::Fixed(noise(2, &[8, 4, 3, 3])), Given::Fixed(noise(3, &[8]))];
        given.push(Given::Input(noise(4, &[2, 8, 1, 1])));
        narrowed(Op::Conv(conv), &given, &shape);
        given.push(Given::Input(noise(5, &shape)));
        narrowed(Op::Conv(conv), &given, &shape);
        let given = [(6, [7, 12]), (7, [12, 8]), (8, [1, 8]), (9, [7, 8])];
        let given = given.map(|(seed, shape)| match seed {
            6 | 9 => Given::Input(noise(seed, &shape)),
            8 => Given::Fixed(noise(seed, &[8])),
            _ => Given::Fixed(noise(seed, &shape)),
        });
        narrowed(Op::Linear(Activation::Gelu), &given, &[7, 8]);
    }

    #[test]
    fn norms_are_scaled_and_shifted_behind_them() {
        let shape = [2, 8, 3, 5];
        let affine = [(2, vec![8]), (3, vec![8]), (4, vec![2, 8]), (5, vec![2, 8])];
        let mut given = vec![Given::Turned(noise(1, &[2, 3, 5, 8]), vec![0, 3, 1, 2])];
        given.extend(affine.iter().map(|(seed, shape)| match shape.len() {
            1 => Given::Fixed(noise(*seed, shape)),
            _ => Given::Input(noise(*seed, shape)),
        }));
        narrowed(Op::GroupNorm { groups: 4, epsilon: 1e-5, activation: Activation::Silu }, &given, &shape);
        given[0] = Given::Input(noise(1, &[2, 7, 8]));
        narrowed(Op::LayerNorm { epsilon: 1e-5 }, &given, &[2, 7, 8]);
    }

    #[test]
    fn masked_attention_becomes_its_products() {
        let given = [(1, vec![2, 5, 12]), (2, vec![2, 7, 12]), (3, vec![2, 7, 6]), (4, vec![2, 1, 5, 7])];
        let mut given = given.map(|(seed, shape)| Given::Input(noise(seed, &shape)));
        narrowed(Op::Attention { heads: 3, scale: 0.5 }, &given, &[2, 5, 6]);
        // Some keys, and all keys of the second query.
        let mask = (0..70).map(|i| if i % 3 == 0 || (7..14).contains(&i) { f32::NEG_INFINITY } else { 0.5 });
        given[3] = Given::Input(Tensor::new(&[2, 1, 5, 7], mask.collect::<Vec<f32>>()).unwrap());
        narrowed(Op::Attention { heads: 3, scale: 0.5 }, &given, &[2, 5, 6]);
    }
}
