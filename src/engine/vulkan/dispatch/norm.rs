//! Norms: of groups of channels, and of rows.

use super::bound::{Bound, activated, per, total, vector};
use super::{Dispatch, Head, Lowering, Shader, source, spread};
use crate::engine::vulkan::limits::Limits;
use crate::error::{Result, fail};
use crate::graph::op::Activation;
use crate::graph::plan::{Operand, Step};

/// Sets of numbers that are normalised each by itself, in elements: as the shader's parameters.
struct Sets {
    sets: usize,
    each: usize,
    pixels: usize,
    width: usize,
    step: usize,
    batch: usize,
    channels: usize,
    row: usize,
}

struct Norm {
    sets: Sets,
    epsilon: f32,
    centred: bool,
    activation: Activation,
}

/// `x (N, C, …), [gamma (C)], [beta (C)], [scale (N, C)], [shift (N, C)]`, pictures channels-last.
pub(super) fn group(
    lowering: &mut Lowering,
    step: &Step,
    groups: usize,
    epsilon: f32,
    activation: Activation,
) -> Result<Dispatch> {
    let shape = &step.write.view.shape;
    let (pixels, channels) = (shape[2..].iter().product::<usize>(), shape[1]);
    let width = channels / groups;
    let sets = Sets {
        sets: shape[0] * groups,
        each: groups,
        pixels,
        width,
        step: channels,
        batch: pixels * channels,
        channels: width,
        row: channels,
    };
    Norm { sets, epsilon, centred: true, activation }.dispatch(lowering, step)
}

/// The same over the last axis of `x (…, C)`; `centred` subtracts the mean.
pub(super) fn row(lowering: &mut Lowering, step: &Step, epsilon: f32, centred: bool) -> Result<Dispatch> {
    let shape = &step.write.view.shape;
    let width = shape.last().copied().unwrap_or(1);
    let rows = step.write.view.volume() / width.max(1);
    let batches = if shape.len() > 1 { shape[0] } else { 1 };
    let each = rows / batches;
    let sets = Sets { sets: rows, each, pixels: 1, width, step: width, batch: each * width, channels: 0, row: width };
    Norm { sets, epsilon, centred, activation: Activation::None }.dispatch(lowering, step)
}

impl Norm {
    fn dispatch(&self, lowering: &mut Lowering, step: &Step) -> Result<Dispatch> {
        let Some(x) = step.reads.first().and_then(Option::as_ref) else { return fail!(Engine, "a norm of nothing") };
        let affine: [Option<&Operand>; 4] = std::array::from_fn(|n| step.reads.get(n + 1).and_then(Option::as_ref));
        let Sets { sets, each, pixels, width, step: apart, batch, channels, row } = self.sets;
        let offset = |operand: Option<&Operand>| operand.map_or(0, |operand| operand.view.offset);
        let firsts = [Some(x), Some(&step.write), affine[0], affine[1], affine[2], affine[3]].map(offset);
        let per = per(&[&[width, apart, batch, channels, row], &firsts[..]].concat());
        let tile = Tile::of(pixels * width / per, lowering.limits);
        let mut bound = Bound::default();
        let v = vector(per, "f32");
        bound.add("given", per, "f32", lowering.reads(x));
        bound.add("written", per, "f32", lowering.writes(&step.write));
        for (name, operand) in ["gamma", "beta", "scale", "shift"].into_iter().zip(affine) {
            if let Some(operand) = operand {
                bound.add(name, per, "f32", lowering.reads(operand));
            }
        }
        let head = Head::new()
            .count("LANES", tile.lanes)
            .count("SETS", tile.sets)
            .count("HELD", tile.held)
            .flag("CENTRED", self.centred)
            .alias("V", &v)
            .line(bound.text.trim_end())
            .line(&total(per))
            .line(&activated(per, self.activation))
            .line(&lines(affine.map(|operand| operand.is_some())));
        let mut push: Vec<u32> = [sets, each, pixels, width / per, apart / per, batch / per, channels / per, row / per]
            .map(|n| n as u32)
            .into();
        push.extend(firsts.map(|first| (first / per) as u32));
        push.extend([self.epsilon.to_bits(), ((pixels * width) as f32).to_bits()]);
        let shader = Shader { source: source!("norm"), head };
        let groups = spread(sets.div_ceil(tile.sets as usize), lowering.limits);
        Ok(Dispatch { shader, bindings: bound.bindings, push, groups, flops: 0, tiled: false, cut: None })
    }
}

/// How a workgroup takes sets of so many vectors.
struct Tile {
    lanes: u64,
    sets: u64,
    held: u64,
}

impl Tile {
    fn of(vectors: usize, limits: &Limits) -> Tile {
        let lanes = limits.line().min(256).into();
        match vectors {
            ..=32 => Tile { lanes: 8, sets: 8, held: 32 },
            33..=256 => Tile { lanes: 64, sets: 1, held: 256 },
            257..=768 => Tile { lanes, sets: 1, held: 768 },
            _ => Tile { lanes, sets: 1, held: 0 },
        }
    }
}

/// `factor()` and `term()`: `gamma * (1 + scale)` and `beta * (1 + scale) + shift`, of which any may be absent.
fn lines([gamma, beta, scale, shift]: [bool; 4]) -> String {
    let row = "batch * params.row + c";
    let grown =
        |text: &str| if scale { format!("{text} * (V(1.0) + get_scale(params.scale + {row}))") } else { text.into() };
    let factor = grown(if gamma { "get_gamma(params.gamma + c)" } else { "V(1.0)" });
    let mut term = if beta { grown("get_beta(params.beta + c)") } else { "V()".into() };
    if shift {
        term = format!("{term} + get_shift(params.shift + {row})");
    }
    format!(
        "fn factor(batch: u32, c: u32) -> V {{ return {factor}; }}\n\
         fn term(batch: u32, c: u32) -> V {{ return {term}; }}"
    )
}
