//! The tiled product: what linear layers, matrix products and convolutions have in common.

use super::bound::Bound;
use super::{Binding, Dispatch, Head, Lowering, Shader, activation, source};
use crate::engine::vulkan::limits::Limits;
use crate::error::{Result, fail};
use crate::graph::op::Activation;
use std::fmt::Write;

/// How the right-hand matrix lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// `Layout::Matrix`: rows padded to a multiple of four.
    Packed,
    /// Computed, row-major.
    Rows,
    /// Computed, column-major.
    Columns,
}

/// What follows a product: operands and the first element of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    pub(super) bias: Option<(Binding, usize)>,
    /// A row for so many rows of the output.
    pub(super) shift: Option<(Binding, usize, usize)>,
    pub(super) activation: Activation,
    /// With the stride of its rows.
    pub(super) residual: Option<(Binding, usize, usize)>,
}

/// `(M, K)` times `(K, N)`.
#[derive(Debug, Clone)]
pub(super) struct Gemm {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    /// Matrices of a batch or groups of a convolution.
    pub(super) batch: usize,
    /// Binding, first element, elements from row to row.
    pub(super) left: (Binding, usize, usize),
    pub(super) right: (Binding, usize, usize),
    pub(super) out: (Binding, usize, usize),
    pub(super) kind: Right,
    pub(super) taps: Option<Taps>,
    /// Elements of the output from matrix to matrix of a batch.
    pub(super) out_batch: usize,
    /// As the shader's `extra`.
    pub(super) extra: [usize; 13],
    /// Whether every address of left, of a row's start and of a tap's, is a multiple of four elements.
    pub(super) left_fours: bool,
    pub(super) right_fours: bool,
    pub(super) ending: Ending,
}

/// A convolution's left-hand side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taps {
    pub(super) enlarge: bool,
}

/// Rows and columns of a tile, and its invocations, of 4x4 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    rows: usize,
    columns: usize,
}

impl Tile {
    const SQUARE: Tile = Tile { rows: 64, columns: 64 };
    /// For devices whose workgroups are too small for the square one.
    const HALF: Tile = Tile { rows: 64, columns: 32 };
    const SMALL: Tile = Tile { rows: 32, columns: 32 };
    const FLAT: Tile = Tile { rows: 16, columns: 64 };
    const TALL: Tile = Tile { rows: 64, columns: 16 };
    /// Groups under which a device is not full with the large tile.
    const FEW: usize = 32;

    fn of(gemm: &Gemm, limits: &Limits) -> Tile {
        let large = gemm.rows.div_ceil(64) * gemm.columns.div_ceil(64) * gemm.batch;
        match (gemm.rows, gemm.columns) {
            (_, ..=16) => Tile::TALL,
            (..=16, _) => Tile::FLAT,
            _ if large < Tile::FEW => Tile::SMALL,
            _ if Tile::SQUARE.threads() > limits.line() as usize => Tile::HALF,
            _ => Tile::SQUARE,
        }
    }

    fn threads(self) -> usize {
        self.rows * self.columns / 16
    }
}

impl Gemm {
    /// # Errors
    /// `Unsupported` when there are more tiles than groups in a dispatch.
    pub(super) fn dispatch(self, lowering: &Lowering) -> Result<Dispatch> {
        let tile = Tile::of(&self, lowering.limits);
        let groups =
            [self.columns.div_ceil(tile.columns) as u32, self.rows.div_ceil(tile.rows) as u32, self.batch as u32];
        if groups.iter().zip(&lowering.limits.groups).any(|(groups, most)| groups > most) {
            return fail!(Unsupported, "{groups:?} tiles are more than a dispatch takes");
        }
        let fours = self.writes_fours();
        let per = if fours { 4usize } else { 1 };
        let mut bound = Bound::default();
        bound.add("left_in", if self.left_fours { 4 } else { 1 }, "f32", self.left.0);
        bound.add("right_in", if self.reads_fours() { 4 } else { 1 }, "f32", self.right.0);
        bound.add("written", per, "f32", self.out.0);
        let ending = self.ending(fours, &mut bound);
        let head = Head::new()
            .count("TILE_M", tile.rows as u64)
            .count("TILE_N", tile.columns as u64)
            .count("THREADS", tile.threads() as u64)
            .flag("TAPS", self.taps.is_some())
            .flag("ENLARGE", self.taps.is_some_and(|taps| taps.enlarge))
            .flag("LEFT_FOURS", self.left_fours)
            .flag("TRANSPOSED", self.kind == Right::Columns)
            .count("PER", per as u64)
            .line(bound.text.trim_end())
            .line(read_left(self.left_fours))
            .line(&self.read_right())
            .line(ending.trim_end());
        let shader = Shader { source: source!("gemm"), head };
        let flops = 2 * (self.rows * self.columns * self.depth * self.batch) as u64;
        Ok(Dispatch { shader, bindings: bound.bindings, push: self.push(), groups, flops, tiled: true, cut: Some(1) })
    }

