//! What `scheduler_config.json` says, as plain data.
//!
//! [`ScheduleConfig`] holds every key that the supported scheduler classes of diffusers 0.42.1 read; reading the JSON is the
//! caller's. A key that is missing in the file takes the default of the class *being run*: start from
//! [`ScheduleConfig::of_class`] and overwrite what the file says, as `from_config` does in diffusers.

use core::fmt;
use core::str::FromStr;

use super::SamplerError;

/// Declares an enum whose variants have names in configuration files and on the command line. The first name is what
/// `Display` writes, `FromStr` reads all of them.
macro_rules! named {
    (
        $(#[$meta:meta])*
        $what:literal $name:ident {
            $($(#[$vmeta:meta])* $variant:ident = $first:literal $(| $other:literal)*,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The name in configuration files and on the command line.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $first,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = SamplerError;

            fn from_str(name: &str) -> Result<Self, SamplerError> {
                match name {
                    $($first $(| $other)* => Ok($name::$variant),)+
                    _ => Err(SamplerError::UnknownName { what: $what, expected: &[$($first,)+] }),
                }
            }
        }
    };
}
pub(crate) use named;

named! {
    /// A reverse process: which rule takes the latents from one timestep to the next.
    "sampler" SamplerKind {
        /// Euler's method on the probability-flow ODE in σ space (Karras et al. 2022, arXiv 2206.00364, algorithm 2 without
        /// churn and correction; `scheduling_euler_discrete.py`).
        Euler = "euler",
        /// Euler to σ_down, then fresh noise of σ_up (`scheduling_euler_ancestral_discrete.py`).
        EulerAncestral = "euler_a" | "euler_ancestral",
        /// Denoising diffusion implicit models (Song et al. 2020, arXiv 2010.02502, equation 12; `scheduling_ddim.py`).
        Ddim = "ddim",
        /// Denoising diffusion probabilistic models (Ho et al. 2020, arXiv 2006.11239, equation 7; `scheduling_ddpm.py`).
        Ddpm = "ddpm",
        /// DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2; `scheduling_dpmsolver_multistep.py`).
        DpmPp2m = "dpm++2m" | "dpmpp_2m",
        /// Latent consistency models (Luo et al. 2023, arXiv 2310.04378, algorithm 3; `scheduling_lcm.py`).
        Lcm = "lcm",
        /// Trajectory consistency distillation (Zheng et al. 2024, arXiv 2402.19159, algorithm 4; `scheduling_tcd.py`).
        Tcd = "tcd",
        /// Euler's method on a rectified flow (Esser et al. 2024, arXiv 2403.03206;
        /// `scheduling_flow_match_euler_discrete.py`).
        FlowEuler = "flow" | "flow_euler",
    }
}

impl SamplerKind {
    /// Whether [`SamplerOptions::eta`](super::SamplerOptions::eta) changes anything; the others ignore it, as diffusers'
    /// pipelines do.
    pub const fn uses_eta(self) -> bool {
        matches!(self, SamplerKind::Ddim | SamplerKind::Tcd)
    }

    /// Whether the latents live in σ space (`x = x0 + σ·eps`) and are scaled before they enter the model.
    pub(crate) const fn is_sigma_space(self) -> bool {
        matches!(self, SamplerKind::Euler | SamplerKind::EulerAncestral)
    }
}

named! {
    /// What the model's output means.
    "prediction type" Prediction {
        /// The noise: `m = eps`.
        Epsilon = "epsilon",
        /// The velocity `m = α·eps − s·x0` (Salimans & Ho 2022, arXiv 2202.00512, appendix D).
        V = "v_prediction" | "v",
        /// The clean sample: `m = x0`.
        Sample = "sample" | "original_sample",
        /// The rectified-flow velocity `m = eps − x0`.
        Flow = "flow_prediction" | "flow",
    }
}

named! {
    /// How the inference timesteps are chosen among the training timesteps (Lin et al. 2023, arXiv 2305.08891, table 2).
    "timestep spacing" Spacing {
        /// `0, k, 2k, …` with `k = T / N` rounded down, plus `steps_offset`: never reaches the last training timestep.
        Leading = "leading",
        /// `T, T − T/N, …`, rounded, minus one: starts at the last training timestep.
        Trailing = "trailing",
        /// N equidistant points from 0 to T − 1. With one step that is timestep 0, which is almost never what is wanted.
        Linspace = "linspace",
    }
}

named! {
    /// The training variances β.
    "beta schedule" BetaSchedule {
        /// Equidistant from `beta_start` to `beta_end`.
        Linear = "linear",
        /// Squares of equidistant square roots: latent diffusion.
        ScaledLinear = "scaled_linear",
        /// The cosine schedule of Nichol & Dhariwal 2021 (arXiv 2102.09672, equation 17), β at most 0.999.
        SquaredCosine = "squaredcos_cap_v2",
    }
}

named! {
    /// Where the noise levels of an inference run come from.
    "sigma curve" SigmaCurve {
        /// The training table at the chosen timesteps.
        Training = "training",
        /// Karras et al. 2022, equation 5, ρ = 7 (`use_karras_sigmas`).
        Karras = "karras",
        /// Equidistant in log σ (`use_exponential_sigmas`).
        Exponential = "exponential",
        /// Equidistant in the log signal-to-noise ratio (Lu et al. 2022, arXiv 2206.00927; `use_lu_lambdas`, dpm++2m only).
        Lu = "lu",
        /// `x = (1 − σ)·x0 + σ·eps` with shifted σ (`use_flow_sigmas`, dpm++2m only).
        Flow = "flow",
        /// Quantiles of a beta distribution (`use_beta_sigmas`). Refused.
        Beta = "beta",
    }
}

named! {
    /// How σ is interpolated between training timesteps (`interpolation_type`, euler only).
    "interpolation" Interpolation {
        /// Linear in the timestep.
        Linear = "linear",
        /// Equidistant in log σ over the whole training range.
        LogLinear = "log_linear",
    }
}

named! {
    /// The σ after the last step.
    "final sigma" FinalSigma {
        /// No noise is left.
        Zero = "zero",
        /// The smallest training σ is left.
        SigmaMin = "sigma_min",
    }
}

named! {
    /// The variance of DDPM's noise (Ho et al. 2020, section 3.2).
    "variance type" VarianceType {
        /// The posterior variance.
        FixedSmall = "fixed_small",
        /// The same, computed through its logarithm.
        FixedSmallLog = "fixed_small_log",
        /// β itself.
        FixedLarge = "fixed_large",
        /// Refused: diffusers takes the square root of a negative number here.
        FixedLargeLog = "fixed_large_log",
        /// Refused: the model predicts the variance in further channels.
        Learned = "learned",
        /// Refused: the model predicts the variance in further channels.
        LearnedRange = "learned_range",
    }
}

named! {
    /// Variants of DPM-Solver (`algorithm_type`).
    "solver algorithm" SolverAlgorithm {
        /// Deterministic, on the data prediction.
        DpmSolverPp = "dpmsolver++" | "deis",
        /// Stochastic, on the data prediction.
        SdeDpmSolverPp = "sde-dpmsolver++",
        /// Refused: solves on the noise prediction; deprecated in diffusers.
        DpmSolver = "dpmsolver",
        /// Refused: solves on the noise prediction; deprecated in diffusers.
        SdeDpmSolver = "sde-dpmsolver",
    }
}

named! {
    /// How the second-order solver uses the previous data prediction (`solver_type`).
    "solver type" SolverType {
        /// Half the first-order weight.
        Midpoint = "midpoint" | "logrho" | "bh1" | "bh2",
        /// The exact integral of a line.
        Heun = "heun",
    }
}

named! {
    /// The resolution-dependent time shift of flow models (`time_shift_type`).
    "time shift" TimeShift {
        /// `e^μ / (e^μ + 1/t − 1)`.
        Exponential = "exponential",
        /// `μ / (μ + 1/t − 1)`.
        Linear = "linear",
    }
}

/// The training schedule and its sampling options: the content of `scheduler_config.json`, under the names used there.
///
/// The default is Stable Diffusion 1's file. Ranges are checked when a [`Schedule`](super::Schedule) or a
/// [`StepTable`](super::StepTable) is made from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleConfig {
    /// T, the number of training timesteps; timesteps run from 0 to T − 1.
    pub num_train_timesteps: usize,
    /// β at timestep 0.
    pub beta_start: f64,
    /// β at timestep T − 1.
    pub beta_end: f64,
    /// The curve between them.
    pub beta_schedule: BetaSchedule,
    /// Set where the file lists its own β (`trained_betas`). Refused.
    pub trained_betas: bool,
    /// What the model's output means (`prediction_type`).
    pub prediction: Prediction,
    /// `timestep_spacing`. LCM, TCD and flow have grids of their own and ignore it.
    pub spacing: Spacing,
    /// Added to the timesteps of [`Spacing::Leading`].
    pub steps_offset: usize,
    /// Whether DDIM's last step goes to a signal of one; otherwise to that of timestep 0.
    pub set_alpha_to_one: bool,
    /// Rescales β so that the last timestep holds no signal (Lin et al. 2023, algorithm 1).
    pub rescale_betas_zero_snr: bool,
    /// Whether DDIM, DDPM and LCM clip the predicted clean sample to ±`clip_sample_range`.
    pub clip_sample: bool,
    /// The bound of `clip_sample`.
    pub clip_sample_range: f64,
    /// Dynamic thresholding (Saharia et al. 2022, arXiv 2205.11487). Refused.
    pub thresholding: bool,
    /// Which of `use_karras_sigmas`, `use_exponential_sigmas`, `use_lu_lambdas`, `use_flow_sigmas`, `use_beta_sigmas` is set.
    /// Only euler, dpm++2m and flow read it, as in diffusers.
    pub sigma_curve: SigmaCurve,
    /// Lower end of euler's Karras and exponential curves; the σ of the last timestep if absent.
    pub sigma_min: Option<f64>,
    /// Upper end of euler's Karras and exponential curves; the σ of the first timestep if absent.
    pub sigma_max: Option<f64>,
    /// `interpolation_type` (euler).
    pub interpolation: Interpolation,
    /// `timestep_type == "continuous"` (euler): with [`Prediction::V`] the model sees `ln(σ) / 4` for a timestep.
    pub continuous_timesteps: bool,
    /// `final_sigmas_type` (euler, dpm++2m).
    pub final_sigma: FinalSigma,
    /// `variance_type` (ddpm).
    pub variance_type: VarianceType,
    /// Steps of the distillation grid (lcm, tcd).
    pub original_inference_steps: usize,
    /// Factor on the timestep in LCM's boundary condition.
    pub timestep_scaling: f64,
    /// `shift` (flow) or `flow_shift` (dpm++2m with [`SigmaCurve::Flow`]).
    pub shift: f64,
    /// Stretches the shifted σ of flow so that the last one has this value.
    pub shift_terminal: Option<f64>,
    /// `use_dynamic_shifting` (flow): needs [`SamplerOptions::mu`](super::SamplerOptions::mu).
    pub dynamic_shifting: bool,
    /// `time_shift_type` (flow).
    pub time_shift: TimeShift,
    /// Runs the flow models of Mochi from σ = 0 to 1 (`invert_sigmas`). Refused.
    pub invert_sigmas: bool,
    /// Draws fresh noise in every flow step.
    pub stochastic_sampling: bool,
    /// `algorithm_type` (dpm++2m).
    pub algorithm: SolverAlgorithm,
    /// 1 or 2 (dpm++2m); 3 is refused.
    pub solver_order: usize,
    /// `solver_type` (dpm++2m).
    pub solver_type: SolverType,
    /// First order for the last step of a run of fewer than 15 (dpm++2m).
    pub lower_order_final: bool,
    /// First order for the last step of any run (dpm++2m).
    pub euler_at_final: bool,
    /// The lowest log signal-to-noise ratio that dpm++2m starts from.
    pub lambda_min_clipped: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        ScheduleConfig {
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_schedule: BetaSchedule::ScaledLinear,
            spacing: Spacing::Leading,
            steps_offset: 1,
            set_alpha_to_one: false,
            clip_sample: false,
            ..ScheduleConfig::PLAIN
        }
    }
}

impl ScheduleConfig {
    /// What most diffusers classes have for defaults.
    const PLAIN: ScheduleConfig = ScheduleConfig {
        num_train_timesteps: 1000,
        beta_start: 0.0001,
        beta_end: 0.02,
        beta_schedule: BetaSchedule::Linear,
        trained_betas: false,
        prediction: Prediction::Epsilon,
        spacing: Spacing::Linspace,
        steps_offset: 0,
        set_alpha_to_one: true,
        rescale_betas_zero_snr: false,
        clip_sample: false,
        clip_sample_range: 1.0,
        thresholding: false,
        sigma_curve: SigmaCurve::Training,
        sigma_min: None,
        sigma_max: None,
        interpolation: Interpolation::Linear,
        continuous_timesteps: false,
        final_sigma: FinalSigma::Zero,
        variance_type: VarianceType::FixedSmall,
        original_inference_steps: 50,
        timestep_scaling: 10.0,
        shift: 1.0,
        shift_terminal: None,
        dynamic_shifting: false,
        time_shift: TimeShift::Exponential,
        invert_sigmas: false,
        stochastic_sampling: false,
        algorithm: SolverAlgorithm::DpmSolverPp,
        solver_order: 2,
        solver_type: SolverType::Midpoint,
        lower_order_final: true,
        euler_at_final: false,
        lambda_min_clipped: f64::NEG_INFINITY,
    };

    /// The defaults of the diffusers class that runs `kind`: what a key that is missing in `scheduler_config.json` means.
    pub fn of_class(kind: SamplerKind) -> Self {
        let plain = ScheduleConfig::PLAIN;
        match kind {
            SamplerKind::Euler | SamplerKind::EulerAncestral | SamplerKind::DpmPp2m => plain,
            SamplerKind::Ddim | SamplerKind::Ddpm => {
                ScheduleConfig { spacing: Spacing::Leading, clip_sample: true, ..plain }
            }
            SamplerKind::Lcm | SamplerKind::Tcd => {
                ScheduleConfig { set_alpha_to_one: true, steps_offset: 0, ..ScheduleConfig::default() }
            }
            SamplerKind::FlowEuler => ScheduleConfig { prediction: Prediction::Flow, ..plain },
        }
    }
}
