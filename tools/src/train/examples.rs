//! What the denoiser and its student learn from, on the device: pictures as latents, captions as ids of word pieces.
//!
//! The rows are first the drawings that may be trained on, on white, as they are and shifted, then composed scenes (see
//! [`crate::dataset::scene`]). Each drawing and scene has several captions, drawn once: a step only chooses rows.

use super::course::Used;
use super::latents::Coder;
use super::run::tensor;
use super::text::TextEncoder;
use crate::dataset::caption::caption;
use crate::dataset::pack::Stickers;
use crate::dataset::scene::{Scene, Sources};
use crate::draws::{Draws, mix};
use crate::net::params::{read_safetensors, write_safetensors};
use crate::picture::{Placement, place};
use crate::trained::{self, AUTOENCODER, TEXT};
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// What the pictures and captions are made from.
#[derive(clap::Args, Clone, Debug)]
pub struct Sourced {
    /// The packed data that `dataset` made.
    #[arg(long)]
    pub data: PathBuf,
    /// `weights.safetensors` of `train autoencoder`, or an exported model directory.
    #[arg(long)]
    pub autoencoder: PathBuf,
    /// Folder of `train text`, or an exported model directory.
    #[arg(long)]
    pub text: PathBuf,
    /// Composed pictures: on a named colour, tinted, two side by side.
    #[arg(long, default_value_t = 20_000)]
    pub scenes: usize,
    /// Share of a batch that is composed.
    #[arg(long, default_value_t = 0.3)]
    pub composed: f64,
    /// Captions of each drawing.
    #[arg(long, default_value_t = 24)]
    pub captions: usize,
    /// Latents of each drawing: one as it is, the others shifted by up to two pixels.
    #[arg(long, default_value_t = 1)]
    pub copies: usize,
    /// Noise on the token states of a prompt, whose own deviation is about 1: its deviation is drawn from 0 up to this.
    #[arg(long, default_value_t = 0.0)]
    pub state_noise: f64,
}

impl Sourced {
    /// The trained networks, for the record.
    pub(super) fn nets(&self) -> Vec<Used> {
        vec![("autoencoder", self.autoencoder.clone(), &AUTOENCODER), ("text", self.text.clone(), &TEXT)]
    }

    /// The numbers, for the record.
    pub(super) fn settings(&self) -> Value {
        json!({ "scenes": self.scenes, "composed": self.composed, "captions": self.captions, "copies": self.copies,
            "state_noise": self.state_noise })
    }
}

/// Captions of each scene.
const SCENE_CAPTIONS: usize = 2;
/// Share of prompts that are dropped.
const DROP: f64 = 0.1;

/// Rows of a batch.
pub struct Batch {
    /// `(B, 4, 16, 16)`, at unit variance.
    pub latents: Tensor,
    /// `(B, LENGTH, text)`; of some the empty prompt's.
    pub states: Tensor,
}

/// All rows.
pub struct Examples {
    data: Stickers,
    pub coder: Coder,
    pub text: TextEncoder,
    /// `(rows, 4, 16, 16)`, the copies of a drawing one after the other; none where only prompts are wanted.
    latents: Option<Tensor>,
    /// `(captions + 1, LENGTH)` int32; the last is the empty prompt.
    ids: Tensor,
    sourced: Sourced,
    /// The running sum of the drawings' weights.
    weights: Vec<f64>,
    held_out: Vec<usize>,
}

impl Examples {
    /// Renders, encodes and tokenizes everything, all drawn from `seed`; latents made on the CPU are kept in the folder `out`.
    pub fn open(sourced: &Sourced, seed: u64, device: Device, out: &Path) -> Result<Self> {
        Self::of(sourced, seed, device, Some(out))
    }

    /// As [`Examples::open`], without pictures: [`Examples::batch`] is refused.
    pub fn of_prompts(sourced: &Sourced, seed: u64, device: Device) -> Result<Self> {
        Self::of(sourced, seed, device, None)
    }

