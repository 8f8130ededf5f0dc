//! Attention, `softmax(Q K^T * scale + mask) V`, without the matrix of scores: blocks of keys are met one after the other, with a running maximum
//! and sum for every query (Milakov and Gimelshein 2018; Dao et al. 2022).

mod cpu;

use super::matrix::Cpu;
use super::tasks;

/// Queries whose scores are computed together.
const STRIP: usize = 6;
/// Most queries of one task.
const TASK: usize = 768;
/// Floats of packed keys and values that stay in the second-level cache.
const PACKED: usize = 40 * 1024;

/// Sizes and options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) batches: usize,
    pub(crate) heads: usize,
    /// Heads of keys and values; each serves `heads / key_heads` heads of queries.
    pub(crate) key_heads: usize,
    /// T.
    pub(crate) queries: usize,
    /// S.
    pub(crate) keys: usize,
    /// Numbers of a query and of a key in one head.
    pub(crate) width: usize,
    /// Numbers of a value in one head.
    pub(crate) value_width: usize,
    pub(crate) scale: f32,
    /// Whether query `t` sees the keys `0..=t` alone.
    pub(crate) causal: bool,
}

/// Number `i` of row `t` in head `h` of batch `b` is `values[b * batch + t * row + h * head + i]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) batch: usize,
    pub(crate) row: usize,
    pub(crate) head: usize,
}

impl<'a> Operand<'a> {
    /// Dense `(B, rows, heads * width)`.
    #[cfg(test)]
    pub(crate) fn dense(values: &'a [f32], rows: usize, heads: usize, width: usize) -> Operand<'a> {
        Operand { values, batch: rows * heads * width, row: heads * width, head: width }
    }

    fn check(&self, [batches, rows, heads]: [usize; 3], width: usize) {
        if batches * rows * heads * width > 0 {
            let last = (batches - 1) * self.batch + (rows - 1) * self.row + (heads - 1) * self.head;
            assert!(self.values.len() >= last + width, "{} numbers, {} needed", self.values.len(), last + width);
        }
    }

    /// The numbers of one row of one head.
    #[inline(always)]
    fn line(&self, batch: usize, row: usize, head: usize, width: usize) -> &'a [f32] {
        &self.values[batch * self.batch + row * self.row + head * self.head..][..width]
    }
}

/// Added to the scores: for key `s` of query `t` in head `h` of batch `b`, `values[b * batch + h * head + t * query + s * key]`.
/// Strides of 0 repeat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) batch: usize,
    pub(crate) head: usize,
    pub(crate) query: usize,
    pub(crate) key: usize,
}

impl Attention {
    /// Bytes of scratch that [`Attention::run`] takes.
    pub(crate) fn scratch_bytes(&self, threads: usize) -> usize {
        tasks::scratch_bytes(0, self.scratch(), threads)
    }

    /// Writes all of `output`, dense `(B, T, heads * value_width)`. A query that sees no key gets zeros.
    ///
    /// # Panics
    /// When an operand is shorter than its strides say, heads do not divide, or `scratch` is shorter than [`Attention::scratch_bytes`].
    pub(crate) fn run(
        &self,
        cpu: Cpu,
        [queries, keys, values]: [Operand; 3],
        mask: Option<Mask>,
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(self.key_heads > 0 && self.heads.is_multiple_of(self.key_heads), "heads of {self:?}");
        queries.check([self.batches, self.queries, self.heads], self.width);
        keys.check([self.batches, self.keys, self.key_heads], self.width);
        values.check([self.batches, self.keys, self.key_heads], self.value_width);
        assert_eq!(output.len(), self.batches * self.queries * self.heads * self.value_width, "output of {self:?}");
        if output.is_empty() {
            return;
        }
        if let (Some(mask), true) = (mask, self.keys > 0) {
            let last = (self.batches - 1) * mask.batch + (self.heads - 1) * mask.head;
            let last = last + (self.queries - 1) * mask.query + (self.keys - 1) * mask.key;
            assert!(mask.values.len() > last, "mask of {self:?}");
        }
        let task = self.task();
        let parts = self.queries.div_ceil(task);
        let (_, each) = tasks::split(scratch, 0, self.scratch(), cpu.threads.count());
        let output = tasks::Shared::new(output);
        each.run(cpu.threads, self.batches * self.heads * parts, |index, scratch| {
            let (pair, first) = (index / parts, index % parts * task);
            let (batch, head) = (pair / self.heads, pair % self.heads);
            let count = task.min(self.queries - first);
            cpu.arch.dispatch(cpu::Task {
                attention: self,
                queries,
                keys,
                values,
                mask,
                batch,
                head,
                first,
                count,
                output,
                scratch,
            });
        });
    }

    /// Queries of one task, whole strips: the queries of a head in equal parts.
    fn task(&self) -> usize {
        self.queries.div_ceil(self.queries.div_ceil(TASK).max(1)).next_multiple_of(STRIP)
    }

    /// Keys of one block, whole panels of the widest vector unit.
    fn block(&self) -> usize {
        let fitting = (PACKED / (self.width + self.value_width).max(1)).next_multiple_of(cpu::PANEL);
        fitting.clamp(64, 256).min(self.keys.next_multiple_of(cpu::PANEL)).max(cpu::PANEL)
    }

    /// Floats of scratch of one thread.
    fn scratch(&self) -> usize {
        let (task, block, width) = (self.task(), self.block(), self.value_width.next_multiple_of(cpu::PANEL));
        tasks::lines(task * self.width)
            + tasks::lines(task * width)
            + tasks::lines(task * 2)
            + tasks::lines(block * self.width)
            + tasks::lines(block * width)
            + tasks::lines(block * STRIP)
    }
}

#[cfg(test)]
mod tests;
