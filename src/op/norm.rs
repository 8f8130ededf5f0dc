//! Normalisations, one statistic and one application, channels-last. Means are taken in blocks around the block's own mean and joined in f64
//! (Chan, Golub and LeVeque 1979), so that a mean far larger than the deviation costs nothing, and bytes do not depend on threads.

mod group;
mod row;

pub(crate) use group::GroupNorm;
pub(crate) use row::RowNorm;

/// One row of numbers for every batch: row `b` starts at `b * stride`; a stride of 0 repeats the first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
}

/// What follows the normalisation: `(y * gamma + beta) * (1 + scale) + shift`, of which any may be absent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affine<'a> {
    /// `(C)`.
    pub(crate) gamma: Option<&'a [f32]>,
    /// `(C)`.
    pub(crate) beta: Option<&'a [f32]>,
    /// `(N, C)`, to which 1 is added (adaLN's scale).
    pub(crate) scale: Option<Rows<'a>>,
    /// `(N, C)`.
    pub(crate) shift: Option<Rows<'a>>,
}

impl Affine<'_> {
    fn check(&self, batches: usize, width: usize) {
        assert!(self.gamma.is_none_or(|gamma| gamma.len() == width), "a gamma for every channel");
        assert!(self.beta.is_none_or(|beta| beta.len() == width), "a beta for every channel");
        for rows in [self.scale, self.shift].into_iter().flatten().filter(|_| batches > 0) {
            assert!(rows.values.len() >= (batches - 1) * rows.stride + width, "a row for every batch");
        }
    }

    /// Factor and term of `channel` in `batch`.
    fn channel(&self, batch: usize, channel: usize) -> (f64, f64) {
        let of = |rows: Option<Rows>| rows.map_or(0.0, |rows| f64::from(rows.values[batch * rows.stride + channel]));
        let gamma = self.gamma.map_or(1.0, |gamma| f64::from(gamma[channel]));
        let beta = self.beta.map_or(0.0, |beta| f64::from(beta[channel]));
        let scale = 1.0 + of(self.scale);
        (gamma * scale, beta * scale + of(self.shift))
    }
}

#[cfg(test)]
mod tests;
