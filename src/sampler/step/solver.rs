//! DPM-Solver++(2M), deterministic and stochastic.

use heapless::Vec;

use super::super::sigmas::{on_curve, shifted, sigma_to_t};
use super::super::spacing::{linspace, solver_timesteps};
use super::super::{
    BetaSchedule, FinalSigma, SamplerError, ScheduleConfig, SigmaCurve, SolverAlgorithm, SolverType, Spacing,
};
use super::{Factors, Level, Plan, Setup, push};

/// Runs shorter than this end with a first-order step if `lower_order_final` is set.
const SHORT_RUN: usize = 15;

struct Levels<const N: usize> {
    timesteps: Vec<f64, N>,
    levels: Vec<Level, N>,
    last: Level,
}

pub(super) fn plan<const M: usize, const N: usize>(setup: &Setup<M>) -> Result<Plan<N>, SamplerError> {
    check(setup.config)?;
    let Levels { timesteps, levels, last } = levels::<M, N>(setup)?;
    let begin = setup.begin(setup.options.steps)?;
    let mut steps = Vec::new();
    for i in begin..levels.len() {
        let to = levels.get(i + 1).copied().unwrap_or(last);
        let before = (i > begin && second_order(setup.config, i, levels.len())).then(|| levels[i - 1]);
        let factors = factors(setup.config, levels[i], to, before);
        push(&mut steps, setup.step(timesteps[i], levels[i], factors))?;
    }
    if steps.is_empty() {
        return Err(SamplerError::StrengthTooSmall { steps: levels.len(), strength: setup.options.strength });
    }
    Ok(Plan { steps, init_noise_sigma: 1.0 })
}

fn check(config: &ScheduleConfig) -> Result<(), SamplerError> {
    if matches!(config.algorithm, SolverAlgorithm::DpmSolver | SolverAlgorithm::SdeDpmSolver) {
        let key = if config.algorithm == SolverAlgorithm::DpmSolver {
            "algorithm_type dpmsolver"
        } else {
            "algorithm_type sde-dpmsolver"
        };
        return Err(SamplerError::Unsupported { key, instead: "use dpmsolver++ or sde-dpmsolver++" });
    }
    match config.solver_order {
        1 | 2 => Ok(()),
        3 => Err(SamplerError::Unsupported { key: "solver_order 3", instead: "set solver_order to 2" }),
        n => Err(SamplerError::OutOfRange { key: "solver_order", allowed: "1 or 2", given: n as f64 }),
    }
}

/// Whether step `i` of `n` may look back (`step` of `scheduling_dpmsolver_multistep.py`).
fn second_order(config: &ScheduleConfig, i: usize, n: usize) -> bool {
    let first_order_end =
        config.euler_at_final || (config.lower_order_final && n < SHORT_RUN) || config.final_sigma == FinalSigma::Zero;
    config.solver_order > 1 && !(i == n - 1 && first_order_end)
}

/// Lu et al. 2022 (arXiv 2211.01095), equation 9 and algorithm 2; `dpm_solver_first_order_update` and
/// `multistep_dpm_solver_second_order_update`, with `x = signal·x0 + noise·eps` put in for x. `before` is the level of the
/// previous step where the step is of second order.
fn factors(config: &ScheduleConfig, from: Level, to: Level, before: Option<Level>) -> Factors {
    // e^(−h), with h the growth of the log signal-to-noise ratio.
    let decay = (to.noise * from.signal) / (to.signal * from.noise);
    let stochastic = config.algorithm == SolverAlgorithm::SdeDpmSolverPp;
    let kept = if stochastic { decay * decay } else { decay };
    let (b, c) =
        if stochastic { (to.noise * decay, to.noise * libm::sqrt((1.0 - kept).max(0.0))) } else { (to.noise, 0.0) };
    let Some(before) = before else { return Factors { a: to.signal, b, c, ..Factors::default() } };
    let h = -libm::log(decay);
    let inverse_ratio = if h == 0.0 { 0.0 } else { h / growth(before, from) };
    let slope = match config.solver_type {
        SolverType::Midpoint => 0.5 * (1.0 - kept),
        SolverType::Heun if h == 0.0 => 0.0,
        SolverType::Heun => 1.0 - (1.0 - kept) / if stochastic { 2.0 * h } else { h },
    };
    let k = to.signal * slope * inverse_ratio;
    Factors { a: to.signal + k, b, c, d: -k, ..Factors::default() }
}

