//! Prompts to text states.

use super::stage::{Machine, StageRunner, batch_size, split, stack};
use super::tokenizer::{Context, Tokenizer, Tokens};
use crate::engine::Footprint;
use crate::error::Result;
use crate::model::{DenoiserPorts, Model, Role, TextPorts};
use crate::value::Tensor;

/// Tokenizer and text encoder, with the states of the last prompts: pictures of one prompt encode it once.
pub(super) struct Text {
    tokenizer: Tokenizer,
    ports: TextPorts,
    pub runner: StageRunner,
    last: Option<(Vec<Tokens>, Vec<Tensor>)>,
}

impl Text {
    /// # Errors
    /// Those of [`Tokenizer::open`] and of the graph.
    pub fn open(model: &Model, denoiser: &DenoiserPorts, machine: &Machine) -> Result<Self> {
        let stage = model.stage(Role::TextEncoder)?;
        let graph = stage.open()?;
        let ports = TextPorts::of(&graph)?;
        let context = Context {
            sequence: ports.ids.fixed(1).or(denoiser.states.fixed(1)),
            positions: stage.config.context_length,
            vocabulary: stage.config.vocabulary,
        };
        let tokenizer = Tokenizer::open(&model.tokenizer(), context)?;
        Ok(Self { tokenizer, ports, runner: StageRunner::new(stage, graph, machine), last: None })
    }

    /// States `(1, tokens, width)` of each prompt, and a warning for each that was cut.
    pub fn encode(&mut self, prompts: &[&str]) -> Result<(Vec<Tensor>, Vec<String>)> {
        let tokens = prompts.iter().map(|prompt| self.tokenizer.encode(prompt)).collect::<Result<Vec<_>>>()?;
        let warnings = tokens.iter().filter_map(too_long).collect();
        if self.last.as_ref().is_none_or(|(last, _)| *last != tokens) {
            self.last = Some((tokens.clone(), self.states(&tokens)?));
        }
        let states = self.last.as_ref().map(|(_, states)| states.clone()).unwrap_or_default();
        Ok((states, warnings))
    }

    /// What encoding `prompts` would take, and which of the outputs the states are.
    pub fn plan(&mut self, prompts: &[&str]) -> Result<Option<(Footprint, usize)>> {
        let tokens = prompts.iter().map(|prompt| self.tokenizer.encode(prompt)).collect::<Result<Vec<_>>>()?;
        let ids = rows(&tokens, |t| &t.ids)?;
        let batch = batch_size(&[&self.ports.ids, &self.ports.states], &ids);
        let shape = vec![batch, ids.first().map_or(1, |row| row.shape()[1])];
        let mut shapes = vec![(self.ports.ids.name.clone(), shape.clone())];
        shapes.extend(self.ports.mask.as_ref().map(|port| (port.name.clone(), shape)));
        let Some(planned) = self.runner.plan(&shapes)? else { return Ok(None) };
        let outputs = self.runner.outputs();
        let states = outputs.iter().position(|name| *name == self.ports.states.name);
        Ok(states.map(|states| (planned, states)))
    }

    fn states(&mut self, tokens: &[Tokens]) -> Result<Vec<Tensor>> {
        let ids = rows(tokens, |t| &t.ids)?;
        let masks = rows(tokens, |t| &t.mask)?;
        let batch = batch_size(&[&self.ports.ids, &self.ports.states], &ids);
        let mut states = vec![];
        for (ids, masks) in ids.chunks(batch).zip(masks.chunks(batch)) {
            let encoded = self.run(stack(ids, batch)?, stack(masks, batch)?)?;
            states.extend(split(encoded, ids.len())?);
        }
        Ok(states)
    }

    fn run(&mut self, ids: Tensor, mask: Tensor) -> Result<Tensor> {
        let ids = ids.cast(self.ports.ids.dtype);
        let mask = self.ports.mask.as_ref().map(|port| (port.name.as_str(), mask.cast(port.dtype)));
        let mut inputs = vec![(self.ports.ids.name.as_str(), &ids)];
        inputs.extend(mask.as_ref().map(|(name, mask)| (*name, mask)));
        let states = self.runner.run(&inputs)?.take(&self.ports.states.name)?;
        states.check_finite("the text states")?;
        Ok(states)
    }
}

fn rows(tokens: &[Tokens], of: impl Fn(&Tokens) -> &Vec<u32>) -> Result<Vec<Tensor>> {
    tokens
        .iter()
        .map(|t| Tensor::new(&[1, t.ids.len()], of(t).iter().map(|id| i64::from(*id)).collect::<Vec<_>>()))
        .collect()
}

fn too_long(tokens: &Tokens) -> Option<String> {
    let cut = tokens.cut.as_ref()?;
    Some(format!(
        "the prompt is longer than the {} tokens that the model reads; this was cut: {cut:?}",
        tokens.ids.len()
    ))
}
