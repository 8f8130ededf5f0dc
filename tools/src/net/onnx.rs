//! Records a network as an ONNX graph (opset 17), weights as f16 initialisers with a Cast to f32.
//!
//! GroupNorm is written as torch's exporter writes it, Reshape, InstanceNormalization, Reshape, Mul, Add, so that the
//! shipped model takes the same way through a runtime as every other diffusers export.

mod eight;
pub mod proto;
mod read;
mod rows;

pub use eight::{Rounded, in_eight_bits};
pub use read::{count_parameters, read_model, read_weights};

use super::{Conv, Init, Layers};
use anyhow::{Context, Result, bail};
use half::f16;
use prost::Message;
use proto::{
    Attribute, Dimension, Extent, FLOAT, FLOAT16, Graph, INT64, Node, Shape, Tensor, TensorType, Type, ValueInfo,
};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Named weights: shape and values.
pub type Weights = BTreeMap<String, (Vec<i64>, Vec<f32>)>;

/// A value of the graph, with its shape; -1 stands for the batch.
#[derive(Clone, Debug)]
pub struct Value {
    name: String,
    shape: Vec<i64>,
}

/// A graph in the making.
pub struct Recorder<'a> {
    weights: &'a Weights,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    graph: Graph,
    written: BTreeSet<String>,
    problems: Vec<String>,
    scope: String,
}

/// Who wrote a graph, as it says itself.
const PRODUCER: &str = "undiffuse-tools";

/// Name of a transposed weight in the file: `linear` multiplies by (from, to), training keeps (to, from).
const TRANSPOSED: &str = "^T";
/// Before the names of constants, which are no weights.
const CONSTANT: &str = "constant/";

impl<'a> Recorder<'a> {
    pub fn new(name: &str, weights: &'a Weights) -> Self {
        let state = State { graph: Graph { name: name.into(), ..Graph::default() }, ..State::default() };
        Self { weights, state: RefCell::new(state) }
    }

    /// A graph input; `dims` are names or numbers.
    pub fn input(&self, name: &str, data_type: i32, dims: &[Dim]) -> Value {
        self.state.borrow_mut().graph.input.push(info(name, data_type, dims));
        Value { name: name.into(), shape: dims.iter().map(Dim::size).collect() }
    }

    /// Makes `value` a graph output under this name.
    pub fn output(&self, value: &Value, name: &str, dims: &[Dim]) {
        let mut state = self.state.borrow_mut();
        state.graph.node.push(node("Identity", name, &[&value.name], name, Vec::new()));
        state.graph.output.push(info(name, FLOAT, dims));
    }

    /// Writes the graph as a model file.
    pub fn write(self, path: &Path) -> Result<()> {
        let state = self.state.into_inner();
        if !state.problems.is_empty() {
            bail!("{}: the weights do not fit the network: {}", path.display(), state.problems.join("; "));
        }
        let model = proto::Model {
            ir_version: 8,
            producer_name: PRODUCER.into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(state.graph),
            opset_import: vec![proto::OperatorSet { domain: String::new(), version: 17 }],
        };
        write_model(&model, path)
    }

    fn push(&self, op: &str, inputs: &[&str], attributes: Vec<Attribute>, shape: Vec<i64>) -> Value {
        let mut state = self.state.borrow_mut();
        let label = if state.scope.is_empty() { op.to_owned() } else { format!("{}/{op}", state.scope) };
        let name = format!("{label}_{}", state.graph.node.len());
        state.graph.node.push(node(op, &name, inputs, &name, attributes));
        Value { name, shape }
    }

    fn scope(&self, name: &str) {
        self.state.borrow_mut().scope = name.to_owned();
    }

    /// The f32 view of a weight: its f16 initialiser behind a Cast, once each.
    fn weight(&self, name: &str, shape: &[i64], transpose: bool) -> String {
        let Some(values) = self.checked(name, shape) else { return name.to_owned() };
        let file_name = format!("{name}{}", if transpose { TRANSPOSED } else { "" });
        if transpose {
            let (dims, values) = transposed(shape, values);
            return self.half(&file_name, dims, &values);
        }
        self.half(&file_name, shape.to_vec(), values)
    }