    fn of(sourced: &Sourced, seed: u64, device: Device, pictures: Option<&Path>) -> Result<Self> {
        ensure!(sourced.captions >= 1, "--captions must be at least 1");
        ensure!(sourced.copies >= 1, "--copies must be at least 1");
        ensure!((0.0..=2.0).contains(&sourced.state_noise), "--state-noise must be from 0 to 2");
        ensure!((0.0..1.0).contains(&sourced.composed), "--composed must be at least 0 and below 1");
        let data = Stickers::open(&sourced.data)?;
        let coder = Coder::open(&sourced.autoencoder, &data, device)?;
        let text = TextEncoder::open(&sourced.text, device)?;
        let (held_out, trained): (Vec<usize>, Vec<usize>) = (0..data.len()).partition(|i| data.held_out(*i));
        ensure!(!trained.is_empty(), "{}: every picture of it is held out", sourced.data.display());
        let scenes = scenes(&data, sourced.scenes, seed).with_context(|| format!("{}", sourced.data.display()))?;
        let encode = || {
            let plain = coder.encode(trained.len() * sourced.copies, |row| {
                let (i, copy) = (trained[row / sourced.copies], row % sourced.copies);
                place(data.rgba(i), &shifted(copy, &mut Draws::new(mix(seed, &format!("copy {i} {copy}")))))
            });
            let composed = coder.encode(scenes.len(), |i| scenes[i].render(&data));
            Tensor::cat(&[plain, composed], 0)
        };
        // Where there is a GPU, encoding takes less time than reading.
        let latents = match pictures {
            None => None,
            Some(_) if device.is_cuda() => Some(encode()),
            Some(out) => Some(Cache::of(sourced, seed, out)?.get_or(encode)?),
        };
        let ids = text.ids(&captions(&data, &trained, &scenes, sourced.captions, seed))?.to_kind(Kind::Int);
        let weights = trained.iter().scan(0.0, |sum, i| {
            *sum += f64::from(data.weight(*i));
            Some(*sum)
        });
        let weights = weights.collect();
        println!("{} drawings and {} scenes, {} captions", trained.len(), scenes.len(), ids.size()[0] - 1);
        Ok(Self { data, coder, text, latents, ids, sourced: sourced.clone(), weights, held_out })
    }

    /// A batch, drawn.
    pub fn batch(&self, count: usize, draws: &mut Draws) -> Result<Batch> {
        let (rows, captions): (Vec<i64>, Vec<i64>) = (0..count).map(|_| self.row(draws)).unzip();
        let latents = self.latents.as_ref().context("opened for prompts alone")?;
        let states = self.disturbed(self.states_of(&captions));
        Ok(Batch { latents: latents.index_select(0, &self.on_device(&rows)), states })
    }

    /// Token states of `count` captions that are drawn, none of them empty, and of as many empty ones.
    pub fn prompts(&self, count: usize, draws: &mut Draws) -> (Tensor, Tensor) {
        let captions: Vec<i64> = (0..count).map(|_| self.caption(self.place(draws), draws)).collect();
        let empty = self.states_of(&[self.ids.size()[0] - 1]).expand([count as i64, -1, -1], false);
        (self.disturbed(self.states_of(&captions)), empty)
    }

    /// Token states `(B, LENGTH, text)` with noise: prompts of people lie beside captions, not on them.
    fn disturbed(&self, states: Tensor) -> Tensor {
        if self.sourced.state_noise == 0.0 {
            return states;
        }
        let deviation =
            Tensor::rand([states.size()[0], 1, 1], (Kind::Float, states.device())) * self.sourced.state_noise;
        let noise = states.randn_like() * deviation.to_kind(states.kind());
        states + noise
    }

    /// Up to `count` held-out pictures and a caption of each, the same every time.
    pub fn held_out(&self, count: usize) -> Result<Batch> {
        let pictures = &self.held_out[..count.min(self.held_out.len())];
        ensure!(!pictures.is_empty(), "{}: no picture of it is held out", self.sourced.data.display());
        let mut draws = Draws::new(5);
        let captions: Vec<String> = pictures.iter().map(|i| caption_of(&self.data, *i, &mut draws)).collect();
        let data = &self.data;
        let latents = self.coder.encode(pictures.len(), |i| place(data.rgba(pictures[i]), &Placement::plain()));
        Ok(Batch { latents, states: self.text.states(&captions)? })
    }

    /// A picture's row: a drawing by weight, or a scene.
    fn place(&self, draws: &mut Draws) -> usize {
        if self.sourced.scenes > 0 && draws.unit() < self.sourced.composed {
            return self.weights.len() + draws.below(self.sourced.scenes);
        }
        let total = self.weights.last().copied().unwrap_or(0.0);
        let at = draws.unit() * total;
        self.weights.partition_point(|w| *w <= at).min(self.weights.len() - 1)
    }

    /// One of its captions' rows.
    fn caption(&self, place: usize, draws: &mut Draws) -> i64 {
        let (drawings, each) = (self.weights.len(), self.sourced.captions);
        let row = match place.checked_sub(drawings) {
            None => place * each + draws.below(each),
            Some(scene) => drawings * each + scene * SCENE_CAPTIONS + draws.below(SCENE_CAPTIONS),
        };
        row as i64
    }

