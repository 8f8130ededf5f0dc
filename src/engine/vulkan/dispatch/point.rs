//! Steps element by element: unary, binary, comparisons, choices, casts.

use super::bound::Bound;
use super::head::real;
use super::{Binding, Dispatch, Head, Lowering, Shader, element, lines, source};
use crate::error::{Result, fail};
use crate::graph::op::{Activation, Binary, Comparison, Logic, Op, Predicate, Unary};
use crate::graph::plan::{Link, Operand, Source, Step};
use crate::op::view::View;
use crate::value::DType;
use std::fmt::Write;

/// Whether `op` is computed here.
pub(in crate::engine::vulkan) fn is_point(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_) | Op::Binary(_) | Op::Predicate(_) | Op::Comparison(_) | Op::Logic(_) | Op::Where | Op::Cast(_)
    )
}

/// Operands and output are walked together, the output in the order of its memory.
pub(super) fn step(lowering: &mut Lowering, step: &Step, op: &Op) -> Result<Dispatch> {
    let from = (0..step.reads.iter().flatten().count()).map(Source::Read).collect();
    chain(lowering, step, &[Link { op: op.clone(), from, dtype: step.write.dtype }])
}

/// Several operations of the same elements.
pub(super) fn chain(lowering: &mut Lowering, step: &Step, links: &[Link]) -> Result<Dispatch> {
    let reads: Vec<&Operand> = step.reads.iter().flatten().collect();
    let functions = functions(links, &reads)?;
    walk(lowering, &step.name, &reads, &step.write, &functions)
}

/// The elements of the only operand as they are.
pub(super) fn copy(lowering: &mut Lowering, step: &Step) -> Result<Dispatch> {
    let reads: Vec<&Operand> = step.reads.iter().flatten().collect();
    let element = element(step.write.dtype);
    walk(lowering, &step.name, &reads, &step.write, &format!("fn compute(a: {element}) -> {element} {{ return a; }}"))
}

/// One number everywhere.
pub(super) fn fill(lowering: &mut Lowering, step: &Step, value: f32) -> Result<Dispatch> {
    let (element, number) = match element(step.write.dtype) {
        "i32" => ("i32", format!("{}", value as i32)),
        element => (element, real(value)),
    };
    walk(lowering, &step.name, &[], &step.write, &format!("fn compute() -> {element} {{ return {number}; }}"))
}

/// `write = compute(…)` of the elements of `reads`, where `functions` has `compute`.
fn walk(lowering: &mut Lowering, name: &str, reads: &[&Operand], write: &Operand, functions: &str) -> Result<Dispatch> {
    let joined = Joined::walked(reads, write);
    let wide = joined.is_wide();
    let types: Vec<&str> = reads.iter().chain([&write]).map(|operand| element(operand.dtype)).collect();
    let mut bound = Bound::default();
    for (index, operand) in reads.iter().enumerate() {
        let per = if wide && !joined.repeats(index) { 4 } else { 1 };
        bound.add(&format!("bound{index}"), per, types[index], lowering.reads(operand));
    }
    bound.add(&format!("bound{}", reads.len()), if wide { 4 } else { 1 }, types[reads.len()], lowering.writes(write));
    if functions.contains("divisor(") {
        bound.add("faults", 1, "u32", Binding::faults());
        bound.text.push_str("fn divisor(x: i32) -> i32 { if x == 0 { faults[0] = 1u; return 1; } return x; }\n");
    }
    let head = Head::new()
        .count("RANK", joined.shape.len() as u64)
        .count("OPERANDS", types.len() as u64)
        .count("WIDTH", if wide { 4u64 } else { 1 })
        .line(functions.trim_end())
        .line(bound.text.trim_end())
        .line(&stored(&types, &joined, wide));
    let count = write.view.volume() / if wide { 4 } else { 1 };
    let push = joined.push(count);
    if push.len() * 4 > lowering.limits.push as usize {
        return fail!(Unsupported, "{name}: operands of {} axes that cannot be joined", joined.shape.len());
    }
    let groups = lines(count, lowering.limits);
    let shader = Shader { source: source!("point"), head };
    Ok(Dispatch { shader, bindings: bound.bindings, push, groups, flops: 0, tiled: false, cut: None })
}

