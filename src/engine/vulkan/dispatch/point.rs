//! Steps element by element: unary, binary, comparisons, choices, casts.

use super::head::real;
use super::{Binding, Dispatch, Head, Lowering, Shader, Slot, element, lines, source};
use crate::error::{Result, fail};
use crate::graph::op::{Activation, Binary, Comparison, Logic, Op, Predicate, Unary};
use crate::graph::plan::{Operand, Step};
use crate::op::view::View;
use crate::value::DType;
use std::fmt::Write;

/// Operands and output are walked together, the output in the order of its memory.
pub(super) fn step(lowering: &mut Lowering, step: &Step, op: &Op) -> Result<Dispatch> {
    let mut helpers = String::new();
    let mut text = expression(op, step, &mut helpers)?;
    if matches!(step.write.dtype, DType::I8 | DType::U8) && !matches!(op, Op::Cast(_)) {
        text = cast(DType::I32, step.write.dtype).replace('a', &format!("({text})"));
    }
    let reads: Vec<&Operand> = step.reads.iter().flatten().collect();
    walk(lowering, &step.name, &reads, &step.write, &text, &helpers)
}

/// The elements of `from` at the places that `to` shows.
pub(super) fn copy(lowering: &mut Lowering, step: &Step) -> Result<Dispatch> {
    let reads: Vec<&Operand> = step.reads.iter().flatten().collect();
    walk(lowering, &step.name, &reads, &step.write, "a", "")
}

/// One number everywhere.
pub(super) fn fill(lowering: &mut Lowering, step: &Step, value: f32) -> Result<Dispatch> {
    let text = match element(step.write.dtype) {
        "i32" => format!("{}", value as i32),
        _ => real(value),
    };
    walk(lowering, &step.name, &[], &step.write, &text, "")
}

/// `write = text` of the elements `a`, `b` and `c` of `reads`.
fn walk(
    lowering: &mut Lowering,
    name: &str,
    reads: &[&Operand],
    write: &Operand,
    text: &str,
    helpers: &str,
) -> Result<Dispatch> {
    let order = write.view.memory_order();
    let views: Vec<View> = reads.iter().chain([&write]).map(|operand| operand.view.permuted(&order)).collect();
    let joined = Joined::of(&views);
    let wide = joined.is_wide();
    let mut bindings: Vec<Binding> = reads.iter().map(|operand| lowering.reads(operand)).collect();
    bindings.push(lowering.writes(write));
    let faults = text.contains("divisor(");
    if faults {
        bindings.push(Binding { slot: Slot::Faults, writes: true });
    }
    let types: Vec<&str> = reads.iter().chain([&write]).map(|operand| element(operand.dtype)).collect();
    let head = Head::new()
        .count("RANK", joined.shape.len() as u64)
        .count("OPERANDS", views.len() as u64)
        .count("WIDTH", if wide { 4u64 } else { 1 })
        .line(helpers.trim_end())
        .line(&declared(&types, &joined, wide, faults))
        .line(&stored(&types, &joined, wide, text));
    let count = views[0].volume() / if wide { 4 } else { 1 };
    let mut push = vec![count as u32];
    push.extend(joined.shape.iter().map(|length| *length as u32));
    push.extend(joined.offsets.iter().map(|offset| *offset as u32));
    push.extend(joined.strides.iter().flatten().map(|stride| *stride as u32));
    if push.len() * 4 > lowering.limits.push as usize {
        return fail!(Unsupported, "{name}: operands of {} axes that cannot be joined", joined.shape.len());
    }
    let groups = lines(count, lowering.limits);
    Ok(Dispatch { shader: Shader { source: source!("point"), head }, bindings, push, groups, flops: 0, tiled: false })
}

/// Views of one shape with axes joined where all of them allow it.
pub(super) struct Joined {
    pub(super) shape: Vec<usize>,
    offsets: Vec<usize>,
    /// Of each view.
    pub(super) strides: Vec<Vec<usize>>,
}

