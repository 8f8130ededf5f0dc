//! Steps without a kernel of their own: element by element, over strided views.

use super::arena::{Arena, Plain, Reads};
use super::play::{Scene, Slice, activation_of};
use crate::error::{Result, fail};
use crate::graph::op::{Activation, Binary, Coordinates, Pool, PoolKind, Reduce, Resize, ResizeMode, Unary};
use crate::graph::plan::At;
use crate::op::gated::Gated;
use crate::op::simd::{self, Map};
use crate::op::view::View;
use crate::value::DType;

/// Several views over the same elements: common loops, the innermost along the memory of the first.
struct Loops {
    shape: Vec<usize>,
    /// For each view, its strides and where it begins.
    strides: Vec<Vec<usize>>,
    offsets: Vec<usize>,
}

impl Loops {
    /// `views` have one shape.
    fn over(views: &[&View]) -> Loops {
        let first = views[0];
        let mut axes: Vec<usize> = (0..first.shape.len()).filter(|&axis| first.shape[axis] != 1).collect();
        axes.sort_by_key(|&axis| std::cmp::Reverse(first.strides[axis]));
        let mut shape: Vec<usize> = Vec::new();
        let mut strides: Vec<Vec<usize>> = vec![Vec::new(); views.len()];
        for axis in axes {
            let outer = shape.last().copied();
            let joins = |(view, strides): (&&View, &Vec<usize>)| {
                strides.last().is_some_and(|stride| *stride == view.strides[axis] * view.shape[axis])
            };
            if let (Some(outer), true) = (outer, views.iter().zip(&strides).all(joins)) {
                let last = shape.len() - 1;
                shape[last] = outer * first.shape[axis];
                views.iter().zip(&mut strides).for_each(|(view, strides)| strides[last] = view.strides[axis]);
            } else {
                shape.push(first.shape[axis]);
                views.iter().zip(&mut strides).for_each(|(view, strides)| strides.push(view.strides[axis]));
            }
        }
        if shape.is_empty() {
            shape.push(1);
            strides.iter_mut().for_each(|strides| strides.push(1));
        }
        Loops { shape, strides, offsets: views.iter().map(|view| view.offset).collect() }
    }

    /// Calls `row` with where each view begins, for each run of [`Loops::length`] elements.
    fn each(&self, mut row: impl FnMut(&[usize])) {
        if self.shape.contains(&0) {
            return;
        }
        let outer = self.shape.len() - 1;
        let mut index = vec![0; outer];
        let mut at = self.offsets.clone();
        loop {
            row(&at);
            let mut axis = outer;
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                at.iter_mut().zip(&self.strides).for_each(|(at, strides)| *at += strides[axis]);
                if index[axis] < self.shape[axis] {
                    break;
                }
                at.iter_mut().zip(&self.strides).for_each(|(at, strides)| *at -= strides[axis] * self.shape[axis]);
                index[axis] = 0;
            }
        }
    }

    fn length(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The innermost stride of a view.
    fn step(&self, view: usize) -> usize {
        self.strides[view].last().copied().unwrap_or(1)
    }
}

/// Copies typed elements from view to view.
pub(super) fn copy(scene: &Scene, arena: &mut Arena) -> Result<()> {
    match scene.step.write.dtype {
        DType::F32 => copy_of(scene, arena, |slice| if let Slice::F32(values) = slice { values } else { &[] }),
        DType::F64 => copy_of(scene, arena, |slice| if let Slice::F64(values) = slice { values } else { &[] }),
        DType::I64 => copy_of(scene, arena, |slice| if let Slice::I64(values) = slice { values } else { &[] }),
        DType::I32 => copy_of(scene, arena, |slice| if let Slice::I32(values) = slice { values } else { &[] }),
        DType::I8 => copy_of(scene, arena, |slice| if let Slice::I8(values) = slice { values } else { &[] }),
        DType::U8 | DType::Bool => {
            copy_of(scene, arena, |slice| if let Slice::U8(values) = slice { values } else { &[] })
        }
        DType::F16 => fail!(Engine, "float16 is not copied"),
    }
}

