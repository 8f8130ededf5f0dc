//! Euler's method on a rectified flow.

use heapless::Vec;

use super::super::schedule::in_range;
use super::super::sigmas::{on_curve, shifted, time_shifted};
use super::super::spacing::linspace;
use super::super::{SamplerError, ScheduleConfig, SigmaCurve};
use super::{Factors, Level, Plan, Setup, push};

/// Esser et al. 2024 (arXiv 2403.03206); `step` of `scheduling_flow_match_euler_discrete.py`: `x' = x + (σ' − σ)·v`, written with
/// `v = eps − x0`, or fresh noise in place of eps.
pub(super) fn plan<const M: usize, const N: usize>(setup: &Setup<M>) -> Result<Plan<N>, SamplerError> {
    let config = setup.config;
    let sigmas = sigmas::<M, N>(setup)?;
    let mut steps = Vec::new();
    for i in setup.begin(sigmas.len())?..sigmas.len() {
        let next = sigmas.get(i + 1).copied().unwrap_or(0.0);
        let (b, c) = if config.stochastic_sampling { (0.0, next) } else { (next, 0.0) };
        let factors = Factors { a: 1.0 - next, b, c, ..Factors::default() };
        let timestep = sigmas[i] * config.num_train_timesteps as f64;
        push(&mut steps, setup.step(timestep, Level::flow(sigmas[i]), factors))?;
    }
    Ok(Plan { steps, init_noise_sigma: 1.0 })
}

/// `set_timesteps` of `scheduling_flow_match_euler_discrete.py`. The static shift acts twice on the lowest σ, once in the
/// constructor and once here, as it does there.
fn sigmas<const M: usize, const N: usize>(setup: &Setup<M>) -> Result<Vec<f64, N>, SamplerError> {
    let (config, n) = (setup.config, setup.options.steps);
    in_range("shift", config.shift, f64::MIN_POSITIVE, f64::MAX, "above 0")?;
    let shift = shift(setup)?;
    let lowest = 1.0 / config.num_train_timesteps as f64;
    let lowest = if config.dynamic_shifting { lowest } else { shifted(config.shift, lowest) };
    let mut sigmas = Vec::new();
    for i in 0..n {
        push(&mut sigmas, shift(linspace(1.0, lowest, i, n)))?;
    }
    if let Some(terminal) = config.shift_terminal.filter(|&terminal| terminal != 0.0) {
        stretch(&mut sigmas, terminal)?;
    }
    if matches!(config.sigma_curve, SigmaCurve::Karras | SigmaCurve::Exponential) {
        let (max, min) = (sigmas[0], sigmas[n - 1]);
        sigmas.iter_mut().enumerate().for_each(|(i, sigma)| *sigma = on_curve(config.sigma_curve, max, min, i, n));
    }
    Ok(sigmas)
}

fn shift<'a, const M: usize>(setup: &Setup<'a, M>) -> Result<impl Fn(f64) -> f64 + use<'a, M>, SamplerError> {
    let config: &'a ScheduleConfig = setup.config;
    let mu = if config.dynamic_shifting { setup.options.mu.ok_or(SamplerError::MuMissing)? } else { 0.0 };
    Ok(
        move |sigma| {
            if config.dynamic_shifting {
                time_shifted(config.time_shift, mu, sigma)
            } else {
                shifted(config.shift, sigma)
            }
        },
    )
}

/// `stretch_shift_to_terminal`: scales 1 − σ so that the last σ is `terminal`. A single σ of 1 stays (diffusers divides 0 by 0).
fn stretch(sigmas: &mut [f64], terminal: f64) -> Result<(), SamplerError> {
    in_range("shift_terminal", terminal, 0.0, 1.0 - 1e-6, "at least 0 and below 1")?;
    let last = sigmas.last().copied().unwrap_or(0.0);
    if last == 1.0 {
        return Ok(());
    }
    let scale = (1.0 - last) / (1.0 - terminal);
    sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - (1.0 - *sigma) / scale);
    Ok(())
}
