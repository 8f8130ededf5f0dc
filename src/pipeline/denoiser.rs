//! Noisy latents to a prediction, with or without guidance.

use super::settings::{Settings, refused};
use super::stage::{Machine, StageRunner, batch_size, split, stack};
use crate::engine::Footprint;
use crate::error::{Result, fail};
use crate::model::{DenoiserPorts, Graph, Stage};
use crate::sampler::{guidance_embedding, guide};
use crate::value::Tensor;

pub(super) struct Denoiser {
    pub ports: DenoiserPorts,
    pub runner: StageRunner,
}

/// What the denoiser is told beside latents and timestep, ready for every step.
pub(super) struct Condition {
    /// Text states in batches, with the rows of each that count.
    batches: Vec<(Tensor, usize)>,
    batch: usize,
    embedding: Option<Tensor>,
    /// Guidance scale where two predictions are to be mixed: unconditional, conditional.
    guidance: Option<f32>,
}

impl Denoiser {
    pub fn new(stage: &Stage, graph: Graph, ports: DenoiserPorts, machine: &Machine) -> Self {
        Self { ports, runner: StageRunner::new(stage, graph, machine) }
    }

    /// `states` are the unconditional ones and the prompt's under classifier-free guidance, else the prompt's alone.
    pub fn condition(&self, states: &[Tensor], settings: &Settings, width: Option<usize>) -> Result<Condition> {
        let DenoiserPorts { sample, timestep, states: port, output, .. } = &self.ports;
        // A timestep of one element serves any batch.
        let timestep = (timestep.fixed(0) != Some(1)).then_some(timestep);
        let ports: Vec<_> = [Some(sample), Some(port), Some(output), timestep].into_iter().flatten().collect();
        let batch = batch_size(&ports, states);
        let batches = states.chunks(batch).map(|rows| Ok((stack(rows, batch)?, rows.len()))).collect::<Result<_>>()?;
        let embedding = width.map(|width| embed(settings.guidance, width, batch)).transpose()?;
        let guidance = settings.classifier_free().then_some(settings.guidance as f32);
        Ok(Condition { batches, batch, embedding, guidance })
    }

    /// What a step would take, for text states of these shapes.
    pub fn plan(&mut self, states: &[Tensor], settings: &Settings, width: Option<usize>) -> Result<Option<Footprint>> {
        let condition = self.condition(states, settings, width)?;
        let ports = &self.ports;
        let [_, rest @ ..] = settings.latents;
        let sample: Vec<usize> = std::iter::once(condition.batch).chain(rest).collect();
        let timestep = ports.timestep.timestep(0.0, condition.batch)?.shape().to_vec();
        let Some((states, _)) = condition.batches.first() else { return Ok(None) };
        let mut shapes = vec![
            (ports.sample.name.clone(), sample),
            (ports.timestep.name.clone(), timestep),
            (ports.states.name.clone(), states.shape().to_vec()),
        ];
        if let (Some(port), Some(embedding)) = (&ports.guidance, &condition.embedding) {
            shapes.push((port.name.clone(), embedding.shape().to_vec()));
        }
        self.runner.plan(&shapes)
    }

    /// The prediction for `latents` `(1, C, H, W)` at timestep `t`, in the same shape.
    pub fn predict(&mut self, latents: &Tensor, t: f32, condition: &Condition) -> Result<Vec<f32>> {
        let sample = stack(std::slice::from_ref(latents), condition.batch)?;
        let timestep = self.ports.timestep.timestep(f64::from(t), condition.batch)?;
        let mut predictions = vec![];
        for (states, rows) in &condition.batches {
            let output = self.run(&sample, &timestep, states, condition.embedding.as_ref())?;
            predictions.extend(split(output, *rows)?.into_iter().map(Tensor::into_f32));
        }
        mix(predictions, condition.guidance)
    }

    fn run(
        &mut self,
        sample: &Tensor,
        timestep: &Tensor,
        states: &Tensor,
        embedding: Option<&Tensor>,
    ) -> Result<Tensor> {
        let ports = &self.ports;
        let mut inputs =
            vec![(ports.sample.name.as_str(), sample), (&ports.timestep.name, timestep), (&ports.states.name, states)];
        if let (Some(port), Some(embedding)) = (&ports.guidance, embedding) {
            inputs.push((&port.name, embedding));
        }
        let output = self.runner.run(&inputs)?.take(&ports.output.name)?;
        if output.shape() != sample.shape() {
            return fail!(Mismatch, "the denoiser gave {:?} for latents of {:?}", output.shape(), sample.shape());
        }
        Ok(output)
    }
}

fn embed(guidance: f64, width: usize, batch: usize) -> Result<Tensor> {
    let mut embedding = vec![0.0; width];
    guidance_embedding(guidance as f32, &mut embedding);
    stack(&[Tensor::new(&[1, width], embedding)?], batch)
}

fn mix(mut predictions: Vec<Vec<f32>>, guidance: Option<f32>) -> Result<Vec<f32>> {
    let Some(mut prediction) = predictions.pop() else { return fail!(Engine, "the denoiser gave nothing") };
    if let (Some(scale), Some(unconditional)) = (guidance, predictions.pop()) {
        guide(&unconditional, &mut prediction, scale).map_err(refused)?;
    }
    Ok(prediction)
}