fn copy_of<T: Plain>(scene: &Scene, arena: &mut Arena, typed: impl for<'b> Fn(Slice<'b>) -> &'b [T]) -> Result<()> {
    let (reads, out) = scene.lend::<T>(arena);
    let from = typed(scene.slice(&reads, 0));
    let loops = Loops::over(&[&scene.step.write.view, &scene.given(0).view]);
    let (length, to_step, from_step) = (loops.length(), loops.step(0), loops.step(1));
    loops.each(|at| {
        if to_step == 1 && from_step == 1 {
            out[at[0]..][..length].copy_from_slice(&from[at[1]..][..length]);
        } else {
            (0..length).for_each(|i| out[at[0] + i * to_step] = from[at[1] + i * from_step]);
        }
    });
    Ok(())
}

pub(super) fn fill(scene: &Scene, arena: &mut Arena, value: f32) -> Result<()> {
    let view = &scene.step.write.view;
    match scene.step.write.dtype {
        DType::F32 => {
            let (_, out) = scene.lend::<f32>(arena);
            view.each(|at| out[at] = value);
        }
        DType::I64 => {
            let (_, out) = scene.lend::<i64>(arena);
            view.each(|at| out[at] = value as i64);
        }
        other => return fail!(Engine, "{other} is not filled"),
    }
    Ok(())
}

/// Computes numbers one by one into whatever type is written.
fn numbers(scene: &Scene, arena: &mut Arena, f: impl Fn(&[f64]) -> f64) -> Result<()> {
    macro_rules! write {
        ($type:ty, $convert:expr) => {{
            let (reads, out) = scene.lend::<$type>(arena);
            let count = scene.step.reads.len();
            let slices: Vec<Slice> = (0..count).map(|index| scene.slice(&reads, index)).collect();
            let views: Vec<&View> = std::iter::once(&scene.step.write.view)
                .chain((0..count).map(|index| &scene.given(index).view))
                .collect();
            let loops = Loops::over(&views);
            let mut operands = vec![0.0; count];
            loops.each(|at| {
                for i in 0..loops.length() {
                    for (index, slice) in slices.iter().enumerate() {
                        operands[index] = slice.number(at[index + 1] + i * loops.step(index + 1));
                    }
                    out[at[0] + i * loops.step(0)] = $convert(f(&operands));
                }
            });
        }};
    }
    match scene.step.write.dtype {
        DType::F32 => write!(f32, |x| x as f32),
        DType::F64 => write!(f64, |x| x),
        DType::I64 => write!(i64, |x| x as i64),
        DType::I32 => write!(i32, |x| x as i32),
        DType::I8 => write!(i8, |x| x as i64 as i8),
        DType::U8 => write!(u8, |x| x as i64 as u8),
        DType::Bool => write!(u8, |x: f64| u8::from(x != 0.0)),
        DType::F16 => return fail!(Engine, "float16 is not computed"),
    }
    Ok(())
}

pub(super) fn cast(scene: &Scene, arena: &mut Arena) -> Result<()> {
    numbers(scene, arena, |x| x[0])
}

pub(super) fn choose(scene: &Scene, arena: &mut Arena) -> Result<()> {
    numbers(scene, arena, |x| if x[0] != 0.0 { x[1] } else { x[2] })
}

/// An activation of floats that lie alike in operand and output.
pub(super) fn activate(scene: &Scene, arena: &mut Arena, activation: Activation) -> Result<()> {
    let f = activation_of(activation);
    let (reads, out) = scene.lend::<f32>(arena);
    let from = scene.floats(&reads, 0);
    let loops = Loops::over(&[&scene.step.write.view, &scene.given(0).view]);
    let length = loops.length();
    let mut row = vec![0.0; if loops.step(1) == 1 { 0 } else { length }];
    loops.each(|at| {
        let output = &mut out[at[0]..][..length];
        if loops.step(1) == 1 {
            return simd::dispatch(Map { f, input: &from[at[1]..][..length], output });
        }
        row.iter_mut().enumerate().for_each(|(i, x)| *x = from[at[1] + i * loops.step(1)]);
        simd::dispatch(Map { f, input: &row, output });
    });
    Ok(())
}

