use heapless::Vec;

use super::schedule::in_range;
use super::step::{self, Plan};
use super::{Prediction, SamplerError, SamplerKind, Schedule, ScheduleConfig, SigmaCurve};

/// What one run asks of a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerOptions {
    /// The sampler.
    pub kind: SamplerKind,
    /// Steps of the full run, before `strength` shortens it.
    pub steps: usize,
    /// Share of fresh noise, 0 to 1: η of ddim (0 if absent), γ of tcd (0.3 if absent). Others ignore it.
    pub eta: Option<f64>,
    /// How much of the run is left for an image-to-image start, above 0 up to 1: 1 is the whole run.
    pub strength: f64,
    /// Time shift of a flow model with `use_dynamic_shifting`; see [`dynamic_mu`](super::dynamic_mu).
    pub mu: Option<f64>,
}

impl SamplerOptions {
    /// A whole run of `steps` steps, everything else as the sampler's own default has it.
    pub fn new(kind: SamplerKind, steps: usize) -> Self {
        SamplerOptions { kind, steps, eta: None, strength: 1.0, mu: None }
    }
}

/// The scalars of one step. With x the latents, m the model's output, z standard normal noise and x0_prev the clean sample of
/// the step before:
///
/// ```text
/// m   = model(in_scale·x, timestep)
/// x0  = x0_from[0]·x + x0_from[1]·m
/// eps = eps_from[0]·x + eps_from[1]·m
/// x'  = a·x0 + b·eps + c·z + d·x0_prev + skip·x
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What the model is told, on the training scale; fractional for some samplers.
    pub timestep: f32,
    /// The share of the clean sample in x before the step: `x = signal·x0 + noise·eps`.
    pub signal: f32,
    /// The share of noise in x before the step.
    pub noise: f32,
    /// Factor on x for the model's input.
    pub in_scale: f32,
    /// Factors of x and m in the clean sample.
    pub x0_from: [f32; 2],
    /// Factors of x and m in the noise.
    pub eps_from: [f32; 2],
    /// Factor of the clean sample.
    pub a: f32,
    /// Factor of the predicted noise.
    pub b: f32,
    /// Factor of fresh noise.
    pub c: f32,
    /// Factor of the previous step's clean sample.
    pub d: f32,
    /// Factor of x itself.
    pub skip: f32,
}

/// A whole run, computed before it starts: at most `N` steps, without a heap.
#[derive(Clone, Debug)]
pub struct StepTable<const N: usize = 1000> {
    steps: Vec<Step, N>,
    init_noise_sigma: f32,
    clip: Option<f32>,
}

impl<const N: usize> StepTable<N> {
    /// The table for `options` on the schedule that `config` describes, which must not have more than `N` training timesteps.
    ///
    /// # Errors
    /// Values out of range, what is not supported, what diffusers refuses: see [`SamplerError`].
    pub fn new(config: &ScheduleConfig, options: &SamplerOptions) -> Result<Self, SamplerError> {
        Self::with_schedule(&Schedule::<N>::new(config)?, config, options)
    }

    /// The same on a schedule made before, whose capacity `M` may be larger than the table's. `config` must be the one that
    /// `schedule` was made from.
    pub fn with_schedule<const M: usize>(
        schedule: &Schedule<M>,
        config: &ScheduleConfig,
        options: &SamplerOptions,
    ) -> Result<Self, SamplerError> {
        check_options(config, options)?;
        check_prediction(options.kind, config.prediction)?;
        check_supported(config, options.kind)?;
        if options.steps > N {
            return Err(SamplerError::Capacity { what: "steps", needed: options.steps, capacity: N });
        }
        let Plan { steps, init_noise_sigma } = step::plan(schedule, config, options)?;
        let init_noise_sigma = init_noise_sigma as f32;
        let unfit = steps.iter().position(|step| !step.is_finite());
        if let Some(step) = unfit.or((!init_noise_sigma.is_finite()).then_some(0)) {
            return Err(SamplerError::NotFinite { step });
        }
        Ok(StepTable { steps, init_noise_sigma, clip: clip_range(config, options.kind) })
    }

    /// The number of steps left after `strength` shortened the run.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The scalars, step by step.
    pub fn rows(&self) -> &[Step] {
        &self.steps
    }

    /// What the model is told at each step, descending.
    pub fn timesteps(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.steps.iter().map(|step| step.timestep)
    }

    /// What the model is told at step `i`.
    pub fn timestep(&self, i: usize) -> Result<f32, SamplerError> {
        self.step(i).map(|step| step.timestep)
    }

    /// Standard deviation of the latents that a run from pure noise starts with.
    pub fn init_noise_sigma(&self) -> f32 {
        self.init_noise_sigma
    }

    /// The bound of the clean sample, where the schedule clips it.
    pub fn clip(&self) -> Option<f32> {
        self.clip
    }

    /// Whether step `i` draws noise. Where diffusers draws noise and multiplies it by zero, at the very end, nothing is drawn.
    pub fn needs_noise(&self, i: usize) -> bool {
        self.steps.get(i).is_some_and(|step| step.c != 0.0)
    }

