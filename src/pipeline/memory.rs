//! The memory contract: what a picture will take is known before any of it is allocated, and a budget is kept or refused.

use serde::Serialize;

use super::stage::StageRunner;
use super::{Pipeline, Request, Settings};
use crate::engine::{Footprint, Memory};
use crate::error::{Error, ErrorKind, Result};
use crate::system::rss_bytes;
use crate::value::Tensor;

/// What one stage will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageMemory {
    /// The stage's directory.
    pub stage: String,
    /// `None` where its engine cannot tell.
    pub memory: Option<Memory>,
    /// All of it together, and the arrays that go in and out.
    pub peak_bytes: Option<u64>,
}

/// How a picture is made within the budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arrangement {
    /// In the order in which they run.
    pub stages: Vec<StageMemory>,
    /// Largest resident set of the process that is to be expected; `None` where a stage or the system cannot tell.
    pub predicted_peak_bytes: Option<u64>,
    /// What must not be exceeded.
    pub budget_bytes: Option<u64>,
    /// Whether each stage is dropped before the next is loaded.
    pub low_memory: bool,
    /// Side of the decoder's tiles in latents; `None` where it decodes in one piece.
    pub decoder_tile: Option<usize>,
}

/// Sides of tiles that are tried, in latents. Smaller ones differ from the whole picture by more than 40 dB: a norm sees the tile alone.
const TILES: [usize; 6] = [192, 128, 96, 64, 48, 32];

impl Pipeline {
    /// Plans all stages for `request` and says what they will take, and how the budget is kept. Runs and allocates nothing.
    ///
    /// # Errors
    /// `Memory` when the budget cannot be kept, or cannot be known to be kept; those of [`Pipeline::generate`] for the request.
    pub fn arrange(&mut self, request: &Request) -> Result<Arrangement> {
        let settings = Settings::new(request, &self.model, &self.space)?;
        self.arranged(request, &settings)
    }

    pub(super) fn arranged(&mut self, request: &Request, settings: &Settings) -> Result<Arrangement> {
        let prompts = settings.prompts(request);
        let text = self.text.plan(&prompts)?;
        let states = text.as_ref().map(|(planned, port)| states(planned, *port, prompts.len())).transpose()?.flatten();
        let unet = match &states {
            Some(states) => self.denoiser.plan(states, settings, self.space.guidance_embedding)?,
            None => None,
        };
        let own_tile = self.decoder_tile;
        let vae = self.decoder.plan(settings.latents, own_tile)?;
        let planned = [text.as_ref().map(|(text, _)| text), unet.as_ref(), vae.as_ref()];
        let held =
            planned.into_iter().flatten().filter(|stage| stage.held).map(|stage| stage.memory.peak()).sum::<usize>();
        let stage = |runner: &StageRunner, planned: Option<Footprint>, arrays: usize| {
            let memory = planned.map(|planned| planned.memory);
            let peak_bytes = memory.map(|memory| (memory.peak() + arrays) as u64);
            StageMemory { stage: runner.name().to_owned(), memory, peak_bytes }
        };
        let pixels = settings.decoded.width * settings.decoded.height;
        let picture = arrays(pixels);
        let stages = vec![
            stage(&self.text.runner, text.map(|(planned, _)| planned), 0),
            stage(&self.denoiser.runner, unet, 0),
            stage(&self.decoder.runner, vae, picture),
        ];
        let base = rss_bytes().map(|rss| rss.saturating_sub(held as u64));
        let arrangement = Arrangement {
            predicted_peak_bytes: None,
            stages,
            budget_bytes: self.budget,
            low_memory: self.machine.low_memory,
            decoder_tile: own_tile,
        };
        let Some(budget) = self.budget else {
            return Ok(arrangement.predicted(base));
        };
        self.fit(arrangement, base, budget, settings, picture)
    }

