//! Gathers: elements by indices that are data.

use super::bound::{Bound, per};
use super::point::Joined;
use super::{Binding, Dispatch, Head, Layout, Lowering, Shader, Upload, element, lines, source};
use crate::error::{Result, fail};
use crate::graph::plan::{At, Operand, Step};
use crate::op::view::View;
use std::ops::Range;

/// For every one of the indices what lies there along `axis`; the output dense, the indices in the axis' place. Of a table that is larger than
/// the device binds, a dispatch for every part.
pub(super) fn gather(lowering: &mut Lowering, step: &Step, axis: usize) -> Result<Vec<Dispatch>> {
    let (data, indices) = operands(step)?;
    let rank = data.view.shape.len();
    let axes = [part(&data.view, 0..axis), whole(&indices.view), part(&data.view, axis + 1..rank)];
    let gather = Gather { data, indices, write: &step.write, axes, named: axis..axis + 1, index_step: 0 };
    let bytes = data.view.extent() * 4;
    let (At::Fixed(fixed), true) = (data.at, bytes as u64 > lowering.limits.range) else {
        let read = lowering.reads(data);
        return Ok(vec![gather.dispatch(lowering, read, None)?]);
    };
    // Whole steps of the outermost axis, so that four elements that lie together stay so.
    let row = data.view.strides.iter().copied().max().unwrap_or(1).max(1);
    let each = (lowering.limits.range as usize / 4) / row * row;
    if each == 0 {
        return fail!(Unsupported, "a row of {row} elements is more than the device binds");
    }
    let parts = (0..data.view.extent()).step_by(each).map(|first| first..(first + each).min(data.view.extent()));
    parts
        .map(|part| {
            let layout = Layout::Part { first: part.start, count: part.len() };
            let read = Binding::read(lowering.upload(Upload { fixed, layout }));
            gather.dispatch(lowering, read, Some(part))
        })
        .collect()
}

/// Each row of indices names a place along the first axes.
pub(super) fn gather_nd(lowering: &mut Lowering, step: &Step) -> Result<Dispatch> {
    let (data, indices) = operands(step)?;
    let (Some(&depth), Some(&index_step)) = (indices.view.shape.last(), indices.view.strides.last()) else {
        return fail!(Engine, "indices without an axis");
    };
    let tuples = part(&indices.view, 0..indices.view.shape.len() - 1);
    let axes = [View::dense(&[]), tuples, part(&data.view, depth..data.view.shape.len())];
    let read = lowering.reads(data);
    Gather { data, indices, write: &step.write, axes, named: 0..depth, index_step }.dispatch(lowering, read, None)
}

fn operands(step: &Step) -> Result<(&Operand, &Operand)> {
    match &step.reads[..] {
        [Some(data), Some(indices), ..] => Ok((data, indices)),
        _ => fail!(Engine, "a gather without its operands"),
    }
}

/// Some axes of a view, from element 0.
fn part(view: &View, axes: Range<usize>) -> View {
    View { offset: 0, shape: view.shape[axes.clone()].to_vec(), strides: view.strides[axes].to_vec() }
}

fn whole(view: &View) -> View {
    part(view, 0..view.shape.len())
}

struct Gather<'a> {
    data: &'a Operand,
    indices: &'a Operand,
    write: &'a Operand,
    /// Of the output: axes of the data, of the indices, of the data.
    axes: [View; 3],
    /// Axes of the data that an index names.
    named: Range<usize>,
    /// Elements from one index of a tuple to the next.
    index_step: usize,
}

impl Gather<'_> {
    /// `held` are the elements of the data that lie in `read`, if not all do.
    fn dispatch(&self, lowering: &mut Lowering, read: Binding, held: Option<Range<usize>>) -> Result<Dispatch> {
        let [before, indices, behind] = self.axes.each_ref().map(|view| Joined::of(std::slice::from_ref(view)));
        let named = part(&self.data.view, self.named.clone());
        let per = self.per(&behind, &named, held.as_ref());
        let parts = [&before, &indices, &behind];
        let mut shape: Vec<usize> = parts.iter().flat_map(|part| part.shape.clone()).collect();
        let mut steps: Vec<usize> = before.strides[0].iter().map(|step| step / per).collect();
        steps.extend(&indices.strides[0]);
        steps.extend(behind.strides[0].iter().map(|step| if *step == 1 { 1 } else { step / per }));
        if let Some(last) = shape.last_mut() {
            *last /= per;
        }
        let from = before.shape.len();
        let mut bound = Bound::default();
        let e = element(self.write.dtype);
        bound.add("given", per, e, read);
        bound.add("indices", 1, "i32", lowering.reads(self.indices));
        bound.add("written", per, e, lowering.writes(self.write));
        bound.add("faults", 1, "u32", Binding::faults());
        let head = Head::new()
            .count("RANK", shape.len() as u64)
            .count("FROM", from as u64)
            .count("TO", (from + indices.shape.len()) as u64)
            .count("DEPTH", named.shape.len() as u64)
            .flag("PART", held.is_some())
            .line(bound.text.trim_end());
        let count = self.write.view.volume() / per;
        let held = held.unwrap_or(0..0);
        let mut push = vec![count, self.data.view.offset / per, self.indices.view.offset, self.write.view.offset / per];
        push.extend([held.start / per, held.len() / per, self.index_step]);
        push.extend(shape.iter().chain(&steps).chain(&named.shape).copied());
        push.extend(named.strides.iter().map(|step| step / per));
        if push.len() * 4 > lowering.limits.push as usize {
            return fail!(Unsupported, "a gather of {} axes that cannot be joined", shape.len());
        }
        let shader = Shader { source: source!("gather"), head };
        let groups = lines(count, lowering.limits);
        let push = push.into_iter().map(|n| n as u32).collect();
        Ok(Dispatch { shader, bindings: bound.bindings, push, groups, flops: 0, tiled: false, cut: None })
    }

    /// Elements that lie together, in data and output.
    fn per(&self, behind: &Joined, named: &View, held: Option<&Range<usize>>) -> usize {
        let Some((1, rest)) = behind.strides[0].split_last().map(|(last, rest)| (*last, rest)) else { return 1 };
        let mut all = vec![self.data.view.offset, self.write.view.offset, *behind.shape.last().unwrap_or(&1)];
        all.extend(rest.iter().chain(&self.axes[0].strides).chain(&named.strides));
        all.extend(held.iter().flat_map(|held| [held.start, held.end]));
        if per(&all) == 4 { 4 } else { 1 }
    }
}
