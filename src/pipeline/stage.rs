//! One stage of a model in the hands of the run line: loaded when needed, dropped when told to.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use half::f16;

use super::report::{StageReport, milliseconds, timed};
use crate::cancel::CancelToken;
use crate::engine::{self, Account, Backend, Cache, Engine, Footprint, Outputs, Precision, Threads, Weights};
use crate::error::Result;
use crate::model::{Graph, Port, Stage};
use crate::value::{Data, Tensor};

/// On what stages run, and whether they stay.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub backend: Backend,
    pub weights: Weights,
    pub precision: Option<Precision>,
    pub threads: Threads,
    pub cache: Option<Cache>,
    pub low_memory: bool,
    pub streamed: bool,
    pub cancel: CancelToken,
}

/// A stage, its engine where it is loaded, and the time it took.
pub(super) struct StageRunner {
    stage: Stage,
    machine: Machine,
    graph: Option<Graph>,
    engine: Option<Box<dyn Engine>>,
    /// Of the engine that is gone.
    account: Account,
    load: Duration,
    run: Duration,
}

impl StageRunner {
    /// Takes a graph that was opened to be checked; with little memory it is read again when its turn comes.
    pub fn new(stage: &Stage, graph: Graph, machine: &Machine) -> Self {
        Self {
            stage: stage.clone(),
            machine: machine.clone(),
            graph: (!machine.low_memory).then_some(graph),
            engine: None,
            account: Account::default(),
            load: Duration::ZERO,
            run: Duration::ZERO,
        }
    }

    /// The stage's folder: `unet`.
    pub fn name(&self) -> &str {
        &self.stage.name
    }

    /// Its ONNX file.
    pub fn file(&self) -> &Path {
        &self.stage.file
    }

    /// All outputs for `inputs`; loads the stage if it is not.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Outputs> {
        let mut load = Duration::ZERO;
        timed(&mut load, || self.prepare(inputs))?;
        self.load += load;
        let narrowed =
            inputs.iter().map(|(name, tensor)| Ok((*name, self.at_edge(name, tensor)?))).collect::<Result<Vec<_>>>()?;
        let inputs: Vec<_> = narrowed.iter().map(|(name, tensor)| (*name, tensor.as_ref())).collect();
        // Set by `prepare`.
        let Some(engine) = self.engine.as_mut() else { return crate::error::fail!(Engine, "the stage is not loaded") };
        let outputs = timed(&mut self.run, || engine.run(&inputs)).map_err(|error| error.in_file(&self.stage.file))?;
        let narrow = |(name, tensor): (&str, &Tensor)| Ok((name.to_owned(), self.at_edge(name, tensor)?.into_owned()));
        outputs.iter().map(narrow).collect::<Result<_>>().map(Outputs::new)
    }

    /// What crosses an edge that the file declares as f16 gets an f16's values, although it is computed with in f32: diffusers
    /// hands onnxruntime arrays of the declared type.
    fn at_edge<'a>(&self, name: &str, tensor: &'a Tensor) -> Result<Cow<'a, Tensor>> {
        let mut ports = self.engine.iter().flat_map(|engine| engine.inputs().iter().chain(engine.outputs()));
        match tensor.as_f32() {
            Some(values) if ports.any(|port| port.name == name && port.declared == "FLOAT16") => {
                Tensor::new(tensor.shape(), values.iter().copied().map(through_f16).collect::<Vec<_>>()).map(Cow::Owned)
            }
            _ => Ok(Cow::Borrowed(tensor)),
        }
    }

    fn prepare(&mut self, inputs: &[(&str, &Tensor)]) -> Result<()> {
        self.load()?;
        let Some(engine) = self.engine.as_mut() else { return Ok(()) };
        let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        engine.prepare(&shapes).map_err(|error| error.in_file(&self.stage.file))?;
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        if self.engine.is_none() {
            let graph = self.graph.take().map_or_else(|| self.stage.open(), Ok)?;
            let Machine { backend, weights, precision, threads, cache, .. } = &self.machine;
            let mut engine = engine::load_with(graph, *backend, *weights, *precision, threads, cache.as_ref())?;
            engine.stream(self.machine.streamed);
            engine.heed(&self.machine.cancel);
            self.engine = Some(engine);
        }
        Ok(())
    }

    /// What running for inputs of these shapes would take; `None` where the engine cannot tell.
    pub fn plan(&mut self, shapes: &[(String, Vec<usize>)]) -> Result<Option<Footprint>> {
        let mut load = Duration::ZERO;
        let planned = timed(&mut load, || {
            self.load()?;
            let Some(engine) = self.engine.as_mut() else { return Ok(None) };
            let shapes: Vec<_> = shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
            engine.plan(&shapes).map_err(|error| error.in_file(&self.stage.file))
        });
        self.load += load;
        planned
    }

    /// Names of its outputs, where it is loaded.
    pub fn outputs(&self) -> Vec<String> {
        self.engine.iter().flat_map(|engine| engine.outputs()).map(|port| port.name.clone()).collect()
    }

    /// From now on it is dropped when its turn ends, or kept.
    pub fn set_low_memory(&mut self, low: bool) {
        self.machine.low_memory = low;
    }

    /// From now on its weights are read from their file as they are needed, or stay.
    pub fn set_streamed(&mut self, streamed: bool) {
        self.machine.streamed = streamed;
        self.engine.iter_mut().for_each(|engine| engine.stream(streamed));
    }

    /// Ends the stage's turn: with little memory it is dropped.
    pub fn finish(&mut self) {
        if self.machine.low_memory {
            self.drop_engine();
        }
    }

    /// Gives its memory back.
    pub fn drop_engine(&mut self) {
        if let Some(engine) = self.engine.take() {
            self.account = engine.account();
        }
    }

    /// What the stage did since the last report.
    pub fn report(&mut self) -> StageReport {
        let (load, run) = (std::mem::take(&mut self.load), std::mem::take(&mut self.run));
        StageReport {
            stage: self.stage.name.clone(),
            account: self.engine.as_ref().map_or_else(|| self.account.clone(), |engine| engine.account()),
            load_ms: milliseconds(load),
            run_ms: milliseconds(run),
        }
    }
}

