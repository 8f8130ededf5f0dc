//! Operators that only move elements.

use super::super::attributes::Attributes;
use super::super::net::{Content, Node, Value, ValueId};
use super::super::op::Op;
use super::{Import, Imported, axis, node_name};
use tract_onnx::pb::NodeProto;

impl Import {
    pub(super) fn reshape(&mut self, node: &NodeProto) -> Imported {
        let id = self.input(node, 0)?;
        let shape = self.output_shape(node)?;
        if self.net.shape(id) == shape {
            return self.rename(node, id);
        }
        if let Content::Weight(weight, view) = &self.net.values[id].content
            && let Some(view) = view.reshaped(&shape)
        {
            let content = Content::Weight(weight.clone(), view);
            return self.rename_weight(node, id, shape, content);
        }
        self.emit(node, Op::Reshape, &[0])
    }

    fn rename_weight(&mut self, node: &NodeProto, id: ValueId, shape: Vec<usize>, content: Content) -> Imported {
        let dtype = self.net.values[id].dtype;
        let seen = self.net.add(Value { name: node.output[0].clone(), dtype, shape, content });
        self.rename(node, seen)
    }

    pub(super) fn transpose(&mut self, node: &NodeProto) -> Imported {
        let id = self.input(node, 0)?;
        let rank = self.net.shape(id).len();
        let reversed = || (0..rank).rev().collect();
        let axes = Attributes(node).lengths("perm").unwrap_or_else(reversed);
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        if sorted != (0..rank).collect::<Vec<_>>() {
            return Err(format!("perm {axes:?} is no order of {rank} axes"));
        }
        if let Content::Weight(weight, view) = &self.net.values[id].content {
            let view = view.permuted(&axes);
            let (shape, content) = (view.shape.clone(), Content::Weight(weight.clone(), view));
            return self.rename_weight(node, id, shape, content);
        }
        self.emit(node, Op::Transpose(axes), &[0])
    }

    /// A value with its axes in another order.
    pub(super) fn transposed(&mut self, node: &NodeProto, id: ValueId, axes: &[usize]) -> Result<ValueId, String> {
        let Value { name, dtype, shape, content } = self.net.values[id].clone();
        if shape.len() != axes.len() {
            return Err(format!("an operand has the shape {shape:?}"));
        }
        let shape: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
        if let Content::Weight(weight, view) = content {
            let content = Content::Weight(weight, view.permuted(axes));
            return Ok(self.net.add(Value { name, dtype, shape, content }));
        }
        Ok(self.between(node, Op::Transpose(axes.to_vec()), &[id], &shape, dtype))
    }

    /// `DepthToSpace` is a reshape, a transpose and a reshape.
    pub(super) fn depth_to_space(&mut self, node: &NodeProto) -> Imported {
        let id = self.input(node, 0)?;
        let attributes = Attributes(node);
        let block = attributes.int("blocksize").and_then(|b| usize::try_from(b).ok()).filter(|b| *b > 0);
        let (Some(b), &[n, c, h, w]) = (block, self.net.shape(id)) else { return Err("it has no blocksize".into()) };
        if c % (b * b) != 0 {
            return Err(format!("{c} channels are no multiple of {b}x{b}"));
        }
        let depth = c / (b * b);
        let (split, order) = match attributes.text("mode") {
            Some("CRD") => ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3]),
            _ => ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2]),
        };
        let dtype = self.net.values[id].dtype;
        let x = self.between(node, Op::Reshape, &[id], &split, dtype);
        let moved: Vec<usize> = order.iter().map(|&axis| split[axis]).collect();
        let x = self.between(node, Op::Transpose(order.to_vec()), &[x], &moved, dtype);
        self.push(node, Op::Reshape, vec![Some(x)])
    }

    pub(super) fn concat(&mut self, node: &NodeProto) -> Imported {
        let rank = self.output_shape(node)?.len();
        let axis = axis(Attributes(node).int("axis").ok_or("its axis is missing")?, rank)?;
        let operands: Vec<usize> = (0..node.input.len()).collect();
        self.emit(node, Op::Concat { axis }, &operands)
    }

    pub(super) fn slice(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        let mut id = self.input(node, 0)?;
        let shape = self.net.shape(id).to_vec();
        let given = |name: &str, index: usize| match attributes.ints(name) {
            Some(values) => Ok(Some(values.to_vec())),
            None => self.integers(node, index),
        };
        let starts = given("starts", 1)?.ok_or("its starts are missing")?;
        let ends = given("ends", 2)?.ok_or("its ends are missing")?;
        let axes = given("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = given("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()].iter().any(|length| *length != starts.len()) {
            return Err("its starts, ends, axes and steps are not equally many".into());
        }
        let mut cuts = Vec::new();
        for (((start, end), at), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let at = axis(at, shape.len())?;
            let step = usize::try_from(step).ok().filter(|step| *step > 0).ok_or("a step is not positive")?;
            let length = shape[at] as i64;
            let inside =
                |place: i64| (if place < 0 { place.saturating_add(length) } else { place }).clamp(0, length) as usize;
            let (start, end) = (inside(start), inside(end));
            cuts.push((at, start, step, end.saturating_sub(start).div_ceil(step)));
        }
        cuts.retain(|(at, start, step, length)| (*start, *step, *length) != (0, 1, shape[*at]));
        let Some((last, first)) = cuts.split_last() else { return self.alias(node) };
        let mut shape = shape;
        for &(at, start, step, length) in first {
            shape[at] = length;
            let dtype = self.net.values[id].dtype;
            id = self.between(node, Op::Slice { axis: at, start, step }, &[id], &shape, dtype);
        }
        self.push(node, Op::Slice { axis: last.0, start: last.1, step: last.2 }, vec![Some(id)])
    }

    /// One slice an output; their lengths are those of the outputs.
    pub(super) fn split(&mut self, node: &NodeProto) -> Imported {
        let id = self.input(node, 0)?;
        let axis = axis(Attributes(node).int("axis").unwrap_or(0), self.net.shape(id).len())?;
        let mut start = 0;
        for name in &node.output {
            let value = self.computed(name)?;
            let length = value.shape[axis];
            let output = self.net.add(value);
            self.names.insert(name.clone(), output);
            let op = Op::Slice { axis, start, step: 1 };
            self.net.nodes.push(Node { name: node_name(node), op, inputs: vec![Some(id)], output });
            start += length;
        }
        Ok(())
    }

    pub(super) fn gather(&mut self, node: &NodeProto) -> Imported {
        let rank = self.net.shape(self.input(node, 0)?).len();
        let axis = axis(Attributes(node).int("axis").unwrap_or(0), rank)?;
        self.emit(node, Op::Gather { axis }, &[0, 1])
    }

    pub(super) fn pad(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        if !matches!(attributes.text("mode"), None | Some("constant")) {
            return Err("only constant padding is supported".into());
        }
        let rank = self.output_shape(node)?.len();
        let pads = match attributes.ints("pads") {
            Some(pads) => pads.to_vec(),
            None => self.integers(node, 1)?.ok_or("its pads are missing")?,
        };
        let value = match self.optional(node, 2) {
            Some(id) => self.net.scalar(id).ok_or("its value is not constant")?,
            None => attributes.float("value").unwrap_or(0.0),
        };
        if self.optional(node, 3).is_some() || pads.len() != 2 * rank || pads.iter().any(|pad| *pad < 0) {
            return Err("it pads some axes only, or cuts".into());
        }
        let before = pads[..rank].iter().map(|pad| *pad as usize).collect();
        self.emit(node, Op::Pad { before, value }, &[0])
    }
}
