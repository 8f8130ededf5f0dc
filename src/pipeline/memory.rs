//! The memory contract: what a picture will take is known before any of it is allocated, and a budget is kept or refused.

use serde::Serialize;

use super::upscaler::{TILE, Upscaler};
use super::{Pipeline, Request, Settings, Size};
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
    /// Whether packed weights stay in the files of the cache, and are read from there by every step.
    pub streamed_weights: bool,
    /// Side of the decoder's tiles in latents; `None` where it decodes in one piece.
    pub decoder_tile: Option<usize>,
    /// Whether the model's upscaler enlarges the picture.
    pub upscaler: bool,
    /// The most that a side of the upscaler's tiles may have, in pixels of the decoded picture; `None` where it enlarges in one piece, or not at all.
    pub upscaler_tile: Option<usize>,
}

impl Arrangement {
    /// What is to be said of an upscaler that has something to do, where it cannot.
    pub(super) fn left_out(&self) -> Option<String> {
        let budget = self.budget_bytes.filter(|_| !self.upscaler).map(megabytes)?;
        Some(format!(
            "the upscaler does not fit the memory budget of {budget}: the picture is enlarged by interpolation"
        ))
    }
}

/// Code and small things that are touched by a run for the first time.
const RUNNING: u64 = 2 << 20;
/// Sides of tiles that are tried, in latents. Smaller ones differ from the whole picture by more than 40 dB: a norm sees the tile alone.
const TILES: [usize; 6] = [192, 128, 96, 64, 48, 32];
/// The upscaler's, in pixels of the decoded picture. Smaller ones would be margins for the most part.
const UPSCALER_TILES: [usize; 5] = [256, 192, 128, 96, 64];

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
        let mut stages: Vec<Drafted> = [text.map(|(text, _)| text), unet, vae]
            .into_iter()
            .zip([&self.text.runner, &self.denoiser.runner, &self.decoder.runner])
            .map(|(planned, runner)| Drafted { name: runner.name().into(), planned, arrays: 0 })
            .collect();
        stages[DECODER].arrays = arrays(settings.decoded);
        let upscaler = self.upscaler.as_mut().filter(|_| settings.enlarges());
        let upscaler = upscaler.map(|upscaler| drafted(upscaler, settings, TILE)).transpose()?;
        let upscaler_tile = upscaler.as_ref().and_then(|(_, tile)| *tile);
        stages.extend(upscaler.map(|(stage, _)| stage));
        let held: usize = stages.iter().filter_map(|stage| stage.planned.as_ref()).map(|planned| planned.held).sum();
        let mut draft = Draft {
            base: rss_bytes().map(|rss| rss.saturating_sub(held as u64) + RUNNING),
            stages,
            budget: self.budget,
            low_memory: self.machine.low_memory,
            streamed: false,
            tile: own_tile,
            upscaler_tile,
        };
        if self.budget.is_some() {
            self.fit(&mut draft, settings)?;
        }
        Ok(draft.arrangement())
    }

    /// Finds the fastest way that keeps the budget: all stages at once, one at a time, weights read from their files by every step, the upscaler
    /// in ever smaller tiles or, where that is not enough, left out, the decoder in ever smaller tiles. The last three alone change the picture.
    fn fit(&mut self, draft: &mut Draft, settings: &Settings) -> Result<()> {
        if draft.stages.get(UPSCALER).is_some_and(|stage| stage.planned.is_none()) {
            self.leave_upscaler_out(draft);
        }
        let fits = |draft: &Draft| match draft.peak().zip(draft.budget) {
            Some((peak, budget)) => Ok(peak <= budget),
            None => Err(unknown(&draft.arrangement())),
        };
        draft.low_memory |= !fits(draft)?;
        draft.streamed = !fits(draft)? && draft.planned().any(|stage| stage.streamed.is_some());
        if !fits(draft)? {
            self.fit_upscaler(draft, settings)?;
        }
        let [_, _, height, width] = settings.latents;
        for tile in TILES.into_iter().filter(|tile| *tile < height.max(width)) {
            if fits(draft)? {
                break;
            }
            if draft.tile.is_none_or(|own| tile < own)
                && let Some(planned) = self.decoder.plan(settings.latents, Some(tile)).ok().flatten()
            {
                draft.stages[DECODER].planned = Some(planned);
                draft.tile = Some(tile);
            }
        }
        if fits(draft)? { Ok(()) } else { Err(too_much(&draft.arrangement())) }
    }

    /// With one stage after the other, what the upscaler takes is its own affair.
    fn fit_upscaler(&mut self, draft: &mut Draft, settings: &Settings) -> Result<()> {
        let side = settings.decoded.width.max(settings.decoded.height);
        let mut smaller = UPSCALER_TILES.into_iter().filter(|tile| *tile < side);
        while !draft.upscaler_fits() {
            let (Some(tile), Some(upscaler)) = (smaller.next(), self.upscaler.as_mut()) else {
                self.leave_upscaler_out(draft);
                break;
            };
            (draft.stages[UPSCALER], draft.upscaler_tile) = drafted(upscaler, settings, tile)?;
        }
        Ok(())
    }

    fn leave_upscaler_out(&mut self, draft: &mut Draft) {
        self.upscaler.iter_mut().for_each(|upscaler| upscaler.runner.drop_engine());
        draft.stages.truncate(UPSCALER);
        draft.upscaler_tile = None;
    }
}