pub(super) fn unary(scene: &Scene, arena: &mut Arena, op: Unary) -> Result<()> {
    if scene.step.write.dtype == DType::F32 && scene.given(0).dtype == DType::F32 {
        let (reads, out) = scene.lend::<f32>(arena);
        let from = scene.floats(&reads, 0);
        let loops = Loops::over(&[&scene.step.write.view, &scene.given(0).view]);
        loops.each(|at| {
            (0..loops.length()).for_each(|i| out[at[0] + i] = one(op, from[at[1] + i * loops.step(1)]));
        });
        return Ok(());
    }
    numbers(scene, arena, |x| match op {
        Unary::Not => f64::from(x[0] == 0.0),
        Unary::IsNan => f64::from(x[0].is_nan()),
        Unary::Abs => x[0].abs(),
        Unary::Neg => -x[0],
        Unary::Sign => sign(x[0]),
        Unary::Clip { low, high } => x[0].max(low.into()).min(high.into()),
        _ => f64::from(one(op, x[0] as f32)),
    })
}

fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { x.signum() }
}

fn one(op: Unary, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match op {
        Unary::Activation(activation) => match activation {
            Activation::None => x,
            Activation::Relu => x.max(0.0),
            Activation::Silu => x * sigmoid(x),
            Activation::Gelu => x * 0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
            Activation::GeluTanh => x * sigmoid(1.595_769 * (x + 0.044715 * x * x * x)),
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
        },
        Unary::Abs => x.abs(),
        Unary::Ceil => x.ceil(),
        Unary::Clip { low, high } => x.max(low).min(high),
        Unary::Cos => libm::cosf(x),
        Unary::Elu { alpha } => {
            if x < 0.0 {
                alpha * x.exp_m1()
            } else {
                x
            }
        }
        Unary::Erf => libm::erff(x),
        Unary::Exp => libm::expf(x),
        Unary::Floor => x.floor(),
        Unary::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        Unary::IsNan => f32::from(u8::from(x.is_nan())),
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha * x
            } else {
                x
            }
        }
        Unary::Log => libm::logf(x),
        Unary::Neg => -x,
        Unary::Not => f32::from(u8::from(x == 0.0)),
        Unary::Reciprocal => 1.0 / x,
        Unary::Round => x.round_ties_even(),
        Unary::Sign => sign(x.into()) as f32,
        Unary::Sin => libm::sinf(x),
        Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Unary::Sqrt => x.sqrt(),
    }
}

pub(super) fn binary(scene: &Scene, arena: &mut Arena, op: Binary) -> Result<()> {
    let floats = [scene.step.write.dtype, scene.given(0).dtype, scene.given(1).dtype] == [DType::F32; 3];
    match op {
        Binary::Add if floats => pairs(scene, arena, |a, b| a + b),
        Binary::Sub if floats => pairs(scene, arena, |a, b| a - b),
        Binary::Mul if floats => pairs(scene, arena, |a, b| a * b),
        Binary::Div if floats => pairs(scene, arena, |a, b| a / b),
        Binary::Pow if floats => pairs(scene, arena, power),
        Binary::PRelu if floats => pairs(scene, arena, |a, b| if a < 0.0 { a * b } else { a }),
        Binary::Min if floats => pairs(scene, arena, |a, b| if a.is_nan() || a < b { a } else { b }),
        Binary::Max if floats => pairs(scene, arena, |a, b| if a.is_nan() || a > b { a } else { b }),
        // 64-bit integers above 2^53 are no numbers of f64; graphs count pieces and pixels.
        _ => {
            let whole = !scene.given(0).dtype.is_float();
            if whole && matches!(op, Binary::Div | Binary::Mod { .. }) {
                no_zeros(scene, arena)?;
            }
            numbers(scene, arena, |x| two(op, x[0], x[1], whole))
        }
    }
}

/// Whole numbers have no infinity.
fn no_zeros(scene: &Scene, arena: &mut Arena) -> Result<()> {
    let zero = match scene.step.write.dtype {
        DType::I64 => has_zero(scene, &scene.lend::<i64>(arena).0),
        DType::I32 => has_zero(scene, &scene.lend::<i32>(arena).0),
        DType::I8 => has_zero(scene, &scene.lend::<i8>(arena).0),
        _ => has_zero(scene, &scene.lend::<u8>(arena).0),
    };
    if zero { fail!(Engine, "a whole number is divided by zero") } else { Ok(()) }
}

