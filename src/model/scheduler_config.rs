//! `scheduler/scheduler_config.json`: which sampler the model was made for, and its schedule.

use super::config::Fields;
use crate::error::{Error, ErrorKind, Result};
use crate::sampler::{FinalSigma, SamplerKind, ScheduleConfig, SigmaCurve};
use std::path::Path;
use std::str::FromStr;

/// diffusers' scheduler classes that run here, with the sampler each means.
const CLASSES: [(&str, SamplerKind); 10] = [
    ("EulerDiscreteScheduler", SamplerKind::Euler),
    ("EulerAncestralDiscreteScheduler", SamplerKind::EulerAncestral),
    ("DDIMScheduler", SamplerKind::Ddim),
    ("DDIMParallelScheduler", SamplerKind::Ddim),
    ("DDPMScheduler", SamplerKind::Ddpm),
    ("DDPMParallelScheduler", SamplerKind::Ddpm),
    ("DPMSolverMultistepScheduler", SamplerKind::DpmPp2m),
    ("LCMScheduler", SamplerKind::Lcm),
    ("TCDScheduler", SamplerKind::Tcd),
    ("FlowMatchEulerDiscreteScheduler", SamplerKind::FlowEuler),
];

/// Classes whose sampler is missing, with the one that can run their schedule.
const STAND_INS: [(&str, SamplerKind); 13] = [
    ("PNDMScheduler", SamplerKind::DpmPp2m),
    ("HeunDiscreteScheduler", SamplerKind::DpmPp2m),
    ("UniPCMultistepScheduler", SamplerKind::DpmPp2m),
    ("DPMSolverSinglestepScheduler", SamplerKind::DpmPp2m),
    ("DPMSolverSDEScheduler", SamplerKind::DpmPp2m),
    ("KDPM2DiscreteScheduler", SamplerKind::DpmPp2m),
    ("KDPM2AncestralDiscreteScheduler", SamplerKind::DpmPp2m),
    ("LMSDiscreteScheduler", SamplerKind::DpmPp2m),
    ("DEISMultistepScheduler", SamplerKind::DpmPp2m),
    ("IPNDMScheduler", SamplerKind::DpmPp2m),
    ("SASolverScheduler", SamplerKind::DpmPp2m),
    ("FlowMatchHeunDiscreteScheduler", SamplerKind::FlowEuler),
    ("FlowMatchLCMScheduler", SamplerKind::FlowEuler),
];

/// The scheduler's config, not yet read for a particular sampler.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    fields: Fields,
    class: String,
    sampler: SamplerKind,
    warning: Option<String>,
}

impl SchedulerConfig {
    /// Reads `scheduler_config.json` in `folder`.
    ///
    /// # Errors
    /// `NotFound` or `Malformed` for the file; `Unsupported` for a class that is not known, listing those that are.
    pub fn read(folder: &Path) -> Result<SchedulerConfig> {
        let fields = Fields::read(&folder.join("scheduler_config.json"))?;
        let class = fields.text("_class_name")?.unwrap_or_default().to_owned();
        let among =
            |list: &[(&str, SamplerKind)]| list.iter().find(|(name, _)| *name == class).map(|(_, sampler)| *sampler);
        let stand_in = among(&STAND_INS);
        let Some(sampler) = among(&CLASSES).or(stand_in) else { return Err(unknown(&fields, &class)) };
        let warning = stand_in.map(|sampler| format!("{class} is not there; {sampler} runs on its schedule instead"));
        Ok(SchedulerConfig { fields, class, sampler, warning })
    }

    /// The class it names.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// The sampler for that class.
    pub fn sampler(&self) -> SamplerKind {
        self.sampler
    }

    /// Says so where another sampler stands in for the class that is named.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The schedule for `sampler`: what the file says, else the defaults of the class that diffusers has for it.
    ///
    /// # Errors
    /// `Malformed`, naming file and field, for a value of the wrong type or an unknown name.
    pub fn schedule(&self, sampler: SamplerKind) -> Result<ScheduleConfig> {
        let mut schedule = ScheduleConfig::of_class(sampler);
        self.training(&mut schedule)?;
        self.sampling(&mut schedule)?;
        self.flow(&mut schedule)?;
        self.solver(&mut schedule)?;
        Ok(schedule)
    }

    fn training(&self, schedule: &mut ScheduleConfig) -> Result<()> {
        let fields = &self.fields;
        set(&mut schedule.num_train_timesteps, fields.size("num_train_timesteps")?);
        set(&mut schedule.beta_start, fields.number("beta_start")?);
        set(&mut schedule.beta_end, fields.number("beta_end")?);
        self.named("beta_schedule", &mut schedule.beta_schedule)?;
        schedule.trained_betas = fields.value("trained_betas").is_some();
        self.named("prediction_type", &mut schedule.prediction)?;
        set(&mut schedule.rescale_betas_zero_snr, fields.flag("rescale_betas_zero_snr")?);
        Ok(())
    }