/// Too large a number becomes the largest there is: the graph itself runs in f32 and may well stand it.
fn through_f16(x: f32) -> f32 {
    let bound = f16::MAX.to_f32();
    f16::from_f32(if x.is_finite() { x.clamp(-bound, bound) } else { x }).to_f32()
}

/// How many rows go into one run: what the graph is fixed at, else all `rows` if they are alike.
pub(super) fn batch_size(ports: &[&Port], rows: &[Tensor]) -> usize {
    let alike = rows.windows(2).all(|pair| pair[0].shape() == pair[1].shape());
    let fixed = ports.iter().find_map(|port| if port.rank() == Some(0) { None } else { port.fixed(0) });
    fixed.unwrap_or(if alike { rows.len() } else { 1 }).max(1)
}

/// `rows` of one shape `(1, …)` as one tensor `(batch, …)`, the last one repeated where there are too few.
pub(super) fn stack(rows: &[Tensor], batch: usize) -> Result<Tensor> {
    let Some(last) = rows.last() else { return crate::error::fail!(Mismatch, "nothing to run") };
    let shape: Vec<usize> = [batch].into_iter().chain(last.shape().iter().skip(1).copied()).collect();
    let all = (0..batch).map(|i| rows.get(i).unwrap_or(last).data());
    let data = match last.data() {
        Data::I64(_) => {
            Data::I64(all.flat_map(|data| if let Data::I64(x) = data { x.as_slice() } else { &[] }).copied().collect())
        }
        _ => {
            Data::F32(all.flat_map(|data| if let Data::F32(x) = data { x.as_slice() } else { &[] }).copied().collect())
        }
    };
    Tensor::new(&shape, data)
}

/// The first `count` rows of `(batch, …)`, each `(1, …)`, as f32.
pub(super) fn split(stacked: Tensor, count: usize) -> Result<Vec<Tensor>> {
    let shape: Vec<usize> = [1].into_iter().chain(stacked.shape().iter().skip(1).copied()).collect();
    let length = shape.iter().product::<usize>();
    let values = stacked.into_f32();
    values.chunks(length.max(1)).take(count).map(|row| Tensor::new(&shape, row.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_stacked_and_split_again() {
        let rows = [Tensor::new(&[1, 2], vec![1f32, 2.0]).unwrap(), Tensor::new(&[1, 2], vec![3f32, 4.0]).unwrap()];
        let stacked = stack(&rows, 3).unwrap();
        assert_eq!(stacked, Tensor::new(&[3, 2], vec![1f32, 2.0, 3.0, 4.0, 3.0, 4.0]).unwrap());
        assert_eq!(split(stacked, 2).unwrap(), rows);
    }

    #[test]
    fn numbers_are_rounded_to_f16_and_stay_numbers() {
        assert_eq!([0.1, 1e6, -1e6].map(through_f16), [0.099975586, 65504.0, -65504.0]);
        assert!(through_f16(f32::NAN).is_nan() && through_f16(f32::INFINITY).is_infinite());
    }

    #[test]
    fn the_graph_decides_how_many_run_at_once() {
        use crate::model::Dim;
        use crate::value::DType;
        let port = |dim| Port {
            name: "x".into(),
            dtype: DType::F32,
            declared: "FLOAT".into(),
            shape: Some(vec![dim, Dim::Fixed(2)]),
        };
        let (free, one, two) = (port(Dim::Symbol("batch".into())), port(Dim::Fixed(1)), port(Dim::Fixed(2)));
        let row = |length| Tensor::new(&[1, length], vec![0f32; length]).unwrap();
        assert_eq!(batch_size(&[&free], &[row(2), row(2)]), 2);
        assert_eq!(batch_size(&[&free], &[row(2), row(3)]), 1);
        assert_eq!(batch_size(&[&free, &one], &[row(2), row(2)]), 1);
        assert_eq!(batch_size(&[&two], &[row(2)]), 2);
    }
}
