//! A request made definite: flag, else the model's `undiffuse.json`, else by its scheduler.

use super::request::{Request, Size, invalid};
use super::space::LatentSpace;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Model, SchedulerConfig};
use crate::sampler::{SamplerError, SamplerKind, SamplerOptions, ScheduleConfig, SigmaCurve, Spacing, StepTable};

const STEPS: usize = 20;
const GUIDANCE: f64 = 7.5;
const FEW_STEPS: usize = 4;
/// What LCM_Dreamshaper_v7, the model that has the embedding, is used with.
const EMBEDDED_GUIDANCE: f64 = 8.0;

/// Everything that a run needs to know before a graph is touched.
pub(super) struct Settings {
    pub sampler: SamplerKind,
    pub guidance: f64,
    /// Whether the guidance goes into the denoiser as an input instead of steering its output.
    pub embedded: bool,
    pub negative: String,
    pub table: Box<StepTable>,
    /// `(1, C, H, W)`.
    pub latents: [usize; 4],
    pub decoded: Size,
    pub shown: Size,
}

impl Settings {
    /// # Errors
    /// `Invalid` for what the model cannot do: sizes, steps, a sampler that does not fit its predictions; `Mismatch` for initial
    /// noise or latents of another shape.
    pub fn new(request: &Request, model: &Model, space: &LatentSpace) -> Result<Self> {
        request.validate()?;
        let (scheduler, own) = (model.scheduler(), model.settings());
        let sampler = request.sampler.unwrap_or(scheduler.sampler());
        let schedule = schedule(scheduler, sampler)?;
        let (steps, guidance) = defaults(scheduler.sampler(), schedule.spacing, space.guidance_embedding.is_some());
        let options = SamplerOptions {
            eta: request.eta,
            strength: request.strength,
            ..SamplerOptions::new(sampler, request.steps.or(own.steps).unwrap_or(steps))
        };
        let decoded = request.size.map_or_else(|| space.default_size(), Ok)?;
        let latents = space.latents_for(decoded)?;
        check_shape("init_noise", request.init_noise.as_ref(), latents)?;
        check_shape("init_latents", request.init_latents.as_ref(), latents)?;
        Ok(Self {
            sampler,
            guidance: request.guidance.or(own.guidance).unwrap_or(guidance),
            embedded: space.guidance_embedding.is_some(),
            negative: request
                .negative
                .as_ref()
                .map(|n| n.as_str().to_owned())
                .or(own.negative.clone())
                .unwrap_or_default(),
            table: Box::new(StepTable::new(&schedule, &options).map_err(refused)?),
            latents,
            decoded,
            shown: shown(request.native, own.display_size, decoded, space.default_size()?)?,
        })
    }

    /// What is encoded: the negative prompt and the prompt under classifier-free guidance, else the prompt alone.
    pub fn prompts<'a>(&'a self, request: &'a Request) -> Vec<&'a str> {
        let negative = self.classifier_free().then_some(self.negative.as_str());
        negative.into_iter().chain([request.prompt.as_str()]).collect()
    }

    /// Whether more pixels are shown than are decoded.
    pub fn enlarges(&self) -> bool {
        self.shown.width > self.decoded.width || self.shown.height > self.decoded.height
    }

    /// Whether an unconditional prediction steers the conditional one.
    pub fn classifier_free(&self) -> bool {
        self.guidance > 1.0 && !self.embedded
    }
}

/// The schedule in `sampler`'s terms. What the model predicts does not change with the sampler.
fn schedule(scheduler: &SchedulerConfig, sampler: SamplerKind) -> Result<ScheduleConfig> {
    let own = scheduler.schedule(scheduler.sampler())?;
    let mut schedule = scheduler.schedule(sampler)?;
    schedule.prediction = own.prediction;
    if scheduler.sampler() == SamplerKind::FlowEuler && sampler == SamplerKind::DpmPp2m {
        schedule.sigma_curve = SigmaCurve::Flow;
        schedule.shift = own.shift;
    }
    Ok(schedule)
}

/// Steps and guidance for a scheduler class. Distilled models need few steps and no guidance but what is embedded.
fn defaults(class: SamplerKind, spacing: Spacing, embedded: bool) -> (usize, f64) {
    let euler = matches!(class, SamplerKind::Euler | SamplerKind::EulerAncestral);
    match class {
        _ if embedded => (FEW_STEPS, EMBEDDED_GUIDANCE),
        SamplerKind::Lcm | SamplerKind::Tcd => (FEW_STEPS, 0.0),
        _ if euler && spacing == Spacing::Trailing => (FEW_STEPS, 0.0),
        _ => (STEPS, GUIDANCE),
    }
}

/// `display_size` is for pictures of the model's own size; others are enlarged by the same factor.
fn shown(native: bool, display: Option<(usize, usize)>, decoded: Size, own: Size) -> Result<Size> {
    let Some((width, height)) = display.filter(|_| !native) else { return Ok(decoded) };
    let scale = |side: usize, to: usize, of: usize| (side * to + of / 2) / of;
    Size::new(scale(decoded.width, width, own.width), scale(decoded.height, height, own.height))
}

fn check_shape(field: &str, given: Option<&crate::value::Tensor>, latents: [usize; 4]) -> Result<()> {
    match given {
        Some(tensor) if tensor.shape() != latents => {
            let message = format!("has the shape {:?}, the latents of this picture {latents:?}", tensor.shape());
            Err(Error::new(ErrorKind::Mismatch, message).in_field(field))
        }
        _ => Ok(()),
    }
}

pub(super) fn refused(error: SamplerError) -> Error {
    invalid(error.to_string()).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_guidance_follow_the_scheduler() {
        use SamplerKind::*;
        use Spacing::*;
        for (class, spacing, embedded, expected) in [
            (Lcm, Leading, false, (4, 0.0)),
            (Lcm, Leading, true, (4, 8.0)),
            (Tcd, Leading, false, (4, 0.0)),
            (Euler, Trailing, false, (4, 0.0)),
            (EulerAncestral, Trailing, false, (4, 0.0)),
            (Euler, Leading, false, (20, 7.5)),
            (Ddim, Trailing, false, (20, 7.5)),
            (FlowEuler, Linspace, false, (20, 7.5)),
        ] {
            assert_eq!(defaults(class, spacing, embedded), expected, "{class} {spacing}");
        }
    }

    #[test]
    fn pictures_are_enlarged_by_the_factor_of_the_models_own_size() {
        let size = |width, height| Size { width, height };
        let own = size(64, 64);
        assert_eq!(shown(false, Some((256, 256)), size(96, 32), own).unwrap(), size(384, 128));
        assert_eq!(shown(true, Some((256, 256)), size(96, 32), own).unwrap(), size(96, 32));
        assert_eq!(shown(false, None, own, own).unwrap(), own);
    }
}