    /// The values of a weight; what is wrong with it is told when the graph is written.
    fn checked(&self, name: &str, shape: &[i64]) -> Option<&'a [f32]> {
        let problem = match self.weights.get(name) {
            Some((found, values)) if found == shape => return Some(values),
            Some((found, _)) => format!("{name}: has shape {found:?}, the network wants {shape:?}"),
            None => format!("{name}: missing"),
        };
        self.state.borrow_mut().problems.push(problem);
        None
    }

    /// An f16 initialiser and its Cast to f32, once each.
    fn half(&self, name: &str, dims: Vec<i64>, values: &[f32]) -> String {
        let cast = format!("{name}/f32");
        let mut state = self.state.borrow_mut();
        if state.written.insert(name.to_owned()) {
            let raw_data = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
            state.graph.initializer.push(Tensor { dims, data_type: FLOAT16, name: name.to_owned(), raw_data });
            state.graph.node.push(node("Cast", &cast, &[name], &cast, vec![int("to", i64::from(FLOAT))]));
        }
        cast
    }

    /// An initialiser of integers, once each.
    fn whole(&self, name: String, dims: &[i64], values: impl Iterator<Item = i64>) -> String {
        let mut state = self.state.borrow_mut();
        if state.written.insert(name.clone()) {
            let raw_data = values.flat_map(i64::to_le_bytes).collect();
            let tensor = Tensor { dims: dims.to_vec(), data_type: INT64, name: name.clone(), raw_data };
            state.graph.initializer.push(tensor);
        }
        name
    }

    fn floats(&self, values: &[f32], dims: &[i64]) -> String {
        let raw_data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(FLOAT, raw_data, dims)
    }

    fn integers(&self, values: &[i64]) -> String {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(INT64, raw_data, &[values.len() as i64])
    }

    /// Constants are named by what they hold, so that equal ones are written once.
    fn constant(&self, data_type: i32, raw_data: Vec<u8>, dims: &[i64]) -> String {
        let digest: String = Sha256::digest(&raw_data)[..8].iter().map(|b| format!("{b:02x}")).collect();
        let name = format!("{CONSTANT}{data_type}/{dims:?}/{digest}").replace(' ', "");
        let mut state = self.state.borrow_mut();
        if state.written.insert(name.clone()) {
            state.graph.initializer.push(Tensor { dims: dims.to_vec(), data_type, name: name.clone(), raw_data });
        }
        name
    }

    fn reshape_to(&self, x: &Value, target: &[i64], shape: Vec<i64>) -> Value {
        self.push("Reshape", &[&x.name, &self.integers(target)], Vec::new(), shape)
    }

    fn transpose(&self, x: &Value, axes: &[i64]) -> Value {
        let shape = axes.iter().map(|a| x.shape[*a as usize]).collect();
        self.push("Transpose", &[&x.name], vec![ints("perm", axes)], shape)
    }

    fn binary(&self, op: &str, a: &Value, b: &str, shape: Vec<i64>) -> Value {
        self.push(op, &[&a.name, b], Vec::new(), shape)
    }

    fn unsqueeze(&self, x: &Value, axes: &[i64], shape: Vec<i64>) -> Value {
        self.push("Unsqueeze", &[&x.name, &self.integers(axes)], Vec::new(), shape)
    }

    /// `(B, T, C)` -> `(B, heads, T, C / heads)`.
    fn heads(&self, x: &Value, heads: i64) -> Value {
        let (tokens, width) = (x.shape[1], x.shape[2] / heads);
        let split = self.reshape_to(x, &[0, 0, heads, width], vec![-1, tokens, heads, width]);
        self.transpose(&split, &[0, 2, 1, 3])
    }
}

