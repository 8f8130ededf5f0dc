//! Convolutions of channels-last pictures, as products whose left-hand rows are gathered; depthwise ones channel by channel.

use super::bound::Bound;
use super::gemm::{Ending, Gemm, Right, Taps};
use super::matrix::operand;
use super::{Dispatch, Head, Lowering, Matrix, Shader, activation, lines, source};
use crate::error::{Result, fail};
use crate::graph::op::{Activation, Conv};
use crate::graph::plan::{At, Operand, Step};
use std::fmt::Write;

/// `x (N, C, …), weight (O, C / groups, …), [bias (O)], [row (N, O, 1…)], [residual]`, one or two spatial axes.
pub(super) fn steps(lowering: &mut Lowering, step: &Step, conv: &Conv) -> Result<Vec<Dispatch>> {
    let (Some(x), Some(weight)) = (operand(step, 0), operand(step, 1)) else {
        return fail!(Engine, "a convolution without operands");
    };
    let At::Fixed(fixed) = weight.at else {
        return fail!(Unsupported, "a convolution with computed weights has no step");
    };
    let sizes = Sizes::of(conv, x, weight, step);
    if sizes.is_depthwise(conv) {
        return depthwise(lowering, step, conv, (x, weight, fixed), &sizes).map(|one| vec![one]);
    }
    let halves = lowering.keeps_halves(fixed);
    let each = sizes.outputs / conv.groups;
    let strides = &weight.view.strides;
    let groups = (conv.groups, each * strides[0]);
    let matrix = Matrix { halves, groups, rows: (sizes.channels, strides[1]), ..filters(conv, weight, each) };
    let stride = matrix.stride();
    let depth = matrix.depth();
    let right = lowering.fixed(fixed, matrix)?;
    let ending = ending(lowering, step, conv.activation, &sizes);
    let pointwise = conv.kernel == [1; 2] && conv.stride == [1; 2] && conv.pads == [[0; 2]; 2] && !conv.upsample;
    let dense = pointwise && conv.groups == 1;
    let mut extra = [0; 13];
    if dense {
        extra[..3].fill(1);
    } else {
        let [[top, left], _] = conv.pads;
        extra = [
            sizes.height,
            sizes.width,
            sizes.channels,
            sizes.out_height,
            sizes.out_width,
            0,
            conv.stride[0],
            conv.stride[1],
            top,
            left,
            conv.dilation[0],
            conv.dilation[1],
            conv.kernel[1],
        ];
    }
    let gemm = Gemm {
        rows: sizes.pixels(),
        columns: each,
        depth,
        batch: conv.groups,
        left: (lowering.reads(x), x.view.offset, sizes.inputs),
        right: (right, 0, stride),
        out: (lowering.writes(&step.write), step.write.view.offset, sizes.outputs),
        kind: Right::Packed,
        taps: (!dense).then_some(Taps { enlarge: conv.upsample }),
        out_batch: 0,
        extra,
        left_fours: sizes.channels.is_multiple_of(4)
            && sizes.inputs.is_multiple_of(4)
            && x.view.offset.is_multiple_of(4),
        right_fours: true,
        ending,
    };
    Ok(vec![gemm.dispatch(lowering)?])
}

/// The first channel of so many filters, in f32; filters of one axis are one high.
fn filters(conv: &Conv, weight: &Operand, count: usize) -> Matrix {
    let strides = &weight.view.strides;
    let along = match strides[2..] {
        [x] => [0, x],
        [y, x, ..] => [y, x],
        [] => [0, 0],
    };
    Matrix {
        first: weight.view.offset,
        groups: (1, 0),
        segments: std::array::from_fn(|axis| (conv.kernel[axis], along[axis])),
        rows: (1, 0),
        columns: (count, strides[0]),
        halves: false,
    }
}

/// Pictures with one axis are one high.
struct Sizes {
    count: usize,
    inputs: usize,
    /// Of a group.
    channels: usize,
    height: usize,
    width: usize,
    outputs: usize,
    out_height: usize,
    out_width: usize,
}

