//! Attention, in tiles.

use super::bound::Bound;
use super::{Dispatch, Head, Lowering, Shader, source};
use crate::error::{Result, fail};
use crate::graph::plan::{Operand, Step};
use crate::op::view::View;
use std::fmt::Write;

/// Queries, keys and columns of a tile.
const TILE: usize = 32;
/// Tiles of columns that a workgroup sums, at most: an invocation holds 16 numbers of each.
const MOST_TILES: usize = 5;

/// `q (B, T, H·d), k (B, S, H·d), v (B, S, H·e), [mask, broadcast to (B, H, T, S)]`, the rows of q, k and v contiguous; the output dense.
pub(super) fn step(lowering: &mut Lowering, step: &Step, heads: usize, scale: f32) -> Result<Dispatch> {
    let operand = |index: usize| step.reads.get(index).and_then(Option::as_ref);
    let (Some(q), Some(k), Some(v)) = (operand(0), operand(1), operand(2)) else {
        return fail!(Engine, "attention without operands");
    };
    let sizes = Sizes::of(q, k, v, heads);
    let masked = operand(3).map(|mask| (mask, sizes.mask(mask)));
    let tiles = sizes.tiles();
    let passes = sizes.value_width.div_ceil(tiles * TILE);
    let groups = [sizes.queries.div_ceil(TILE), heads, sizes.batches * passes].map(|n| n as u32);
    if groups.iter().zip(&lowering.limits.groups).any(|(groups, most)| groups > most) {
        return fail!(Unsupported, "{groups:?} tiles are more than a dispatch takes");
    }
    let mut bound = Bound::default();
    let fours = [(q, "query", sizes.width), (k, "key", sizes.width), (v, "value", sizes.value_width)].map(
        |(operand, name, width)| {
            let fours = width.is_multiple_of(4) && places(&operand.view).iter().all(|n| n.is_multiple_of(4));
            bound.add(name, if fours { 4 } else { 1 }, "f32", lowering.reads(operand));
            bound.text.push_str(&read(name, fours));
            fours
        },
    );
    let out = places(&step.write.view);
    let out_fours = sizes.value_width.is_multiple_of(4) && out.iter().all(|n| n.is_multiple_of(4));
    bound.add("written", if out_fours { 4 } else { 1 }, "f32", lowering.writes(&step.write));
    if let Some((mask, _)) = &masked {
        bound.add("mask", 1, "f32", lowering.reads(mask));
    }
    let mask_at = if masked.is_some() { "get_mask(at)" } else { "0.0" };
    let head = Head::new()
        .count("DEPTH", sizes.depth() as u64)
        .count("TILES", tiles as u64)
        .flag("MASKED", masked.is_some())
        .flag("FOUR_QUERIES", fours[0])
        .flag("FOUR_KEYS", fours[1])
        .flag("FOUR_VALUES", fours[2])
        .line(bound.text.trim_end())
        .line(&format!("fn mask_at(at: u32) -> f32 {{ return {mask_at}; }}"))
        .line(write(out_fours))
        .line(each_tile(tiles).trim_end());
    let mut push: Vec<u32> =
        [sizes.queries, sizes.keys, sizes.width, sizes.value_width].into_iter().map(|n| n as u32).collect();
    let operands = [places(&q.view), places(&k.view), places(&v.view), out];
    push.extend(operands.as_flattened().iter().map(|n| *n as u32));
    push.extend(masked.map_or([0; 5], |(_, mask)| mask));
    push.extend([passes as u32, scale.to_bits(), f32::NEG_INFINITY.to_bits(), 0]);
    let shader = Shader { source: source!("attention"), head };
    Ok(Dispatch { shader, bindings: bound.bindings, push, groups, flops: sizes.flops(), tiled: true, cut: Some(0) })
}

struct Sizes {
    batches: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
    value_width: usize,
}

impl Sizes {
    fn of(q: &Operand, k: &Operand, v: &Operand, heads: usize) -> Sizes {
        let (q, k, v) = (&q.view.shape, &k.view.shape, &v.view.shape);
        Sizes { batches: q[0], heads, queries: q[1], keys: k[1], width: q[2] / heads, value_width: v[2] / heads }
    }

    /// First element, and elements from batch to batch, head to head, query to query, key to key.
    fn mask(&self, mask: &Operand) -> [u32; 5] {
        let shape = [self.batches, self.heads, self.queries, self.keys];
        let view = mask.view.broadcast(&shape).unwrap_or_else(|| View::dense(&shape));
        let strides = &view.strides;
        [view.offset, strides[0], strides[1], strides[2], strides[3]].map(|n| n as u32)
    }

    /// Numbers of a query that lie in workgroup memory at once: equal parts of at most 40, in whole eights.
    fn depth(&self) -> usize {
        let parts = self.width.div_ceil(40).max(1);
        self.width.div_ceil(parts).next_multiple_of(8).max(8)
    }

    /// Tiles of a workgroup: all, or equal parts.
    fn tiles(&self) -> usize {
        let all = self.value_width.div_ceil(TILE).max(1);
        all.div_ceil(all.div_ceil(MOST_TILES))
    }

    fn flops(&self) -> u64 {
        2 * (self.batches * self.heads * self.queries * self.keys * (self.width + self.value_width)) as u64
    }
}

/// First element, elements from batch to batch and from row to row.
fn places(view: &View) -> [usize; 3] {
    let step = |axis: usize| if view.shape[axis] == 1 { 0 } else { view.strides[axis] };
    [view.offset, step(0), step(1)]
}

/// `four_NAME()` and `one_NAME()`, of which the flag chooses one.
fn read(name: &str, fours: bool) -> String {
    let (four, one) = if fours {
        (format!("get_{name}(at / 4u)"), "0.0".into())
    } else {
        ("vec4f()".into(), format!("get_{name}(at)"))
    };
    format!(
        "fn four_{name}(at: u32) -> vec4f {{ return {four}; }}\nfn one_{name}(at: u32) -> f32 {{ return {one}; }}\n"
    )
}

fn write(fours: bool) -> &'static str {
    if fours {
        "fn write(at: u32, column: u32, v: vec4f) { if column < params.value_width { put_written((at + column) / 4u, v); } }"
    } else {
        "fn write(at: u32, column: u32, v: vec4f) {\n\
         for (var c = 0u; c < 4u; c++) { if column + c < params.value_width { put_written(at + column + c, v[c]); } }\n}"
    }
}

/// `Sums`, `added()` and `ended()`: drivers keep an array in registers only where they unroll the loop over it, members always.
fn each_tile(tiles: usize) -> String {
    let (mut members, mut adds, mut ends) = (String::new(), String::new(), String::new());
    for tile in 0..tiles {
        let _ = write!(members, "t{tile}: Tile, ");
        let _ = writeln!(adds, "s.t{tile} = add(own, start, {tile}u, shrink, s.t{tile});");
        let _ = writeln!(ends, "end(own, {tile}u, inverse, s.t{tile});");
    }
    format!(
        "struct Sums {{ {members} }}\n\
         fn added(own: Place, start: u32, shrink: vec4f, sums: Sums) -> Sums {{\nvar s = sums;\n{adds}return s;\n}}\n\
         fn ended(own: Place, inverse: vec4f, s: Sums) {{\n{ends}}}\n"
    )
}