    fn sampling(&self, schedule: &mut ScheduleConfig) -> Result<()> {
        let fields = &self.fields;
        self.named("timestep_spacing", &mut schedule.spacing)?;
        set(&mut schedule.steps_offset, fields.size("steps_offset")?);
        set(&mut schedule.set_alpha_to_one, fields.flag("set_alpha_to_one")?);
        set(&mut schedule.clip_sample, fields.flag("clip_sample")?);
        set(&mut schedule.clip_sample_range, fields.number("clip_sample_range")?);
        set(&mut schedule.thresholding, fields.flag("thresholding")?);
        set(&mut schedule.original_inference_steps, fields.size("original_inference_steps")?);
        set(&mut schedule.timestep_scaling, fields.number("timestep_scaling")?);
        self.named("variance_type", &mut schedule.variance_type)?;
        self.sigmas(schedule)
    }

    fn sigmas(&self, schedule: &mut ScheduleConfig) -> Result<()> {
        let fields = &self.fields;
        for (name, curve) in CURVES {
            set(&mut schedule.sigma_curve, fields.flag(name)?.filter(|&on| on).map(|_| curve));
        }
        schedule.sigma_min = fields.number("sigma_min")?;
        schedule.sigma_max = fields.number("sigma_max")?;
        self.named("interpolation_type", &mut schedule.interpolation)?;
        schedule.continuous_timesteps = fields.text("timestep_type")? == Some("continuous");
        set(&mut schedule.final_sigma, self.name::<FinalSigma>("final_sigmas_type")?);
        Ok(())
    }

    fn flow(&self, schedule: &mut ScheduleConfig) -> Result<()> {
        let fields = &self.fields;
        let shift = if schedule.sigma_curve == SigmaCurve::Flow { "flow_shift" } else { "shift" };
        set(&mut schedule.shift, fields.number(shift)?);
        schedule.shift_terminal = fields.number("shift_terminal")?;
        set(&mut schedule.dynamic_shifting, fields.flag("use_dynamic_shifting")?);
        self.named("time_shift_type", &mut schedule.time_shift)?;
        set(&mut schedule.invert_sigmas, fields.flag("invert_sigmas")?);
        set(&mut schedule.stochastic_sampling, fields.flag("stochastic_sampling")?);
        Ok(())
    }

    fn solver(&self, schedule: &mut ScheduleConfig) -> Result<()> {
        let fields = &self.fields;
        self.named("algorithm_type", &mut schedule.algorithm)?;
        set(&mut schedule.solver_order, fields.size("solver_order")?);
        self.named("solver_type", &mut schedule.solver_type)?;
        set(&mut schedule.lower_order_final, fields.flag("lower_order_final")?);
        set(&mut schedule.euler_at_final, fields.flag("euler_at_final")?);
        set(&mut schedule.lambda_min_clipped, self.number_or_infinity("lambda_min_clipped")?);
        Ok(())
    }

    /// diffusers writes minus infinity as a text or as JSON's extension `-Infinity`.
    fn number_or_infinity(&self, name: &str) -> Result<Option<f64>> {
        match self.fields.value(name).and_then(|value| value.as_str()) {
            Some("-inf" | "-Infinity") => Ok(Some(f64::NEG_INFINITY)),
            _ => self.fields.number(name),
        }
    }

    fn named<T: FromStr<Err: std::fmt::Display>>(&self, name: &str, target: &mut T) -> Result<()> {
        set(target, self.name(name)?);
        Ok(())
    }

    fn name<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<Option<T>> {
        let text = self.fields.text(name)?;
        text.map(|text| text.parse().map_err(|error| self.fields.blame(name, format!("is \"{text}\": {error}"))))
            .transpose()
    }
}

/// Switches in the file, and the curve of noise levels each means.
const CURVES: [(&str, SigmaCurve); 5] = [
    ("use_karras_sigmas", SigmaCurve::Karras),
    ("use_exponential_sigmas", SigmaCurve::Exponential),
    ("use_lu_lambdas", SigmaCurve::Lu),
    ("use_flow_sigmas", SigmaCurve::Flow),
    ("use_beta_sigmas", SigmaCurve::Beta),
];

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn unknown(fields: &Fields, class: &str) -> Error {
    let known: Vec<&str> = CLASSES.iter().chain(&STAND_INS).map(|(name, _)| *name).collect();
    let what = match class {
        "" => "is missing: the file does not say which scheduler it is for".to_owned(),
        class => format!("{class} is not a scheduler that is known"),
    };
    Error::new(ErrorKind::Unsupported, what)
        .in_field("_class_name")
        .in_file(fields.file())
        .advise(format!("known are {}", known.join(", ")))
}
