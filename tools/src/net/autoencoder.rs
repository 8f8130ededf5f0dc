//! The autoencoder: pictures `(B, 3, 64, 64)` in [-1, 1] to latents `(B, 4, 16, 16)` and back.
//!
//! After TAESD in spirit: only 3x3 convolutions, one norm a convolution, pixel shuffles for the changes of size.

use super::{Conv, Layers};
use serde::{Deserialize, Serialize};

/// The sizes of an autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Autoencoder {
    /// Channels of the latent.
    pub latent: i64,
    /// Encoder channels at half and quarter size.
    pub encoder: [i64; 2],
    /// Decoder channels at quarter and half size.
    pub decoder: [i64; 2],
}

impl Default for Autoencoder {
    fn default() -> Self {
        Self { latent: 4, encoder: [48, 128], decoder: [128, 64] }
    }
}

/// The file in a run's folder that holds its [`LatentScale`].
pub const SCALE_FILE: &str = "latents.json";

/// Mean and deviation of each channel of the raw latents, over the training pictures: what a denoiser's latents are normalised by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatentScale {
    pub mean: Vec<f32>,
    pub deviation: Vec<f32>,
}

impl LatentScale {
    /// Leaves latents as they are.
    pub fn identity(channels: i64) -> Self {
        let channels = channels as usize;
        Self { mean: vec![0.0; channels], deviation: vec![1.0; channels] }
    }

    /// Whether it is sound, for latents of this many channels.
    pub fn fits(&self, channels: i64) -> bool {
        let long = self.mean.len() == channels as usize && self.deviation.len() == channels as usize;
        long && self.mean.iter().all(|m| m.is_finite()) && self.deviation.iter().all(|d| d.is_finite() && *d > 0.0)
    }
}

const GROUPS: i64 = 8;

impl Autoencoder {
    /// Pictures to raw latents, before they are normalised to unit variance.
    pub fn encode<L: Layers>(&self, l: &L, picture: &L::T) -> L::T {
        let [c1, c2] = self.encoder;
        let x = l.conv("encoder.in", &l.pixel_unshuffle(picture, 2), Conv::three(12, c1));
        let x = block(l, "encoder.half", &x, c1);
        let x = l.conv("encoder.halve", &x, Conv::halve(c1, c2));
        let x = block(l, "encoder.quarter0", &x, c2);
        let x = block(l, "encoder.quarter1", &x, c2);
        let x = l.silu(&l.group_norm("encoder.norm", &x, GROUPS, c2, true));
        l.conv("encoder.out", &x, Conv::one(c2, self.latent))
    }

    /// Pictures to normalised latents.
    pub fn latents<L: Layers>(&self, l: &L, picture: &L::T, scale: &LatentScale) -> L::T {
        l.normalise(&self.encode(l, picture), &scale.mean, &scale.deviation)
    }

    /// Normalised latents to pictures.
    pub fn decode<L: Layers>(&self, l: &L, latent: &L::T) -> L::T {
        let [c2, c1] = self.decoder;
        let x = l.conv("decoder.in", latent, Conv::three(self.latent, c2));
        let x = block(l, "decoder.quarter0", &x, c2);
        let x = block(l, "decoder.quarter1", &x, c2);
        let x = l.pixel_shuffle(&l.conv("decoder.double", &x, Conv::one(c2, 4 * c1)), 2);
        let x = block(l, "decoder.half0", &x, c1);
        let x = block(l, "decoder.half1", &x, c1);
        let x = l.silu(&l.group_norm("decoder.norm", &x, GROUPS, c1, true));
        l.pixel_shuffle(&l.conv("decoder.out", &x, Conv::three(c1, 12)), 2)
    }
}

fn block<L: Layers>(l: &L, name: &str, x: &L::T, c: i64) -> L::T {
    let h = l.silu(&l.group_norm(&format!("{name}.norm1"), x, GROUPS, c, true));
    let h = l.conv(&format!("{name}.conv1"), &h, Conv::three(c, c));
    let h = l.silu(&l.group_norm(&format!("{name}.norm2"), &h, GROUPS, c, true));
    l.add(x, &l.conv(&format!("{name}.conv2"), &h, Conv::three(c, c).zeroed()))
}
