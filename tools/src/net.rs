//! The networks, each written once against the trait [`Layers`].
//!
//! Training plays a network on libtorch (`Torch`, feature `train`); export records the same calls as an ONNX graph
//! ([`onnx::Recorder`]). So the shipped graph cannot drift away from the trained one.
//!
//! Shapes: pictures and latents are `(B, C, H, W)`, tokens `(B, T, C)`, vectors `(B, C)`.

pub mod autoencoder;
pub mod bert;
pub mod denoiser;
pub mod onnx;
#[cfg(feature = "train")]
pub mod params;
pub mod reader;
#[cfg(feature = "train")]
pub mod torch;

/// How a fresh parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in ±1/√fan_in, PyTorch's default for linear and convolution layers.
    FanIn,
    /// Normal with this standard deviation.
    Normal(f64),
    Zero,
    One,
}

/// A convolution over `(B, C, H, W)` with a square kernel, bias included.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    pub from: i64,
    pub to: i64,
    pub kernel: i64,
    pub stride: i64,
    pub padding: i64,
    pub init: Init,
}

impl Conv {
    /// 3x3, same size.
    pub fn three(from: i64, to: i64) -> Self {
        Self { from, to, kernel: 3, stride: 1, padding: 1, init: Init::FanIn }
    }

    /// 1x1.
    pub fn one(from: i64, to: i64) -> Self {
        Self { from, to, kernel: 1, stride: 1, padding: 0, init: Init::FanIn }
    }

    /// 2x2, stride 2: halves both sides.
    pub fn halve(from: i64, to: i64) -> Self {
        Self { from, to, kernel: 2, stride: 2, padding: 0, init: Init::FanIn }
    }

    /// Starts as the zero map, so that a residual branch starts as the identity.
    pub fn zeroed(self) -> Self {
        Self { init: Init::Zero, ..self }
    }
}

/// What a network may call. Parameters are found, or made, by name.
pub trait Layers {
    type T;

    fn conv(&self, name: &str, x: &Self::T, conv: Conv) -> Self::T;
    /// `x W^T + b` over the last axis.
    fn linear(&self, name: &str, x: &Self::T, from: i64, to: i64, init: Init) -> Self::T;
    /// GroupNorm, eps 1e-5; with `affine` a weight and a bias a channel.
    fn group_norm(&self, name: &str, x: &Self::T, groups: i64, channels: i64, affine: bool) -> Self::T;
    /// LayerNorm over the last axis.
    fn layer_norm(&self, name: &str, x: &Self::T, width: i64, eps: f64) -> Self::T;
    /// Rows of a table: ids `(B, T)` -> `(B, T, width)`.
    fn embedding(&self, name: &str, ids: &Self::T, rows: i64, width: i64) -> Self::T;
    /// The first `used` rows of a table of parameters, as `(1, used, width)`.
    fn table(&self, name: &str, rows: i64, used: i64, width: i64) -> Self::T;

    fn silu(&self, x: &Self::T) -> Self::T;
    /// The exact GELU, `x Φ(x)`.
    fn gelu(&self, x: &Self::T) -> Self::T;
    fn add(&self, a: &Self::T, b: &Self::T) -> Self::T;
    fn mul(&self, a: &Self::T, b: &Self::T) -> Self::T;
    fn add_scalar(&self, x: &Self::T, value: f64) -> Self::T;
    /// `(x - mean) / deviation`, a pair of numbers a channel of `(B, C, H, W)`. They are constants, not parameters.
    fn normalise(&self, x: &Self::T, mean: &[f32], deviation: &[f32]) -> Self::T;
    fn concat(&self, parts: &[&Self::T], axis: i64) -> Self::T;
    /// Equal parts of axis 1.
    fn halves(&self, x: &Self::T) -> (Self::T, Self::T);
    /// The token at `index`: `(B, T, C)` -> `(B, C)`.
    fn token(&self, x: &Self::T, index: i64) -> Self::T;
    /// `(B, T, C)` -> `(B, C)`.
    fn sum_tokens(&self, x: &Self::T) -> Self::T;
    /// The place of the greatest of each row: `(B, C)` -> `(B)` integers.
    fn greatest(&self, x: &Self::T) -> Self::T;
    /// Rows of a table of integers: `(B)` integers -> `(B, width)` integers.
    fn lookup(&self, name: &str, at: &Self::T, rows: i64, width: i64) -> Self::T;
    /// Integers of a list: places of any shape -> integers of that shape.
    fn numbers(&self, name: &str, at: &Self::T, count: i64) -> Self::T;
    /// To `(B, rest...)`; the batch stays.
    fn reshape(&self, x: &Self::T, rest: &[i64]) -> Self::T;
    /// `(B, C, H, W)` -> `(B, H W, C)`.
    fn to_tokens(&self, x: &Self::T) -> Self::T;
    /// `(B, H W, C)` -> `(B, C, H, W)`.
    fn to_map(&self, x: &Self::T, height: i64, width: i64) -> Self::T;
    /// `(B, C r², H, W)` -> `(B, C, H r, W r)`, torch's channel order (ONNX DepthToSpace, mode CRD).
    fn pixel_shuffle(&self, x: &Self::T, r: i64) -> Self::T;
    fn pixel_unshuffle(&self, x: &Self::T, r: i64) -> Self::T;
    /// Scaled dot-product attention: q `(B, T, C)`, k and v `(B, S, C)`, `mask` `(B, S)` one where a key may be seen.
    fn attention(&self, q: &Self::T, k: &Self::T, v: &Self::T, heads: i64, mask: Option<&Self::T>) -> Self::T;
    /// `(B, T)` ids -> `(B, T)` floats: 1 where the id is not `pad`.
    fn not_equal(&self, ids: &Self::T, pad: i64) -> Self::T;
    /// `(B, T)` -> `(B, T, 1)`.
    fn unsqueeze_last(&self, x: &Self::T) -> Self::T;
    /// Sinusoidal embedding of a timestep, `(B)` -> `(B, dim)`: cosines, then sines, at `10000^(-i / (dim/2))`
    /// (Vaswani et al. 2017; diffusers `get_timestep_embedding` with `flip_sin_to_cos`, `downscale_freq_shift` 0).
    fn sinusoid(&self, t: &Self::T, dim: i64) -> Self::T;
}
