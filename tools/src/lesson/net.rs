//! The network of the lesson and its training: it sees a noisy picture and guesses the noise in it.

use super::density::Mixture;
use super::samples::Denoiser;
use crate::draws::Draws;
use crate::net::params::Params;
use crate::net::torch::Torch;
use crate::net::{Init, Layers};
use crate::train::progress::Report;
use crate::train::run::{Task, no_grad, tensor};
use anyhow::Result;
use std::path::Path;
use tch::{Device, Kind, Tensor};
use undiffuse::sampler::{Noise, Schedule, TorchNoise};

/// Width of the hidden layers, number of residual layers, size of the timestep's embedding.
const WIDTH: i64 = 128;
const DEPTH: usize = 3;
const TIME: i64 = 64;

/// The guess of the noise: noisy pictures `(B, 2)` and timesteps `(B)` or `(1)` -> `(B, 2)`. A residual multilayer perceptron.
pub fn forward<L: Layers>(l: &L, x: &L::T, timestep: &L::T) -> L::T {
    let time = l.silu(&l.linear("time.0", &l.sinusoid(timestep, TIME), TIME, WIDTH, Init::FanIn));
    let time = l.linear("time.1", &time, WIDTH, WIDTH, Init::FanIn);
    let mut h = l.linear("in", x, 2, WIDTH, Init::FanIn);
    for i in 0..DEPTH {
        let seen = l.silu(&l.add(&h, &time));
        h = l.add(&h, &l.linear(&format!("hidden.{i}"), &seen, WIDTH, WIDTH, Init::FanIn));
    }
    l.linear("out", &l.silu(&l.add(&h, &time)), WIDTH, 2, Init::Zero)
}

/// Fresh parameters drawn from `seed`.
pub fn fresh(seed: u64, device: Device) -> Result<Params> {
    let params = Params::fresh(seed, device);
    let blank = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, device));
    let _ = no_grad(|| forward(&Torch(&params), &blank(&[1, 2]), &blank(&[1])));
    params.close("the network of the lesson")?;
    Ok(params)
}

/// A trained network.
pub struct Learned(pub Params);

impl Denoiser for Learned {
    fn guess(&self, x: &[f32], timestep: f32, out: &mut [f32]) {
        let device = self.0.device();
        let x = tensor(x, &[x.len() as i64 / 2, 2], device);
        let guess = no_grad(|| forward(&Torch(&self.0), &x, &tensor(&[timestep], &[1], device)));
        guess.to_device(Device::Cpu).contiguous().copy_data(out, out.len());
    }
}

/// Training as Ho et al. 2020 (arXiv 2006.11239), algorithm 1: take a picture, any timestep and noise; mix them; guess the
/// noise; the loss is the mean squared error (equation 14).
pub struct GuessNoise<'a> {
    pub mixture: &'a Mixture,
    pub schedule: &'a Schedule,
    pub batch: usize,
}

/// Noisy pictures with what made them, flat `(B, 2)`.
struct Batch {
    noisy: Vec<f32>,
    noise: Vec<f32>,
    timesteps: Vec<usize>,
}

impl GuessNoise<'_> {
    /// Draws from `draws` alone, so that nothing else that uses libtorch's generator can change it.
    fn draw(&self, draws: &mut Draws) -> Batch {
        let mut normal = TorchNoise::new(draws.bits());
        let pictures = self.mixture.draw(self.batch, || draws.unit(), &mut normal);
        let timesteps: Vec<usize> = (0..self.batch).map(|_| draws.below(self.schedule.len())).collect();
        let mut noise = vec![0.0; pictures.len()];
        normal.fill(&mut noise);
        let mix = |i: usize| {
            let alpha_bar = self.schedule.alpha_bar(timesteps[i / 2]);
            alpha_bar.sqrt() as f32 * pictures[i] + (1.0 - alpha_bar).sqrt() as f32 * noise[i]
        };
        Batch { noisy: (0..noise.len()).map(mix).collect(), noise, timesteps }
    }

    /// The loss that the best possible guess has on a batch: that of the noise expected from the true score.
    fn least_loss(&self, batch: &Batch) -> f64 {
        let of = |i: usize| {
            let alpha_bar = self.schedule.alpha_bar(batch.timesteps[i]);
            let deviation = (1.0 - alpha_bar).sqrt();
            let at = |values: &[f32]| [f64::from(values[2 * i]), f64::from(values[2 * i + 1])];
            let score = self.mixture.diffused(alpha_bar.sqrt(), deviation).score(at(&batch.noisy));
            let noise = at(&batch.noise);
            (0..2).map(|k| (noise[k] + deviation * score[k]).powi(2)).sum::<f64>()
        };
        (0..self.batch).map(of).sum::<f64>() / batch.noise.len() as f64
    }
}

impl Task for GuessNoise<'_> {
    fn figures(&self) -> &'static [&'static str] {
        &["least_loss"]
    }

    fn loss(&mut self, params: &Params, _: u64, draws: &mut Draws) -> Result<(Tensor, Vec<Tensor>)> {
        let batch = self.draw(draws);
        let shape = [self.batch as i64, 2];
        let timesteps: Vec<f32> = batch.timesteps.iter().map(|t| *t as f32).collect();
        let device = params.device();
        let x = tensor(&batch.noisy, &shape, device);
        let guess = forward(&Torch(params), &x, &tensor(&timesteps, &[self.batch as i64], device));
        let loss = (guess - tensor(&batch.noise, &shape, device)).square().mean(Kind::Float);
        Ok((loss, vec![Tensor::from(self.least_loss(&batch))]))
    }

    fn report(&mut self, _: &Params, _: u64, _: &Path) -> Result<Report> {
        Ok(Report { line: "trained".into(), figures: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lesson::samples::{Exact, config, score_error};
    use crate::net::params::generator_lock;
    use crate::train::run::{Options, Precision, State, train};
    use undiffuse::sampler::SamplerKind;

    /// The error of the learned score at a middling timestep after `steps` of training, relative to the exact score.
    fn error_after(steps: u64) -> f64 {
        let folder = tempfile::tempdir().unwrap();
        let mixture = Mixture::camera();
        let schedule = Schedule::new(&config(SamplerKind::Ddpm)).unwrap();
        let options = Options {
            out: folder.path().to_owned(),
            steps,
            batch: 256,
            rate: 2e-3,
            warmup: 20,
            decay_from: None,
            seed: 3,
            device: "cpu".into(),
            threads: Some(1),
            precision: Precision::F32,
            average: 0.999,
            seconds: None,
            slice: None,
            checkpoint_every: steps,
            report_every: steps,
        };
        let mut state = State::new(fresh(3, options.device().unwrap()).unwrap());
        let mut task = GuessNoise { mixture: &mixture, schedule: &schedule, batch: options.batch };
        train(&options, &mut state, &mut task).unwrap();
        let pictures = mixture.draw(500, || 0.3, &mut TorchNoise::new(4));
        let exact = Exact { mixture: &mixture, schedule: &schedule };
        score_error(&Learned(state.averaged()), &exact, &pictures, 300, 5)
    }

    #[test]
    fn training_finds_the_score_and_a_seed_repeats_it() {
        let _lock = generator_lock();
        let (early, late, again) = (error_after(1), error_after(200), error_after(200));
        println!("score error after 1 step {early}, after 200 {late}");
        assert!(late < 0.5 * early, "{early} {late}");
        assert_eq!(late, again);
    }
}
