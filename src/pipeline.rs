//! The run line, once per picture: `request → tokenizer → text encoder → sampler ⇄ denoiser → decoder → [upscaler] → picture`.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use undiffuse::pipeline::{Options, Pipeline, Prompt, Request};
//!
//! # fn main() -> undiffuse::Result<()> {
//! let mut pipeline = Pipeline::open("models/sticker-64", Options::default())?;
//! let mut request = Request::new(Prompt::new("a red apple")?);
//! request.seed = 7;
//! let made = pipeline.generate(&request, |_| ControlFlow::Continue(()))?;
//! std::fs::write("apple.png", made.to_png()?).unwrap();
//! # Ok(())
//! # }
//! ```

mod decoder;
mod denoiser;
mod latent;
mod memory;
mod picture;
mod prompt;
mod report;
mod request;
mod settings;
mod space;
mod stage;
mod text;
mod tiles;
mod tokenizer;
mod upscaler;
mod watch;

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

pub use crate::cancel::CancelToken;
pub use memory::{Arrangement, StageMemory};
pub use picture::{OutputFile, Parameters, Picture};
pub use prompt::Prompt;
pub use report::{Report, StageReport};
pub use request::{Request, Size};
pub use tokenizer::{Context, Tokenizer, Tokens};

use crate::engine::{Backend, Cache, Precision, Threads, Weights};
use crate::error::Result;
use crate::model::{DecoderPorts, DenoiserPorts, Model, Role};
use crate::system::peak_rss_bytes;
use crate::value::Tensor;
use decoder::Decoder;
use denoiser::Denoiser;
use latent::Latents;
use report::milliseconds;
use settings::{Settings, refused};
use space::LatentSpace;
use stage::{Machine, StageRunner};
use text::Text;
use upscaler::Upscaler;
use watch::Watch;

/// How a pipeline runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What computes.
    pub backend: Backend,
    /// How weights are kept.
    pub weights: Weights,
    /// How floats are stored on a Vulkan device; in halves, where none is given and they were found right and, by [`Backend::Auto`], faster.
    pub precision: Option<Precision>,
    /// Threads, or as many as the machine has cores. The picture does not depend on it.
    pub threads: Option<NonZeroUsize>,
    /// Where compiled plans and packed weights are kept for the next start; they are not where no folder is given.
    pub cache: Option<Cache>,
    /// Drop each stage before the next is loaded: the peak is that of the largest stage, and each picture loads them anew.
    pub low_memory: bool,
    /// Bytes that the process must not exceed: kept by dropping stages, by reading weights from their file as they are
    /// needed (where there is a cache) and by decoding in tiles, or refused before anything is run.
    pub memory_budget: Option<u64>,
    /// Decode in tiles of so many latents a side, their seams blended.
    pub decoder_tile: Option<NonZeroUsize>,
    /// Leave the model's `upscaler/` alone: pictures shown at more than their decoded size are enlarged by interpolation, in less time and memory.
    pub no_upscaler: bool,
    /// Stops runs from elsewhere.
    pub cancel: CancelToken,
}

/// What a running pipeline tells.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stage begins; the name of its folder.
    Stage(&'a str),
    /// A denoising step is done.
    Step(StepDone<'a>),
}

/// A denoising step that is done.
#[derive(Clone, Copy, Debug)]
pub struct StepDone<'a> {
    /// From 0.
    pub index: usize,
    /// How many steps there are.
    pub of: usize,
    /// What the denoiser was asked at.
    pub timestep: f32,
    /// How long it took.
    pub time: Duration,
    /// The latents after the step, `(1, C, H, W)` in row-major order.
    pub latents: &'a [f32],
    /// The clean latents that the step predicted, in the same shape: a preview.
    pub clean: &'a [f32],
}

/// A picture, what it was decoded from, and how it was made.
#[derive(Clone, Debug)]
pub struct Generated {
    /// As it is shown.
    pub picture: Picture,
    /// `(1, C, H, W)` f32, as diffusers gives them for `output_type="latent"`.
    pub latents: Tensor,
    /// How it was made.
    pub report: Report,
}

