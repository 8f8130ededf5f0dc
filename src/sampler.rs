//! The reverse process: from noise to latents in a few steps, with no heap and no standard library.
//!
//! Every sampler here is, per step and per value,
//!
//! ```text
//! x0  = p·x + q·m              the clean sample that the model's output m stands for, clipped if the schedule says so
//! eps = r·x + s·m              the noise that it stands for
//! x'  = a·x0 + b·eps + c·z + d·x0_prev + skip·x
//! ```
//!
//! with z fresh noise and x0_prev the clean sample of the step before. The scalars are computed in f64 before the run and make
//! a [`StepTable`]; one loop, [`StepTable::advance`], serves every sampler. A new sampler is a new way to fill the table.
//!
//! ```
//! use undiffuse::sampler::{Noise, SamplerKind, SamplerOptions, ScheduleConfig, StepTable, TorchNoise};
//!
//! # fn model(x: &[f32], _timestep: f32, out: &mut [f32]) { out.copy_from_slice(x) }
//! # fn main() -> Result<(), undiffuse::sampler::SamplerError> {
//! let table: StepTable = StepTable::new(&ScheduleConfig::default(), &SamplerOptions::new(SamplerKind::EulerAncestral, 4))?;
//! let mut noise = TorchNoise::new(42);
//! let (mut x, mut z) = ([0.0; 16], [0.0; 16]);
//! let (mut input, mut output, mut x0) = ([0.0; 16], [0.0; 16], [0.0; 16]);
//! noise.fill(&mut x);
//! table.scale_initial_noise(&mut x);
//! for i in 0..table.steps() {
//!     table.scale_input(i, &x, &mut input)?;
//!     model(&input, table.timestep(i)?, &mut output);
//!     let drawn = table.needs_noise(i).then(|| noise.fill(&mut z)).map(|()| &z[..]);
//!     table.advance(i, &mut x, &output, drawn, &mut x0)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Formulas are those of the papers named at [`SamplerKind`], in the spelling of diffusers 0.42.1, whose numbers the tests hold
//! them to. Two lineages beside them: [`annealed_langevin`] for score models and [`multistep_consistency`] for consistency
//! models in σ space.

mod config;
mod consistency;
mod error;
mod guidance;
mod langevin;
mod noise;
mod schedule;
mod sigmas;
mod spacing;
mod step;
mod table;

pub use config::{
    BetaSchedule, FinalSigma, Interpolation, Prediction, SamplerKind, ScheduleConfig, SigmaCurve, SolverAlgorithm,
    SolverType, Spacing, TimeShift, VarianceType,
};
pub use consistency::multistep_consistency;
pub use error::SamplerError;
pub use guidance::{guidance_embedding, guide};
pub use langevin::{Langevin, annealed_langevin, geometric_levels};
pub use noise::{AnyNoise, Noise, NoiseKind, PhiloxNoise, TorchNoise, philox4x32_10};
pub use schedule::Schedule;
pub use sigmas::dynamic_mu;
pub use table::{SamplerOptions, Step, StepTable};
