//! `train denoiser`: rectified flow (Liu et al. 2022; Esser et al. 2024) on latents, conditioned on the text encoder.
//!
//! `x_t = (1 - t) x0 + t noise`, target `noise - x0`, plain MSE, `t = sigmoid(N(0.6, 1))`. In one case of ten the prompt is
//! dropped for the empty one, which classifier-free guidance needs.

use super::latents::Coder;
use super::run::{Draws, Options, State, Task, no_grad, tensor, train as train_loop};
use super::sampling::sampled;
use super::sheet;
use super::text::TextEncoder;
use crate::dataset::background::PALETTE;
use crate::dataset::caption::caption_on;
use crate::dataset::pack::Stickers;
use crate::evaluate::prompts::PROMPTS;
use crate::net::autoencoder::SCALE_FILE;
use crate::net::denoiser::Denoiser;
use crate::net::params::{Params, read_safetensors, read_trained, write_safetensors};
use crate::net::torch::Torch;
use crate::picture::Placement;
use crate::trained::{self, AUTOENCODER, DENOISER};
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Options of `train denoiser`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The packed data that `dataset` made.
    #[arg(long)]
    data: PathBuf,
    /// `weights.safetensors` of `train autoencoder`, or an exported model directory.
    #[arg(long)]
    autoencoder: PathBuf,
    /// Folder of `train text`, or an exported model directory.
    #[arg(long)]
    text: PathBuf,
    /// Weights to begin with: `weights.safetensors` of an earlier run, or an exported model directory.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Placements of every picture that are encoded ahead: one plain, the others shifted, the last on a named colour.
    #[arg(long, default_value_t = 4)]
    copies: usize,
    #[command(flatten)]
    options: Options,
}

/// Share of batches' prompts that are dropped.
const DROP: f64 = 0.1;

/// Runs `train denoiser`.
pub fn train(args: Args) -> Result<()> {
    let device = args.options.device()?;
    ensure!(args.copies >= 1, "--copies must be at least 1");
    let data = Stickers::open(&args.data)?;
    let coder = Coder::open(&args.autoencoder, &data, device)?;
    let text = TextEncoder::open(&args.text, device)?;
    let net = Denoiser::default();
    std::fs::create_dir_all(&args.options.out)?;
    std::fs::write(args.options.out.join("config.json"), serde_json::to_string_pretty(&net)?)?;
    std::fs::write(args.options.out.join(SCALE_FILE), serde_json::to_string_pretty(&coder.scale)?)?;
    let params = Params::fresh(args.options.seed, device);
    let _ = no_grad(|| {
        let sample = Tensor::zeros([1, net.latent, net.size, net.size], (Kind::Float, device));
        let states = Tensor::zeros([1, 3, net.text], (Kind::Float, device));
        net.forward(&Torch(&params), &sample, &Tensor::zeros([1], (Kind::Float, device)), &states)
    });
    params.close("the denoiser")?;
    let cache = Cache::of(&args)?;
    let examples = Examples::encode(data, &coder, args.copies, args.options.seed, &cache)?;
    println!("denoiser: {} parameters, {} pictures x {}", params.count(), examples.trained.len(), args.copies);
    let mut state = State::new(params);
    if let Some(from) = &args.from {
        state.start_from(&read_trained(from, &DENOISER)?).with_context(|| format!("{}", from.display()))?;
    }
    let mut task = Flow { net, examples, coder, text, batch: args.options.batch, device };
    train_loop(&args.options, &mut state, &mut task)
}

/// Pictures as latents, with what their captions need.
struct Examples {
    data: Stickers,
    /// `(pictures x copies, 4, 16, 16)`.
    latents: Tensor,
    /// The colour behind, where it is named.
    behind: Vec<Option<&'static str>>,
    copies: usize,
    /// Pictures that may be trained on, and the running sum of their weights.
    trained: Vec<usize>,
    weights: Vec<f64>,
    held_out: Vec<usize>,
}

impl Examples {
    fn encode(data: Stickers, coder: &Coder, copies: usize, seed: u64, cache: &Cache) -> Result<Self> {
        let mut draws = Draws::new(seed);
        let mut behind = Vec::new();
        let mut placed = Vec::new();
        for (i, copy) in (0..data.len()).flat_map(|i| (0..copies).map(move |c| (i, c))) {
            let (placement, colour) = placement(copy, copies, &mut draws);
            placed.push((i, placement));
            behind.push(colour);
        }
        let latents = cache.get_or(|| coder.encode(&data, &placed))?;
        let (held_out, trained): (Vec<usize>, Vec<usize>) = (0..data.len()).partition(|i| data.held_out(*i));
        let weights = trained.iter().scan(0.0, |sum, i| {
            *sum += f64::from(data.weight(*i));
            Some(*sum)
        });
        let weights = weights.collect();
        Ok(Self { data, latents, behind, copies, trained, weights, held_out })
    }

    /// A picture by weight and one of its copies, plain ones twice as often, coloured ones half as often.
    fn draw(&self, draws: &mut Draws) -> (usize, usize) {
        let total = self.weights.last().copied().unwrap_or(0.0);
        let at = draws.unit() * total;
        let picture = self.trained[self.weights.partition_point(|w| *w <= at).min(self.trained.len() - 1)];
        let copy = match draws.unit() {
            u if self.copies == 1 || u < 0.3 => 0,
            u if self.copies > 2 && u < 0.88 => 1 + draws.below(self.copies - 2),
            _ => self.copies - 1,
        };
        (picture, copy)
    }

    fn caption(&self, picture: usize, copy: usize, draws: &mut Draws) -> String {
        let concept = &self.data.concepts()[self.data.concept(picture)];
        let style = &self.data.styles()[self.data.style(picture)];
        caption_on(concept, style, self.behind[picture * self.copies + copy], &mut || draws.unit())
    }

