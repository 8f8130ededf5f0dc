//! Convolutions, pools, resizing.

use super::super::attributes::Attributes;
use super::super::op::{Activation, Conv, Coordinates, Op, Pool, PoolKind, Resize, ResizeMode};
use super::{Import, Imported};
use crate::value::DType;
use tract_onnx::pb::NodeProto;

/// The parameters that convolutions and pools share.
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pads: [[usize; 2]; 2],
}

impl Import {
    pub(super) fn conv(&mut self, node: &NodeProto) -> Imported {
        let weight = self.input(node, 1)?;
        if !self.net.is_fixed(weight) {
            return Err("its weights are computed".into());
        }
        let kernel = self.net.shape(weight).get(2..).ok_or("its weight has no kernel")?.to_vec();
        let Window { kernel, stride, dilation, pads } = self.window(node, &kernel)?;
        let groups = Attributes(node).int("group").unwrap_or(1);
        let groups = usize::try_from(groups).ok().filter(|groups| *groups > 0).ok_or("its groups are not positive")?;
        let conv = Conv { kernel, stride, dilation, pads, groups, upsample: false, activation: Activation::None };
        let inputs = vec![Some(self.input(node, 0)?), Some(weight), self.optional(node, 2)];
        self.push(node, Op::Conv(conv), inputs)
    }

    pub(super) fn pool(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        let kernel = attributes.lengths("kernel_shape").ok_or("its kernel_shape is missing")?;
        if self.gives(node, 1) {
            return Err("indices are not supported".into());
        }
        if self.dtype(self.input(node, 0)?) != DType::F32 {
            return Err("its operand is not f32".into());
        }
        let Window { kernel, stride, dilation, pads } = self.window(node, &kernel)?;
        if dilation != [1, 1] {
            return Err("dilations are not supported".into());
        }
        let kind = match node.op_type.as_str() {
            "MaxPool" => PoolKind::Max,
            _ => PoolKind::Average { count_pad: attributes.int("count_include_pad") == Some(1) },
        };
        self.emit(node, Op::Pool(Pool { kind, kernel, stride, pads }), &[0])
    }

    pub(super) fn global_pool(&mut self, node: &NodeProto) -> Imported {
        let rank = self.output_shape(node)?.len();
        let axes = (2..rank).collect();
        self.emit(node, Op::Reduce { kind: super::super::op::Reduce::Mean, axes, keep: true }, &[0])
    }

    fn window(&self, node: &NodeProto, kernel: &[usize]) -> Result<Window, String> {
        let attributes = Attributes(node);
        let axes = kernel.len();
        if !(1..=2).contains(&axes) {
            return Err(format!("it has {axes} spatial axes; one and two are supported"));
        }
        let input = self.net.shape(self.input(node, 0)?).to_vec();
        let output = self.output_shape(node)?;
        let each = |name: &str| attributes.lengths(name).unwrap_or_else(|| vec![1; axes]);
        let (stride, dilation) = (each("strides"), each("dilations"));
        if stride.len() != axes || dilation.len() != axes || stride.contains(&0) || dilation.contains(&0) {
            return Err("its strides or dilations do not fit its kernel".into());
        }
        let pads = match attributes.text("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => attributes.ints("pads").map_or(Ok(vec![0; 2 * axes]), |pads| {
                pads.iter().map(|pad| usize::try_from(*pad).map_err(|_| "its pads are negative".to_owned())).collect()
            })?,
            "VALID" => vec![0; 2 * axes],
            same => {
                let mut pads = vec![0; 2 * axes];
                for axis in 0..axes {
                    let reach = (output[axis + 2] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1;
                    let all = reach.saturating_sub(input[axis + 2]);
                    let less = all / 2;
                    pads[axis] = if same == "SAME_LOWER" { all - less } else { less };
                    pads[axes + axis] = all - pads[axis];
                }
                pads
            }
        };
        if pads.len() != 2 * axes || kernel.contains(&0) {
            return Err("its pads do not fit its kernel".into());
        }
        let two = |values: &[usize], fill: usize| if axes == 1 { [fill, values[0]] } else { [values[0], values[1]] };
        let (before, behind) = pads.split_at(axes);
        Ok(Window {
            kernel: two(kernel, 1),
            stride: two(&stride, 1),
            dilation: two(&dilation, 1),
            pads: [two(before, 0), two(behind, 0)],
        })
    }

    pub(super) fn resize(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        let x = self.input(node, 0)?;
        let (input, output) = (self.net.shape(x).to_vec(), self.output_shape(node)?);
        if input.len() != 4 || input[..2] != output[..2] {
            return Err("it resizes other than the last two of four axes".into());
        }
        let text = |name: &str, default: &'static str| attributes.text(name).unwrap_or(default).to_owned();
        let old = self.opset < 11 || node.op_type == "Upsample";
        let coordinates =
            match text("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" }).as_str() {
                "asymmetric" => Coordinates::Asymmetric,
                "half_pixel" => Coordinates::HalfPixel,
                "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
                "align_corners" => Coordinates::AlignCorners,
                other => return Err(format!("coordinate_transformation_mode {other} is not supported")),
            };
        let nearest = text("nearest_mode", if old { "floor" } else { "round_prefer_floor" });
        let mode = match (text("mode", "nearest").as_str(), nearest.as_str()) {
            ("linear", _) => ResizeMode::Linear,
            ("nearest", "floor") => ResizeMode::NearestFloor,
            ("nearest", "ceil") => ResizeMode::NearestCeil,
            ("nearest", "round_prefer_floor") => ResizeMode::NearestRoundPreferFloor,
            ("nearest", "round_prefer_ceil") => ResizeMode::NearestRoundPreferCeil,
            (mode, nearest) => return Err(format!("mode {mode}, {nearest} is not supported")),
        };
        if attributes.int("antialias") == Some(1) {
            return Err("antialias is not supported".into());
        }
        let scales = self.optional(node, if old { 1 } else { 2 });
        let scales = scales.and_then(|id| self.net.known(id)).and_then(|tensor| tensor.as_f32()).unwrap_or(&[]);
        let broken = |axis: usize| (scales[axis] * input[axis] as f32).fract() != 0.0;
        if coordinates == Coordinates::AlignCorners && scales.len() == 4 && (broken(2) || broken(3)) {
            return Err("align_corners with a scale that gives no whole length is not supported".into());
        }
        let scales = match scales {
            [_, _, height, width] => [*height, *width],
            _ => [2, 3].map(|axis| output[axis] as f32 / input[axis].max(1) as f32),
        };
        self.emit(node, Op::Resize(Resize { mode, coordinates, scales }), &[0])
    }
}
