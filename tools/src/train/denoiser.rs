//! `train denoiser`: rectified flow (Liu et al. 2022; Esser et al. 2024) on latents, conditioned on the text encoder.
//!
//! `x_t = (1 - t) x0 + t noise`, target `noise - x0`, plain MSE, `t = sigmoid(N(0.6, 1))`. In one case of ten the prompt is
//! dropped for the empty one, which classifier-free guidance needs.

use super::course::Course;
use super::examples::{Examples, Sourced};
use super::progress::Report;
use super::run::{Options, Precision, State, Task, no_grad, train as train_loop};
use super::sampling::{Sampling, sampled};
use super::sheet;
use crate::draws::Draws;
use crate::evaluate::prompts::PROMPTS;
use crate::net::autoencoder::{LatentScale, SCALE_FILE};
use crate::net::denoiser::{Denoiser, schedule};
use crate::net::params::{Params, read_trained};
use crate::net::torch::Torch;
use crate::record::records;
use crate::trained::DENOISER;
use crate::words::LENGTH;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Options of `train denoiser`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    sourced: Sourced,
    /// Weights to begin with: `weights.safetensors` of an earlier run, or an exported model directory.
    #[arg(long)]
    from: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

impl Args {
    pub(super) fn course(&self) -> Course {
        Course {
            stage: "train denoiser",
            options: self.options.clone(),
            data: self.sourced.data.clone(),
            from: self.from.clone().map(|from| (from, &DENOISER[..], &records::DENOISER[..])),
            with: self.sourced.nets(),
            settings: self.sourced.settings(),
        }
    }
}

/// Steps and guidance of contact sheets.
const SHEET: (usize, f32) = (12, 2.5);

/// Runs `train denoiser`.
pub fn train(args: Args) -> Result<()> {
    let device = args.options.device()?;
    let net = Denoiser::default();
    std::fs::create_dir_all(&args.options.out)?;
    let examples = Examples::open(&args.sourced, args.options.seed, device, &args.options.out)?;
    describe(&net, &examples.coder.scale, &args.options.out)?;
    let mut state = fresh(&net, args.options.seed, device, args.options.precision)?;
    if let Some(from) = &args.from {
        state.start_from(&read_trained(from, &DENOISER)?).with_context(|| format!("{}", from.display()))?;
    }
    let mut task = Flow { net, examples, batch: args.options.batch, device };
    train_loop(&args.options, &mut state, &mut task)
}

/// Writes down what export needs to know of a run.
pub(super) fn describe(net: &Denoiser, scale: &LatentScale, out: &Path) -> Result<()> {
    std::fs::write(out.join("config.json"), serde_json::to_string_pretty(net)?)?;
    Ok(std::fs::write(out.join(SCALE_FILE), serde_json::to_string_pretty(scale)?)?)
}

/// A denoiser drawn from `seed`.
pub(super) fn fresh(net: &Denoiser, seed: u64, device: Device, precision: Precision) -> Result<State> {
    let params = Params::fresh(seed, device);
    let _ = no_grad(|| {
        let sample = Tensor::zeros([1, net.latent, net.size, net.size], (Kind::Float, device));
        let states = Tensor::zeros([1, LENGTH as i64, net.text], (Kind::Float, device));
        net.forward(&Torch(&params), &sample, &Tensor::zeros([1], (Kind::Float, device)), &states)
    });
    params.close("the denoiser")?;
    println!("denoiser: {} parameters", params.count());
    Ok(State::in_precision(params, precision))
}

struct Flow {
    net: Denoiser,
    examples: Examples,
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
        let held_out = self.examples.held_out(128)?;
        let x0 = held_out.latents.to_device(self.device);
        tch::manual_seed(11);
        let mut sum = 0.0;
        for t in [0.2, 0.4, 0.6, 0.8] {
            let t = Tensor::full([x0.size()[0]], t, (Kind::Float, self.device));
            sum += no_grad(|| self.error(params, &x0, &t, &held_out.states)).double_value(&[]);
        }
        Ok(sum / 4.0)
    }
}

impl Task for Flow {
    fn figures(&self) -> &'static [&'static str] {
        &[]
    }

    fn loss(&mut self, params: &Params, _: u64, draws: &mut Draws) -> Result<(Tensor, Vec<Tensor>)> {
        let drawn = self.examples.batch(self.batch, draws)?;
        let t = (Tensor::randn([self.batch as i64], (Kind::Float, self.device)) + 0.6).sigmoid();
        Ok((self.error(params, &drawn.latents, &t, &drawn.states), Vec::new()))
    }

    fn report(&mut self, averaged: &Params, step: u64, folder: &Path) -> Result<Report> {
        let held_out = self.held_out_error(averaged)?;
        let (steps, guidance) = SHEET;
        let sampling = Sampling { schedule: schedule(), steps, guidance };
        let latents = sampled(&sampling, &self.net, averaged, &self.examples, &PROMPTS)?;
        let path = folder.join(format!("sheets/{step:06}.png"));
        sheet::write(&path, &self.examples.coder.decode(&latents), 8, 2)?;
        let line = format!("held-out error {held_out:.4}, sheet {}", path.display());
        Ok(Report { line, figures: vec![("held_out_error", held_out)] })
    }
}
