//! DDPM and DDIM.

use heapless::Vec;

use super::super::spacing::integer_timesteps;
use super::super::{SamplerError, SamplerKind, VarianceType};
use super::{Factors, Plan, Setup, push};

pub(super) fn plan<const M: usize, const N: usize>(setup: &Setup<M>) -> Result<Plan<N>, SamplerError> {
    let timesteps = integer_timesteps::<N>(setup.config, setup.options.steps)?;
    let mut steps = Vec::new();
    for i in setup.begin(timesteps.len())?..timesteps.len() {
        let level = setup.level(timesteps[i])?;
        let factors = match setup.options.kind {
            SamplerKind::Ddpm => ddpm(setup, &timesteps, i)?,
            _ => ddim(setup, timesteps[i]),
        };
        push(&mut steps, setup.step(timesteps[i] as f64, level, factors))?;
    }
    Ok(Plan { steps, init_noise_sigma: 1.0 })
}

/// Song et al. 2020 (arXiv 2010.02502), equations 12 and 16; `step` of `scheduling_ddim.py`. The step goes to `t − T/N`, rounded
/// down, whichever timestep the spacing visits next.
fn ddim<const M: usize>(setup: &Setup<M>, t: usize) -> Factors {
    let config = setup.config;
    let alpha = setup.schedule.alpha_bar(t);
    let next = match t.checked_sub(config.num_train_timesteps / setup.options.steps) {
        Some(t) => setup.schedule.alpha_bar(t),
        None if config.set_alpha_to_one => 1.0,
        None => setup.schedule.alpha_bar(0),
    };
    let variance = posterior_variance(alpha, next);
    let std = setup.options.eta.unwrap_or(0.0) * libm::sqrt(variance.max(0.0));
    let direction = (1.0 - next - std * std).max(0.0);
    Factors { a: libm::sqrt(next), b: libm::sqrt(direction), c: std, ..Factors::default() }
}

/// Ho et al. 2020 (arXiv 2006.11239), equation 7; `step` of `scheduling_ddpm.py`. The step goes to the timestep visited next.
fn ddpm<const M: usize>(setup: &Setup<M>, timesteps: &[usize], i: usize) -> Result<Factors, SamplerError> {
    let t = timesteps[i];
    let alpha = setup.schedule.alpha_bar(t);
    let next = timesteps.get(i + 1).map_or(1.0, |&t| setup.schedule.alpha_bar(t));
    let (step_alpha, step_beta) = (alpha / next, 1.0 - alpha / next);
    let std = std(setup.config.variance_type, posterior_variance(alpha, next), step_beta)?;
    Ok(Factors {
        a: libm::sqrt(next) * step_beta / (1.0 - alpha),
        skip: libm::sqrt(step_alpha) * (1.0 - next) / (1.0 - alpha),
        c: if t > 0 { std } else { 0.0 },
        ..Factors::default()
    })
}

/// Variance of the latents at ᾱ = `next` given those at `alpha` and the clean sample.
fn posterior_variance(alpha: f64, next: f64) -> f64 {
    (1.0 - next) / (1.0 - alpha) * (1.0 - alpha / next)
}

/// `_get_variance` of `scheduling_ddpm.py`.
fn std(kind: VarianceType, posterior: f64, step_beta: f64) -> Result<f64, SamplerError> {
    let unsupported = |key| Err(SamplerError::Unsupported { key, instead: "use fixed_small or fixed_large" });
    match kind {
        VarianceType::FixedSmall | VarianceType::FixedSmallLog => Ok(libm::sqrt(posterior.max(1e-20))),
        VarianceType::FixedLarge => Ok(libm::sqrt(step_beta)),
        VarianceType::FixedLargeLog => unsupported("variance_type fixed_large_log"),
        VarianceType::Learned => unsupported("variance_type learned"),
        VarianceType::LearnedRange => unsupported("variance_type learned_range"),
    }
}
