//! One case: a model of one operator (or of the nodes a function expands to), its inputs and the outputs ONNX asks for.

use half::{bf16, f16};
use prost::Message;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, OperatorSetIdProto, TensorProto, type_proto};
use undiffuse::engine::{self, Backend, Engine, Threads};
use undiffuse::error::{Error, ErrorKind};
use undiffuse::model::Graph;
use undiffuse::value::{DType, Data, Tensor};

/// ONNX's own tolerances for node tests, and one of f32 for sums that nearly vanish: a share of the largest number.
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-7;
const OF_LARGEST: f64 = 5e-6;
/// One unit in the last place of a 16-bit float: graphs that declare them are computed in f32 and give f32.
const HALF: f64 = 1.0 / 1024.0;
const BRAIN: f64 = 1.0 / 128.0;

/// The oldest set that this library reads. ONNX writes a case for the set in which its operator changed last, so nothing changes when an
/// older case is read as one of this set.
const OLDEST_SET: i64 = 9;

/// All operands of these are shapes and bounds, which exporters compute from constants.
const SHAPES: [&str; 2] = ["ConstantOfShape", "Range"];

pub struct Case {
    /// The folder's name without `test_`.
    pub name: String,
    folder: PathBuf,
    model: ModelProto,
    /// Whether f64 became f32.
    narrow: bool,
}

/// What an engine made of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Passed,
    /// The library's typed error: why it cannot.
    Refused(String),
    /// Wrong numbers, shapes or types, or a panic.
    Failed(String),
}

/// All cases of a folder, by name.
pub fn all(folder: &Path) -> std::io::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let folder = entry?.path();
        let Ok(bytes) = std::fs::read(folder.join("model.onnx")) else { continue };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().trim_start_matches("test_").to_owned();
        let mut model = ModelProto::decode(&bytes[..]).unwrap_or_else(|error| panic!("{name}: {error}"));
        model.opset_import.iter_mut().filter(|set| set.domain.is_empty()).for_each(raise);
        cases.push(Case { name, folder, model, narrow: false });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

fn raise(set: &mut OperatorSetIdProto) {
    set.version = set.version.max(OLDEST_SET);
}

impl Case {
    /// The operator, with its domain where that is not ONNX's own; `None` where there are several nodes.
    pub fn op(&self) -> Option<String> {
        match &self.model.graph.as_ref()?.node[..] {
            [node] if node.domain.is_empty() => Some(node.op_type.clone()),
            [node] => Some(format!("{}.{}", node.domain, node.op_type)),
            _ => None,
        }
    }