fn has_zero(scene: &Scene, reads: &Reads) -> bool {
    let divisors = scene.slice(reads, 1);
    let mut zero = false;
    scene.given(1).view.each(|at| zero |= divisors.number(at) == 0.0);
    zero
}

fn power(a: f32, b: f32) -> f32 {
    if b == 2.0 { a * a } else { libm::powf(a, b) }
}

fn two(op: Binary, a: f64, b: f64, whole: bool) -> f64 {
    let truth = |truth: bool| f64::from(u8::from(truth));
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div if whole => (a / b).trunc(),
        Binary::Div => a / b,
        Binary::Pow => a.powf(b),
        Binary::Min => {
            if a.is_nan() || a < b {
                a
            } else {
                b
            }
        }
        Binary::Max => {
            if a.is_nan() || a > b {
                a
            } else {
                b
            }
        }
        Binary::Mod { fmod: true } => a % b,
        Binary::Mod { fmod: false } => a - (a / b).floor() * b,
        Binary::PRelu => {
            if a < 0.0 {
                a * b
            } else {
                a
            }
        }
        Binary::Equal => truth(a == b),
        Binary::Less => truth(a < b),
        Binary::LessOrEqual => truth(a <= b),
        Binary::Greater => truth(a > b),
        Binary::GreaterOrEqual => truth(a >= b),
        Binary::And => truth(a != 0.0 && b != 0.0),
        Binary::Or => truth(a != 0.0 || b != 0.0),
        Binary::Xor => truth((a != 0.0) != (b != 0.0)),
    }
}

/// Floats of two operands; the usual ways in which they lie have loops of their own.
fn pairs(scene: &Scene, arena: &mut Arena, f: impl Fn(f32, f32) -> f32) -> Result<()> {
    let (reads, out) = scene.lend::<f32>(arena);
    let (a, b) = (scene.floats(&reads, 0), scene.floats(&reads, 1));
    let loops = Loops::over(&[&scene.step.write.view, &scene.given(0).view, &scene.given(1).view]);
    let length = loops.length();
    let steps = (loops.step(1), loops.step(2));
    loops.each(|at| {
        let out = &mut out[at[0]..][..length];
        match steps {
            (1, 1) => {
                let operands = a[at[1]..][..length].iter().zip(&b[at[2]..][..length]);
                out.iter_mut().zip(operands).for_each(|(out, (a, b))| *out = f(*a, *b));
            }
            (1, 0) => {
                let b = b[at[2]];
                out.iter_mut().zip(&a[at[1]..][..length]).for_each(|(out, a)| *out = f(*a, b));
            }
            (0, 1) => {
                let a = a[at[1]];
                out.iter_mut().zip(&b[at[2]..][..length]).for_each(|(out, b)| *out = f(a, *b));
            }
            (x, y) => {
                out.iter_mut().enumerate().for_each(|(i, out)| *out = f(a[at[1] + i * x], b[at[2] + i * y]));
            }
        }
    });
    Ok(())
}

/// Half of each row times the activation of the other half.
pub(super) fn gated(scene: &Scene, arena: &mut Arena, activation: Activation, gate_last: bool) -> Result<()> {
    let (reads, out) = scene.lend::<f32>(arena);
    let width = scene.step.write.view.shape.last().copied().unwrap_or(1).max(1);
    let gated = Gated { rows: out.len() / width, width, activation: activation_of(activation), gate_last };
    gated.run(scene.cpu, scene.dense(&reads, 0), out);
    Ok(())
}

/// The view of what is kept and the view of what is reduced, each from element 0.
fn apart(view: &View, axes: &[usize]) -> (View, View) {
    let kept: Vec<usize> = (0..view.shape.len()).filter(|axis| !axes.contains(axis)).collect();
    let inner = View { offset: 0, ..view.permuted(axes) };
    (view.permuted(&kept), inner)
}

