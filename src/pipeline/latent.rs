//! The latents of a run, from noise to what is decoded.

use super::Request;
use super::settings::{Settings, refused};
use crate::error::{Error, ErrorKind, Result};
use crate::sampler::{AnyNoise, Noise};
use crate::value::Tensor;

/// The latents of a run and its stream of noise.
pub(super) struct Latents {
    pub values: Vec<f32>,
    noise: AnyNoise,
    fresh: Vec<f32>,
}

impl Latents {
    /// Initial latents: noise of the sampler's initial sigma, or the request's latents with noise of its strength added.
    ///
    /// Source: diffusers, `StableDiffusionPipeline.prepare_latents` and `StableDiffusionImg2ImgPipeline.prepare_latents`.
    pub fn start(request: &Request, settings: &Settings) -> Result<Self> {
        let mut noise = AnyNoise::new(request.noise, request.seed);
        let mut values = vec![0.0; settings.latents.iter().product()];
        let fresh = values.clone();
        match &request.init_noise {
            Some(given) => values = given.clone().into_f32(),
            None => noise.fill(&mut values),
        }
        match &request.init_latents {
            Some(clean) => {
                let drawn = std::mem::replace(&mut values, clean.clone().into_f32());
                settings.table.add_noise(&mut values, &drawn).map_err(refused)?;
            }
            None => settings.table.scale_initial_noise(&mut values),
        }
        Ok(Self { values, noise, fresh })
    }

    /// Takes step `step` on the denoiser's `output`. `previous` is the step table's own memory.
    pub fn advance(&mut self, step: usize, settings: &Settings, output: &[f32], previous: &mut [f32]) -> Result<()> {
        let fresh = settings.table.needs_noise(step).then(|| {
            self.noise.fill(&mut self.fresh);
            self.fresh.as_slice()
        });
        settings.table.advance(step, &mut self.values, output, fresh, previous).map_err(refused)?;
        check_finite(&self.values, step)
    }

    /// `(1, C, H, W)`, as diffusers gives them for `output_type="latent"`.
    pub fn into_tensor(self, settings: &Settings) -> Result<Tensor> {
        Tensor::new(&settings.latents, self.values)
    }
}

fn check_finite(values: &[f32], step: usize) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let message = format!("the latents hold {} after step {}", values[at], step + 1);
            Err(Error::new(ErrorKind::NotFinite, message)
                .advise("the denoiser gave no number: its file may be damaged"))
        }
    }
}
