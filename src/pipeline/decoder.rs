//! Latents to the values of a picture.

use super::request::Size;
use super::space::LatentSpace;
use super::stage::{Machine, StageRunner, batch_size, split, stack};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DecoderPorts, Graph, Stage};
use crate::value::Tensor;

pub(super) struct Decoder {
    pub ports: DecoderPorts,
    pub runner: StageRunner,
}

impl Decoder {
    pub fn new(stage: &Stage, graph: Graph, ports: DecoderPorts, machine: &Machine) -> Self {
        Self { ports, runner: StageRunner::new(stage, graph, machine) }
    }

    /// `(1, 3, H, W)` from -1 to 1 for latents `(1, C, h, w)` as the sampler left them.
    pub fn decode(&mut self, latents: &Tensor, space: &LatentSpace, size: Size) -> Result<Tensor> {
        let scaled = [scaled(latents, space)?];
        let batch = batch_size(&[&self.ports.latents, &self.ports.picture], &scaled);
        let inputs = stack(&scaled, batch)?;
        let picture = self.runner.run(&[(&self.ports.latents.name, &inputs)])?.take(&self.ports.picture.name)?;
        let picture = split(picture, 1)?.swap_remove(0);
        match picture.shape() {
            &[_, _, height, width] if (height, width) == (size.height, size.width) => Ok(picture),
            other => Err(other_size(other, size)),
        }
    }
}

/// Source: diffusers, `StableDiffusionPipeline.__call__`, `StableDiffusion3Pipeline.__call__`.
fn scaled(latents: &Tensor, space: &LatentSpace) -> Result<Tensor> {
    let (scaling, shift) = (space.scaling as f32, space.shift as f32);
    let values: Vec<f32> = latents.clone().into_f32().into_iter().map(|x| x / scaling + shift).collect();
    Tensor::new(latents.shape(), values)
}

fn other_size(shape: &[usize], size: Size) -> Error {
    let message = format!("the decoder made {shape:?} where a picture of {size} was expected");
    Error::new(ErrorKind::Mismatch, message)
        .advise("block_out_channels in vae_decoder/config.json says how much it enlarges")
}