pub(super) fn reduce(scene: &Scene, arena: &mut Arena, kind: Reduce, axes: &[usize]) -> Result<()> {
    let (kept, inner) = apart(&scene.given(0).view, axes);
    let count = inner.volume() as f64;
    let all = |slice: &Slice, start: usize| {
        let mut sum = match kind {
            Reduce::Prod => 1.0,
            Reduce::Max => f64::NEG_INFINITY,
            Reduce::Min => f64::INFINITY,
            _ => 0.0,
        };
        inner.each(|at| {
            let x = slice.number(start + at);
            sum = match kind {
                Reduce::Sum | Reduce::Mean => sum + x,
                Reduce::L2 => sum + x * x,
                Reduce::Max => sum.max(x),
                Reduce::Min => sum.min(x),
                Reduce::Prod => sum * x,
            };
        });
        match kind {
            Reduce::Mean => sum / count,
            Reduce::L2 => sum.sqrt(),
            _ => sum,
        }
    };
    macro_rules! write {
        ($type:ty) => {{
            let (reads, out) = scene.lend::<$type>(arena);
            let slice = scene.slice(&reads, 0);
            let mut index = 0;
            kept.each(|start| {
                out[index] = all(&slice, start) as $type;
                index += 1;
            });
        }};
    }
    match scene.step.write.dtype {
        DType::F32 => write!(f32),
        DType::F64 => write!(f64),
        DType::I64 => write!(i64),
        DType::I32 => write!(i32),
        other => return fail!(Engine, "{other} is not reduced"),
    }
    Ok(())
}

pub(super) fn arg_max(scene: &Scene, arena: &mut Arena, axis: usize, last: bool) -> Result<()> {
    let (kept, inner) = apart(&scene.given(0).view, &[axis]);
    let (reads, out) = scene.lend::<i64>(arena);
    let slice = scene.slice(&reads, 0);
    let mut index = 0;
    kept.each(|start| {
        let (mut best, mut place, mut i) = (f64::NEG_INFINITY, 0, 0);
        inner.each(|at| {
            let x = slice.number(start + at);
            if x > best || (last && x == best) {
                (best, place) = (x, i);
            }
            i += 1;
        });
        out[index] = place;
        index += 1;
    });
    Ok(())
}

/// The operand lies row-major.
pub(super) fn softmax(scene: &Scene, arena: &mut Arena, axis: usize) -> Result<()> {
    let (reads, out) = scene.lend::<f32>(arena);
    let from = scene.dense(&reads, 0);
    let shape = &scene.step.write.view.shape;
    let (length, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    for (from, out) in from.chunks((length * inner).max(1)).zip(out.chunks_mut((length * inner).max(1))) {
        for i in 0..inner {
            let places = || (0..length).map(move |k| k * inner + i);
            let most = places().fold(f32::NEG_INFINITY, |most, at| most.max(from[at]));
            let mut sum = 0.0;
            for at in places() {
                out[at] = libm::expf(from[at] - most);
                sum += f64::from(out[at]);
            }
            let factor = (1.0 / sum) as f32;
            places().for_each(|at| out[at] *= factor);
        }
    }
    Ok(())
}

pub(super) fn gather(scene: &Scene, arena: &mut Arena, axis: usize) -> Result<()> {
    match scene.step.write.dtype {
        DType::F32 if axis == 0 && scene.is_file_table() => gather_rows(scene, arena),
        DType::F32 => gather_of(scene, arena, axis, |slice| if let Slice::F32(values) = slice { values } else { &[] }),
        DType::I64 => gather_of(scene, arena, axis, |slice| if let Slice::I64(values) = slice { values } else { &[] }),
        DType::I32 => gather_of(scene, arena, axis, |slice| if let Slice::I32(values) = slice { values } else { &[] }),
        other => fail!(Engine, "{other} is not gathered"),
    }
}

/// Each row of indices names a place along the first axes.
pub(super) fn gather_nd(scene: &Scene, arena: &mut Arena) -> Result<()> {
    if scene.step.write.dtype != DType::F32 {
        return fail!(Engine, "{} is not gathered", scene.step.write.dtype);
    }
    let (reads, out) = scene.lend::<f32>(arena);
    let view = &scene.given(0).view;
    let from = scene.floats(&reads, 0);
    let indices = &scene.given(1).view;
    let depth = indices.shape.last().copied().unwrap_or(0);
    let numbers = scene.slice(&reads, 1);
    let mut places = Vec::new();
    indices.each(|at| places.push(numbers.number(at) as i64));
    let inner = View { offset: 0, shape: view.shape[depth..].to_vec(), strides: view.strides[depth..].to_vec() };
    for (tuple, out) in places.chunks(depth.max(1)).zip(out.chunks_mut(inner.volume().max(1))) {
        let mut start = view.offset;
        for (axis, index) in tuple.iter().enumerate() {
            start += place(*index, view.shape[axis])? * view.strides[axis];
        }
        let mut to = out.iter_mut();
        inner.each(|at| {
            if let Some(to) = to.next() {
                *to = from[start + at];
            }
        });
    }
    Ok(())
}

/// An index that may count from behind.
fn place(index: i64, length: usize) -> Result<usize> {
    let from_front = if index < 0 { index + length as i64 } else { index };
    match usize::try_from(from_front).ok().filter(|index| *index < length) {
        Some(index) => Ok(index),
        None => fail!(Mismatch, "index {index} of {length}"),
    }
}

/// Places of the indices, checked.
fn indices(scene: &Scene, slice: &Slice, length: usize) -> Result<Vec<usize>> {
    let mut places = Vec::new();
    scene.given(1).view.each(|at| places.push(slice.number(at) as i64));
    places.into_iter().map(|index| place(index, length)).collect()
}

fn gather_of<T: Plain>(
    scene: &Scene,
    arena: &mut Arena,
    axis: usize,
    typed: impl for<'b> Fn(Slice<'b>) -> &'b [T],
) -> Result<()> {
    let (reads, out) = scene.lend::<T>(arena);
    let view = &scene.given(0).view;
    let from = typed(scene.slice(&reads, 0));
    let indices = indices(scene, &scene.slice(&reads, 1), view.shape[axis])?;
    let outer = View { offset: 0, shape: view.shape[..axis].to_vec(), strides: view.strides[..axis].to_vec() };
    let inner = View { offset: 0, shape: view.shape[axis + 1..].to_vec(), strides: view.strides[axis + 1..].to_vec() };
    let mut to = out.iter_mut();
    outer.each(|start| {
        for index in &indices {
            let start = view.offset + start + index * view.strides[axis];
            inner.each(|at| {
                if let Some(to) = to.next() {
                    *to = from[start + at];
                }
            });
        }
    });
    Ok(())
}

