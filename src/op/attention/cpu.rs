//! One head of some queries.

use super::{Attention, Mask, Operand, STRIP};
use crate::op::simd::exp_negative;
use crate::op::tasks::{Shared, lines};
use pulp::{Simd, WithSimd, as_arrays, as_arrays_mut};

/// Lanes of the widest panel: two vectors of the widest unit that pulp chooses (f32x8, or f32x16 where AVX-512 is built in).
pub(super) const PANEL: usize = 32;

/// The queries `first..first + count` of one head.
pub(super) struct Task<'a> {
    pub(super) attention: &'a Attention,
    pub(super) queries: Operand<'a>,
    pub(super) keys: Operand<'a>,
    pub(super) values: Operand<'a>,
    pub(super) mask: Option<Mask<'a>>,
    pub(super) batch: usize,
    pub(super) head: usize,
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) output: Shared,
    pub(super) scratch: &'a mut [f32],
}

/// What a thread holds beside its operands.
struct Buffers<'a> {
    /// Scaled queries: by strip, `[width][STRIP]`.
    queries: &'a mut [f32],
    /// Sums of weighted values: by strip and panel, `[STRIP][lanes of the panel]`.
    sums: &'a mut [f32],
    /// Greatest score of every query so far.
    greatest: &'a mut [f32],
    /// Sum of the weights of every query so far.
    weight: &'a mut [f32],
    /// A block of keys: by panel, `[width][lanes]`.
    keys: &'a mut [f32],
    /// A block of values: by panel, `[block][lanes]`.
    values: &'a mut [f32],
    /// Scores, then weights, of a strip: `[STRIP][block]`.
    scores: &'a mut [f32],
}

impl<'a> Buffers<'a> {
    fn cut(attention: &Attention, scratch: &'a mut [f32]) -> Buffers<'a> {
        let (task, block) = (attention.task(), attention.block());
        let width = attention.value_width.next_multiple_of(PANEL);
        let (queries, rest) = scratch.split_at_mut(lines(task * attention.width));
        let (sums, rest) = rest.split_at_mut(lines(task * width));
        let (state, rest) = rest.split_at_mut(lines(task * 2));
        let (greatest, weight) = state.split_at_mut(task);
        let (keys, rest) = rest.split_at_mut(lines(block * attention.width));
        let (values, rest) = rest.split_at_mut(lines(block * width));
        let scores = &mut rest[..block * STRIP];
        Buffers { queries, sums, greatest, weight, keys, values, scores }
    }
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut buffers = Buffers::cut(self.attention, std::mem::take(&mut self.scratch));
        self.pack_queries(&mut buffers);
        buffers.sums.fill(0.0);
        buffers.greatest.fill(f32::NEG_INFINITY);
        buffers.weight.fill(0.0);
        let block = self.attention.block();
        for start in (0..self.seen()).step_by(block) {
            let count = block.min(self.attention.keys - start);
            self.pack_keys::<S>(start, count, &mut buffers);
            self.pack_values::<S>(start, count, &mut buffers);
            for strip in 0..self.count.div_ceil(STRIP) {
                self.strip(simd, strip, start, count, &mut buffers);
            }
        }
        self.write::<S>(&buffers);
    }
}