    fn row(&self, draws: &mut Draws) -> (i64, i64) {
        let place = self.place(draws);
        let caption = self.caption(place, draws);
        let (drawings, copies) = (self.weights.len(), self.sourced.copies);
        let row = match place.checked_sub(drawings) {
            None => place * copies + draws.below(copies),
            Some(scene) => drawings * copies + scene,
        };
        (row as i64, if draws.unit() < DROP { self.ids.size()[0] - 1 } else { caption })
    }

    fn states_of(&self, captions: &[i64]) -> Tensor {
        self.text.states_of(&self.ids.index_select(0, &self.on_device(captions)).to_kind(Kind::Int64))
    }

    fn on_device(&self, rows: &[i64]) -> Tensor {
        Tensor::from_slice(rows).to_device(self.ids.device())
    }
}

/// The first copy of a drawing is as it is, the others are shifted.
fn shifted(copy: usize, draws: &mut Draws) -> Placement {
    let mut offset = || draws.below(5) as i32 - 2;
    let shift = if copy == 0 { [0, 0] } else { [offset(), offset()] };
    Placement { shift, ..Placement::plain() }
}

fn scenes(data: &Stickers, count: usize, seed: u64) -> Result<Vec<Scene>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let sources = Sources::new(data)?;
    let mut draws = Draws::new(mix(seed, "scenes"));
    Ok((0..count).map(|_| Scene::draw(&sources, data, &mut || draws.unit())).collect())
}

/// The captions of every row, row after row, then the empty one.
fn captions(data: &Stickers, trained: &[usize], scenes: &[Scene], each: usize, seed: u64) -> Vec<String> {
    let drawings = trained.par_iter().flat_map_iter(|picture| {
        let mut draws = Draws::new(mix(seed, &format!("captions {picture}")));
        (0..each).map(move |_| caption_of(data, *picture, &mut draws))
    });
    let scenes = scenes.par_iter().enumerate().flat_map_iter(|(i, scene)| {
        let mut draws = Draws::new(mix(seed, &format!("scene {i}")));
        (0..SCENE_CAPTIONS).map(move |_| scene.caption(data, &mut || draws.unit()))
    });
    drawings.chain(scenes).chain(rayon::iter::once(String::new())).collect()
}

fn caption_of(data: &Stickers, picture: usize, draws: &mut Draws) -> String {
    let (concept, style) = (&data.concepts()[data.concept(picture)], &data.styles()[data.style(picture)]);
    caption(concept, style, &mut || draws.unit())
}

/// The encoded pictures on disk: encoding them takes minutes, and a resumed run needs the same ones.
struct Cache {
    path: PathBuf,
    /// Over everything that the latents depend on.
    key: String,
}

impl Cache {
    fn of(sourced: &Sourced, seed: u64, out: &Path) -> Result<Self> {
        let mut hash = Sha256::new();
        for file in std::iter::once(sourced.data.clone()).chain(trained::files(&sourced.autoencoder, &AUTOENCODER)) {
            hash.update(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        hash.update(format!("scenes {} copies {} seed {seed}", sourced.scenes, sourced.copies));
        let key = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { path: out.join("latents.safetensors"), key })
    }

    /// The kept latents if their key is the same, else those of `make`, which are kept.
    fn get_or(&self, make: impl FnOnce() -> Tensor) -> Result<Tensor> {
        if self.path.exists() {
            // A file that cannot be read, or is of other pictures, is made anew.
            if let Some(found) = read_safetensors(&self.path).ok().and_then(|mut kept| kept.remove(&self.key)) {
                return Ok(found);
            }
        }
        let made = make();
        write_safetensors(&self.path, &BTreeMap::from([(self.key.clone(), made.shallow_clone())]))?;
        Ok(made)
    }
}

/// Pictures `(count, 3, 64, 64)` that `render` gives, made on all cores.
pub fn rendered(count: usize, device: Device, render: impl Fn(usize) -> Vec<f32> + Sync + Send) -> Tensor {
    let values: Vec<Vec<f32>> = (0..count).into_par_iter().map(render).collect();
    tensor(&values.concat(), &[count as i64, 3, 64, 64], device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_are_made_again_only_when_something_changed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = |key: &str| Cache { path: folder.path().join("latents.safetensors"), key: key.into() };
        let value = |v: f64| Tensor::full([2, 3], v, (Kind::Float, Device::Cpu));
        let get = |key: &str, v: f64| cache(key).get_or(|| value(v)).unwrap().double_value(&[1, 2]);
        assert_eq!(get("a", 1.0), 1.0);
        assert_eq!(get("a", 2.0), 1.0, "kept");
        assert_eq!(get("b", 3.0), 3.0, "another key is another file");
        std::fs::write(&cache("b").path, b"garbage").unwrap();
        assert_eq!(get("b", 4.0), 4.0, "a broken file is no error");
    }
}