/// The stages' order.
const DECODER: usize = 2;
const UPSCALER: usize = 3;

/// One stage of an arrangement in the making.
struct Drafted {
    name: String,
    planned: Option<Footprint>,
    /// Bytes of the arrays of pictures that go in and out.
    arrays: usize,
}

/// The upscaler with tiles of at most `tile` pixels, and that where there are some.
fn drafted(upscaler: &mut Upscaler, settings: &Settings, tile: usize) -> Result<(Drafted, Option<usize>)> {
    let planned = upscaler.plan(settings.decoded, tile)?;
    let arrays = arrays(upscaler.enlarged(settings.decoded));
    let tile = upscaler.tiles(settings.decoded, tile)?.then_some(tile);
    Ok((Drafted { name: upscaler.runner.name().into(), planned, arrays }, tile))
}

/// An arrangement in the making.
struct Draft {
    /// What the process holds beside the stages.
    base: Option<u64>,
    /// Three, or four with the upscaler.
    stages: Vec<Drafted>,
    budget: Option<u64>,
    low_memory: bool,
    streamed: bool,
    tile: Option<usize>,
    upscaler_tile: Option<usize>,
}

impl Draft {
    fn stages(&self) -> Vec<StageMemory> {
        let stage = |Drafted { name, planned, arrays }: &Drafted| {
            let planned = planned.as_ref();
            let memory = planned.map(|planned| planned.streamed.filter(|_| self.streamed).unwrap_or(planned.memory));
            let peak_bytes = memory.map(|memory| (memory.peak() + arrays) as u64);
            StageMemory { stage: name.clone(), memory, peak_bytes }
        };
        self.stages.iter().map(stage).collect()
    }

    fn planned(&self) -> impl Iterator<Item = &Footprint> {
        self.stages.iter().filter_map(|stage| stage.planned.as_ref())
    }

    /// Whether there is none, or it keeps the budget while no other stage is there.
    fn upscaler_fits(&self) -> bool {
        let peak = self.stages().get(UPSCALER).map(|stage| stage.peak_bytes);
        let room = self.budget.zip(self.base).and_then(|(budget, base)| budget.checked_sub(base));
        peak.is_none_or(|peak| peak.zip(room).is_some_and(|(peak, room)| peak <= room))
    }

    /// Largest resident set that is to be expected.
    fn peak(&self) -> Option<u64> {
        let peaks: Vec<u64> = self.stages().iter().map(|stage| stage.peak_bytes).collect::<Option<_>>()?;
        let stages = if self.low_memory { peaks.into_iter().max().unwrap_or(0) } else { peaks.into_iter().sum() };
        self.base.map(|base| base + stages)
    }

    fn arrangement(&self) -> Arrangement {
        Arrangement {
            stages: self.stages(),
            predicted_peak_bytes: self.peak(),
            budget_bytes: self.budget,
            low_memory: self.low_memory,
            streamed_weights: self.streamed,
            decoder_tile: self.tile,
            upscaler: self.stages.len() > UPSCALER,
            upscaler_tile: self.upscaler_tile,
        }
    }
}

/// Bytes of a picture of `size`: as the engine's output, as a row of it, and blended or turned into bytes.
fn arrays(size: Size) -> usize {
    size.width * size.height * 3 * size_of::<f32>() * 3
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

fn too_much(arrangement: &Arrangement) -> Error {
    let stages: Vec<String> = arrangement
        .stages
        .iter()
        .map(|stage| format!("{} {}", stage.stage, stage.peak_bytes.map_or_else(|| "?".into(), megabytes)))
        .collect();
    let streamed = if arrangement.streamed_weights { ", weights read from their files" } else { "" };
    let tiles =
        arrangement.decoder_tile.map_or_else(String::new, |tile| format!(", decoded in tiles of {tile} latents"));
    let peak = megabytes(arrangement.predicted_peak_bytes.unwrap_or_default());
    let message = format!(
        "the picture takes {peak} at least, the budget is {} ({}; one stage at a time{streamed}{tiles})",
        megabytes(arrangement.budget_bytes.unwrap_or_default()),
        stages.join(", ")
    );
    let cache = if arrangement.streamed_weights { "" } else { ", or a cache folder to read the weights from" };
    Error::new(ErrorKind::Memory, message).advise(format!("give {peak} or more{cache}, or ask for a smaller picture"))
}

/// Megabytes, rounded up.
fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