    /// The case as it is; with all operands but the first in the file, as exporters write them; and in f32 where it is in f64. It passes
    /// if one form passes and none fails.
    pub fn outcome(&self, backend: Backend) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.onnx");
        std::fs::write(&file, self.model.encode_to_vec()).unwrap();
        let plain = self.form(&file, &HashSet::new(), backend);
        let plain = match self.fixed(&file) {
            Some(names) => joined(plain, self.form(&file, &names, backend)),
            None => plain,
        };
        match self.narrowed() {
            Some(case) => joined(plain, case.outcome(backend)),
            None => plain,
        }
    }

    /// The same case in f32, if it is in f64 only.
    fn narrowed(&self) -> Option<Case> {
        let mut model = self.model.clone();
        let graph = model.graph.as_mut()?;
        if graph.input.is_empty() {
            return None;
        }
        for port in graph.input.iter_mut().chain(&mut graph.output) {
            let Some(type_proto::Value::TensorType(tensor)) = &mut port.r#type.as_mut()?.value else { return None };
            if tensor.elem_type != DataType::Double as i32 {
                return None;
            }
            tensor.elem_type = DataType::Float as i32;
        }
        Some(Case { name: self.name.clone(), folder: self.folder.clone(), model, narrow: true })
    }

    /// Writes the model with its operands but the first as initialisers, and gives their names.
    fn fixed(&self, file: &Path) -> Option<HashSet<String>> {
        let mut model = self.model.clone();
        let graph = model.graph.as_mut()?;
        let first = if self.op().is_some_and(|op| SHAPES.contains(&op.as_str())) { 0 } else { 1 };
        let operands = graph.input.split_off(graph.input.len().min(first));
        let mut names = HashSet::new();
        for (index, input) in operands.into_iter().enumerate() {
            let type_proto::Value::TensorType(declared) = input.r#type.as_ref()?.value.as_ref()?;
            let proto = self.proto("input", first + index).ok().filter(|proto| proto.data_type == declared.elem_type);
            graph.initializer.push(TensorProto { name: input.name.clone(), ..proto? });
            names.insert(input.name);
        }
        std::fs::write(file, model.encode_to_vec()).ok()?;
        (!names.is_empty()).then_some(names)
    }

    fn form(&self, file: &Path, fixed: &HashSet<String>, backend: Backend) -> Outcome {
        self.play(file, fixed, backend).unwrap_or_else(|error| {
            let text = error.to_string().replace(&format!("{}: ", file.display()), "");
            match error.kind() {
                _ if text.contains("panicked") => Outcome::Failed(text),
                ErrorKind::Unsupported | ErrorKind::Engine | ErrorKind::Malformed => Outcome::Refused(text),
                kind => Outcome::Failed(format!("{kind:?}: {text}")),
            }
        })
    }

    fn play(&self, file: &Path, fixed: &HashSet<String>, backend: Backend) -> Result<Outcome, Error> {
        let graph = Graph::open(file)?;
        let all = &self.model.graph.as_ref().unwrap().input;
        let mut given = Vec::new();
        for (index, input) in all.iter().enumerate().filter(|(_, input)| !fixed.contains(&input.name)) {
            given.push((input.name.as_str(), self.tensor("input", index)?));
        }
        let given: Vec<(&str, &Tensor)> = given.iter().map(|(name, tensor)| (*name, tensor)).collect();
        let shapes: Vec<(&str, &[usize])> = given.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        let threads = Threads::new(NonZeroUsize::new(1))?;
        let refused = if backend == Backend::Cpu { engine::plan(&graph, &shapes, &threads).err() } else { None };
        let names: Vec<String> = graph.outputs().iter().map(|port| port.name.clone()).collect();
        let mut engine = load(graph, backend)?;
        let planned = match backend {
            Backend::Cpu => refused.is_none(),
            Backend::Vulkan => engine.plan(&shapes).is_ok(),
            _ => false,
        };
        let mut outputs = match (&refused, engine.run(&given)) {
            (_, Ok(outputs)) => outputs,
            (None, Err(error)) if planned => {
                return Ok(Outcome::Failed(format!("planned, but {error}")));
            }
            (None, Err(error)) => return Err(error),
            (Some(why), Err(_)) if load(Graph::open(file)?, Backend::Tract)?.run(&given).is_ok() => {
                return Ok(Outcome::Failed(format!("tract does not take over: {why}")));
            }
            (Some(_), Err(error)) => return Err(error),
        };
        for (index, name) in names.iter().enumerate() {
            let brain = self.proto("output", index)?.data_type == DataType::Bfloat16 as i32;
            if let Err(why) = alike(&outputs.take(name)?, &self.tensor("output", index)?, brain) {
                return Ok(Outcome::Failed(format!("{} gives {name}: {why}", engine.name())));
            }
        }
        match refused {
            Some(error) => Err(error),
            None if engine.name() != backend.name() => Ok(Outcome::Failed(format!("{} ran it", engine.name()))),
            None => Ok(Outcome::Passed),
        }
    }

    fn proto(&self, what: &str, index: usize) -> Result<TensorProto, Error> {
        let file = self.folder.join(format!("test_data_set_0/{what}_{index}.pb"));
        let bytes = std::fs::read(&file).map_err(|error| Error::io("read", &file, error))?;
        TensorProto::decode(&bytes[..])
            .map_err(|error| Error::new(ErrorKind::Invalid, format!("{what} {index}: {error}")))
    }

    fn tensor(&self, what: &str, index: usize) -> Result<Tensor, Error> {
        let proto = self.proto(what, index)?;
        let shape: Vec<usize> = proto.dims.iter().map(|&length| length as usize).collect();
        let raw = &proto.raw_data[..];
        let data: Data = match DataType::try_from(proto.data_type) {
            Ok(DataType::Float) => words(raw).map(f32::from_le_bytes).collect::<Vec<_>>().into(),
            Ok(DataType::Double) => words(raw).map(f64::from_le_bytes).collect::<Vec<_>>().into(),
            Ok(DataType::Float16) => words(raw).map(f16::from_le_bytes).collect::<Vec<_>>().into(),
            Ok(DataType::Bfloat16) => {
                words(raw).map(|bytes| bf16::from_le_bytes(bytes).to_f32()).collect::<Vec<_>>().into()
            }
            Ok(DataType::Int8) => words(raw).map(i8::from_le_bytes).collect::<Vec<_>>().into(),
            Ok(DataType::Uint8) => raw.to_vec().into(),
            Ok(DataType::Int32) => words(raw).map(i32::from_le_bytes).collect::<Vec<_>>().into(),
            Ok(DataType::Int64) => words(raw).map(i64::from_le_bytes).collect::<Vec<_>>().into(),
            Ok(DataType::Bool) => raw.iter().map(|byte| *byte != 0).collect::<Vec<_>>().into(),
            other => return Err(Error::new(ErrorKind::Invalid, format!("{what} {index} is {other:?}"))),
        };
        let tensor = Tensor::new(&shape, data)?;
        Ok(if self.narrow { tensor.cast(DType::F32) } else { tensor })
    }
}

