//! Standard normal noise that other programs' seeds reproduce.

mod philox;
mod torch;

pub use philox::{PhiloxNoise, philox4x32_10};
pub use torch::TorchNoise;

use core::fmt;
use core::str::FromStr;

use super::SamplerError;
use super::config::named;

/// A stream of standard normal values. One `fill` is one draw of `torch.randn`: what later draws give depends on the number and
/// the sizes of those before.
pub trait Noise {
    /// Overwrites `out` with the next values.
    fn fill(&mut self, out: &mut [f32]);
}

named! {
    /// Whose random numbers a seed stands for.
    "random number generator" NoiseKind {
        /// torch's CPU generator, which diffusers uses for reproducible pictures.
        Torch = "torch",
        /// torch's CUDA generator, which A1111 calls "GPU" (and "NV" where it is computed on the CPU, as here).
        Philox = "philox",
    }
}

/// Either generator, chosen at run time.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is no heap to put the larger one on")]
pub enum AnyNoise {
    /// See [`TorchNoise`].
    Torch(TorchNoise),
    /// See [`PhiloxNoise`].
    Philox(PhiloxNoise),
}

impl AnyNoise {
    /// The generator of `kind`, started from `seed`.
    pub fn new(kind: NoiseKind, seed: u64) -> Self {
        match kind {
            NoiseKind::Torch => AnyNoise::Torch(TorchNoise::new(seed)),
            NoiseKind::Philox => AnyNoise::Philox(PhiloxNoise::new(seed)),
        }
    }
}

impl Noise for AnyNoise {
    fn fill(&mut self, out: &mut [f32]) {
        match self {
            AnyNoise::Torch(noise) => noise.fill(out),
            AnyNoise::Philox(noise) => noise.fill(out),
        }
    }
}