/// Views of one shape with axes joined where all of them allow it.
pub(in crate::engine::vulkan) struct Joined {
    pub(super) shape: Vec<usize>,
    offsets: Vec<usize>,
    /// Of each view.
    pub(super) strides: Vec<Vec<usize>>,
}

impl Joined {
    /// Operands and, last, what is written, in the order of its memory.
    pub(in crate::engine::vulkan) fn walked(reads: &[&Operand], write: &Operand) -> Joined {
        let order = write.view.memory_order();
        let views: Vec<View> = reads.iter().chain([&write]).map(|operand| operand.view.permuted(&order)).collect();
        Joined::of(&views)
    }

    /// What the shader is told of `count` invocations.
    pub(in crate::engine::vulkan) fn push(&self, count: usize) -> Vec<u32> {
        let numbers = self.shape.iter().chain(&self.offsets).chain(self.strides.iter().flatten());
        std::iter::once(&count).chain(numbers).map(|number| *number as u32).collect()
    }

    pub(super) fn of(views: &[View]) -> Joined {
        let (mut shape, mut strides): (Vec<usize>, Vec<Vec<usize>>) = (Vec::new(), vec![Vec::new(); views.len()]);
        for (axis, &length) in views[0].shape.iter().enumerate().filter(|(_, length)| **length != 1) {
            let joins = !shape.is_empty()
                && views.iter().zip(&strides).all(|(view, own)| own.last() == Some(&(view.strides[axis] * length)));
            for (view, own) in views.iter().zip(&mut strides) {
                if joins {
                    own.pop();
                }
                own.push(view.strides[axis]);
            }
            match shape.last_mut().filter(|_| joins) {
                Some(last) => *last *= length,
                None => shape.push(length),
            }
        }
        if shape.is_empty() {
            shape.push(views[0].volume());
            strides.iter_mut().for_each(|own| own.push(0));
        }
        Joined { shape, offsets: views.iter().map(|view| view.offset).collect(), strides }
    }

    /// Whether four elements along the last axis lie together, or are one, in all views; in the last, which is written, together.
    pub(in crate::engine::vulkan) fn is_wide(&self) -> bool {
        let fours = |view: usize| {
            let (last, rest) = self.strides[view].split_last().expect("at least one axis");
            let aligned = self.offsets[view].is_multiple_of(4) && rest.iter().all(|stride| stride.is_multiple_of(4));
            *last == 0 && view + 1 < self.strides.len() || *last == 1 && aligned
        };
        self.shape.last().is_some_and(|length| length.is_multiple_of(4)) && (0..self.strides.len()).all(fours)
    }

    fn repeats(&self, view: usize) -> bool {
        self.strides[view].last() == Some(&0)
    }
}

const LETTERS: [char; 3] = ['a', 'b', 'c'];

/// A function for every link, and `compute()` of the operands.
fn functions(links: &[Link], reads: &[&Operand]) -> Result<String> {
    let mut all = String::new();
    let mut calls = String::new();
    let dtype = |from: &Source| match from {
        Source::Read(index) => reads[*index].dtype,
        Source::Link(index) => links[*index].dtype,
    };
    for (index, link) in links.iter().enumerate() {
        let types: Vec<DType> = link.from.iter().map(dtype).collect();
        let mut text = expression(&link.op, &types, &format!("activate{index}"), &mut all)?;
        if matches!(link.dtype, DType::I8 | DType::U8) && !matches!(link.op, Op::Cast(_)) {
            text = cast(DType::I32, link.dtype).replace('a', &format!("({text})"));
        }
        let parameters: Vec<String> =
            types.iter().zip(LETTERS).map(|(dtype, letter)| format!("{letter}: {}", element(*dtype))).collect();
        let (parameters, gives) = (parameters.join(", "), element(link.dtype));
        let _ = writeln!(all, "fn link{index}({parameters}) -> {gives} {{ return {text}; }}");
        let given: Vec<String> = link.from.iter().map(name).collect();
        let _ = writeln!(calls, "let l{index} = link{index}({});", given.join(", "));
    }
    let parameters: Vec<String> =
        reads.iter().enumerate().map(|(index, read)| format!("v{index}: {}", element(read.dtype))).collect();
    let (last, end) = (links.len() - 1, &links[links.len() - 1]);
    let (parameters, gives) = (parameters.join(", "), element(end.dtype));
    let _ = writeln!(all, "fn compute({parameters}) -> {gives} {{\n{calls}return l{last};\n}}");
    Ok(all)
}