    fn latents(&self, rows: &[i64], device: Device) -> Tensor {
        self.latents.index_select(0, &Tensor::from_slice(rows)).to_device(device)
    }
}

/// The encoded pictures on disk: encoding them takes minutes, and a resumed run needs the same ones.
struct Cache {
    path: PathBuf,
    /// Over everything that the latents depend on.
    key: String,
}

impl Cache {
    fn of(args: &Args) -> Result<Self> {
        let mut hash = Sha256::new();
        for file in std::iter::once(args.data.clone()).chain(trained::files(&args.autoencoder, &AUTOENCODER)) {
            hash.update(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        hash.update(format!("copies {} seed {}", args.copies, args.options.seed));
        let key = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { path: args.options.out.join("latents.safetensors"), key })
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

fn placement(copy: usize, copies: usize, draws: &mut Draws) -> (Placement, Option<&'static str>) {
    if copy == 0 {
        return (Placement::plain(), None);
    }
    let mut offset = || draws.below(7) as i32 - 3;
    let shift = [offset(), offset()];
    if copy + 1 < copies || copies < 3 {
        return (Placement { shift, ..Placement::plain() }, None);
    }
    let (name, background) = PALETTE[draws.below(PALETTE.len())];
    (Placement { shift, background, mirror: false }, Some(name))
}

struct Flow {
    net: Denoiser,
    examples: Examples,
    coder: Coder,
    text: TextEncoder,
    batch: usize,
    device: Device,
}

impl Flow {
    /// The mean squared error of the flow at `t` `(B)`.
    fn error(&self, params: &Params, x0: &Tensor, t: &Tensor, states: &Tensor) -> Tensor {
        let noise = x0.randn_like();
        let wide = t.reshape([-1, 1, 1, 1]);
        let xt = x0 * (1.0 - &wide) + &noise * &wide;
        let flow = self.net.forward(&Torch(params), &xt, &(t * 1000.0), states);
        (flow - (noise - x0)).square().mean(Kind::Float)
    }

    fn held_out_error(&self, params: &Params) -> Result<f64> {
        let pictures: Vec<usize> = self.examples.held_out.iter().copied().take(128).collect();
        let mut draws = Draws::new(5);
        let captions: Vec<String> = pictures.iter().map(|i| self.examples.caption(*i, 0, &mut draws)).collect();
        let states = self.text.states(&captions.iter().map(String::as_str).collect::<Vec<_>>())?;
        let rows: Vec<i64> = pictures.iter().map(|i| (i * self.examples.copies) as i64).collect();
        let x0 = self.examples.latents(&rows, self.device);
        tch::manual_seed(11);
        let mut sum = 0.0;
        for t in [0.2, 0.4, 0.6, 0.8] {
            let t = Tensor::full([rows.len() as i64], t, (Kind::Float, self.device));
            sum += no_grad(|| self.error(params, &x0, &t, &states)).double_value(&[]);
        }
        Ok(sum / 4.0)
    }

    /// Latents for prompts, made as the runtime makes them.
    fn sample(&self, params: &Params, prompts: &[&str], steps: usize, guidance: f32) -> Result<Tensor> {
        let count = prompts.len() as i64;
        let shape = [count, self.net.latent, self.net.size, self.net.size];
        let both: Vec<&str> = prompts.iter().map(|_| "").chain(prompts.iter().copied()).collect();
        let states = self.text.states(&both)?;
        tch::manual_seed(0);
        let noise = Vec::try_from(Tensor::randn(shape, (Kind::Float, Device::Cpu)).flatten(0, -1))?;
        let flow = |x: &[f32], timestep: f32| -> Result<Vec<f32>> {
            let x = tensor(x, &shape, self.device);
            let t = Tensor::full([2 * count], f64::from(timestep), (Kind::Float, self.device));
            let flow = no_grad(|| self.net.forward(&Torch(params), &Tensor::cat(&[&x, &x], 0), &t, &states));
            Ok(Vec::try_from(flow.to_device(Device::Cpu).flatten(0, -1))?)
        };
        Ok(tensor(&sampled(noise, steps, guidance, flow)?, &shape, self.device))
    }
}

impl Task for Flow {
    fn figures(&self) -> &'static [&'static str] {
        &[]
    }

    fn loss(&mut self, params: &Params, draws: &mut Draws) -> Result<(Tensor, Vec<f64>)> {
        let drawn: Vec<(usize, usize)> = (0..self.batch).map(|_| self.examples.draw(draws)).collect();
        let captions: Vec<String> = drawn
            .iter()
            .map(|(i, copy)| {
                let text = self.examples.caption(*i, *copy, draws);
                if draws.unit() < DROP { String::new() } else { text }
            })
            .collect();
        let states = self.text.states(&captions.iter().map(String::as_str).collect::<Vec<_>>())?;
        let rows: Vec<i64> = drawn.iter().map(|(i, copy)| (i * self.examples.copies + copy) as i64).collect();
        let x0 = self.examples.latents(&rows, self.device);
        let t = (Tensor::randn([self.batch as i64], (Kind::Float, self.device)) + 0.6).sigmoid();
        Ok((self.error(params, &x0, &t, &states), Vec::new()))
    }

    fn report(&mut self, averaged: &Params, step: u64, folder: &Path) -> Result<String> {
        let held_out = self.held_out_error(averaged)?;
        let latents = self.sample(averaged, &PROMPTS, 12, 2.5)?;
        let path = folder.join(format!("sheets/{step:06}.png"));
        sheet::write(&path, &self.coder.decode(&latents), 8, 2)?;
        Ok(format!("held-out error {held_out:.4}, sheet {}", path.display()))
    }
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
