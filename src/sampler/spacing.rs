//! Which training timesteps a run visits.

use heapless::Vec;

use super::{SamplerError, ScheduleConfig, Spacing};

/// `np.linspace(start, stop, n)[i]` with both ends; a single point is `start`.
pub(super) fn linspace(start: f64, stop: f64, i: usize, n: usize) -> f64 {
    if n > 1 && i == n - 1 {
        return stop;
    }
    let step = if n > 1 { (stop - start) / (n - 1) as f64 } else { 0.0 };
    i as f64 * step + start
}

/// `np.arange(from, 0, -ratio)[i]`, which steps by the *rounded* difference of its first two values.
fn countdown(from: f64, ratio: f64, i: usize) -> f64 {
    from + i as f64 * ((from - ratio) - from)
}

/// Timestep `i` of `steps`, descending, before rounding to f32 or to an integer, by the rules that euler, euler_a, ddim and ddpm
/// share (`set_timesteps` of `scheduling_euler_discrete.py` and `scheduling_ddim.py`).
///
/// Trailing spacing gives exactly `steps` values. `np.arange` gives one more for 62 of the step counts up to 1000 (61 is the
/// first), where `1000 / (1000 / n)` rounds up; diffusers then calls the model at timestep −1.
pub(super) fn spaced(config: &ScheduleConfig, steps: usize, i: usize) -> f64 {
    let train = config.num_train_timesteps;
    match config.spacing {
        Spacing::Linspace => linspace(0.0, (train - 1) as f64, steps - 1 - i, steps),
        Spacing::Leading => ((steps - 1 - i) * (train / steps) + config.steps_offset) as f64,
        Spacing::Trailing => libm::rint(countdown(train as f64, train as f64 / steps as f64, i)) - 1.0,
    }
}

/// The integer timesteps of ddim and ddpm, descending. Halves round to the even neighbour, as in numpy.
pub(super) fn integer_timesteps<const N: usize>(
    config: &ScheduleConfig,
    steps: usize,
) -> Result<Vec<usize, N>, SamplerError> {
    collect((0..steps).map(|i| libm::rint(spaced(config, steps, i)) as usize), config)
}

/// The integer timesteps of dpm++2m, descending from below `last` (`scheduling_dpmsolver_multistep.py`): linspace and leading
/// lay `steps + 1` points and drop the lowest.
pub(super) fn solver_timesteps<const N: usize>(
    config: &ScheduleConfig,
    steps: usize,
    last: usize,
) -> Result<Vec<usize, N>, SamplerError> {
    let ratio = config.num_train_timesteps as f64 / steps as f64;
    let count = match config.spacing {
        Spacing::Trailing => (libm::ceil(last as f64 / ratio) as usize).min(steps),
        Spacing::Linspace | Spacing::Leading => steps,
    };
    let timestep = |i: usize| match config.spacing {
        Spacing::Linspace => libm::rint(linspace(0.0, (last - 1) as f64, steps - i, steps + 1)) as usize,
        Spacing::Leading => (steps - i) * (last / (steps + 1)) + config.steps_offset,
        Spacing::Trailing => (libm::rint(countdown(last as f64, ratio, i)) - 1.0).max(0.0) as usize,
    };
    collect((0..count).map(timestep), config)
}

/// The timesteps of lcm and tcd: `steps` of the points of the distillation grid, which `strength` cuts from above
/// (`scheduling_lcm.py`, `scheduling_tcd.py`).
pub(super) fn distilled_timesteps<const N: usize>(
    config: &ScheduleConfig,
    steps: usize,
    strength: f64,
) -> Result<Vec<usize, N>, SamplerError> {
    let (train, original) = (config.num_train_timesteps, config.original_inference_steps);
    if original == 0 || original > train {
        return Err(SamplerError::OutOfRange {
            key: "original_inference_steps",
            allowed: "between 1 and num_train_timesteps",
            given: original as f64,
        });
    }
    let points = (original as f64 * strength) as usize;
    if points == 0 {
        return Err(SamplerError::StrengthTooSmall { steps, strength });
    }
    if steps > points {
        return Err(SamplerError::TooManySteps { steps, most: points, limit: "original_inference_steps x strength" });
    }
    let stride = points as f64 / steps as f64;
    let point = |i: usize| points - libm::floor(i as f64 * stride) as usize;
    collect((0..steps).map(|i| point(i) * (train / original) - 1), config)
}

fn collect<const N: usize>(
    timesteps: impl Iterator<Item = usize>,
    config: &ScheduleConfig,
) -> Result<Vec<usize, N>, SamplerError> {
    let train = config.num_train_timesteps;
    let mut out = Vec::new();
    for timestep in timesteps {
        if timestep >= train {
            return Err(SamplerError::TimestepBeyondTraining { timestep, num_train_timesteps: train });
        }
        // Cannot fail: the number of steps was checked against the capacity.
        let _ = out.push(timestep);
    }
    Ok(out)
}