    /// Turns standard normal noise into the latents that a run from pure noise starts with, in place.
    pub fn scale_initial_noise(&self, x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x *= self.init_noise_sigma);
    }

    /// Turns clean latents into those that the run starts with, in place: `signal·x + noise·z` at the first step's level
    /// (`add_noise` of the schedulers).
    pub fn add_noise(&self, x: &mut [f32], noise: &[f32]) -> Result<(), SamplerError> {
        let step = self.step(0)?;
        same_length("noise", x.len(), noise.len())?;
        for (x, z) in x.iter_mut().zip(noise) {
            *x = step.signal * *x + step.noise * z;
        }
        Ok(())
    }

    /// What the model gets at step `i` for the latents `x`, into `out` of the same length.
    pub fn scale_input(&self, i: usize, x: &[f32], out: &mut [f32]) -> Result<(), SamplerError> {
        let step = self.step(i)?;
        same_length("the scaled input", x.len(), out.len())?;
        for (out, x) in out.iter_mut().zip(x) {
            *out = x * step.in_scale;
        }
        Ok(())
    }

    /// Takes step `i`: the latents `x` become those of the next timestep.
    ///
    /// All slices have the length of the latents. `noise` is standard normal and must be there when
    /// [`needs_noise`](Self::needs_noise) says so; otherwise it is not read. `prev_x0` belongs to the run: it holds the clean
    /// sample of the step before, any value at the first step, and holds this step's afterwards, which is also the preview.
    pub fn advance(
        &self,
        i: usize,
        x: &mut [f32],
        model_output: &[f32],
        noise: Option<&[f32]>,
        prev_x0: &mut [f32],
    ) -> Result<(), SamplerError> {
        let step = self.step(i)?;
        same_length("the model's output", x.len(), model_output.len())?;
        same_length("prev_x0", x.len(), prev_x0.len())?;
        if step.c == 0.0 {
            step.apply(self.clip, x, model_output, prev_x0);
            return Ok(());
        }
        let noise = noise.ok_or(SamplerError::NoiseMissing { step: i })?;
        same_length("noise", x.len(), noise.len())?;
        step.apply(self.clip, x, model_output, prev_x0);
        for (x, z) in x.iter_mut().zip(noise) {
            *x += step.c * z;
        }
        Ok(())
    }

    fn step(&self, i: usize) -> Result<&Step, SamplerError> {
        self.steps.get(i).ok_or(SamplerError::NoSuchStep { step: i, steps: self.steps.len() })
    }
}

impl Step {
    fn is_finite(&self) -> bool {
        let Step { timestep, signal, noise, in_scale, x0_from: [p, q], eps_from: [r, s], a, b, c, d, skip } = *self;
        [timestep, signal, noise, in_scale, p, q, r, s, a, b, c, d, skip].iter().all(|factor| factor.is_finite())
    }

    /// Everything but the fresh noise.
    fn apply(&self, clip: Option<f32>, x: &mut [f32], model_output: &[f32], prev_x0: &mut [f32]) {
        for ((x, m), prev) in x.iter_mut().zip(model_output).zip(prev_x0) {
            let mut x0 = self.x0_from[0] * *x + self.x0_from[1] * m;
            if let Some(bound) = clip {
                x0 = x0.clamp(-bound, bound);
            }
            let eps = self.eps_from[0] * *x + self.eps_from[1] * m;
            // At the first step `prev` may hold anything, so it must not be multiplied by zero.
            let history = if self.d == 0.0 { 0.0 } else { self.d * *prev };
            *x = self.a * x0 + self.b * eps + history + self.skip * *x;
            *prev = x0;
        }
    }
}

fn same_length(what: &'static str, expected: usize, given: usize) -> Result<(), SamplerError> {
    if expected == given { Ok(()) } else { Err(SamplerError::Length { what, expected, given }) }
}

fn check_options(config: &ScheduleConfig, options: &SamplerOptions) -> Result<(), SamplerError> {
    let (steps, train) = (options.steps, config.num_train_timesteps);
    if steps == 0 {
        return Err(SamplerError::NoSteps);
    }
    if steps > train {
        return Err(SamplerError::TooManySteps { steps, most: train, limit: "num_train_timesteps" });
    }
    in_range("strength", options.strength, 0.0, 1.0, "above 0 and at most 1")?;
    in_range("eta", options.eta.unwrap_or(0.0), 0.0, 1.0, "between 0 and 1")
}

/// What diffusers raises on.
fn check_prediction(kind: SamplerKind, prediction: Prediction) -> Result<(), SamplerError> {
    let accepted = match kind {
        SamplerKind::FlowEuler => prediction == Prediction::Flow,
        SamplerKind::DpmPp2m => true,
        SamplerKind::EulerAncestral => matches!(prediction, Prediction::Epsilon | Prediction::V),
        _ => prediction != Prediction::Flow,
    };
    if accepted { Ok(()) } else { Err(SamplerError::PredictionRefused { kind, prediction }) }
}

fn check_supported(config: &ScheduleConfig, kind: SamplerKind) -> Result<(), SamplerError> {
    use SamplerKind::*;
    let refuse = |key, instead| Err(SamplerError::Unsupported { key, instead });
    if config.thresholding && matches!(kind, Ddim | Ddpm | Lcm | DpmPp2m) {
        return refuse("thresholding", "set it to false, or clip_sample to true");
    }
    if config.sigma_curve == SigmaCurve::Beta && matches!(kind, Euler | DpmPp2m | FlowEuler) {
        return refuse("use_beta_sigmas", "set use_karras_sigmas or none");
    }
    if config.invert_sigmas && kind == FlowEuler {
        return refuse("invert_sigmas", "models that need it are not supported");
    }
    Ok(())
}

fn clip_range(config: &ScheduleConfig, kind: SamplerKind) -> Option<f32> {
    let clips = matches!(kind, SamplerKind::Ddim | SamplerKind::Ddpm | SamplerKind::Lcm) && config.clip_sample;
    clips.then_some((config.clip_sample_range as f32).abs())
}