/// Writes a model file, under a temporary name first.
///
/// # Errors
/// If it cannot be written.
pub fn write_model(model: &proto::Model, path: &Path) -> Result<()> {
    let temporary = path.with_extension("partial");
    std::fs::write(&temporary, model.encode_to_vec())
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A dimension of a graph input or output.
#[derive(Clone, Copy, Debug)]
pub enum Dim {
    Named(&'static str),
    Fixed(i64),
}

impl Dim {
    fn size(&self) -> i64 {
        match self {
            Self::Named(_) => -1,
            Self::Fixed(n) => *n,
        }
    }
}

fn info(name: &str, elem_type: i32, dims: &[Dim]) -> ValueInfo {
    let extent = |dim: &Dim| match dim {
        Dim::Named(name) => Extent::Param((*name).into()),
        Dim::Fixed(n) => Extent::Value(*n),
    };
    let dim = dims.iter().map(|d| Dimension { value: Some(extent(d)) }).collect();
    let tensor_type = TensorType { elem_type, shape: Some(Shape { dim }) };
    ValueInfo { name: name.into(), r#type: Some(Type { tensor_type: Some(tensor_type) }) }
}

fn node(op: &str, name: &str, inputs: &[&str], output: &str, attribute: Vec<Attribute>) -> Node {
    Node {
        input: inputs.iter().map(|i| (*i).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: name.to_owned(),
        op_type: op.to_owned(),
        attribute,
    }
}

/// `AttributeProto.AttributeType`: FLOAT 1, INT 2, STRING 3, INTS 7.
fn int(name: &str, i: i64) -> Attribute {
    Attribute { name: name.into(), i, kind: 2, ..Attribute::default() }
}

fn float(name: &str, f: f32) -> Attribute {
    Attribute { name: name.into(), f, kind: 1, ..Attribute::default() }
}

fn text(name: &str, s: &str) -> Attribute {
    Attribute { name: name.into(), s: s.as_bytes().to_vec(), kind: 3, ..Attribute::default() }
}

fn ints(name: &str, ints: &[i64]) -> Attribute {
    Attribute { name: name.into(), ints: ints.to_vec(), kind: 7, ..Attribute::default() }
}

fn transposed(shape: &[i64], values: &[f32]) -> (Vec<i64>, Vec<f32>) {
    let (rows, columns) = (shape[0] as usize, shape[1] as usize);
    let out = (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect();
    (vec![shape[1], shape[0]], out)
}

/// The shape of an element-wise result.
fn broadcast(a: &[i64], b: &[i64]) -> Vec<i64> {
    let rank = a.len().max(b.len());
    let at = |s: &[i64], i: usize| if i + s.len() >= rank { s[i + s.len() - rank] } else { 1 };
    (0..rank).map(|i| if at(a, i) == 1 { at(b, i) } else { at(a, i) }).collect()
}

impl Layers for Recorder<'_> {
    type T = Value;

    fn conv(&self, name: &str, x: &Value, conv: Conv) -> Value {
        self.scope(name);
        let k = conv.kernel;
        let weight = self.weight(&format!("{name}.weight"), &[conv.to, conv.from, k, k], false);
        let bias = self.weight(&format!("{name}.bias"), &[conv.to], false);
        let side = |n: i64| (n + 2 * conv.padding - k) / conv.stride + 1;
        let shape = vec![-1, conv.to, side(x.shape[2]), side(x.shape[3])];
        let attributes = vec![
            ints("dilations", &[1, 1]),
            int("group", 1),
            ints("kernel_shape", &[k, k]),
            ints("pads", &[conv.padding; 4]),
            ints("strides", &[conv.stride; 2]),
        ];
        self.push("Conv", &[&x.name, &weight, &bias], attributes, shape)
    }

    fn linear(&self, name: &str, x: &Value, from: i64, to: i64, _: Init) -> Value {
        self.scope(name);
        let weight = self.weight(&format!("{name}.weight"), &[to, from], true);
        let bias = self.weight(&format!("{name}.bias"), &[to], false);
        let mut shape = x.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = to;
        }
        let product = self.binary("MatMul", x, &weight, shape.clone());
        self.binary("Add", &product, &bias, shape)
    }

    fn group_norm(&self, name: &str, x: &Value, groups: i64, channels: i64, affine: bool) -> Value {
        self.scope(name);
        let ones = self.floats(&vec![1.0; groups as usize], &[groups]);
        let zeros = self.floats(&vec![0.0; groups as usize], &[groups]);
        let [height, width] = [x.shape[2], x.shape[3]];
        let inner = channels / groups * height * width;
        let grouped = self.reshape_to(x, &[0, groups, -1], vec![-1, groups, inner]);
        let inputs = [grouped.name.as_str(), &ones, &zeros];
        let normed = self.push("InstanceNormalization", &inputs, vec![float("epsilon", 1e-5)], grouped.shape.clone());
        let back = self.reshape_to(&normed, &[0, channels, height, width], x.shape.clone());
        if !affine {
            return back;
        }
        let spread = |part: &str| {
            let flat =
                Value { name: self.weight(&format!("{name}.{part}"), &[channels], false), shape: vec![channels] };
            self.unsqueeze(&flat, &[1, 2], vec![channels, 1, 1]).name
        };
        let scaled = self.binary("Mul", &back, &spread("weight"), x.shape.clone());
        self.binary("Add", &scaled, &spread("bias"), x.shape.clone())
    }

    fn layer_norm(&self, name: &str, x: &Value, width: i64, eps: f64) -> Value {
        self.scope(name);
        let weight = self.weight(&format!("{name}.weight"), &[width], false);
        let bias = self.weight(&format!("{name}.bias"), &[width], false);
        let attributes = vec![int("axis", -1), float("epsilon", eps as f32)];
        self.push("LayerNormalization", &[&x.name, &weight, &bias], attributes, x.shape.clone())
    }

    fn embedding(&self, name: &str, ids: &Value, rows: i64, width: i64) -> Value {
        self.scope(name);
        let name = format!("{name}.weight");
        let shape = vec![ids.shape[0], ids.shape[1], width];
        let values = self.checked(&name, &[rows, width]).unwrap_or_default();
        let gather = |table: &str, at: &str, shape| self.push("Gather", &[table, at], vec![int("axis", 0)], shape);
        let Some((own, places)) = rows::shared(width as usize, size_of::<f16>(), values) else {
            return gather(&self.half(&name, vec![rows, width], values), &ids.name, shape);
        };
        let places = self.whole(format!("{name}{}", rows::ROWS), &[rows], places.into_iter());
        let at = gather(&places, &ids.name, ids.shape.clone());
        let dims = vec![own.len() as i64 / width, width];
        gather(&self.half(&name, dims, &own), &at.name, shape)
    }

    fn table(&self, name: &str, rows: i64, used: i64, width: i64) -> Value {
        self.scope(name);
        let weight = self.weight(&format!("{name}.weight"), &[rows, width], false);
        let mut x = Value { name: weight, shape: vec![rows, width] };
        if used < rows {
            let (from, to, axis) = (self.integers(&[0]), self.integers(&[used]), self.integers(&[0]));
            x = self.push("Slice", &[&x.name, &from, &to, &axis], Vec::new(), vec![used, width]);
        }
        self.unsqueeze(&x, &[0], vec![1, used, width])
    }

    fn silu(&self, x: &Value) -> Value {
        let gate = self.push("Sigmoid", &[&x.name], Vec::new(), x.shape.clone());
        self.binary("Mul", x, &gate.name, x.shape.clone())
    }

    fn gelu(&self, x: &Value) -> Value {
        let s = || x.shape.clone();
        let inner = self.binary("Div", x, &self.floats(&[std::f32::consts::SQRT_2], &[]), s());
        let erf = self.push("Erf", &[&inner.name], Vec::new(), s());
        let shifted = self.binary("Add", &erf, &self.floats(&[1.0], &[]), s());
        let product = self.binary("Mul", x, &shifted.name, s());
        self.binary("Mul", &product, &self.floats(&[0.5], &[]), s())
    }

    fn add(&self, a: &Value, b: &Value) -> Value {
        self.binary("Add", a, &b.name, broadcast(&a.shape, &b.shape))
    }

    fn mul(&self, a: &Value, b: &Value) -> Value {
        self.binary("Mul", a, &b.name, broadcast(&a.shape, &b.shape))
    }

    fn add_scalar(&self, x: &Value, value: f64) -> Value {
        self.binary("Add", x, &self.floats(&[value as f32], &[]), x.shape.clone())
    }

    fn normalise(&self, x: &Value, mean: &[f32], deviation: &[f32]) -> Value {
        let wide = |values: &[f32]| self.floats(values, &[1, values.len() as i64, 1, 1]);
        let centred = self.binary("Sub", x, &wide(mean), x.shape.clone());
        self.binary("Div", &centred, &wide(deviation), x.shape.clone())
    }

    fn concat(&self, parts: &[&Value], axis: i64) -> Value {
        let mut shape = parts[0].shape.clone();
        shape[axis as usize] = parts.iter().map(|p| p.shape[axis as usize]).sum();
        let names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
        self.push("Concat", &names, vec![int("axis", axis)], shape)
    }

    fn halves(&self, x: &Value) -> (Value, Value) {
        let half = x.shape[1] / 2;
        let mut shape = x.shape.clone();
        shape[1] = half;
        let part = |from: i64, to: i64| {
            let (from, to, axis) = (self.integers(&[from]), self.integers(&[to]), self.integers(&[1]));
            self.push("Slice", &[&x.name, &from, &to, &axis], Vec::new(), shape.clone())
        };
        (part(0, half), part(half, 2 * half))
    }

    fn token(&self, x: &Value, index: i64) -> Value {
        let at = self.constant(INT64, index.to_le_bytes().to_vec(), &[]);
        self.push("Gather", &[&x.name, &at], vec![int("axis", 1)], vec![x.shape[0], x.shape[2]])
    }

    fn sum_tokens(&self, x: &Value) -> Value {
        let inputs = [x.name.as_str(), &self.integers(&[1])];
        self.push("ReduceSum", &inputs, vec![int("keepdims", 0)], vec![x.shape[0], x.shape[2]])
    }

    fn greatest(&self, x: &Value) -> Value {
        self.push("ArgMax", &[&x.name], vec![int("axis", 1), int("keepdims", 0)], vec![x.shape[0]])
    }

    fn lookup(&self, name: &str, at: &Value, rows: i64, width: i64) -> Value {
        self.scope(name);
        let values = self.checked(name, &[rows, width]).unwrap_or_default();
        let table =
            |name: String, dims: &[i64], values: &[f32]| self.whole(name, dims, values.iter().map(|v| *v as i64));
        let gather = |table: &str, at: &str, shape| self.push("Gather", &[table, at], vec![int("axis", 0)], shape);
        let Some((own, places)) = rows::shared(width as usize, size_of::<i64>(), values) else {
            return gather(&table(name.to_owned(), &[rows, width], values), &at.name, vec![-1, width]);
        };
        let places = self.whole(format!("{name}{}", rows::ROWS), &[rows], places.into_iter());
        let at = gather(&places, &at.name, vec![-1]);
        gather(&table(name.to_owned(), &[own.len() as i64 / width, width], &own), &at.name, vec![-1, width])
    }

    fn numbers(&self, name: &str, at: &Value, count: i64) -> Value {
        self.scope(name);
        let values = self.checked(name, &[count]).unwrap_or_default();
        let list = self.whole(name.to_owned(), &[count], values.iter().map(|v| *v as i64));
        self.push("Gather", &[&list, &at.name], vec![int("axis", 0)], at.shape.clone())
    }

    fn reshape(&self, x: &Value, rest: &[i64]) -> Value {
        self.reshape_to(x, &[&[0], rest].concat(), [&[x.shape[0]], rest].concat())
    }

    fn to_tokens(&self, x: &Value) -> Value {
        let (channels, area) = (x.shape[1], x.shape[2] * x.shape[3]);
        let flat = self.reshape_to(x, &[0, channels, area], vec![-1, channels, area]);
        self.transpose(&flat, &[0, 2, 1])
    }

    fn to_map(&self, x: &Value, height: i64, width: i64) -> Value {
        let channels = x.shape[2];
        let turned = self.transpose(x, &[0, 2, 1]);
        self.reshape_to(&turned, &[0, channels, height, width], vec![-1, channels, height, width])
    }

    fn pixel_shuffle(&self, x: &Value, r: i64) -> Value {
        let shape = vec![-1, x.shape[1] / (r * r), x.shape[2] * r, x.shape[3] * r];
        self.push("DepthToSpace", &[&x.name], vec![int("blocksize", r), text("mode", "CRD")], shape)
    }

    fn pixel_unshuffle(&self, x: &Value, r: i64) -> Value {
        let [c, h, w] = [x.shape[1], x.shape[2] / r, x.shape[3] / r];
        let split = self.reshape_to(x, &[0, c, h, r, w, r], vec![-1, c, h, r, w, r]);
        let turned = self.transpose(&split, &[0, 1, 3, 5, 2, 4]);
        self.reshape_to(&turned, &[0, c * r * r, h, w], vec![-1, c * r * r, h, w])
    }

    fn attention(&self, q: &Value, k: &Value, v: &Value, heads: i64, mask: Option<&Value>) -> Value {
        let width = q.shape[2];
        let (query, value) = (self.heads(q, heads), self.heads(v, heads));
        let key = self.transpose(&self.heads(k, heads), &[0, 1, 3, 2]);
        let scale = self.floats(&[1.0 / ((width / heads) as f32).sqrt()], &[]);
        let shape = vec![-1, heads, q.shape[1], k.shape[1]];
        let query = self.binary("Mul", &query, &scale, query.shape.clone());
        let mut scores = self.binary("MatMul", &query, &key.name, shape.clone());
        if let Some(mask) = mask {
            let less = self.binary("Sub", mask, &self.floats(&[1.0], &[]), mask.shape.clone());
            let bias = self.binary("Mul", &less, &self.floats(&[1e4], &[]), mask.shape.clone());
            let bias = self.unsqueeze(&bias, &[1, 2], vec![-1, 1, 1, mask.shape[1]]);
            scores = self.binary("Add", &scores, &bias.name, shape.clone());
        }
        let shares = self.push("Softmax", &[&scores.name], vec![int("axis", -1)], shape);
        let mixed = self.binary("MatMul", &shares, &value.name, vec![-1, heads, q.shape[1], width / heads]);
        let back = self.transpose(&mixed, &[0, 2, 1, 3]);
        self.reshape_to(&back, &[0, 0, width], q.shape.clone())
    }

    fn not_equal(&self, ids: &Value, pad: i64) -> Value {
        let pad = self.constant(INT64, pad.to_le_bytes().to_vec(), &[]);
        let equal = self.binary("Equal", ids, &pad, ids.shape.clone());
        let not = self.push("Not", &[&equal.name], Vec::new(), ids.shape.clone());
        self.push("Cast", &[&not.name], vec![int("to", i64::from(FLOAT))], ids.shape.clone())
    }

    fn unsqueeze_last(&self, x: &Value) -> Value {
        let shape = [x.shape.as_slice(), &[1]].concat();
        self.unsqueeze(x, &[-1], shape)
    }

    fn sinusoid(&self, t: &Value, dim: i64) -> Value {
        self.scope("timestep");
        let half = dim / 2;
        let frequency = |i: i64| (-(10_000f64.ln()) / half as f64 * i as f64).exp() as f32;
        let frequencies = self.floats(&(0..half).map(frequency).collect::<Vec<_>>(), &[1, half]);
        let column = self.unsqueeze(t, &[1], vec![-1, 1]);
        let angles = self.binary("Mul", &column, &frequencies, vec![-1, half]);
        let wave = |op: &str| self.push(op, &[&angles.name], Vec::new(), vec![-1, half]);
        self.concat(&[&wave("Cos"), &wave("Sin")], 1)
    }
}