impl Task<'_> {
    /// Keys that any query sees.
    fn seen(&self) -> usize {
        if self.attention.causal { self.attention.keys.min(self.first + self.count) } else { self.attention.keys }
    }

    fn key_head(&self) -> usize {
        self.head / (self.attention.heads / self.attention.key_heads)
    }

    fn pack_queries(&self, buffers: &mut Buffers) {
        let (width, scale) = (self.attention.width, self.attention.scale);
        let count = self.count.next_multiple_of(STRIP);
        for t in 0..count {
            let packed = &mut buffers.queries[t / STRIP * STRIP * width..][..STRIP * width];
            let to = packed.as_chunks_mut::<STRIP>().0;
            if t < self.count {
                let line = self.queries.line(self.batch, self.first + t, self.head, width);
                to.iter_mut().zip(line).for_each(|(to, &q)| to[t % STRIP] = q * scale);
            } else {
                to.iter_mut().for_each(|to| to[t % STRIP] = 0.0);
            }
        }
    }

    #[inline(always)]
    fn pack_keys<S: Simd>(&self, start: usize, count: usize, buffers: &mut Buffers) {
        let (width, lanes) = (self.attention.width, 2 * S::F32_LANES);
        for s in 0..count.next_multiple_of(lanes) {
            let panel = &mut buffers.keys[s / lanes * lanes * width..][..lanes * width];
            let to = panel.iter_mut().skip(s % lanes).step_by(lanes);
            if s < count {
                let line = self.keys.line(self.batch, start + s, self.key_head(), width);
                to.zip(line).for_each(|(to, &k)| *to = k);
            } else {
                to.for_each(|to| *to = 0.0);
            }
        }
    }

    #[inline(always)]
    fn pack_values<S: Simd>(&self, start: usize, count: usize, buffers: &mut Buffers) {
        let (width, lanes) = (self.attention.value_width, S::F32_LANES);
        for s in 0..count {
            let line = self.values.line(self.batch, start + s, self.key_head(), width);
            for (offset, panel) in panels(width, lanes) {
                let from = &line[offset..width.min(offset + panel)];
                let to = &mut buffers.values[offset * count + s * panel..][..panel];
                to[..from.len()].copy_from_slice(from);
                to[from.len()..].fill(0.0);
            }
        }
    }

    /// Meets one block of packed keys with one strip of queries.
    #[inline(always)]
    fn strip<S: Simd>(&self, simd: S, strip: usize, start: usize, count: usize, buffers: &mut Buffers) {
        let Attention { width, value_width, .. } = *self.attention;
        let (lanes, block) = (S::F32_LANES, self.attention.block());
        let queries = &buffers.queries[strip * STRIP * width..][..STRIP * width];
        for panel in 0..count.div_ceil(2 * lanes) {
            let keys = &buffers.keys[panel * 2 * lanes * width..][..2 * lanes * width];
            score(simd, queries, keys, &mut buffers.scores[panel * 2 * lanes..], block);
        }
        let padded = count.next_multiple_of(2 * lanes);
        let mut shrink = [1.0; STRIP];
        for (r, shrink) in shrink.iter_mut().enumerate() {
            let (t, scores) = (strip * STRIP + r, &mut buffers.scores[r * block..][..padded]);
            if t < self.count {
                self.hide(simd, t, start, count, scores);
            }
            scores[count..].fill(f32::NEG_INFINITY);
            *shrink = weigh(simd, scores, &mut buffers.greatest[t], &mut buffers.weight[t]);
        }
        let sums = value_width.next_multiple_of(lanes) * STRIP;
        let sums = &mut buffers.sums[strip * sums..][..sums];
        for (offset, panel) in panels(value_width, lanes) {
            let values = &buffers.values[offset * count..][..panel * count];
            let sums = &mut sums[offset * STRIP..][..panel * STRIP];
            if panel == 2 * lanes {
                add::<S, 2>(simd, &buffers.scores[..], block, values, &shrink, sums);
            } else {
                add::<S, 1>(simd, &buffers.scores[..], block, values, &shrink, sums);
            }
        }
    }

    /// Adds the mask to the scores of query `first + t`, and minus infinity to what it must not see.
    #[inline(always)]
    fn hide<S: Simd>(&self, simd: S, t: usize, start: usize, count: usize, scores: &mut [f32]) {
        let t = self.first + t;
        if let Some(mask) = self.mask {
            let at = self.batch * mask.batch + self.head * mask.head + t * mask.query + start * mask.key;
            if mask.key == 1 {
                add_line(simd, &mut scores[..count], &mask.values[at..][..count]);
            } else {
                for (s, score) in scores[..count].iter_mut().enumerate() {
                    *score += mask.values[at + s * mask.key];
                }
            }
        }
        if self.attention.causal && t + 1 < start + count {
            scores[(t + 1).saturating_sub(start)..count].fill(f32::NEG_INFINITY);
        }
    }

    #[inline(always)]
    fn write<S: Simd>(&self, buffers: &Buffers) {
        let Attention { queries, heads, value_width: width, .. } = *self.attention;
        let lanes = S::F32_LANES;
        let strip_size = width.next_multiple_of(lanes) * STRIP;
        for t in 0..self.count {
            let inverse = if buffers.weight[t] == 0.0 { 0.0 } else { 1.0 / buffers.weight[t] };
            let sums = &buffers.sums[t / STRIP * strip_size..][..strip_size];
            let at = ((self.batch * queries + self.first + t) * heads + self.head) * width;
            // SAFETY: the output is B x T x heads x width, which `run` checked; no other task has this head of this query.
            let out = unsafe { std::slice::from_raw_parts_mut(self.output.at(at), width) };
            for (offset, panel) in panels(width, lanes) {
                let out = &mut out[offset..width.min(offset + panel)];
                let sums = &sums[offset * STRIP + t % STRIP * panel..];
                out.iter_mut().zip(sums).for_each(|(out, &sum)| *out = sum * inverse);
            }
        }
    }
}