/// Rows of a table in the model's file, which is not read as a whole.
fn gather_rows(scene: &Scene, arena: &mut Arena) -> Result<()> {
    let (reads, out) = scene.lend::<f32>(arena);
    let view = &scene.given(0).view;
    let indices = indices(scene, &scene.slice(&reads, 1), view.shape[0])?;
    let width: usize = view.shape[1..].iter().product();
    let At::Fixed(table) = scene.given(0).at else { return Ok(()) };
    let Some(weight) = scene.fixed[table].weight() else { return Ok(()) };
    for (index, out) in indices.into_iter().zip(out.chunks_mut(width.max(1))) {
        weight.widen_part(index * width, out);
    }
    Ok(())
}

impl Scene<'_> {
    /// Whether the first operand is a weight that lies in its file as it is seen.
    fn is_file_table(&self) -> bool {
        let table = self.given(0);
        let weight = matches!(table.at, At::Fixed(index) if self.fixed[index].weight().is_some());
        weight && table.view.offset == 0 && table.view.is_dense()
    }
}

/// Pictures channels-last.
pub(super) fn resize(scene: &Scene, arena: &mut Arena, resize: &Resize) -> Result<()> {
    let (reads, out) = scene.lend::<f32>(arena);
    let from = scene.dense(&reads, 0);
    let [_, channels, height, width] = scene.given(0).view.shape[..] else {
        return fail!(Engine, "a picture has four axes");
    };
    let [_, _, out_height, out_width] = scene.step.write.view.shape[..] else {
        return fail!(Engine, "a picture has four axes");
    };
    let rows = samples(resize, 0, height, out_height);
    let columns = samples(resize, 1, width, out_width);
    let row = channels * width;
    for (picture, out) in
        from.chunks((row * height).max(1)).zip(out.chunks_mut((channels * out_width * out_height).max(1)))
    {
        for (y, out) in rows.iter().zip(out.chunks_mut((channels * out_width).max(1))) {
            for (x, out) in columns.iter().zip(out.chunks_mut(channels.max(1))) {
                let pixel = |y: usize, x: usize| &picture[y * row + x * channels..][..channels];
                let corners = [pixel(y.low, x.low), pixel(y.low, x.high), pixel(y.high, x.low), pixel(y.high, x.high)];
                for (c, out) in out.iter_mut().enumerate() {
                    let [a, b, d, e] = corners.map(|corner| corner[c]);
                    let (top, bottom) = (a + (b - a) * x.part, d + (e - d) * x.part);
                    *out = top + (bottom - top) * y.part;
                }
            }
        }
    }
    Ok(())
}