fn name(from: &Source) -> String {
    match from {
        Source::Read(index) => format!("v{index}"),
        Source::Link(index) => format!("l{index}"),
    }
}

/// `store()`.
fn stored(types: &[&str], joined: &Joined, wide: bool) -> String {
    let (written, read) = types.split_last().expect("something is written");
    let mut all = String::from("fn store(at: array<u32, OPERANDS>) {\n");
    let call = |part: &str| {
        let values: Vec<String> = (0..read.len()).map(|index| format!("v{index}{part}")).collect();
        format!("compute({})", values.join(", "))
    };
    for (index, element) in read.iter().enumerate() {
        let value = match (wide, joined.repeats(index)) {
            (true, true) => format!("vec4<{element}>(get_bound{index}(at[{index}]))"),
            (true, false) => format!("get_bound{index}(at[{index}] / 4u)"),
            (false, _) => format!("get_bound{index}(at[{index}])"),
        };
        let _ = writeln!(all, "let v{index} = {value};");
    }
    let last = read.len();
    let _ = if wide {
        let parts = [".x", ".y", ".z", ".w"].map(call).join(", ");
        writeln!(all, "put_bound{last}(at[{last}] / 4u, vec4<{written}>({parts}));\n}}")
    } else {
        writeln!(all, "put_bound{last}(at[{last}], {});\n}}", call(""))
    };
    all
}

/// An expression of `a`, `b` and `c`, of these types, and the function `activate` that it calls.
fn expression(op: &Op, types: &[DType], activate: &str, helpers: &mut String) -> Result<String> {
    let first = types.first().copied().unwrap_or(DType::F32);
    let whole = element(first) == "i32";
    Ok(match op {
        Op::Unary(op) => unary(*op, whole, activate, helpers),
        Op::Binary(op) => binary(*op, whole).into(),
        Op::Predicate(Predicate::IsNan) => if whole { "0" } else { "i32(is_nan(a))" }.into(),
        Op::Predicate(Predicate::Not) => format!("i32(a == {}(0))", element(first)),
        Op::Comparison(op) => format!("i32(a {} b)", compared(*op)),
        Op::Logic(Logic::And) => "i32(a != 0 && b != 0)".into(),
        Op::Logic(Logic::Or) => "i32(a != 0 || b != 0)".into(),
        Op::Logic(Logic::Xor) => "i32((a != 0) != (b != 0))".into(),
        Op::Where => "select(c, b, a != 0)".into(),
        Op::Cast(to) => cast(first, *to),
        other => return fail!(Engine, "{} is not element by element", other.name()),
    })
}

