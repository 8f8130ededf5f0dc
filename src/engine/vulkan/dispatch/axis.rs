//! Steps along axes: reductions, softmax, gated halves.

use super::bound::{Bound, activated, per, vector};
use super::point::{Joined, cast};
use super::{Dispatch, Head, Lowering, Shader, element, lines, source, spread};
use crate::engine::vulkan::limits::Limits;
use crate::error::{Result, fail};
use crate::graph::op::{Activation, Reduce};
use crate::graph::plan::{Operand, Step};
use crate::op::view::View;
use crate::value::DType;

/// One half of each row of `x (…, 2N)` times the activation of the other.
pub(super) fn gated(lowering: &mut Lowering, step: &Step, activation: Activation, gate_last: bool) -> Result<Dispatch> {
    let x = only(step)?;
    let width = step.write.view.shape.last().copied().unwrap_or(1);
    let firsts = [x.view.offset, step.write.view.offset];
    let per = per(&[width, firsts[0], firsts[1]]);
    let (bound, v) = given_and_written(lowering, (x, &step.write), per);
    let head = Head::new()
        .flag("GATE_LAST", gate_last)
        .alias("V", &v)
        .line(bound.text.trim_end())
        .line(&activated(per, activation));
    let count = step.write.view.volume() / per;
    let push = [count, width / per, firsts[0] / per, firsts[1] / per].map(|n| n as u32).into();
    let shader = Shader { source: source!("gated"), head };
    let groups = lines(count, lowering.limits);
    Ok(Dispatch { shader, bindings: bound.bindings, push, groups, flops: 0, tiled: false, cut: None })
}

