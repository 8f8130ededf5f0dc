use core::fmt;

use super::{Prediction, SamplerKind};

/// Why a schedule or a step table cannot be made, or a step not be taken. Every message says what to do.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SamplerError {
    /// A name in a configuration file or on the command line is none of those known.
    UnknownName {
        /// What was being named.
        what: &'static str,
        /// The names that are known.
        expected: &'static [&'static str],
    },
    /// A value of [`ScheduleConfig`](super::ScheduleConfig) or [`SamplerOptions`](super::SamplerOptions) is out of range.
    OutOfRange {
        /// The key, as `scheduler_config.json` or the option spells it.
        key: &'static str,
        /// What is allowed.
        allowed: &'static str,
        /// What was given.
        given: f64,
    },
    /// A key asks for something that is not built.
    Unsupported {
        /// The key and its value.
        key: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// No step was asked for.
    NoSteps,
    /// More steps than training timesteps, or than this sampler's grid has points.
    TooManySteps {
        /// Steps asked for.
        steps: usize,
        /// The most that are possible.
        most: usize,
        /// What limits them.
        limit: &'static str,
    },
    /// More steps or training timesteps than the storage was built for.
    Capacity {
        /// What does not fit.
        what: &'static str,
        /// How many there are.
        needed: usize,
        /// How many fit.
        capacity: usize,
    },
    /// `strength` leaves no step.
    StrengthTooSmall {
        /// Steps asked for.
        steps: usize,
        /// The strength given.
        strength: f64,
    },
    /// A sampler that diffusers does not run with this prediction type.
    PredictionRefused {
        /// The sampler.
        kind: SamplerKind,
        /// The prediction type.
        prediction: Prediction,
    },
    /// The clean sample would be divided by a signal of zero: a zero-terminal-SNR schedule at its last timestep.
    ZeroSignal {
        /// The sampler.
        kind: SamplerKind,
        /// The timestep.
        timestep: usize,
    },
    /// A timestep beyond the training timesteps: `steps_offset` is too large for so many steps.
    TimestepBeyondTraining {
        /// The timestep.
        timestep: usize,
        /// The number of training timesteps.
        num_train_timesteps: usize,
    },
    /// The schedule makes a step with a factor that is no finite f32.
    NotFinite {
        /// The index of the step.
        step: usize,
    },
    /// A flow model with `use_dynamic_shifting`, and no `mu`.
    MuMissing,
    /// A step index at or beyond the number of steps.
    NoSuchStep {
        /// The index.
        step: usize,
        /// The number of steps.
        steps: usize,
    },
    /// A slice has another length than the latents.
    Length {
        /// Which slice.
        what: &'static str,
        /// The length of the latents.
        expected: usize,
        /// The length of the slice.
        given: usize,
    },
    /// This step draws noise, and none was given.
    NoiseMissing {
        /// The index of the step.
        step: usize,
    },
}

impl fmt::Display for SamplerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use SamplerError::*;
        match *self {
            UnknownName { what, expected } => {
                write!(f, "unknown {what}; expected one of: ")?;
                list(f, expected)
            }
            OutOfRange { key, allowed, given } => write!(f, "{key} is {given}; it must be {allowed}"),
            Unsupported { key, instead } => write!(f, "{key} is not supported; {instead}"),
            NoSteps => f.write_str("0 steps make no picture; ask for at least 1"),
            TooManySteps { steps, most, limit } => {
                write!(f, "{steps} steps are more than the {most} that {limit} allows; ask for at most {most}")
            }
            Capacity { what, needed, capacity } => {
                write!(
                    f,
                    "{needed} {what} do not fit: this build holds at most {capacity}; use fewer or a larger table"
                )
            }
            StrengthTooSmall { steps, strength } => write!(
                f,
                "strength {strength} leaves none of {steps} steps; raise the strength to at least 1/{steps} or ask for more steps"
            ),
            PredictionRefused { kind, prediction } => write!(
                f,
                "the {kind} sampler does not run models of prediction type {prediction}; choose {}",
                suitable(prediction)
            ),
            ZeroSignal { kind, timestep } => write!(
                f,
                "the zero-terminal-SNR schedule holds no signal at timestep {timestep}, which {kind} divides by with epsilon \
                 prediction; use the euler sampler, leading spacing or a v_prediction model"
            ),
            TimestepBeyondTraining { timestep, num_train_timesteps } => write!(
                f,
                "timestep {timestep} is beyond the last training timestep {}; lower steps_offset or the number of steps",
                num_train_timesteps.saturating_sub(1)
            ),
            NotFinite { step } => write!(
                f,
                "step {step} of this schedule has a factor that is not finite; check beta_start, beta_end, shift, sigma_min, \
                 sigma_max and timestep_scaling"
            ),
            MuMissing => f.write_str(
                "use_dynamic_shifting needs mu, the time shift for this picture size; compute it with dynamic_mu",
            ),
            NoSuchStep { step, steps } => {
                write!(f, "step {step} does not exist; the table has {steps} steps, counted from 0")
            }
            Length { what, expected, given } => {
                write!(f, "{what} has {given} values where the latents have {expected}; give slices of equal length")
            }
            NoiseMissing { step } => {
                write!(f, "step {step} draws noise and got none; pass a slice of standard normal values")
            }
        }
    }
}

impl core::error::Error for SamplerError {}

fn list(f: &mut fmt::Formatter<'_>, names: &[&str]) -> fmt::Result {
    for (i, name) in names.iter().enumerate() {
        write!(f, "{}{name}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

fn suitable(prediction: Prediction) -> &'static str {
    match prediction {
        Prediction::Flow => "flow or dpm++2m",
        Prediction::Sample => "euler, ddim, ddpm, dpm++2m, lcm or tcd",
        Prediction::Epsilon | Prediction::V => "any but flow",
    }
}
