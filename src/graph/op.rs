//! [`Op`]: what a node of a [`Net`](super::net::Net) computes. Names and meanings are ONNX's where nothing else is said.

pub(crate) use crate::op::activation::Activation;
pub(crate) use crate::op::binary::Binary;
pub(crate) use crate::op::pool::{Pool, PoolKind};
pub(crate) use crate::op::reduce::Reduce;
pub(crate) use crate::op::resize::{Coordinates, Resize, ResizeMode};
pub(crate) use crate::op::truth::{Comparison, Logic, Predicate};
pub(crate) use crate::op::unary::Unary;
use crate::value::DType;
use serde::{Deserialize, Serialize};

/// An operator with its parameters; operands are described at each. Every operator has one output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Op {
    /// `x (N, C, …), weight, [bias (C)], [row (N, C, 1…)], [residual]`, one or two spatial axes.
    Conv(Conv),
    /// numpy's `matmul` of two operands.
    MatMul,
    /// Fused: `x (…, K), weight (K, N), [bias (N)], [residual (…, N)]`: matmul, add, activation, add.
    Linear(Activation),
    /// Fused: `x (N, C, …), [gamma (C)], [beta (C)], [scale (N, C)], [shift (N, C)]`: gamma and beta with ones elsewhere; with the last two `y (1 + scale) + shift`.
    GroupNorm {
        groups: usize,
        epsilon: f32,
        activation: Activation,
    },
    /// Over the last axis: `x (…, C), [gamma (C)], [beta (C)], [scale], [shift]`, the last two `(N, C)` as in `GroupNorm`.
    LayerNorm {
        epsilon: f32,
    },
    /// Fused, over the last axis: `x (…, C), [gamma (C)]`: no mean is subtracted.
    RmsNorm {
        epsilon: f32,
    },
    /// Fused: `q (B, T, H·d), k (B, S, H·d), v (B, S, H·e), [mask, broadcast to (B, H, T, S)]`: `softmax(q kᵀ scale + mask) v`.
    Attention {
        heads: usize,
        scale: f32,
    },
    /// Fused: `x (…, 2N)`: one half times the activation of the other, the second if `gate_last`.
    Gated {
        activation: Activation,
        gate_last: bool,
    },
    Unary(Unary),
    Binary(Binary),
    Predicate(Predicate),
    Comparison(Comparison),
    Logic(Logic),
    /// `condition, a, b`.
    Where,
    Cast(DType),
    Reduce {
        kind: Reduce,
        axes: Vec<usize>,
        keep: bool,
    },
    ArgMax {
        axis: usize,
        keep: bool,
        last: bool,
    },
    Softmax {
        axis: usize,
    },
    Reshape,
    Transpose(Vec<usize>),
    Concat {
        axis: usize,
    },
    /// `length` stands in the output's shape.
    Slice {
        axis: usize,
        start: usize,
        step: usize,
    },
    Expand,
    /// `data, indices`.
    Gather {
        axis: usize,
    },
    /// `data, indices (…, k)` into the first k axes.
    GatherNd,
    /// Of the last two of four axes.
    Resize(Resize),
    Pad {
        before: Vec<usize>,
        value: f32,
    },
    /// `x (N, C, H, W)`.
    Pool(Pool),
}

/// Parameters of a convolution over one or two spatial axes; with one, the first of the two is 1 long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Conv {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Before (top, left) and behind (bottom, right).
    pub pads: [[usize; 2]; 2],
    pub groups: usize,
    /// Fused: the input is first enlarged by 2 through repetition.
    pub upsample: bool,
    /// Fused: what is applied after bias and row, before the residual.
    pub activation: Activation,
}

impl Op {
    /// A short name for listings.
    pub(crate) fn name(&self) -> String {
        let debug = match self {
            Op::Unary(Unary::Activation(activation)) => format!("{activation:?}"),
            Op::Unary(op) => format!("{op:?}"),
            Op::Binary(op) => format!("{op:?}"),
            Op::Predicate(op) => format!("{op:?}"),
            Op::Comparison(op) => format!("{op:?}"),
            Op::Logic(op) => format!("{op:?}"),
            _ => format!("{self:?}"),
        };
        debug.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
    }
}
