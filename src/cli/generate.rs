//! `undiffuse generate`: a prompt in, picture files out.

mod bar;
mod outputs;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::bytes::Bytes;
use super::search::default_model;
use crate::engine::{Backend, Precision, Weights};
use crate::pipeline::{CancelToken, Options, Pipeline, Prompt, Report, Request, Size};
use crate::sampler::{NoiseKind, SamplerKind};
use bar::Bar;

/// Options of `undiffuse generate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the picture should show
    prompt: OsString,
    /// Where the picture goes; with --count, OUT-0001.png and so on
    #[arg(short, long, value_name = "OUT.png", default_value = "out.png")]
    output: PathBuf,
    /// A model directory in the diffusers ONNX layout [default: $UNDIFFUSE_MODEL, else the model that was installed with the program]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Denoising steps [default: the model's]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// How to go from noise to picture [default: what the model's scheduler config names]
    #[arg(long, value_name = "S")]
    sampler: Option<SamplerKind>,
    /// Which noise to start from; the same number gives the same picture [default: drawn at random, and printed]
    #[arg(long, value_name = "K")]
    seed: Option<u64>,
    /// Whose random numbers: torch's on the CPU (diffusers), or philox, torch's on CUDA
    #[arg(long, default_value = "torch")]
    rng: NoiseKind,
    /// How strongly to follow the prompt; 1 and below: no guidance [default: the model's]
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// What the picture should not show; works where --guidance is above 1
    #[arg(long, value_name = "TEXT")]
    negative: Option<OsString>,
    /// Noise put back in at each step, 0 to 1 (ddim, tcd) [default: the sampler's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    eta: Option<f64>,
    /// Size of the decoded picture [default: the model's]
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// How many pictures, with seeds K, K+1, …
    #[arg(long, value_name = "N", default_value = "1")]
    count: NonZeroUsize,
    /// Threads [default: the machine's cores]; the picture does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// What computes: auto, cpu, tract or vulkan
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// How weights are kept: stored (as in the files), or int8 (a half or a quarter of the memory, and nearly the same picture)
    #[arg(long, default_value = "stored")]
    weights: Weights,
    /// How floats are stored on a Vulkan device: f32, or f16 (half the memory; sums stay f32) [default: f16 where it is found right and, by
    /// the backend auto, faster]
    #[arg(long)]
    precision: Option<Precision>,
    #[command(flatten)]
    cache: super::cache::Args,
    /// Drop each stage of the model before the next is loaded
    #[arg(long)]
    low_memory: bool,
    /// Take no more memory than this in all (512M, 2G, or bytes), whatever it costs in time; refused at once where it cannot be done
    #[arg(long, value_name = "BYTES")]
    memory_budget: Option<Bytes>,
    /// Decode in tiles of N latents a side, their seams blended: less memory, a little more time
    #[arg(long, value_name = "N")]
    decoder_tile: Option<NonZeroUsize>,
    /// Leave the model's upscaler out: what is shown larger than it was decoded is enlarged by interpolation, in less time and memory
    #[arg(long)]
    no_upscaler: bool,
    /// Keep the decoded size where the model says to show it at another
    #[arg(long)]
    native: bool,
    /// Start from this array (1, C, H, W) of standard normal values; no seed is needed then
    #[arg(long, value_name = "F.npy")]
    init_noise: Option<PathBuf>,
    /// Write the final latents (1, C, H, W) here
    #[arg(long, value_name = "F.npy")]
    save_latents: Option<PathBuf>,
    /// Print one JSON object about the run on standard output (an array of them with --count)
    #[arg(long)]
    json: bool,
}

/// What `--json` prints of each picture.
#[derive(Serialize)]
struct Printed {
    #[serde(flatten)]
    report: Report,
    output: PathBuf,
    latents: Option<PathBuf>,
}

/// Makes the pictures. Looks at everything the user wrote, and at where the files go, before a model is loaded.
pub fn run(args: Args) -> Result<()> {
    let cancel = CancelToken::new();
    stop_on_interrupt(cancel.clone())?;
    args.run(&cancel)
}

/// The first Ctrl-C ends the run after its step, the second at once.
fn stop_on_interrupt(cancel: CancelToken) -> Result<()> {
    let handler = move || {
        if cancel.is_cancelled() {
            std::process::exit(super::INTERRUPTED.into());
        }
        cancel.cancel();
    };
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")
}

impl Args {
    fn run(self, cancel: &CancelToken) -> Result<()> {
        let outputs = outputs::check(&self.output, self.save_latents.as_deref(), self.count.get())?;
        let mut request = self.request()?;
        let mut pipeline = Pipeline::open(self.model_dir()?, self.options(cancel))?;
        let mut printed = vec![];
        for (output, seed) in outputs.iter().zip(request.seed..) {
            request.seed = seed;
            let mut bar = Bar::new();
            let made = pipeline.generate(&request, |event| bar.show(event))?;
            bar.finish();
            output.write(&made)?;
            let report = Printed {
                report: made.report,
                output: output.picture().into(),
                latents: output.latents().map(Path::to_path_buf),
            };
            self.tell(&report)?;
            printed.push(report);
        }
        self.print_json(&printed)
    }

    fn model_dir(&self) -> Result<PathBuf> {
        self.model.clone().map_or_else(default_model, Ok)
    }

    fn options(&self, cancel: &CancelToken) -> Options {
        Options {
            backend: self.backend,
            weights: self.weights,
            precision: self.precision,
            threads: self.threads,
            cache: self.cache.cache(),
            low_memory: self.low_memory,
            memory_budget: self.memory_budget.map(|bytes| bytes.0),
            decoder_tile: self.decoder_tile,
            no_upscaler: self.no_upscaler,
            cancel: cancel.clone(),
        }
    }

    fn request(&self) -> Result<Request> {
        let prompt = Prompt::new(Prompt::decode(&self.prompt)?)?;
        let mut request = Request::new(prompt);
        request.negative = self.negative.as_deref().map(|text| Prompt::negative(Prompt::decode(text)?)).transpose()?;
        request.seed = self.seed.unwrap_or_else(random_seed);
        request.steps = self.steps;
        request.guidance = self.guidance;
        request.sampler = self.sampler;
        request.eta = self.eta;
        request.size = self.size;
        request.native = self.native;
        request.noise = self.rng;
        request.init_noise = self.init_noise.as_deref().map(crate::npy::read).transpose()?;
        Ok(request)
    }

    fn tell(&self, printed: &Printed) -> Result<()> {
        let Report { seed, sampler, steps, total_ms, .. } = &printed.report;
        if self.json {
            return Ok(());
        }
        let (output, seconds) = (printed.output.display(), total_ms / 1e3);
        super::print(&format!("{output}: seed {seed}, {steps} steps of {sampler}, {seconds:.1} s\n"))
    }

    fn print_json(&self, printed: &[Printed]) -> Result<()> {
        match printed {
            _ if !self.json => Ok(()),
            [only] => super::print(&(serde_json::to_string(only)? + "\n")),
            several => super::print(&(serde_json::to_string(several)? + "\n")),
        }
    }
}

/// 32 bits: short to type, and all of them count in torch's generator.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::SystemTime::now()) >> 32
}
