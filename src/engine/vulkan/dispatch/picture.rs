//! Steps on pictures, which lie channels-last: resizing and pooling.

use super::bound::{Bound, per, vector};
use super::{Binding, Dispatch, Head, Layout, Lowering, Shader, Upload, lines, source};
use crate::error::{Result, fail};
use crate::graph::op::{Pool, PoolKind, Resize, ResizeMode};
use crate::graph::plan::{Operand, Step};

/// By places and weights that are computed here, as the CPU's kernel computes them: no two devices round alike.
pub(super) fn resize(lowering: &mut Lowering, step: &Step, resize: &Resize) -> Result<Dispatch> {
    let sizes = Sizes::of(step)?;
    let mut table = Vec::new();
    for axis in 0..2 {
        let samples = resize.samples(axis, sizes.from[axis], sizes.to[axis]);
        table.extend(
            samples.into_iter().flat_map(|(first, second, weight)| [first as u32, second as u32, weight.to_bits()]),
        );
    }
    let samples = lowering.upload(Upload { fixed: 0, layout: Layout::Table(table) });
    let v = vector(sizes.per, "f32");
    let mut bound = Bound::default();
    bound.add("given", sizes.per, "f32", lowering.reads(sizes.x));
    bound.add("samples", 1, "u32", Binding::read(samples));
    bound.add("written", sizes.per, "f32", lowering.writes(&step.write));
    let head = Head::new().flag("LINEAR", resize.mode == ResizeMode::Linear).alias("V", &v).line(bound.text.trim_end());
    let shader = Shader { source: source!("resize"), head };
    let groups = lines(sizes.count, lowering.limits);
    Ok(Dispatch { shader, bindings: bound.bindings, push: sizes.push(), groups, flops: 0, tiled: false, cut: None })
}

pub(super) fn pool(lowering: &mut Lowering, step: &Step, pool: &Pool) -> Result<Dispatch> {
    let sizes = Sizes::of(step)?;
    let v = vector(sizes.per, "f32");
    let mut bound = Bound::default();
    bound.add("given", sizes.per, "f32", lowering.reads(sizes.x));
    bound.add("written", sizes.per, "f32", lowering.writes(&step.write));
    let (truths, not_number) = match sizes.per {
        4 => ("vec4<bool>", "vec4<bool>(is_nan(v.x), is_nan(v.y), is_nan(v.z), is_nan(v.w))"),
        _ => ("bool", "is_nan(v)"),
    };
    let head = Head::new()
        .flag("GREATEST", pool.kind == PoolKind::Max)
        .flag("COUNT_PAD", pool.kind == PoolKind::Average { count_pad: true })
        .alias("V", &v)
        .line(bound.text.trim_end())
        .line(&format!("fn not_number(v: V) -> {truths} {{ return {not_number}; }}"));
    let mut push = sizes.push();
    let lengths = [pool.kernel, pool.stride, pool.pads[0], pool.pads[1]];
    push.extend(lengths.as_flattened().iter().map(|n| *n as u32));
    push.push(f32::NEG_INFINITY.to_bits());
    let shader = Shader { source: source!("pool"), head };
    let groups = lines(sizes.count, lowering.limits);
    Ok(Dispatch { shader, bindings: bound.bindings, push, groups, flops: 0, tiled: false, cut: None })
}

struct Sizes<'a> {
    x: &'a Operand,
    /// Height and width.
    from: [usize; 2],
    to: [usize; 2],
    channels: usize,
    /// Channels of an invocation.
    per: usize,
    /// Invocations.
    count: usize,
    written: usize,
}

impl Sizes<'_> {
    fn of(step: &Step) -> Result<Sizes<'_>> {
        let Some(x) = step.reads.first().and_then(Option::as_ref) else {
            return fail!(Engine, "a step without its picture");
        };
        let (to, written) = (&step.write.view.shape, step.write.view.offset);
        let channels = to[1];
        let per = if per(&[channels, x.view.offset, written]) == 4 { 4 } else { 1 };
        let count = step.write.view.volume() / per;
        Ok(Sizes { x, from: spatial(&x.view.shape), to: spatial(to), channels, per, count, written })
    }

    fn push(&self) -> Vec<u32> {
        let ([from_rows, from_columns], [rows, columns]) = (self.from, self.to);
        let firsts = [self.count, self.x.view.offset / self.per, self.written / self.per, self.channels / self.per];
        firsts.into_iter().chain([from_rows, from_columns, rows, columns]).map(|n| n as u32).collect()
    }
}

/// Height and width of `(N, C, H, W)` or `(N, C, L)`.
fn spatial(shape: &[usize]) -> [usize; 2] {
    match shape[2..] {
        [length] => [1, length],
        [height, width] => [height, width],
        _ => [1, 1],
    }
}