impl Sizes {
    fn of(conv: &Conv, x: &Operand, weight: &Operand, step: &Step) -> Sizes {
        let spatial = |shape: &[usize]| match shape[2..] {
            [length] => [1, length],
            [height, width] => [height, width],
            _ => [1, 1],
        };
        let ([height, width], [out_height, out_width]) = (spatial(&x.view.shape), spatial(&step.write.view.shape));
        let inputs = x.view.shape[1];
        let outputs = weight.view.shape[0];
        let channels = inputs / conv.groups;
        Sizes { count: x.view.shape[0], inputs, channels, height, width, outputs, out_height, out_width }
    }

    fn pixels(&self) -> usize {
        self.count * self.out_height * self.out_width
    }

    fn is_depthwise(&self, conv: &Conv) -> bool {
        conv.groups > 1 && conv.groups == self.inputs && self.inputs == self.outputs
    }
}

fn ending(lowering: &mut Lowering, step: &Step, activation: Activation, sizes: &Sizes) -> Ending {
    let bias = operand(step, 2).map(|bias| (lowering.reads(bias), bias.view.offset));
    let rows = sizes.out_height * sizes.out_width;
    let shift = operand(step, 3).map(|row| (lowering.reads(row), row.view.offset, rows));
    let residual = operand(step, 4).map(|other| (lowering.reads(other), other.view.offset, sizes.outputs));
    Ending { bias, shift, activation, residual }
}

/// One invocation a channel of a pixel.
fn depthwise(
    lowering: &mut Lowering,
    step: &Step,
    conv: &Conv,
    (x, weight, fixed): (&Operand, &Operand, usize),
    sizes: &Sizes,
) -> Result<Dispatch> {
    let matrix = filters(conv, weight, sizes.outputs);
    let stride = matrix.stride();
    let right = lowering.fixed(fixed, matrix)?;
    let Ending { bias, shift, activation: applied, residual } = ending(lowering, step, conv.activation, sizes);
    let mut bound = Bound::default();
    bound.add("picture", 1, "f32", lowering.reads(x));
    bound.add("filters", 1, "f32", right);
    bound.add("written", 1, "f32", lowering.writes(&step.write));
    let mut added_text = String::new();
    for (name, added) in [
        ("bias", bias.map(|(binding, _)| binding)),
        ("shift", shift.map(|(binding, ..)| binding)),
        ("residual", residual.map(|(binding, ..)| binding)),
    ] {
        let body = match added {
            Some(binding) => {
                bound.add(name, 1, "f32", binding);
                format!("get_{name}(at)")
            }
            None => "0.0".to_owned(),
        };
        let _ = writeln!(added_text, "fn {name}_at(at: u32) -> f32 {{ return {body}; }}");
    }
    let head = Head::new()
        .flag("ENLARGE", conv.upsample)
        .line(&activation("activate", applied))
        .line(bound.text.trim_end())
        .line(added_text.trim_end());
    let [[top, left], _] = conv.pads;
    let count = sizes.pixels() * sizes.outputs;
    let words = [
        count,
        sizes.outputs,
        stride,
        sizes.height,
        sizes.width,
        sizes.out_height,
        sizes.out_width,
        conv.kernel[0],
        conv.kernel[1],
        conv.stride[0],
        conv.stride[1],
        top,
        left,
        conv.dilation[0],
        conv.dilation[1],
        x.view.offset,
        step.write.view.offset,
        bias.map_or(0, |(_, first)| first),
        shift.map_or(0, |(_, first, _)| first),
        residual.map_or(0, |(_, first, _)| first),
    ];
    let push = words.into_iter().map(|word| word as u32).collect();
    let flops = 2 * (count * conv.kernel[0] * conv.kernel[1]) as u64;
    let shader = Shader { source: source!("depthwise"), head };
    let groups = lines(count, lowering.limits);
    Ok(Dispatch { shader, bindings: bound.bindings, push, groups, flops, tiled: false, cut: None })
}