/// Offset and width of the panels that `width` numbers are cut into: two vectors each, the last one vector where that is enough.
#[inline(always)]
fn panels(width: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..width).step_by(2 * lanes).map(move |offset| (offset, if width - offset > lanes { 2 * lanes } else { lanes }))
}

/// `scores[r][..] = sum over k of queries[k][r] * keys[k][..]`, rows `stride` apart.
#[inline(always)]
fn score<S: Simd>(simd: S, queries: &[f32], keys: &[f32], scores: &mut [f32], stride: usize) {
    let queries = as_arrays::<STRIP, f32>(queries).0;
    let keys = as_arrays::<2, _>(S::as_simd_f32s(keys).0).0;
    let mut sums = [[simd.splat_f32s(0.0); 2]; STRIP];
    for (query, key) in queries.iter().zip(keys) {
        for r in 0..STRIP {
            let q = simd.splat_f32s(query[r]);
            sums[r][0] = simd.mul_add_e_f32s(q, key[0], sums[r][0]);
            sums[r][1] = simd.mul_add_e_f32s(q, key[1], sums[r][1]);
        }
    }
    for (r, sum) in sums.iter().enumerate() {
        let to = S::as_mut_simd_f32s(&mut scores[r * stride..][..2 * S::F32_LANES]).0;
        to.copy_from_slice(sum);
    }
}

/// Turns scores into weights relative to the greatest so far; gives the factor by which what was summed before must shrink.
#[inline(always)]
fn weigh<S: Simd>(simd: S, scores: &mut [f32], greatest: &mut f32, weight: &mut f32) -> f32 {
    let pairs = as_arrays_mut::<2, _>(S::as_mut_simd_f32s(scores).0).0;
    let mut most = [simd.splat_f32s(*greatest); 2];
    for pair in pairs.iter() {
        most = [simd.max_f32s(pair[0], most[0]), simd.max_f32s(pair[1], most[1])];
    }
    let new = simd.reduce_max_f32s(simd.max_f32s(most[0], most[1]));
    // Nothing seen yet: every weight is 0 relative to any finite number.
    let held = if new == f32::NEG_INFINITY { 0.0 } else { new };
    let centre = simd.splat_f32s(held);
    let mut sum = [simd.splat_f32s(0.0); 2];
    for pair in pairs {
        for lane in 0..2 {
            pair[lane] = exp_negative(simd, simd.sub_f32s(pair[lane], centre));
            sum[lane] = simd.add_f32s(sum[lane], pair[lane]);
        }
    }
    let shrink = if *greatest == new { 1.0 } else { (*greatest - held).exp() };
    *weight = weight.mul_add(shrink, simd.reduce_sum_f32s(simd.add_f32s(sum[0], sum[1])));
    *greatest = new;
    shrink
}

/// `sums[r][..] = sums[r][..] * shrink[r] + sum over s of weights[r][s] * values[s][..]` for a panel of `V` vectors, rows of weights `stride` apart.
#[inline(always)]
fn add<S: Simd, const V: usize>(
    simd: S,
    weights: &[f32],
    stride: usize,
    values: &[f32],
    shrink: &[f32; STRIP],
    sums: &mut [f32],
) {
    let values = as_arrays::<V, _>(S::as_simd_f32s(values).0).0;
    let sums = as_arrays_mut::<V, _>(S::as_mut_simd_f32s(sums).0).0;
    let weights: [&[f32]; STRIP] = std::array::from_fn(|r| &weights[r * stride..][..values.len()]);
    let mut held = [[simd.splat_f32s(0.0); V]; STRIP];
    for r in 0..STRIP {
        for v in 0..V {
            held[r][v] = simd.mul_f32s(sums[r][v], simd.splat_f32s(shrink[r]));
        }
    }
    for (s, value) in values.iter().enumerate() {
        for r in 0..STRIP {
            let weight = simd.splat_f32s(weights[r][s]);
            for v in 0..V {
                held[r][v] = simd.mul_add_e_f32s(weight, value[v], held[r][v]);
            }
        }
    }
    sums[..STRIP].copy_from_slice(&held);
}

/// `to += from`.
#[inline(always)]
fn add_line<S: Simd>(simd: S, to: &mut [f32], from: &[f32]) {
    let ((to, to_tail), (from, from_tail)) = (S::as_mut_simd_f32s(to), S::as_simd_f32s(from));
    for (to, &from) in to.iter_mut().zip(from) {
        *to = simd.add_f32s(*to, from);
    }
    for (to, &from) in to_tail.iter_mut().zip(from_tail) {
        *to += from;
    }
}
