//! The latents of a trained autoencoder, at unit variance, and the way back to pictures.

use super::run::{Draws, no_grad, tensor};
use crate::dataset::pack::Stickers;
use crate::net::autoencoder::Autoencoder;
use crate::net::params::{Params, read_safetensors};
use crate::net::torch::Torch;
use crate::picture::{Placement, place};
use anyhow::Result;
use rayon::prelude::*;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A frozen autoencoder with the statistics of its latents.
pub struct Coder {
    pub net: Autoencoder,
    pub params: Params,
    mean: Tensor,
    deviation: Tensor,
}

impl Coder {
    /// Opens `weights.safetensors` of a `train autoencoder` run; the statistics are those of 2,048 training pictures.
    pub fn open(weights: &Path, data: &Stickers, device: Device) -> Result<Self> {
        let net = Autoencoder::default();
        let params = Params::frozen(read_safetensors(weights)?, device);
        let blank = Tensor::zeros([1, net.latent, 1, 1], (Kind::Float, device));
        let mut coder = Self { net, params, mean: blank.copy(), deviation: blank + 1.0 };
        let mut draws = Draws::new(0);
        let placed: Vec<(usize, Placement)> =
            (0..2048).map(|_| (draws.below(data.len()), Placement::plain())).collect();
        let latents = coder.encode(data, &placed);
        let _ = coder.decode(&latents.narrow(0, 0, 1));
        coder.params.close(&weights.display().to_string())?;
        let axes = [0i64, 2, 3];
        coder.mean = latents.mean_dim(axes.as_slice(), true, Kind::Float);
        coder.deviation = latents.std_dim(axes.as_slice(), true, true);
        Ok(coder)
    }

    /// Latents `(N, 4, 16, 16)` on the CPU.
    pub fn encode(&self, data: &Stickers, placed: &[(usize, Placement)]) -> Tensor {
        let device = self.params.device();
        let part = |chunk: &[(usize, Placement)]| {
            let values: Vec<Vec<f32>> = chunk.par_iter().map(|(i, p)| place(data.rgba(*i), p)).collect();
            let values = values.concat();
            let pictures = tensor(&values, &[chunk.len() as i64, 3, 64, 64], device);
            let raw = no_grad(|| self.net.encode(&Torch(&self.params), &pictures));
            ((raw - &self.mean) / &self.deviation).to_device(Device::Cpu)
        };
        Tensor::cat(&placed.chunks(256).map(part).collect::<Vec<_>>(), 0)
    }

    /// Pictures `(N, 3, 64, 64)` in [-1, 1].
    pub fn decode(&self, latents: &Tensor) -> Tensor {
        no_grad(|| self.net.decode(&Torch(&self.params), &latents.to_device(self.params.device())).clamp(-1.0, 1.0))
    }
}
