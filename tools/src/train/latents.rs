//! The latents of a trained autoencoder, at unit variance, and the way back to pictures.

use super::examples::rendered;
use super::run::no_grad;
use crate::dataset::pack::Stickers;
use crate::draws::Draws;
use crate::net::autoencoder::{Autoencoder, LatentScale};
use crate::net::params::{Params, read_trained};
use crate::net::torch::Torch;
use crate::picture::{Placement, place};
use crate::trained::AUTOENCODER;
use anyhow::{Result, ensure};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Pictures that are encoded at once.
const CHUNK: usize = 256;

/// A frozen autoencoder with the statistics of its latents.
pub struct Coder {
    pub net: Autoencoder,
    pub params: Params,
    pub scale: LatentScale,
}

impl Coder {
    /// Opens `weights.safetensors` of a `train autoencoder` run, or an exported model; the statistics are those of up to 2,048 pictures.
    pub fn open(weights: &Path, data: &Stickers, device: Device) -> Result<Self> {
        let net = Autoencoder::default();
        let params = Params::frozen(read_trained(weights, &AUTOENCODER)?, device);
        let scale = LatentScale::identity(net.latent);
        let mut coder = Self { net, params, scale };
        let mut draws = Draws::new(0);
        let shown: Vec<usize> = (0..data.len().min(2048)).map(|_| draws.below(data.len())).collect();
        let latents = coder.encode(shown.len(), |i| place(data.rgba(shown[i]), &Placement::plain()));
        let _ = coder.decode(&latents.narrow(0, 0, 1));
        coder.params.close(&weights.display().to_string())?;
        coder.scale = measured(&latents)?;
        Ok(coder)
    }

    /// Latents `(count, 4, 16, 16)` of the pictures that `render` gives (planar RGB in [-1, 1], 64x64), on the device.
    pub fn encode(&self, count: usize, render: impl Fn(usize) -> Vec<f32> + Sync + Send) -> Tensor {
        let device = self.params.device();
        let starts: Vec<usize> = (0..count).step_by(CHUNK).collect();
        let part = |from: usize| {
            let pictures = rendered(CHUNK.min(count - from), device, |i| render(from + i));
            no_grad(|| self.net.latents(&Torch(&self.params), &pictures, &self.scale))
        };
        let empty = || Tensor::zeros([0, self.net.latent, 16, 16], (Kind::Float, device));
        let parts: Vec<Tensor> = std::iter::once(empty()).chain(starts.into_iter().map(part)).collect();
        Tensor::cat(&parts, 0)
    }

    /// Pictures `(N, 3, 64, 64)` in [-1, 1].
    pub fn decode(&self, latents: &Tensor) -> Tensor {
        no_grad(|| self.net.decode(&Torch(&self.params), &latents.to_device(self.params.device())).clamp(-1.0, 1.0))
    }
}

/// Mean and deviation of each channel of `(N, C, H, W)`.
fn measured(latents: &Tensor) -> Result<LatentScale> {
    let axes = [0i64, 2, 3];
    let mean = Vec::try_from(latents.mean_dim(axes.as_slice(), false, Kind::Float))?;
    let deviation = Vec::try_from(latents.std_dim(axes.as_slice(), true, false))?;
    let scale = LatentScale { mean, deviation };
    ensure!(scale.fits(latents.size()[1]), "the latents of the autoencoder do not vary: {scale:?}");
    Ok(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_are_measured_by_channel() {
        let x = Tensor::from_slice(&[1.0f32, 3.0, 1.0, 3.0, -8.0, -8.0, -4.0, -4.0]).reshape([1, 2, 2, 2]);
        let scale = measured(&x).unwrap();
        assert_eq!(scale.mean, [2.0, -6.0]);
        let deviation = (4.0f32 / 3.0).sqrt();
        assert!((scale.deviation[0] - deviation).abs() < 1e-6 && (scale.deviation[1] - 2.0 * deviation).abs() < 1e-6);
        let error = measured(&Tensor::zeros([1, 2, 2, 2], (Kind::Float, Device::Cpu))).unwrap_err().to_string();
        assert!(error.contains("do not vary"), "{error}");
    }
}
