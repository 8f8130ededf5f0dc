//! Euler's method in σ space, deterministic and ancestral.

use heapless::Vec;

use super::super::sigmas::{on_curve, sigma_to_t};
use super::super::spacing::{linspace, spaced};
use super::super::{FinalSigma, Interpolation, Prediction, SamplerError, SamplerKind, SigmaCurve, Spacing};
use super::{Factors, Level, Plan, Setup, push};

/// Noise levels with the timesteps at which the model is told to be, and the level after the last step.
struct Levels<const N: usize> {
    timesteps: Vec<f64, N>,
    sigmas: Vec<f64, N>,
    last: f64,
}

pub(super) fn plan<const M: usize, const N: usize>(setup: &Setup<M>) -> Result<Plan<N>, SamplerError> {
    let levels = levels::<M, N>(setup)?;
    let mut steps = Vec::new();
    for i in setup.begin(levels.sigmas.len())?..levels.sigmas.len() {
        let sigma = levels.sigmas[i];
        let next = levels.sigmas.get(i + 1).copied().unwrap_or(levels.last);
        let factors = match setup.options.kind {
            SamplerKind::EulerAncestral => ancestral(sigma, next),
            _ => Factors { a: 1.0, b: next, ..Factors::default() },
        };
        push(&mut steps, setup.step(levels.timesteps[i], Level::exploding(sigma), factors))?;
    }
    Ok(Plan { steps, init_noise_sigma: initial(setup.config.spacing, &levels.sigmas) })
}

/// σ_up and σ_down of `scheduling_euler_ancestral_discrete.py`: `x' = x0 + σ_down·eps + σ_up·z`.
fn ancestral(sigma: f64, next: f64) -> Factors {
    let up_square = next * next * (sigma * sigma - next * next) / (sigma * sigma);
    let down = libm::sqrt((next * next - up_square).max(0.0));
    Factors { a: 1.0, b: down, c: libm::sqrt(up_square.max(0.0)), ..Factors::default() }
}

/// `init_noise_sigma` of `scheduling_euler_discrete.py`: a run that starts below the last training timestep starts from what
/// the model saw there, signal and noise together.
fn initial(spacing: Spacing, sigmas: &[f64]) -> f64 {
    let max = sigmas.iter().fold(0.0f64, |max, &sigma| max.max(sigma));
    match spacing {
        Spacing::Linspace | Spacing::Trailing => max,
        Spacing::Leading => libm::sqrt(max * max + 1.0),
    }
}

/// `set_timesteps` of `scheduling_euler_discrete.py`; the ancestral class knows neither curves nor a final σ.
fn levels<const M: usize, const N: usize>(setup: &Setup<M>) -> Result<Levels<N>, SamplerError> {
    let (config, n) = (setup.config, setup.options.steps);
    let mut levels = Levels { timesteps: Vec::new(), sigmas: Vec::new(), last: 0.0 };
    for i in 0..n {
        // diffusers keeps these timesteps in f32 before it looks up σ.
        let t = f64::from(spaced(config, n, i) as f32);
        push(&mut levels.timesteps, t)?;
        push(&mut levels.sigmas, setup.schedule.sigma_at(t))?;
    }
    if setup.options.kind == SamplerKind::EulerAncestral {
        return Ok(levels);
    }
    if config.final_sigma == FinalSigma::SigmaMin {
        levels.last = setup.schedule.sigma(0);
    }
    if config.interpolation == Interpolation::LogLinear {
        log_linear(setup, &mut levels);
    }
    if matches!(config.sigma_curve, SigmaCurve::Karras | SigmaCurve::Exponential) {
        curved(setup, &mut levels);
    }
    if config.continuous_timesteps && config.prediction == Prediction::V {
        for (t, sigma) in levels.timesteps.iter_mut().zip(&levels.sigmas) {
            *t = 0.25 * libm::log(*sigma);
        }
    }
    Ok(levels)
}

/// One more level than steps, equidistant in log σ over the whole training range, whatever the timesteps are.
fn log_linear<const M: usize, const N: usize>(setup: &Setup<M>, levels: &mut Levels<N>) {
    let (max, min) = (setup.schedule.sigma(setup.schedule.len() - 1), setup.schedule.sigma(0));
    let n = levels.sigmas.len();
    let level = |i| libm::exp(linspace(libm::log(max), libm::log(min), i, n + 1));
    levels.sigmas.iter_mut().enumerate().for_each(|(i, sigma)| *sigma = level(i));
    levels.last = level(n);
}

/// The configured curve between the first and the last level, with the timesteps where the training schedule has its values.
fn curved<const M: usize, const N: usize>(setup: &Setup<M>, levels: &mut Levels<N>) {
    let config = setup.config;
    let n = levels.sigmas.len();
    let max = config.sigma_max.unwrap_or(levels.sigmas[0]);
    let lowest = if config.interpolation == Interpolation::LogLinear { levels.last } else { levels.sigmas[n - 1] };
    let min = config.sigma_min.unwrap_or(lowest);
    for (i, (t, sigma)) in levels.timesteps.iter_mut().zip(levels.sigmas.iter_mut()).enumerate() {
        *sigma = on_curve(config.sigma_curve, max, min, i, n);
        *t = sigma_to_t(setup.schedule, *sigma);
    }
    levels.last = if config.final_sigma == FinalSigma::SigmaMin { setup.schedule.sigma(0) } else { 0.0 };
}
