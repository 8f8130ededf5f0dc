//! What a run did, for people and for `--json`.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Arrangement, Parameters, Size};
use crate::engine::Account;

/// Where the time of one stage went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageReport {
    /// The stage's directory: `text_encoder`, `unet`, `vae_decoder`, …
    pub stage: String,
    /// What ran it, on what, and why.
    #[serde(flatten)]
    pub account: Account,
    /// Reading the file and preparing the graph; 0 where it was ready from an earlier picture.
    pub load_ms: f64,
    /// Running it, over all its calls.
    pub run_ms: f64,
}

/// Everything about one picture that can be told without looking at it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub prompt: String,
    pub negative: String,
    pub seed: u64,
    /// The name of the model's directory.
    pub model: String,
    pub sampler: String,
    pub steps: usize,
    pub guidance: f64,
    /// What the denoiser was asked at, in the order of the steps.
    pub timesteps: Vec<f32>,
    /// As decoded.
    pub size: Size,
    /// Of the picture.
    pub display_size: Size,
    pub threads: usize,
    pub stages: Vec<StageReport>,
    /// One for each step, denoiser and sampler together.
    pub steps_ms: Vec<f64>,
    pub total_ms: f64,
    /// What the user should know; also written to the log.
    pub warnings: Vec<String>,
    /// What was to be expected before anything was run.
    pub memory: Arrangement,
    /// Of the whole process so far (`VmHWM`), where the operating system tells.
    pub peak_rss_bytes: Option<u64>,
}

impl Report {
    /// What the picture's file says about itself.
    pub fn parameters(&self) -> Parameters {
        Parameters {
            prompt: self.prompt.clone(),
            negative: self.negative.clone(),
            steps: self.steps,
            sampler: self.sampler.clone(),
            guidance: self.guidance,
            seed: self.seed,
            size: self.size,
            model: self.model.clone(),
        }
    }
}

/// Milliseconds with the microseconds kept.
pub(super) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Runs `work` and adds the time it took to `total`.
pub(super) fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *total += start.elapsed();
    result
}
