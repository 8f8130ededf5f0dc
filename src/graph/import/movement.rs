//! Operators that only move elements.

use super::super::attributes::Attributes;
use super::super::net::{Content, Node, Value, ValueId};
use super::super::op::Op;
use super::{Import, Imported, axis, node_name};
use crate::value::{DType, Tensor};
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

    /// The same elements under another shape.
    pub(super) fn reshaped(&mut self, node: &NodeProto, id: ValueId, shape: &[usize]) -> Result<ValueId, String> {
        let Value { name, dtype, shape: from, content } = self.net.values[id].clone();
        if from == shape {
            return Ok(id);
        }
        if from.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(format!("an operand of the shape {from:?} is not {shape:?}"));
        }
        if let Content::Weight(weight, view) = content
            && let Some(view) = view.reshaped(shape)
        {
            let content = Content::Weight(weight, view);
            return Ok(self.net.add(Value { name, dtype, shape: shape.to_vec(), content }));
        }
        Ok(self.between(node, Op::Reshape, &[id], shape, dtype))
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
            if step < 0 {
                id = self.backwards(node, id, at, [start, end, step])?;
                continue;
            }
            let step = usize::try_from(step).ok().filter(|step| *step > 0).ok_or("a step is zero")?;
            let length = shape[at] as i64;
            let inside =
                |place: i64| (if place < 0 { place.saturating_add(length) } else { place }).clamp(0, length) as usize;
            let (start, end) = (inside(start), inside(end));
            cuts.push((at, start, step, end.saturating_sub(start).div_ceil(step)));
        }
        cuts.retain(|(at, start, step, length)| (*start, *step, *length) != (0, 1, shape[*at]));
        let Some((last, first)) = cuts.split_last() else { return self.rename(node, id) };
        let mut shape = self.net.shape(id).to_vec();
        for &(at, start, step, length) in first {
            shape[at] = length;
            let dtype = self.net.values[id].dtype;
            id = self.between(node, Op::Slice { axis: at, start, step }, &[id], &shape, dtype);
        }
        self.push(node, Op::Slice { axis: last.0, start: last.1, step: last.2 }, vec![Some(id)])
    }

    /// The elements from `start` down to before `end`, picked one by one.
    fn backwards(
        &mut self,
        node: &NodeProto,
        id: ValueId,
        axis: usize,
        [start, end, step]: [i64; 3],
    ) -> Result<ValueId, String> {
        let length = self.net.shape(id)[axis] as i64;
        let from_front = |place: i64| if place < 0 { place.saturating_add(length) } else { place };
        let (start, end) = (from_front(start).min(length - 1), from_front(end).max(-1));
        let down = usize::try_from(step.unsigned_abs()).map_err(|_| "a step is absurd".to_owned())?;
        let places: Vec<i64> = (end + 1..=start).rev().step_by(down).collect();
        self.picked(node, id, axis, places)
    }

    /// The elements at constant `places` of an axis.
    fn picked(&mut self, node: &NodeProto, id: ValueId, axis: usize, places: Vec<i64>) -> Result<ValueId, String> {
        self.can_gather(id)?;
        let (dtype, mut shape) = (self.dtype(id), self.net.shape(id).to_vec());
        shape[axis] = places.len();
        let places = Tensor::new(&[places.len()], places).map_err(|error| error.to_string())?;
        let places = self.net.constant(&node.name, places);
        Ok(self.between(node, Op::Gather { axis }, &[id, places], &shape, dtype))
    }

    fn can_gather(&self, id: ValueId) -> Result<(), String> {
        match self.dtype(id) {
            DType::F32 | DType::I64 | DType::I32 => Ok(()),
            other => Err(format!("{other} is not gathered")),
        }
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
        let id = self.input(node, 0)?;
        self.can_gather(id)?;
        let axis = axis(Attributes(node).int("axis").unwrap_or(0), self.net.shape(id).len())?;
        self.emit(node, Op::Gather { axis }, &[0, 1])
    }

    pub(super) fn gather_nd(&mut self, node: &NodeProto) -> Imported {
        if self.dtype(self.input(node, 0)?) != DType::F32 {
            return Err("only f32 is gathered by several axes".into());
        }
        match Attributes(node).int("batch_dims") {
            None | Some(0) => self.emit(node, Op::GatherNd, &[0, 1]),
            _ => Err("batch_dims are not supported".into()),
        }
    }

    pub(super) fn pad(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        let rank = self.output_shape(node)?.len();
        let pads = match attributes.ints("pads") {
            Some(pads) => pads.to_vec(),
            None => self.integers(node, 1)?.ok_or("its pads are missing")?,
        };
        if self.optional(node, 3).is_some() || pads.len() != 2 * rank || pads.iter().any(|pad| *pad < 0) {
            return Err("it pads some axes only, or cuts".into());
        }
        let mode = attributes.text("mode").unwrap_or("constant");
        if mode != "constant" {
            return self.repeated(node, mode, &pads);
        }
        let value = match self.optional(node, 2) {
            Some(id) => self.net.scalar(id).ok_or("its value is not constant")?,
            None => attributes.float("value").unwrap_or(0.0),
        };
        if !matches!(self.dtype(self.input(node, 0)?), DType::F32 | DType::I64) {
            return Err("only f32 and int64 are padded".into());
        }
        let before = pads[..rank].iter().map(|pad| *pad as usize).collect();
        self.emit(node, Op::Pad { before, value }, &[0])
    }

    /// Padding with the operand's own elements.
    fn repeated(&mut self, node: &NodeProto, mode: &str, pads: &[i64]) -> Imported {
        let mut id = self.input(node, 0)?;
        let rank = pads.len() / 2;
        for axis in (0..rank).filter(|&axis| pads[axis] + pads[rank + axis] > 0) {
            let length = self.net.shape(id)[axis] as i64;
            let place = |at: i64| match mode {
                "edge" if length > 0 => Ok(at.clamp(0, length - 1)),
                "reflect" if length > 1 => {
                    let at = at.rem_euclid(2 * (length - 1));
                    Ok(at.min(2 * (length - 1) - at))
                }
                _ => Err(format!("mode {mode} of an axis of {length} is not supported")),
            };
            let places = (-pads[axis]..length + pads[rank + axis]).map(place).collect::<Result<_, _>>()?;
            id = self.picked(node, id, axis, places)?;
        }
        self.rename(node, id)
    }

    /// A triangle of the last two axes, zeros elsewhere.
    pub(super) fn trilu(&mut self, node: &NodeProto) -> Imported {
        let id = self.input(node, 0)?;
        let &[.., rows, columns] = self.net.shape(id) else { return Err("its operand is no matrix".into()) };
        let shift = match self.integers(node, 1)?.as_deref() {
            None => 0,
            Some([shift]) => *shift,
            Some(_) => return Err("its k is no number".into()),
        };
        let upper = Attributes(node).int("upper") != Some(0);
        let kept = |at: usize| {
            let behind = (at % columns) as i64 - (at / columns) as i64;
            if upper { behind >= shift } else { behind <= shift }
        };
        let mask = Tensor::new(&[rows, columns], (0..rows * columns).map(kept).collect::<Vec<bool>>());
        let mask = self.net.constant(&node.name, mask.map_err(|error| error.to_string())?);
        let zero = self.net.constant(&node.name, Tensor::scalar(0f32).cast(self.dtype(id)));
        self.push(node, Op::Where, vec![Some(mask), Some(id), Some(zero)])
    }

    /// Its operand, and a mask that keeps everything: nothing is trained here.
    pub(super) fn dropout(&mut self, node: &NodeProto) -> Imported {
        let id = self.input(node, 0)?;
        if self.optional(node, 2).is_some() && self.integers(node, 2)? != Some(vec![0]) {
            return Err("it is in training mode".into());
        }
        if self.gives(node, 1) {
            let shape = self.net.shape(id).to_vec();
            let mask = Tensor::new(&shape, vec![true; shape.iter().product()]).map_err(|error| error.to_string())?;
            let mask = self.net.constant(&node.output[1], mask);
            self.names.insert(node.output[1].clone(), mask);
        }
        self.rename(node, id)
    }
}
