//! Nets of one operator: sizes that fill no tile, and sizes that choose every variant.

use crate::graph::net::{Content, Net, Node, Value, ValueId};
use crate::graph::op::Op;
use crate::graph::plan::Plan;
use crate::graph::{lower, place};
use crate::op::testing::noise;
use crate::value::{DType, Tensor};

/// A net of one operator as a plan, and what it is run with.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) plan: Plan,
    pub(super) inputs: Vec<Tensor>,
}

/// An operand.
pub(super) struct Given {
    tensor: Tensor,
    /// Whether it is known before a run.
    fixed: bool,
    /// The transpose and the first numbers of the last axis through which it is seen.
    axes: Option<Vec<usize>>,
    last: Option<usize>,
}

impl Given {
    pub(super) fn of(tensor: Tensor) -> Given {
        Given { tensor, fixed: false, axes: None, last: None }
    }

    /// Floats near a normal distribution around `centre`.
    pub(super) fn floats(shape: &[usize], seed: u64, centre: f32) -> Given {
        let values: Vec<f32> = noise(shape.iter().product(), seed).into_iter().map(|x| x + centre).collect();
        Given::of(Tensor::new(shape, values).unwrap())
    }

    /// Whole numbers from -3 to 3.
    pub(super) fn whole(shape: &[usize], dtype: DType) -> Given {
        let values: Vec<f32> = (0..shape.iter().product()).map(|n: usize| (n * 5 % 7) as f32 - 3.0).collect();
        Given::of(Tensor::new(shape, values).unwrap().cast(dtype))
    }

    pub(super) fn fixed(mut self) -> Given {
        self.fixed = true;
        self
    }

    pub(super) fn transposed(mut self, axes: &[usize]) -> Given {
        self.axes = Some(axes.to_vec());
        self
    }

    /// The first `length` numbers of the last axis alone.
    pub(super) fn cut(mut self, length: usize) -> Given {
        self.last = Some(length);
        self
    }

    fn value(&self, net: &mut Net, inputs: &mut Vec<Tensor>) -> ValueId {
        let (dtype, shape) = (self.tensor.dtype(), self.tensor.shape());
        let mut id = if self.fixed {
            net.constant("w", self.tensor.clone())
        } else {
            let id = net.add(Value { name: "x".into(), dtype, shape: shape.to_vec(), content: Content::Computed });
            net.inputs.push(id);
            inputs.push(self.tensor.clone());
            id
        };
        if let Some(axes) = &self.axes {
            let seen = axes.iter().map(|&axis| net.shape(id)[axis]).collect();
            id = node(net, Op::Transpose(axes.clone()), vec![Some(id)], (seen, dtype));
        }
        if let Some(length) = self.last {
            let mut seen = net.shape(id).to_vec();
            let axis = seen.len() - 1;
            seen[axis] = length;
            id = node(net, Op::Slice { axis, start: 0, step: 1 }, vec![Some(id)], (seen, dtype));
        }
        id
    }
}

fn node(net: &mut Net, op: Op, inputs: Vec<Option<ValueId>>, (shape, dtype): (Vec<usize>, DType)) -> ValueId {
    let output = net.add(Value { name: "y".into(), dtype, shape, content: Content::Computed });
    net.nodes.push(Node { name: "n".into(), op, inputs, output });
    output
}

/// `op` of `operands`, which makes `shape` of `dtype`.
pub(super) fn case(op: Op, operands: Vec<Option<Given>>, shape: &[usize], dtype: DType) -> Case {
    let (mut net, mut inputs) = (Net::default(), Vec::new());
    let shapes: Vec<&[usize]> = operands.iter().flatten().map(|given| given.tensor.shape()).collect();
    let name = format!("{op:?} of {shapes:?}");
    let ids = operands.iter().map(|given| given.as_ref().map(|given| given.value(&mut net, &mut inputs))).collect();
    let output = node(&mut net, op, ids, (shape.to_vec(), dtype));
    net.outputs.push(output);
    let mut plan = lower::lower(&net);
    place::place(&mut plan);
    Case { name, plan, inputs }
}