fn load(graph: Graph, backend: Backend) -> Result<Box<dyn Engine>, Error> {
    engine::load(graph, backend, &Threads::new(NonZeroUsize::new(1))?)
}

/// One form passing is a pass, one form failing a failure.
fn joined(a: Outcome, b: Outcome) -> Outcome {
    match (a, b) {
        (failed @ Outcome::Failed(_), _) | (_, failed @ Outcome::Failed(_)) => failed,
        (Outcome::Passed, _) | (_, Outcome::Passed) => Outcome::Passed,
        (_, refused) => refused,
    }
}

fn words<const N: usize>(raw: &[u8]) -> impl Iterator<Item = [u8; N]> {
    raw.as_chunks().0.iter().copied()
}

/// Same type, same shape, same numbers within ONNX's tolerances; NaN is like NaN.
fn alike(ours: &Tensor, theirs: &Tensor, brain: bool) -> Result<(), String> {
    let half = theirs.dtype() == DType::F16 && ours.dtype() == DType::F32;
    if (ours.dtype() != theirs.dtype() && !half) || ours.shape() != theirs.shape() {
        let text = |t: &Tensor| format!("{} {:?}", t.dtype(), t.shape());
        return Err(format!("{} instead of {}", text(ours), text(theirs)));
    }
    if !ours.dtype().is_float() {
        return if ours == theirs { Ok(()) } else { Err("other integers".into()) };
    }
    let (ours, theirs) = (numbers(ours), numbers(theirs));
    let largest = theirs.iter().copied().filter(|x| x.is_finite()).fold(0.0, |most: f64, x| most.max(x.abs()));
    let relative = RELATIVE + if half { HALF } else { 0.0 } + if brain { BRAIN } else { 0.0 };
    let near = |a: f64, b: f64| (a - b).abs() <= ABSOLUTE + OF_LARGEST * largest + relative * b.abs();
    let unlike = ours.iter().zip(&theirs).position(|(&a, &b)| a != b && !(a.is_nan() && b.is_nan()) && !near(a, b));
    unlike.map_or(Ok(()), |at| Err(format!("{} instead of {} at {at}", ours[at], theirs[at])))
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.clone().cast(DType::F64).into_data() {
        Data::F64(values) => values,
        _ => Vec::new(),
    }
}
