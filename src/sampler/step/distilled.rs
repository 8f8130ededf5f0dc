//! LCM and TCD: few-step models on the grid they were distilled on.

use heapless::Vec;

use super::super::spacing::distilled_timesteps;
use super::super::{SamplerError, SamplerKind};
use super::{Factors, Level, Plan, Setup, push};

/// Standard deviation of the training data in LCM's boundary condition.
const SIGMA_DATA: f64 = 0.5;

/// γ of tcd where none is given (`step` of `scheduling_tcd.py`).
const DEFAULT_GAMMA: f64 = 0.3;

pub(super) fn plan<const M: usize, const N: usize>(setup: &Setup<M>) -> Result<Plan<N>, SamplerError> {
    let timesteps = distilled_timesteps::<N>(setup.config, setup.options.steps, setup.options.strength)?;
    let mut steps = Vec::new();
    for (i, &t) in timesteps.iter().enumerate() {
        let next = timesteps.get(i + 1).copied();
        let factors = match setup.options.kind {
            SamplerKind::Lcm => lcm(setup, t, next),
            _ => tcd(setup, next),
        };
        push(&mut steps, setup.step(t as f64, setup.level(t)?, factors))?;
    }
    Ok(Plan { steps, init_noise_sigma: 1.0 })
}

/// Luo et al. 2023 (arXiv 2310.04378), algorithm 3; `step` of `scheduling_lcm.py`. The clean sample, mixed with x so that the
/// model is the identity at timestep 0, gets fresh noise up to the next timestep; the last step keeps it clean.
fn lcm<const M: usize>(setup: &Setup<M>, t: usize, next: Option<usize>) -> Factors {
    let scaled = t as f64 * setup.config.timestep_scaling;
    let square = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
    let (c_skip, c_out) = (SIGMA_DATA * SIGMA_DATA / square, scaled / libm::sqrt(square));
    let to = Level::from_alpha_bar(next.map_or(1.0, |t| setup.schedule.alpha_bar(t)));
    Factors { a: to.signal * c_out, skip: to.signal * c_skip, c: to.noise, ..Factors::default() }
}

/// Zheng et al. 2024 (arXiv 2402.19159), algorithm 4; `step` of `scheduling_tcd.py`. Jumps along the trajectory to timestep
/// `s = (1 − γ)·next`, then adds fresh noise up to the next timestep; the last step goes to timestep 0.
fn tcd<const M: usize>(setup: &Setup<M>, next: Option<usize>) -> Factors {
    let gamma = setup.options.eta.unwrap_or(DEFAULT_GAMMA);
    let to = next.unwrap_or(0);
    // In f32, as torch multiplies an integer tensor by a number: the product may be a whole number there and just below it here.
    let s = libm::floorf((1.0 - gamma) as f32 * to as f32) as usize;
    let (alpha_to, alpha_s) = (setup.schedule.alpha_bar(to), setup.schedule.alpha_bar(s));
    let at_s = Level::from_alpha_bar(alpha_s);
    if gamma == 0.0 || next.is_none() {
        return Factors { a: at_s.signal, b: at_s.noise, ..Factors::default() };
    }
    let keep = alpha_to / alpha_s;
    Factors {
        a: libm::sqrt(keep) * at_s.signal,
        b: libm::sqrt(keep) * at_s.noise,
        c: libm::sqrt(1.0 - keep),
        ..Factors::default()
    }
}