/// Growth of the log signal-to-noise ratio.
fn growth(from: Level, to: Level) -> f64 {
    libm::log((to.signal * from.noise) / (to.noise * from.signal))
}

/// `set_timesteps` of `scheduling_dpmsolver_multistep.py`.
fn levels<const M: usize, const N: usize>(setup: &Setup<M>) -> Result<Levels<N>, SamplerError> {
    let config = setup.config;
    let sigma_last = if config.final_sigma == FinalSigma::SigmaMin { setup.schedule.sigma(0) } else { 0.0 };
    let mut out = Levels { timesteps: Vec::new(), levels: Vec::new(), last: level(config, sigma_last) };
    if matches!(config.sigma_curve, SigmaCurve::Training | SigmaCurve::Beta) {
        check_spread(setup)?;
        for t in solver_timesteps::<N>(config, setup.options.steps, last_timestep(setup))? {
            push(&mut out.timesteps, t as f64)?;
            push(&mut out.levels, level(config, setup.schedule.sigma(t)))?;
        }
        return Ok(out);
    }
    for i in 0..setup.options.steps {
        let (t, sigma) = curved(setup, i);
        push(&mut out.timesteps, t)?;
        push(&mut out.levels, level(config, sigma))?;
    }
    Ok(out)
}

fn level(config: &ScheduleConfig, sigma: f64) -> Level {
    if config.sigma_curve == SigmaCurve::Flow { Level::flow(sigma) } else { Level::from_sigma(sigma) }
}

/// One more point than steps is laid on the training timesteps, and no two may meet.
fn check_spread<const M: usize>(setup: &Setup<M>) -> Result<(), SamplerError> {
    let (steps, last) = (setup.options.steps, last_timestep(setup));
    if setup.config.spacing != Spacing::Trailing && steps >= last {
        return Err(SamplerError::TooManySteps {
            steps,
            most: last.saturating_sub(1),
            limit: "num_train_timesteps - 1",
        });
    }
    Ok(())
}

/// The number of training timesteps whose log signal-to-noise ratio is at least `lambda_min_clipped`; one at least.
fn last_timestep<const M: usize>(setup: &Setup<M>) -> usize {
    let lambda = |t| -libm::log(setup.schedule.sigma(t));
    let clipped = (0..setup.schedule.len()).filter(|&t| lambda(t) < setup.config.lambda_min_clipped).count();
    (setup.schedule.len() - clipped).max(1)
}

/// Timestep and σ of step `i` on a curve over the whole training range.
fn curved<const M: usize>(setup: &Setup<M>, i: usize) -> (f64, f64) {
    let (config, n) = (setup.config, setup.options.steps);
    let train = config.num_train_timesteps as f64;
    if config.sigma_curve == SigmaCurve::Flow {
        let sigma = shifted(config.shift, 1.0 - linspace(1.0, 1.0 / train, n - i, n + 1));
        return (libm::trunc(sigma * train), sigma);
    }
    let (max, min) = (setup.schedule.sigma(setup.schedule.len() - 1), setup.schedule.sigma(0));
    let sigma = on_curve(config.sigma_curve, max, min, i, n);
    let t = sigma_to_t(setup.schedule, sigma);
    // diffusers cuts the fraction off in the end, and rounds before that for two curves of three.
    let rounds = config.sigma_curve != SigmaCurve::Exponential && config.beta_schedule != BetaSchedule::SquaredCosine;
    (if rounds { libm::rint(t) } else { libm::trunc(t) }, sigma)
}