impl Generated {
    /// The picture as a PNG file that carries its [`Parameters`].
    ///
    /// # Errors
    /// `Io` when the encoder fails.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        self.picture.to_png(&self.report.parameters())
    }
}

/// A model directory, ready to make pictures.
///
/// Stages are loaded when they are first needed, and then kept unless [`Options::low_memory`] is set.
pub struct Pipeline {
    model: Model,
    space: LatentSpace,
    text: Text,
    denoiser: Denoiser,
    decoder: Decoder,
    /// Where the model has one, and it is not to be left alone.
    upscaler: Option<Upscaler>,
    machine: Machine,
    budget: Option<u64>,
    decoder_tile: Option<usize>,
    cancel: CancelToken,
}

impl Pipeline {
    /// Opens a directory in the diffusers ONNX layout, and checks its configs, its tokenizer and its graphs.
    ///
    /// # Errors
    /// Those of [`Model::open`], of the graphs and of [`Tokenizer::open`]: what is missing, malformed, unsupported or does not fit, by
    /// file and field.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        let model = Model::open(dir)?;
        let Options {
            backend,
            weights,
            precision,
            threads,
            cache,
            low_memory,
            memory_budget: budget,
            decoder_tile,
            no_upscaler,
            cancel,
        } = options;
        let decoder_tile = decoder_tile.map(NonZeroUsize::get);
        // What a driver takes is not known: a budget is promised on the CPU alone.
        let backend = if budget.is_some() && backend == Backend::Auto { Backend::Cpu } else { backend };
        let threads = Threads::new(threads)?;
        let machine = Machine {
            backend,
            weights,
            precision,
            threads,
            cache,
            low_memory,
            streamed: false,
            cancel: cancel.clone(),
        };
        let (unet, vae) = (model.stage(Role::Denoiser)?, model.stage(Role::Decoder)?);
        let graph = unet.open()?;
        let ports = DenoiserPorts::of(&graph)?;
        let denoiser = Denoiser::new(unet, graph, ports, &machine);
        let graph = vae.open()?;
        let ports = DecoderPorts::of(&graph)?;
        let decoder = Decoder::new(vae, graph, ports, &machine);
        let space = LatentSpace::of(&model, &denoiser.ports, &decoder.ports)?;
        let text = Text::open(&model, &denoiser.ports, &machine)?;
        let upscaler = model.stages().iter().find(|stage| stage.role == Role::Upscaler && !no_upscaler);
        let upscaler = upscaler.map(|stage| Upscaler::open(stage, &machine)).transpose()?;
        Ok(Self { model, space, text, denoiser, decoder, upscaler, machine, budget, decoder_tile, cancel })
    }

    /// The model that was opened.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Stops this pipeline's runs from elsewhere.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// Makes one picture. `on_event` hears of every stage and step, and stops the run by returning [`ControlFlow::Break`].
    ///
    /// # Errors
    /// `Invalid` or `Mismatch` for a request that this model cannot fulfil, before anything is run; `Cancelled` when it was stopped;
    /// `NotFinite` when NaN or infinity came out, `Engine` when a stage failed.
    pub fn generate(
        &mut self,
        request: &Request,
        on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let begun = Instant::now();
        let settings = Settings::new(request, &self.model, &self.space)?;
        let arrangement = self.arranged(request, &settings)?;
        for runner in self.runners() {
            runner.set_low_memory(arrangement.low_memory);
            runner.set_streamed(arrangement.streamed_weights);
        }
        let mut watch = Watch::new(self.cancel.clone(), on_event);

        watch.stage(self.text.runner.name())?;
        let (states, cut) = self.text.encode(&settings.prompts(request))?;
        self.text.runner.finish();

        watch.stage(self.denoiser.runner.name())?;
        let latents = self.denoise(request, &settings, &states, &mut watch)?;
        self.denoiser.runner.finish();

        watch.stage(self.decoder.runner.name())?;
        let mut decoded =
            self.decoder.decode(&latents, &self.space, settings.decoded, arrangement.decoder_tile, &self.cancel)?;
        self.decoder.runner.finish();

        if let Some(upscaler) = self.upscaler.as_mut().filter(|_| arrangement.upscaler) {
            watch.stage(upscaler.runner.name())?;
            decoded = upscaler.enlarge(&decoded, arrangement.upscaler_tile.unwrap_or(upscaler::TILE), &self.cancel)?;
            upscaler.runner.finish();
        }

        let picture = Picture::from_decoded(decoded)?.resampled(settings.shown)?;
        let report = self.report(request, &settings, cut, &watch.steps, begun.elapsed(), arrangement);
        Ok(Generated { picture, latents, report })
    }

    /// Of all stages that the model has, in the order of a run.
    fn runners(&mut self) -> impl Iterator<Item = &mut StageRunner> {
        let upscaler = self.upscaler.as_mut().map(|upscaler| &mut upscaler.runner);
        [&mut self.text.runner, &mut self.denoiser.runner, &mut self.decoder.runner].into_iter().chain(upscaler)
    }

    fn denoise<F>(
        &mut self,
        request: &Request,
        settings: &Settings,
        states: &[Tensor],
        watch: &mut Watch<F>,
    ) -> Result<Tensor>
    where
        F: FnMut(Event<'_>) -> ControlFlow<()>,
    {
        let condition = self.denoiser.condition(states, settings, self.space.guidance_embedding)?;
        let mut latents = Latents::start(request, settings)?;
        let (mut input, mut clean) = (latents.values.clone(), latents.values.clone());
        let of = settings.table.steps();
        for (index, timestep) in settings.table.timesteps().enumerate() {
            let begun = Instant::now();
            settings.table.scale_input(index, &latents.values, &mut input).map_err(refused)?;
            let sample = Tensor::new(&settings.latents, input.clone())?;
            let output = self.denoiser.predict(&sample, timestep, &condition)?;
            latents.advance(index, settings, &output, &mut clean)?;
            watch.step(StepDone {
                index,
                of,
                timestep,
                time: begun.elapsed(),
                latents: &latents.values,
                clean: &clean,
            })?;
        }
        latents.into_tensor(settings)
    }

    fn report(
        &mut self,
        request: &Request,
        settings: &Settings,
        cut: Vec<String>,
        steps: &[Duration],
        total: Duration,
        memory: Arrangement,
    ) -> Report {
        let scheduler = self.model.scheduler().warning().filter(|_| request.sampler.is_none()).map(str::to_owned);
        let left_out = memory.left_out().filter(|_| self.upscaler.is_some() && settings.enlarges());
        let mut warnings: Vec<String> = scheduler.into_iter().chain(cut).chain(left_out).collect();
        warnings.iter().for_each(|warning| log::warn!("{warning}"));
        // An upscaler that had nothing to do comes last.
        let played = memory.stages.len();
        let stages: Vec<StageReport> = self.runners().take(played).map(StageRunner::report).collect();
        // Warned of when it happened.
        warnings.extend(stages.iter().filter_map(|stage| stage.account.fell.clone()));
        Report {
            prompt: request.prompt.as_str().to_owned(),
            negative: settings.negative.clone(),
            seed: request.seed,
            model: self.model.name(),
            sampler: settings.sampler.name().to_owned(),
            steps: settings.table.steps(),
            guidance: settings.guidance,
            timesteps: settings.table.timesteps().collect(),
            size: settings.decoded,
            display_size: settings.shown,
            threads: self.machine.threads.count(),
            stages,
            steps_ms: steps.iter().copied().map(milliseconds).collect(),
            total_ms: milliseconds(total),
            warnings,
            memory,
            peak_rss_bytes: peak_rss_bytes(),
        }
    }
}