    /// Finds the fastest way that keeps the budget: all stages at once, one at a time, the decoder in ever smaller tiles.
    fn fit(
        &mut self,
        mut arrangement: Arrangement,
        base: Option<u64>,
        budget: u64,
        settings: &Settings,
        picture: usize,
    ) -> Result<Arrangement> {
        arrangement = arrangement.predicted(base);
        let Some(mut peak) = arrangement.predicted_peak_bytes else { return Err(unknown(&arrangement)) };
        if peak > budget && !arrangement.low_memory {
            arrangement.low_memory = true;
            arrangement = arrangement.predicted(base);
            peak = arrangement.predicted_peak_bytes.unwrap_or(peak);
        }
        let [_, _, height, width] = settings.latents;
        let mut tiles = TILES.iter().copied().filter(|tile| *tile < height.max(width));
        while peak > budget
            && arrangement.decoder_tile.is_none_or(|tile| tile > TILES[TILES.len() - 1])
            && let Some(tile) = tiles.find(|tile| arrangement.decoder_tile.is_none_or(|own| *tile < own))
        {
            let Some(planned) = self.decoder.plan(settings.latents, Some(tile)).ok().flatten() else { break };
            let last = arrangement.stages.len() - 1;
            let decoder = &mut arrangement.stages[last];
            decoder.memory = Some(planned.memory);
            decoder.peak_bytes = Some((planned.memory.peak() + picture) as u64);
            arrangement.decoder_tile = Some(tile);
            arrangement = arrangement.predicted(base);
            peak = arrangement.predicted_peak_bytes.unwrap_or(peak);
        }
        if peak > budget { Err(too_much(&arrangement, peak, budget)) } else { Ok(arrangement) }
    }
}

impl Arrangement {
    fn predicted(mut self, base: Option<u64>) -> Arrangement {
        let peaks: Option<Vec<u64>> = self.stages.iter().map(|stage| stage.peak_bytes).collect();
        self.predicted_peak_bytes = base.zip(peaks).map(|(base, peaks)| {
            base + if self.low_memory { peaks.iter().copied().max().unwrap_or(0) } else { peaks.iter().sum() }
        });
        self
    }
}

/// Bytes of a decoded picture: as the engine's output, as a row of it, and blended or turned into bytes.
fn arrays(pixels: usize) -> usize {
    pixels * 3 * size_of::<f32>() * 3
}

/// Text states as the text encoder will give them, for their shapes.
fn states(planned: &Footprint, port: usize, prompts: usize) -> Result<Option<Vec<Tensor>>> {
    let Some([_, rest @ ..]) = planned.outputs.get(port).map(Vec::as_slice) else { return Ok(None) };
    let shape: Vec<usize> = std::iter::once(1).chain(rest.iter().copied()).collect();
    let one = || Tensor::new(&shape, vec![0f32; shape.iter().product()]);
    (0..prompts).map(|_| one()).collect::<Result<_>>().map(Some)
}

fn unknown(arrangement: &Arrangement) -> Error {
    let stage = arrangement.stages.iter().find(|stage| stage.peak_bytes.is_none());
    let why = stage.map_or_else(
        || "this system does not tell how much memory a process has".to_owned(),
        |stage| format!("what {} takes is not known: it runs on tract", stage.stage),
    );
    Error::new(ErrorKind::Memory, format!("the memory budget cannot be promised: {why}"))
        .advise("leave --memory-budget out, or use a model without unsupported operators")
}

fn too_much(arrangement: &Arrangement, peak: u64, budget: u64) -> Error {
    let stages: Vec<String> = arrangement
        .stages
        .iter()
        .map(|stage| format!("{} {}", stage.stage, stage.peak_bytes.map_or_else(|| "?".into(), megabytes)))
        .collect();
    let tiles =
        arrangement.decoder_tile.map_or_else(String::new, |tile| format!(", decoded in tiles of {tile} latents"));
    let message = format!(
        "the picture takes {} at least, the budget is {} ({}; one stage at a time{tiles})",
        megabytes(peak),
        megabytes(budget),
        stages.join(", ")
    );
    Error::new(ErrorKind::Memory, message)
        .advise(format!("give {} or more, or ask for a smaller picture", megabytes(peak)))
}

/// Megabytes, rounded up.
fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
