//! Latents to the values of a picture.

use super::request::Size;
use super::space::LatentSpace;
use super::stage::{Machine, StageRunner, batch_size, split, stack};
use super::tiles::Grid;
use crate::cancel::CancelToken;
use crate::engine::Footprint;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::model::{DecoderPorts, Graph, Stage};
use crate::value::Tensor;

/// Share of a tile, on each side, that its neighbour covers too.
const OVERLAP: usize = 4;

pub(super) struct Decoder {
    pub ports: DecoderPorts,
    pub runner: StageRunner,
}

impl Decoder {
    pub fn new(stage: &Stage, graph: Graph, ports: DecoderPorts, machine: &Machine) -> Self {
        Self { ports, runner: StageRunner::new(stage, graph, machine) }
    }

    /// `(1, 3, H, W)` from -1 to 1 for latents `(1, C, h, w)` as the sampler left them, in one piece or in tiles of `tile` latents.
    ///
    /// # Errors
    /// `Cancelled` between tiles, when `cancel` says so; those of running the stage.
    pub fn decode(
        &mut self,
        latents: &Tensor,
        space: &LatentSpace,
        size: Size,
        tile: Option<usize>,
        cancel: &CancelToken,
    ) -> Result<Tensor> {
        let scaled = scaled(latents, space)?;
        let picture = match tile {
            Some(tile) => self.tiled(&scaled, size, tile, cancel)?,
            None => self.whole(scaled)?,
        };
        match picture.shape() {
            &[_, _, height, width] if (height, width) == (size.height, size.width) => Ok(picture),
            other => Err(other_size(other, size)),
        }
    }

    fn whole(&mut self, latents: Tensor) -> Result<Tensor> {
        let latents = [latents];
        let batch = self.batch(&latents);
        let inputs = stack(&latents, batch)?;
        let picture = self.runner.run(&[(&self.ports.latents.name, &inputs)])?.take(&self.ports.picture.name)?;
        Ok(split(picture, 1)?.swap_remove(0))
    }

    fn tiled(&mut self, latents: &Tensor, size: Size, tile: usize, cancel: &CancelToken) -> Result<Tensor> {
        let &[_, _, height, width] = latents.shape() else { return fail!(Engine, "latents are (1, C, H, W)") };
        let window = [tile.min(height), tile.min(width)];
        let overlap = (tile / OVERLAP).max(1);
        let factor = [size.height / height.max(1), size.width / width.max(1)];
        Grid::new([height, width], window, [overlap; 2], factor).play(latents, cancel, |tile| self.whole(tile))
    }

    fn batch(&self, latents: &[Tensor]) -> usize {
        batch_size(&[&self.ports.latents, &self.ports.picture], latents)
    }

    /// What decoding latents of this shape would take.
    pub fn plan(&mut self, [_, channels, height, width]: [usize; 4], tile: Option<usize>) -> Result<Option<Footprint>> {
        let side = |length: usize| tile.map_or(length, |tile| tile.min(length));
        let shape = [1, channels, side(height), side(width)];
        let batch = self.batch(&[Tensor::new(&shape, vec![0f32; shape.iter().product()])?]);
        let shape = [batch, shape[1], shape[2], shape[3]];
        self.runner.plan(&[(self.ports.latents.name.clone(), shape.to_vec())])
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
