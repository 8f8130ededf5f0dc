//! tract runs the whole graph as it is: the floor, and what other engines are compared with.

use super::account::ASKED;
use super::{Account, Engine, Footprint, Outputs, Threads};
use crate::caught::catch;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::model::{Graph, Port, datum_type, foreign};
use crate::value::{Data, Tensor};
use half::f16;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tract_core::internal::{RunOptions, TypedSimplePlan};
use tract_core::prelude::{DatumType, IntoTValue, TValue, TVec, Tensor as TractTensor};
use tract_linalg::multithread::Executor;

/// A graph in tract.
///
/// tract specialises a graph for the shapes it runs with. When they change, the file is read anew: to keep the constants beside tract's
/// packed ones would double the memory.
pub struct Reference {
    file: PathBuf,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    executor: Executor,
    /// As opened, until it is prepared for the first time.
    graph: Option<Graph>,
    /// Outputs that the file does not name as such.
    watched: Vec<String>,
    ready: Option<Ready>,
}

struct Ready {
    shapes: Vec<Vec<usize>>,
    plan: Arc<TypedSimplePlan>,
}

impl Reference {
    /// An engine for `graph`.
    pub fn new(graph: Graph, threads: &Threads) -> Reference {
        let executor = threads.pool().map_or(Executor::SingleThread, |pool| Executor::MultiThread(pool.clone()));
        let watched = graph.watched();
        Reference {
            watched,
            file: graph.file().to_path_buf(),
            inputs: graph.inputs().to_vec(),
            outputs: graph.outputs().to_vec(),
            executor,
            graph: Some(graph),
            ready: None,
        }
    }

    /// Operators of tract's optimised graph, with how often each occurs; none before it is prepared.
    pub fn ops(&self) -> BTreeMap<String, usize> {
        let mut ops = BTreeMap::new();
        let nodes = self.ready.iter().flat_map(|ready| ready.plan.model().nodes());
        nodes.for_each(|node| *ops.entry(node.op.name().into_owned()).or_default() += 1);
        ops
    }

    fn reopen(&self, shapes: &[Vec<usize>]) -> Result<Graph> {
        let mut graph = Graph::open(&self.file)?;
        graph.watch(&self.watched, shapes)?;
        Ok(graph)
    }

    fn compile(&mut self, shapes: Vec<Vec<usize>>) -> Result<()> {
        self.ready = None;
        let graph = self.graph.take().map_or_else(|| self.reopen(&shapes), Ok)?;
        let typed = graph.into_typed(&shapes)?;
        let options = RunOptions { executor: Some(self.executor.clone()), ..RunOptions::default() };
        let plan = catch("tract", "optimising the graph", || {
            let optimised = typed.into_optimized().map_err(foreign)?;
            TypedSimplePlan::new_with_options(optimised, &options).map_err(foreign)
        })?;
        self.ready = Some(Ready { shapes, plan });
        Ok(())
    }

    fn ordered(&self, given: &[(&str, &Tensor)]) -> Result<TVec<TValue>> {
        let one = |port: &Port| {
            let (_, tensor) = given.iter().find(|(name, _)| *name == port.name).ok_or_else(|| missing(port))?;
            let converted = if tensor.dtype() == port.dtype { None } else { Some(port.convert((*tensor).clone())?) };
            Ok(to_tract(converted.as_ref().unwrap_or(tensor))?.into_tvalue())
        };
        self.inputs.iter().map(one).collect()
    }

    fn play(&self, given: &[(&str, &Tensor)]) -> Result<Outputs> {
        let Some(ready) = &self.ready else { return fail!(Engine, "the graph is not prepared") };
        let inputs = self.ordered(given)?;
        let values = catch("tract", "running the graph", || ready.plan.run(inputs).map_err(foreign))?;
        let named = |(port, value): (&Port, TValue)| Ok((port.name.clone(), from_tract(&value, port)?));
        self.outputs.iter().zip(values).map(named).collect::<Result<_>>().map(Outputs::new)
    }
}

impl Engine for Reference {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// What tract allocates is not known before it runs.
    fn plan(&mut self, _: &[(&str, &[usize])]) -> Result<Option<Footprint>> {
        Ok(None)
    }

    fn prepare(&mut self, shapes: &[(&str, &[usize])]) -> Result<()> {
        let shapes = crate::model::complete(&self.inputs, shapes).map_err(|error| error.in_file(&self.file))?;
        if self.ready.as_ref().is_some_and(|ready| ready.shapes == shapes) {
            return Ok(());
        }
        self.compile(shapes).map_err(|error| error.in_file(&self.file))
    }

    fn account(&self) -> Account {
        let cpu_nodes = self.ready.as_ref().map_or(0, |ready| ready.plan.model().nodes().len());
        Account { engine: self.name(), cpu_nodes, why: ASKED.into(), ..Account::default() }
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Outputs> {
        let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        self.prepare(&shapes)?;
        self.play(inputs).map_err(|error| error.in_file(&self.file))
    }
}

fn missing(port: &Port) -> Error {
    Error::new(ErrorKind::Mismatch, "the input is not given").in_field(&port.name)
}

fn to_tract(tensor: &Tensor) -> Result<TractTensor> {
    let shape = tensor.shape();
    match tensor.data() {
        Data::F16(elements) => TractTensor::from_shape(shape, elements),
        Data::F32(elements) => TractTensor::from_shape(shape, elements),
        Data::F64(elements) => TractTensor::from_shape(shape, elements),
        Data::I8(elements) => TractTensor::from_shape(shape, elements),
        Data::I32(elements) => TractTensor::from_shape(shape, elements),
        Data::I64(elements) => TractTensor::from_shape(shape, elements),
        Data::U8(elements) => TractTensor::from_shape(shape, elements),
        Data::Bool(elements) => TractTensor::from_shape(shape, elements),
    }
    .map_err(foreign)
}

fn from_tract(tensor: &TractTensor, port: &Port) -> Result<Tensor> {
    let wanted = datum_type(port.dtype);
    // Shape arithmetic leaves symbolic integers where the file declares plain ones.
    let cast = if tensor.datum_type() == DatumType::TDim {
        tensor.cast_to_dt(wanted).map_err(foreign)?.into_owned()
    } else {
        tensor.clone()
    };
    let view = cast.try_as_plain_ram().map_err(foreign)?;
    macro_rules! copy {
        ($type:ty) => {
            view.as_slice::<$type>().map_err(foreign)?.to_vec().into()
        };
    }
    let data: Data = match cast.datum_type() {
        DatumType::F16 => copy!(f16),
        DatumType::F32 => copy!(f32),
        DatumType::F64 => copy!(f64),
        DatumType::I8 => copy!(i8),
        DatumType::I32 => copy!(i32),
        DatumType::I64 => copy!(i64),
        DatumType::U8 => copy!(u8),
        DatumType::Bool => copy!(bool),
        other => {
            return fail!(Engine, "the graph gives {other:?}, which cannot leave it")
                .map_err(|error: Error| error.in_field(&port.name));
        }
    };
    Tensor::new(cast.shape(), data)
}
