//! Functions of single numbers.

use pulp::Simd;

/// What is applied to every number of a result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    None,
    Relu,
}

impl Activation {
    /// The function of every lane of `v`.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, simd: S, v: S::f32s) -> S::f32s {
        match self {
            Activation::None => v,
            Activation::Relu => simd.max_f32s(v, simd.splat_f32s(0.0)),
        }
    }
}
