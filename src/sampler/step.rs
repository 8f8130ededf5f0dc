//! The scalars of every sampler, in f64: one file a family.

mod diffusion;
mod distilled;
mod euler;
mod flow;
mod solver;

use heapless::Vec;

use super::{Prediction, SamplerError, SamplerKind, SamplerOptions, Schedule, ScheduleConfig, Step};

/// A run's steps, and the standard deviation of its initial latents.
pub(super) struct Plan<const N: usize> {
    pub steps: Vec<Step, N>,
    pub init_noise_sigma: f64,
}

/// What a run is planned from.
struct Setup<'a, const M: usize> {
    schedule: &'a Schedule<M>,
    config: &'a ScheduleConfig,
    options: &'a SamplerOptions,
}

pub(super) fn plan<const M: usize, const N: usize>(
    schedule: &Schedule<M>,
    config: &ScheduleConfig,
    options: &SamplerOptions,
) -> Result<Plan<N>, SamplerError> {
    let setup = Setup { schedule, config, options };
    match options.kind {
        SamplerKind::Euler | SamplerKind::EulerAncestral => euler::plan(&setup),
        SamplerKind::Ddim | SamplerKind::Ddpm => diffusion::plan(&setup),
        SamplerKind::DpmPp2m => solver::plan(&setup),
        SamplerKind::Lcm | SamplerKind::Tcd => distilled::plan(&setup),
        SamplerKind::FlowEuler => flow::plan(&setup),
    }
}

/// How much signal and noise latents hold: `x = signal·x0 + noise·eps`.
#[derive(Clone, Copy, Debug)]
struct Level {
    signal: f64,
    noise: f64,
    /// The sampler's own measure of noise, which flow prediction multiplies by.
    sigma: f64,
}

impl Level {
    /// Variance preserving, from ᾱ.
    fn from_alpha_bar(alpha_bar: f64) -> Self {
        let (signal, noise) = (libm::sqrt(alpha_bar), libm::sqrt(1.0 - alpha_bar));
        Level { signal, noise, sigma: noise / signal }
    }

    /// Variance preserving, from σ (`_sigma_to_alpha_sigma_t` of `scheduling_dpmsolver_multistep.py`).
    fn from_sigma(sigma: f64) -> Self {
        let signal = 1.0 / libm::sqrt(sigma * sigma + 1.0);
        Level { signal, noise: sigma * signal, sigma }
    }

    /// Variance exploding: noise is added to the whole signal.
    fn exploding(sigma: f64) -> Self {
        Level { signal: 1.0, noise: sigma, sigma }
    }

    /// On the straight line between signal and noise.
    fn flow(sigma: f64) -> Self {
        Level { signal: 1.0 - sigma, noise: sigma, sigma }
    }
}

/// The factors of a step in f64; a missing one is zero.
#[derive(Clone, Copy, Debug, Default)]
struct Factors {
    a: f64,
    b: f64,
    c: f64,
    d: f64,
    skip: f64,
}

/// Factors of x and m in the clean sample and in the noise.
///
/// epsilon, v and sample are those of the schedulers' `step`, with Euler's v in σ space
/// (`scheduling_euler_discrete.py`); flow is `x0 = x − σ·m`
/// (`convert_model_output` of `scheduling_dpmsolver_multistep.py`). The noise follows from `x = signal·x0 + noise·eps`.
fn from_model(prediction: Prediction, level: Level, sigma_space: bool) -> ([f64; 2], [f64; 2]) {
    let Level { signal, noise, sigma } = level;
    let x0 = match prediction {
        Prediction::Epsilon => return ([1.0 / signal, -noise / signal], [0.0, 1.0]),
        Prediction::V if sigma_space => {
            let square = sigma * sigma + 1.0;
            [1.0 / square, -sigma / libm::sqrt(square)]
        }
        Prediction::V => [signal, -noise],
        Prediction::Sample => [0.0, 1.0],
        Prediction::Flow => [1.0, -sigma],
    };
    (x0, [(1.0 - signal * x0[0]) / noise, -signal * x0[1] / noise])
}

impl<const M: usize> Setup<'_, M> {
    fn step(&self, timestep: f64, level: Level, factors: Factors) -> Step {
        let sigma_space = self.options.kind.is_sigma_space();
        let (x0, eps) = from_model(self.config.prediction, level, sigma_space);
        let in_scale = if sigma_space { 1.0 / libm::sqrt(level.sigma * level.sigma + 1.0) } else { 1.0 };
        let Factors { a, b, c, d, skip } = factors;
        Step {
            timestep: timestep as f32,
            signal: level.signal as f32,
            noise: level.noise as f32,
            in_scale: in_scale as f32,
            x0_from: x0.map(|v| v as f32),
            eps_from: eps.map(|v| v as f32),
            a: a as f32,
            b: b as f32,
            c: c as f32,
            d: d as f32,
            skip: skip as f32,
        }
    }

    /// The first of `steps` that `strength` leaves: `get_timesteps` of `pipeline_stable_diffusion_img2img.py`, which rounds the
    /// steps left down, and for flow that of `pipeline_stable_diffusion_3_img2img.py`, which rounds the steps dropped down.
    fn begin(&self, steps: usize) -> Result<usize, SamplerError> {
        let strength = self.options.strength;
        let left = (steps as f64 * strength).min(steps as f64);
        let begin = match self.options.kind {
            SamplerKind::FlowEuler => (steps as f64 - left) as usize,
            _ => steps - left as usize,
        };
        if begin < steps { Ok(begin) } else { Err(SamplerError::StrengthTooSmall { steps, strength }) }
    }

    /// The level of a training timestep, refused where epsilon prediction would divide by its signal of zero.
    fn level(&self, timestep: usize) -> Result<Level, SamplerError> {
        let level = Level::from_alpha_bar(self.schedule.alpha_bar(timestep));
        if level.signal == 0.0 && self.config.prediction == Prediction::Epsilon {
            return Err(SamplerError::ZeroSignal { kind: self.options.kind, timestep });
        }
        Ok(level)
    }
}

/// Appends to storage whose capacity was checked before.
fn push<T, const N: usize>(to: &mut Vec<T, N>, value: T) -> Result<(), SamplerError> {
    to.push(value).map_err(|_| SamplerError::Capacity { what: "steps", needed: N + 1, capacity: N })
}