/// Over `axis` of a dense operand.
pub(super) fn softmax(lowering: &mut Lowering, step: &Step, axis: usize) -> Result<Dispatch> {
    let x = only(step)?;
    let shape = &step.write.view.shape;
    let (length, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let rows = step.write.view.volume() / length;
    // Neighbouring invocations read neighbouring numbers.
    let split = if inner >= 8 { Split::of(1, lowering.limits) } else { Split::of(length, lowering.limits) };
    let (bound, _) = given_and_written(lowering, (x, &step.write), 1);
    let head = split.head().line(bound.text.trim_end());
    let push = [rows, length, inner, x.view.offset, step.write.view.offset].map(|n| n as u32).into();
    let shader = Shader { source: source!("softmax"), head };
    let groups = spread(rows.div_ceil(split.sets), lowering.limits);
    Ok(Dispatch { shader, bindings: bound.bindings, push, groups, flops: 0, tiled: false, cut: None })
}

/// Over `axes` of any view; the other axes dense, in their order.
pub(super) fn reduce(lowering: &mut Lowering, step: &Step, kind: Reduce, axes: &[usize]) -> Result<Dispatch> {
    let x = only(step)?;
    if x.dtype != step.write.dtype {
        return fail!(Engine, "{} is not reduced to {}", x.dtype, step.write.dtype);
    }
    let [kept, gone] = parts(&x.view, axes);
    let (results, count) = (step.write.view.volume(), gone.volume());
    let [kept, gone] = [kept, gone].map(|view| Joined::of(&[view]));
    let beside = results >= 4096 && kept.strides[0].last() == Some(&1) && gone.strides[0].last() != Some(&1);
    let split = if beside { Split::of(1, lowering.limits) } else { Split::of(count, lowering.limits) };
    let e = element(x.dtype);
    let (bound, _) = given_and_written(lowering, (x, &step.write), 1);
    let head = split
        .head()
        .count("KEPT", kept.shape.len() as u64)
        .count("GONE", gone.shape.len() as u64)
        .alias("E", e)
        .line(bound.text.trim_end())
        .line(&folded(kind, x.dtype));
    let mut push = [results, count, x.view.offset, step.write.view.offset].map(|n| n as u32).to_vec();
    push.push(start(kind, e == "i32"));
    for axes in [&kept, &gone] {
        push.extend(axes.shape.iter().chain(&axes.strides[0]).map(|n| *n as u32));
    }
    let groups = spread(results.div_ceil(split.sets), lowering.limits);
    fitting(lowering, Shader { source: source!("reduce"), head }, bound, push, groups)
}

/// The index of the greatest along `axis` of any view, in i32; the other axes dense, in their order.
pub(super) fn arg_max(lowering: &mut Lowering, step: &Step, axis: usize, last: bool) -> Result<Dispatch> {
    let x = only(step)?;
    let [kept, gone] = parts(&x.view, &[axis]);
    let kept = Joined::of(&[kept]);
    let (bound, _) = given_and_written(lowering, (x, &step.write), 1);
    let head = Head::new().count("KEPT", kept.shape.len() as u64).flag("LAST", last).line(bound.text.trim_end());
    let results = step.write.view.volume();
    let first = [results, gone.shape[0], gone.strides[0], x.view.offset, step.write.view.offset];
    let push = first.iter().chain(&kept.shape).chain(&kept.strides[0]).map(|n| *n as u32).collect();
    let groups = lines(results, lowering.limits);
    fitting(lowering, Shader { source: source!("greatest"), head }, bound, push, groups)
}

fn fitting(lowering: &Lowering, shader: Shader, bound: Bound, push: Vec<u32>, groups: [u32; 3]) -> Result<Dispatch> {
    if push.len() * 4 > lowering.limits.push as usize {
        return fail!(Unsupported, "axes that cannot be joined");
    }
    Ok(Dispatch { shader, bindings: bound.bindings, push, groups, flops: 0, tiled: false, cut: None })
}

fn only(step: &Step) -> Result<&Operand> {
    match step.reads.first().and_then(Option::as_ref) {
        Some(operand) => Ok(operand),
        None => fail!(Engine, "a step without its operand"),
    }
}

/// The bindings `given` and `written`, with the type of the latter.
fn given_and_written(lowering: &mut Lowering, (x, write): (&Operand, &Operand), per: usize) -> (Bound, String) {
    let mut bound = Bound::default();
    let v = vector(per, element(write.dtype));
    bound.add("given", per, element(x.dtype), lowering.reads(x));
    bound.add("written", per, element(write.dtype), lowering.writes(write));
    (bound, v)
}

/// The axes that stay, and those that go, in memory order.
fn parts(view: &View, axes: &[usize]) -> [View; 2] {
    let (mut gone, kept): (Vec<usize>, Vec<usize>) = (0..view.shape.len()).partition(|axis| axes.contains(axis));
    gone.sort_by_key(|&axis| std::cmp::Reverse(view.strides[axis]));
    [view.permuted(&kept), view.permuted(&gone)]
}

/// How a workgroup takes rows: so many, each by so many invocations.
struct Split {
    lanes: usize,
    sets: usize,
}

impl Split {
    fn of(length: usize, limits: &Limits) -> Split {
        match length {
            ..=16 => Split { lanes: 1, sets: 64 },
            17..=128 => Split { lanes: 8, sets: 8 },
            129..=1024 => Split { lanes: 64, sets: 1 },
            _ => Split { lanes: limits.line().min(256) as usize, sets: 1 },
        }
    }

    fn head(&self) -> Head {
        Head::new().count("LANES", self.lanes as u64).count("SETS", self.sets as u64)
    }
}

/// Bits of the number that a reduction begins with.
fn start(kind: Reduce, whole: bool) -> u32 {
    match (kind, whole) {
        (Reduce::Sum | Reduce::Mean | Reduce::L2, _) => 0,
        (Reduce::Prod, true) => 1,
        (Reduce::Prod, false) => 1f32.to_bits(),
        (Reduce::Max, true) => i32::MIN as u32,
        (Reduce::Max, false) => f32::NEG_INFINITY.to_bits(),
        (Reduce::Min, true) => i32::MAX as u32,
        (Reduce::Min, false) => f32::INFINITY.to_bits(),
    }
}

/// `taken()`, `joined()` and `ended()`.
fn folded(kind: Reduce, dtype: DType) -> String {
    let whole = element(dtype) == "i32";
    let joined = match kind {
        Reduce::Sum | Reduce::Mean | Reduce::L2 => "a + b",
        Reduce::Prod => "a * b",
        Reduce::Max if whole => "max(a, b)",
        Reduce::Min if whole => "min(a, b)",
        Reduce::Max => "select(b, a, is_nan(a) || a > b)",
        Reduce::Min => "select(b, a, is_nan(a) || a < b)",
    };
    let taken = if kind == Reduce::L2 { "x * x" } else { "x" };
    let ended = match (kind, whole) {
        (Reduce::Mean, true) => "a / i32(max(params.count, 1u))",
        (Reduce::Mean, false) => "a / f32(params.count)",
        (Reduce::L2, true) => "i32(sqrt(f32(a)))",
        (Reduce::L2, false) => "sqrt(a)",
        _ => "a",
    };
    let narrow = match dtype {
        DType::I8 | DType::U8 => cast(DType::I32, dtype).replace('a', &format!("({ended})")),
        _ => ended.into(),
    };
    format!(
        "fn taken(x: E) -> E {{ return {taken}; }}\n\
         fn joined(a: E, b: E) -> E {{ return {joined}; }}\n\
         fn ended(a: E) -> E {{ return {narrow}; }}"
    )
}