    fn push(&self) -> Vec<u32> {
        let Ending { bias, shift, residual, .. } = &self.ending;
        let shift = shift.map_or((0, 1), |(_, first, rows)| (first, rows));
        let residual = residual.map_or((0, 0), |(_, first, stride)| (first, stride));
        let words = [
            self.rows,
            self.columns,
            self.depth,
            self.left.1,
            self.left.2,
            self.right.1,
            self.right.2,
            self.out.1,
            self.out.2,
            bias.map_or(0, |(_, first)| first),
            shift.0,
            shift.1,
            self.columns * if self.taps.is_some() { self.batch } else { 1 },
            residual.0,
            residual.1,
            self.out_batch,
        ];
        words.into_iter().chain(self.extra).chain([0]).map(|word| word as u32).collect()
    }

    /// Whether four columns are written together: every address of what is written, and of what is added, is a multiple of four.
    fn writes_fours(&self) -> bool {
        let Ending { bias, shift, residual, .. } = &self.ending;
        let all = [self.columns, self.out.1, self.out.2, self.out_batch];
        let added = [bias.map_or(0, |b| b.1), shift.map_or(0, |s| s.1), residual.map_or(0, |r| r.1 | r.2)];
        all.iter().chain(&added).all(|number| number.is_multiple_of(4))
    }

    /// Whether right is read four elements at a time.
    fn reads_fours(&self) -> bool {
        self.kind == Right::Packed || self.right_fours
    }

    /// `load_right()`: four columns of a row, or four rows of a column.
    fn read_right(&self) -> String {
        let mut text = "fn load_right(first: u32, k: u32, n: u32) -> vec4f {\n".to_owned();
        text.push_str("if k >= params.depth || n >= params.columns { return vec4f(); }\n");
        let (at, left) = match self.kind {
            Right::Columns => ("n * params.right_stride + k", "params.depth - k"),
            _ => ("k * params.right_stride + n", "params.columns - n"),
        };
        let _ = writeln!(text, "let at = first + {at};");
        if self.reads_fours() {
            text.push_str("return get_right_in(at / 4u);\n}");
        } else {
            let _ = writeln!(
                text,
                "var v = vec4f();\nfor (var c = 0u; c < min(4u, {left}); c++) {{ v[c] = get_right_in(at + c); }}"
            );
            text.push_str("return v;\n}");
        }
        text
    }

    /// `write_four()` or `write_one()`, with a stub of the other; what they read is bound.
    fn ending(&self, fours: bool, bound: &mut Bound) -> String {
        let per = if fours { " / 4u" } else { "" };
        let (mut text, mut body) = (String::new(), String::new());
        let mut add = |name: &str, binding: Binding, at: &str, body: &mut String| {
            bound.add(name, if fours { 4 } else { 1 }, "f32", binding);
            let _ = writeln!(body, "y += get_{name}(({at}){per});");
        };
        let Ending { bias, shift, residual, activation: applied } = &self.ending;
        // The columns of a group of a convolution stand behind those of the group before.
        let column = if self.taps.is_some() { "z * params.columns + n" } else { "n" };
        if let Some((binding, _)) = bias {
            add("bias", *binding, &format!("params.bias_first + {column}"), &mut body);
        }
        if let Some((binding, ..)) = shift {
            let at = format!("params.shift_first + m / params.shift_rows * params.shift_stride + {column}");
            add("shift", *binding, &at, &mut body);
        }
        if *applied != Activation::None {
            text.push_str(&activation("activate", *applied));
            body.push_str(if fours {
                "y = vec4f(activate(y.x), activate(y.y), activate(y.z), activate(y.w));\n"
            } else {
                "y = activate(y);\n"
            });
        }
        if let Some((binding, ..)) = residual {
            let at = format!("params.residual_first + m * params.residual_stride + {column}");
            add("residual", *binding, &at, &mut body);
        }
        let out = if self.taps.is_some() {
            format!("params.out_first + m * params.out_stride + {column}")
        } else {
            "params.out_first + z * params.out_batch + m * params.out_stride + n".to_owned()
        };
        let (own, other) =
            if fours { (("four", "vec4f"), ("one", "f32")) } else { (("one", "f32"), ("four", "vec4f")) };
        let _ = writeln!(text, "fn write_{}(z: u32, m: u32, n: u32, sum: {}) {{\nvar y = sum;", own.0, own.1);
        let _ = writeln!(text, "{body}put_written(({out}){per}, y);\n}}");
        let _ = writeln!(text, "fn write_{}(z: u32, m: u32, n: u32, sum: {}) {{}}", other.0, other.1);
        text
    }
}

/// `four_left()` and `one_left()`.
fn read_left(fours: bool) -> &'static str {
    if fours {
        "fn four_left(at: u32) -> vec4f { return get_left_in(at / 4u); }\n\
         fn one_left(at: u32) -> f32 { return get_left_in(at / 4u)[at % 4u]; }"
    } else {
        "fn four_left(at: u32) -> vec4f { return vec4f(one_left(at), one_left(at + 1u), one_left(at + 2u), one_left(at + 3u)); }\n\
         fn one_left(at: u32) -> f32 { return get_left_in(at); }"
    }
}