fn compared(op: Comparison) -> &'static str {
    match op {
        Comparison::Equal => "==",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

pub(super) fn cast(from: DType, to: DType) -> String {
    let whole = element(from) == "i32";
    let number = if whole { "a" } else { "i32(a)" };
    match to {
        DType::F16 | DType::F32 | DType::F64 => if whole { "f32(a)" } else { "a" }.into(),
        DType::Bool => format!("i32(a != {}(0))", element(from)),
        DType::I8 => format!("({number} << 24u) >> 24u"),
        DType::U8 => format!("{number} & 255"),
        DType::I64 | DType::I32 => number.into(),
    }
}

/// Of whole numbers only those that keep them whole; the others are cut, as a cast does.
fn unary(op: Unary, whole: bool, activate: &str, helpers: &mut String) -> String {
    let text = match op {
        Unary::Activation(op) => return activated(op, whole, activate, helpers),
        Unary::Abs => "abs(a)",
        Unary::Neg => "-a",
        Unary::Sign => "sign(a)",
        Unary::Ceil => "ceil(a)",
        Unary::Cos => "cosine(a)",
        Unary::Erf => "error_function(a)",
        Unary::Exp => "exponential(a)",
        Unary::Floor => "floor(a)",
        Unary::Log => "log(a)",
        Unary::Reciprocal => "1.0 / a",
        Unary::Round => "round(a)",
        Unary::Sin => "sine(a)",
        Unary::Softplus => "softplus(a)",
        Unary::Sqrt => "sqrt(a)",
    };
    text.into()
}

fn activated(op: Activation, whole: bool, activate: &str, helpers: &mut String) -> String {
    match op {
        Activation::Relu if whole => return "max(a, 0)".into(),
        Activation::Clamp { lo, hi } if whole => return format!("clamp(a, {}, {})", lo as i32, hi as i32),
        _ => helpers.push_str(&super::activation(activate, op)),
    }
    if whole { format!("i32({activate}(f32(a)))") } else { format!("{activate}(a)") }
}

fn binary(op: Binary, whole: bool) -> &'static str {
    match (op, whole) {
        (Binary::Add, _) => "a + b",
        (Binary::Sub, _) => "a - b",
        (Binary::Mul, _) => "a * b",
        (Binary::Div, true) => "a / divisor(b)",
        (Binary::Div, false) => "a / b",
        (Binary::Pow, true) => "i32(round(power(f32(a), f32(b))))",
        (Binary::Pow, false) => "power(a, b)",
        (Binary::Min, true) => "min(a, b)",
        (Binary::Max, true) => "max(a, b)",
        (Binary::Min, false) => "select(select(b, a, a < b), a, is_nan(a))",
        (Binary::Max, false) => "select(select(b, a, a > b), a, is_nan(a))",
        (Binary::Mod { fmod: false }, true) => "(a % divisor(b) + b) % divisor(b)",
        (Binary::Mod { fmod: true }, true) => "a % divisor(b)",
        (Binary::Mod { fmod: false }, false) => "a - b * floor(a / b)",
        (Binary::Mod { fmod: true }, false) => "a - b * trunc(a / b)",
        (Binary::PRelu, true) => "select(a, a * b, a < 0)",
        (Binary::PRelu, false) => "select(a, a * b, a < 0.0)",
    }
}

/// An expression of `x`, an f32.
pub(super) fn activation(op: Activation) -> String {
    match op {
        Activation::None => "x".into(),
        Activation::Silu => "x * sigmoid(x)".into(),
        Activation::Gelu => "0.5 * x * (1.0 + error_function(x * 0.70710677))".into(),
        Activation::GeluTanh => "x * sigmoid(x * (1.595769 + 0.07135482 * x * x))".into(),
        Activation::QuickGelu => "x * sigmoid(1.702 * x)".into(),
        Activation::Relu => "select(x, 0.0, x < 0.0)".into(),
        Activation::LeakyRelu(slope) => format!("select(x, x * {}, x < 0.0)", real(slope)),
        Activation::Sigmoid => "sigmoid(x)".into(),
        Activation::Tanh => "hyperbolic_tangent(x)".into(),
        Activation::Clamp { lo, hi } => format!("clamp(x, {}, {})", real(lo), real(hi)),
        Activation::HardSigmoid { alpha, beta } => format!("clamp(x * {} + {}, 0.0, 1.0)", real(alpha), real(beta)),
        Activation::HardSwish => "x * clamp(x / 6.0 + 0.5, 0.0, 1.0)".into(),
        Activation::Elu(alpha) => {
            let below = "2.0 * hyperbolic_tangent(0.5 * x) / (1.0 - hyperbolic_tangent(0.5 * x))";
            format!("select(x, {} * {below}, x < 0.0)", real(alpha))
        }
    }
}
