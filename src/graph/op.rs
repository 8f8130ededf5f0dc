//! [`Op`]: what a node of a [`Net`](super::net::Net) computes. Names and meanings are ONNX's where nothing else is said.

use crate::value::DType;

/// An operator with its parameters; operands are described at each. Every operator has one output.
#[derive(Debug, Clone, PartialEq)]
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
    Resize(Resize),
    Pad {
        before: Vec<usize>,
        value: f32,
    },
    /// `x (N, C, H, W)`.
    Pool(Pool),
}

/// Parameters of a convolution over one or two spatial axes; with one, the first of the two is 1 long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Activation {
    None,
    Relu,
    Silu,
    /// With `erf`.
    Gelu,
    /// With `tanh`.
    GeluTanh,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
    Sigmoid,
    Tanh,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unary {
    Activation(Activation),
    Abs,
    Ceil,
    Clip {
        low: f32,
        high: f32,
    },
    Cos,
    Elu {
        alpha: f32,
    },
    Erf,
    Exp,
    Floor,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    HardSwish,
    /// A truth value.
    IsNan,
    LeakyRelu {
        alpha: f32,
    },
    Log,
    Neg,
    Not,
    Reciprocal,
    Round,
    Sign,
    Sin,
    Softplus,
    Sqrt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    /// The remainder has the divisor's sign; with `fmod`, the dividend's.
    Mod {
        fmod: bool,
    },
    PRelu,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduce {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L2,
}

/// Resize of the last two of four axes by whole or broken factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Resize {
    pub mode: ResizeMode,
    pub coordinates: Coordinates,
    /// Output length over input length, height and width, as the file says it or as the lengths give it.
    pub scales: [f32; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResizeMode {
    Linear,
    NearestFloor,
    NearestCeil,
    NearestRoundPreferFloor,
    NearestRoundPreferCeil,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coordinates {
    Asymmetric,
    HalfPixel,
    PytorchHalfPixel,
    AlignCorners,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool {
    pub kind: PoolKind,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub pads: [[usize; 2]; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolKind {
    Max,
    /// Padding counts or does not.
    Average {
        count_pad: bool,
    },
}

impl Op {
    /// A short name for listings.
    pub(crate) fn name(&self) -> String {
        let debug = format!("{self:?}");
        let end = debug.find([' ', '(', '{']).unwrap_or(debug.len());
        match self {
            Op::Unary(Unary::Activation(activation)) => format!("{activation:?}"),
            Op::Unary(_) | Op::Binary(_) => {
                let inner = &debug[end + 1..debug.len() - 1];
                inner[..inner.find([' ', '(', '{']).unwrap_or(inner.len())].to_owned()
            }
            _ => debug[..end].to_owned(),
        }
    }
}