/// Between which two input lines an output line lies.
struct Sample {
    low: usize,
    high: usize,
    part: f32,
}

fn samples(resize: &Resize, axis: usize, length: usize, out: usize) -> Vec<Sample> {
    let scale = f64::from(resize.scales[axis]);
    let last = length.saturating_sub(1);
    let sample = |index: usize| {
        let i = index as f64;
        let x = match resize.coordinates {
            Coordinates::Asymmetric => i / scale,
            Coordinates::HalfPixel => (i + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel => {
                if out > 1 {
                    (i + 0.5) / scale - 0.5
                } else {
                    0.0
                }
            }
            Coordinates::AlignCorners => {
                if out > 1 {
                    i * last as f64 / (out - 1) as f64
                } else {
                    0.0
                }
            }
        };
        let whole = |x: f64| (x.max(0.0) as usize).min(last);
        let nearest = |x: f64| Sample { low: whole(x), high: whole(x), part: 0.0 };
        match resize.mode {
            ResizeMode::NearestFloor => nearest(x.floor()),
            ResizeMode::NearestCeil => nearest(x.ceil()),
            ResizeMode::NearestRoundPreferFloor => nearest((x - 0.5).ceil()),
            ResizeMode::NearestRoundPreferCeil => nearest((x + 0.5).floor()),
            ResizeMode::Linear => {
                let x = x.clamp(0.0, last as f64);
                Sample { low: whole(x.floor()), high: whole(x.floor() + 1.0), part: (x - x.floor()) as f32 }
            }
        }
    };
    (0..out).map(sample).collect()
}

/// Pictures channels-last.
pub(super) fn pool(scene: &Scene, arena: &mut Arena, pool: &Pool) -> Result<()> {
    let (reads, out) = scene.lend::<f32>(arena);
    let from = scene.dense(&reads, 0);
    let (input, output) = (&scene.given(0).view.shape, &scene.step.write.view.shape);
    let lines = |shape: &[usize]| match shape[2..] {
        [length] => (1, length),
        [height, width] => (height, width),
        _ => (1, 1),
    };
    let ((height, width), (out_height, out_width), channels) = (lines(input), lines(output), input[1]);
    let span = |index: usize, axis: usize, length: usize| {
        let start = (index * pool.stride[axis]) as isize - pool.pads[0][axis] as isize;
        let end = start + pool.kernel[axis] as isize;
        let padded = (length + pool.pads[1][axis]) as isize;
        (start.max(0) as usize..end.clamp(0, length as isize) as usize, (end.min(padded) - start).max(1) as usize)
    };
    for n in 0..input[0] {
        for y in 0..out_height {
            for x in 0..out_width {
                let ((rows, tall), (columns, wide)) = (span(y, 0, height), span(x, 1, width));
                let seen = rows.len() * columns.len();
                let count = match pool.kind {
                    PoolKind::Average { count_pad: true } => tall * wide,
                    _ => seen,
                };
                for c in 0..channels {
                    let mut most = f32::NEG_INFINITY;
                    let mut sum = 0.0f64;
                    for (row, column) in rows.clone().flat_map(|row| columns.clone().map(move |column| (row, column))) {
                        let value = from[((n * height + row) * width + column) * channels + c];
                        most = most.max(value);
                        sum += f64::from(value);
                    }
                    out[((n * out_height + y) * out_width + x) * channels + c] = match pool.kind {
                        PoolKind::Max => most,
                        PoolKind::Average { .. } => (sum / count.max(1) as f64) as f32,
                    };
                }
            }
        }
    }
    Ok(())
}