impl Joined {
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
    fn is_wide(&self) -> bool {
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

/// The bindings, the written one behind those that are read.
fn declared(types: &[&str], joined: &Joined, wide: bool, faults: bool) -> String {
    let mut text = String::new();
    for (index, element) in types.iter().enumerate() {
        let bound = if wide && !joined.repeats(index) { format!("vec4<{element}>") } else { (*element).into() };
        let access = if index + 1 == types.len() { "read_write" } else { "read" };
        let _ = writeln!(text, "@group(0) @binding({index}) var<storage, {access}> bound{index}: array<{bound}>;");
    }
    if faults {
        let _ = writeln!(text, "@group(0) @binding({}) var<storage, read_write> faults: array<u32>;", types.len());
        text.push_str("fn divisor(x: i32) -> i32 { if x == 0 { faults[0] = 1u; return 1; } return x; }\n");
    }
    text
}

/// `compute()` and `store()`.
fn stored(types: &[&str], joined: &Joined, wide: bool, text: &str) -> String {
    let (written, read) = types.split_last().expect("something is written");
    let parameters: Vec<String> =
        read.iter().zip(LETTERS).map(|(element, letter)| format!("{letter}: {element}")).collect();
    let mut all = format!("fn compute({}) -> {written} {{ return {text}; }}\n", parameters.join(", "));
    let _ = writeln!(all, "fn store(at: array<u32, OPERANDS>) {{");
    let call = |part: &str| {
        let values: Vec<String> = (0..read.len()).map(|index| format!("v{index}{part}")).collect();
        format!("compute({})", values.join(", "))
    };
    for (index, element) in read.iter().enumerate() {
        let value = match (wide, joined.repeats(index)) {
            (true, true) => format!("vec4<{element}>(bound{index}[at[{index}]])"),
            (true, false) => format!("bound{index}[at[{index}] / 4u]"),
            (false, _) => format!("bound{index}[at[{index}]]"),
        };
        let _ = writeln!(all, "let v{index} = {value};");
    }
    let last = read.len();
    let _ = if wide {
        let parts = [".x", ".y", ".z", ".w"].map(call).join(", ");
        writeln!(all, "bound{last}[at[{last}] / 4u] = vec4<{written}>({parts});\n}}")
    } else {
        writeln!(all, "bound{last}[at[{last}]] = {};\n}}", call(""))
    };
    all
}

/// An expression of `a`, `b` and `c`, the step's operands, and the functions that it calls.
fn expression(op: &Op, step: &Step, helpers: &mut String) -> Result<String> {
    let dtype = |index: usize| step.reads.get(index).and_then(Option::as_ref).map_or(DType::F32, |read| read.dtype);
    let whole = element(dtype(0)) == "i32";
    Ok(match op {
        Op::Unary(Unary::Activation(op)) if !whole => {
            helpers.push_str(&super::activation("activate", *op));
            "activate(a)".into()
        }
        Op::Unary(op) => unary(*op, whole).into(),
        Op::Binary(op) => binary(*op, whole).into(),
        Op::Predicate(Predicate::IsNan) => if whole { "0" } else { "i32(is_nan(a))" }.into(),
        Op::Predicate(Predicate::Not) => format!("i32(a == {}(0))", element(dtype(0))),
        Op::Comparison(op) => format!("i32(a {} b)", compared(*op)),
        Op::Logic(Logic::And) => "i32(a != 0 && b != 0)".into(),
        Op::Logic(Logic::Or) => "i32(a != 0 || b != 0)".into(),
        Op::Logic(Logic::Xor) => "i32((a != 0) != (b != 0))".into(),
        Op::Where => "select(c, b, a != 0)".into(),
        Op::Cast(to) => cast(dtype(0), *to),
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
fn unary(op: Unary, whole: bool) -> &'static str {
    match op {
        Unary::Activation(_) if whole => "max(a, 0)",
        Unary::Activation(_) => "activate(a)",
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
    }
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
