//! `train autoencoder`: L1 on pixels, L1 on gradients, MSE, with noise on the latents, at full size and made smaller; PSNR on held-out pictures.

use super::course::Course;
use super::examples::rendered;
use super::progress::Report;
use super::run::{Options, State, Task, no_grad, train as train_loop};
use super::sheet;
use crate::dataset::pack::Stickers;
use crate::draws::Draws;
use crate::net::autoencoder::Autoencoder;
use crate::net::params::{Params, read_trained};
use crate::net::torch::Torch;
use crate::picture::{Placement, place};
use crate::record::records;
use crate::trained::AUTOENCODER;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Options of `train autoencoder`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The packed data that `dataset` made.
    #[arg(long)]
    data: PathBuf,
    /// Train the decoder alone, on the latents of the encoder as it is.
    #[arg(long)]
    decoder_only: bool,
    /// Weights to begin with: `weights.safetensors` of an earlier run, or an exported model directory.
    #[arg(long)]
    from: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

impl Args {
    pub(super) fn course(&self) -> Course {
        Course {
            stage: "train autoencoder",
            options: self.options.clone(),
            data: self.data.clone(),
            from: self.from.clone().map(|from| (from, &AUTOENCODER[..], &records::AUTOENCODER[..])),
            with: Vec::new(),
            settings: json!({ "decoder_only": self.decoder_only }),
        }
    }
}

/// Noise added to the latents in training, in units of their deviation.
const LATENT_NOISE: f64 = 0.1;

/// Latents made smaller by these must decode to the picture made smaller (scale equivariance, Skorokhodov et al. 2025): without it most of
/// their variance changes from place to place, which a denoiser learns slowly.
const SMALLER: [i64; 2] = [2, 4];
/// Weight of each of these losses.
const EQUIVARIANCE: f64 = 0.25;

/// Runs `train autoencoder`.
pub fn train(args: Args) -> Result<()> {
    let device = args.options.device()?;
    let data = Stickers::open(&args.data)?;
    let net = Autoencoder::default();
    let params = Params::fresh(args.options.seed, device);
    no_grad(|| {
        let latent = net.encode(&Torch(&params), &Tensor::zeros([1, 3, 64, 64], (Kind::Float, device)));
        let _ = net.decode(&Torch(&params), &latent);
    });
    params.close("the autoencoder")?;
    println!("autoencoder: {} parameters, {} pictures", params.count(), data.len());
    let mut state = State::in_precision(params, args.options.precision);
    if let Some(from) = &args.from {
        state.start_from(&read_trained(from, &AUTOENCODER)?).with_context(|| format!("{}", from.display()))?;
    }
    let trained: Vec<usize> = (0..data.len()).filter(|i| !data.held_out(*i)).collect();
    let held_out: Vec<usize> = (0..data.len()).filter(|i| data.held_out(*i)).take(256).collect();
    ensure!(
        !trained.is_empty() && !held_out.is_empty(),
        "{}: has no pictures both to train on and held out",
        args.data.display()
    );
    let batch = args.options.batch;
    let mut task = Reconstruct { net, data, trained, held_out, batch, decoder_only: args.decoder_only, device };
    train_loop(&args.options, &mut state, &mut task)
}

struct Reconstruct {
    net: Autoencoder,
    data: Stickers,
    trained: Vec<usize>,
    held_out: Vec<usize>,
    batch: usize,
    decoder_only: bool,
    device: Device,
}

impl Reconstruct {
    fn pictures(&self, indices: &[usize], place_with: &mut dyn FnMut() -> Placement) -> Tensor {
        let placed: Vec<Placement> = indices.iter().map(|_| place_with()).collect();
        let data = &self.data;
        rendered(indices.len(), self.device, |i| place(data.rgba(indices[i]), &placed[i]))
    }
}

impl Task for Reconstruct {
    fn figures(&self) -> &'static [&'static str] {
        &["psnr"]
    }

    fn loss(&mut self, params: &Params, _: u64, draws: &mut Draws) -> Result<(Tensor, Vec<Tensor>)> {
        let indices: Vec<usize> = (0..self.batch).map(|_| self.trained[draws.below(self.trained.len())]).collect();
        let x = self.pictures(&indices, &mut || Placement::draw(|| draws.unit()));
        let l = Torch(params);
        let encode = || normalise(&self.net.encode(&l, &x));
        let latent = if self.decoder_only { no_grad(encode) } else { encode() };
        let noisy = &latent + latent.randn_like() * LATENT_NOISE;
        let y = self.net.decode(&l, &noisy);
        let squared = (&y - &x).square().mean(Kind::Float);
        let psnr = (squared.detach() / 4.0).log10() * -10.0;
        let whole = reconstruction(&y, &x);
        if self.decoder_only {
            // The other losses shape latents, which now stay as they are.
            return Ok((whole, vec![psnr]));
        }
        let smaller = |pool: i64| reconstruction(&self.net.decode(&l, &pooled(&noisy, pool)), &pooled(&x, pool));
        let loss = whole + SMALLER.iter().map(|pool| smaller(*pool) * EQUIVARIANCE).sum::<Tensor>();
        Ok((loss, vec![psnr]))
    }

    fn report(&mut self, averaged: &Params, step: u64, folder: &Path) -> Result<Report> {
        let x = self.pictures(&self.held_out, &mut Placement::plain);
        let l = Torch(averaged);
        let y = no_grad(|| self.net.decode(&l, &normalise(&self.net.encode(&l, &x))).clamp(-1.0, 1.0));
        let shown = x.size()[0].min(48);
        let both = Tensor::stack(&[x.narrow(0, 0, shown), y.narrow(0, 0, shown)], 1).flatten(0, 1);
        sheet::write(&folder.join(format!("sheets/{step:06}.png")), &both, 16, 1)?;
        let psnr = psnr(&y, &x);
        let line = format!("PSNR of {} held-out pictures {psnr:.2} dB", self.held_out.len());
        Ok(Report { line, figures: vec![("held_out_psnr", psnr)] })
    }
}

/// L1, and half of the L1 of gradients and of the squared error.
fn reconstruction(y: &Tensor, x: &Tensor) -> Tensor {
    let squared = (y - x).square().mean(Kind::Float);
    (y - x).abs().mean(Kind::Float) + (gradient_loss(y, x) + squared) * 0.5
}

/// Means of squares of `pool` by `pool`.
fn pooled(x: &Tensor, pool: i64) -> Tensor {
    x.avg_pool2d([pool, pool], [pool, pool], [0, 0], false, true, None::<i64>)
}

/// Zero mean and unit deviation a channel, over the batch.
fn normalise(latent: &Tensor) -> Tensor {
    let axes = [0i64, 2, 3];
    let mean = latent.mean_dim(axes.as_slice(), true, Kind::Float);
    let centred = latent - mean;
    let deviation = (centred.square().mean_dim(axes.as_slice(), true, Kind::Float) + 1e-6).sqrt();
    centred / deviation
}

/// L1 between horizontal and vertical differences.
fn gradient_loss(y: &Tensor, x: &Tensor) -> Tensor {
    let d = y - x;
    let along = |axis: i64| {
        let n = d.size()[axis as usize];
        (d.narrow(axis, 1, n - 1) - d.narrow(axis, 0, n - 1)).abs().mean(Kind::Float)
    };
    along(2) + along(3)
}

/// Mean PSNR of pictures in [-1, 1], in dB.
fn psnr(y: &Tensor, x: &Tensor) -> f64 {
    let squared = (y - x).square().mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float) / 4.0;
    (squared.log10() * -10.0).mean(Kind::Float).double_value(&[])
}
