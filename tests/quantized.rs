//! Weights that the file has as integers behind `DequantizeLinear`: every engine computes with the numbers that they stand for, and the CPU engine
//! keeps them in eight bits.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::Axis::Fixed;
use support::*;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;
use undiffuse::engine::{self, Backend, Cache, Engine, Precision, Threads, Weights};
use undiffuse::model::Graph;
use undiffuse::value::Tensor;

/// A weight as integers with scales, and what they stand for.
struct Quantized {
    name: &'static str,
    data_type: DataType,
    shape: Vec<i64>,
    /// `None` for one scale.
    axis: Option<usize>,
    zeros: bool,
}

impl Quantized {
    fn int8(name: &'static str, shape: &[i64], axis: Option<usize>) -> Quantized {
        Quantized { name, data_type: DataType::Int8, shape: shape.to_vec(), axis, zeros: false }
    }

    fn places(&self) -> usize {
        self.axis.map_or(1, |axis| self.shape[axis] as usize)
    }

    fn codes(&self) -> Vec<i32> {
        let least = if self.data_type == DataType::Uint8 { 0 } else { -128 };
        let seed = self.name.bytes().map(u64::from).sum();
        let count: i64 = self.shape.iter().product();
        numbers(seed, count as usize).into_iter().map(|x| ((x + 1.0) * 127.99) as i32 + least).collect()
    }

    fn scales(&self) -> Vec<f32> {
        (0..self.places()).map(|place| 0.0005 + 0.00002 * (place * 7 % 31) as f32).collect()
    }

    fn zero_points(&self) -> Vec<i32> {
        (0..self.places()).map(|place| if self.zeros { 3 + place as i32 % 100 } else { 0 }).collect()
    }

    fn tensor(&self, name: String, dims: &[i64], numbers: &[i32]) -> TensorProto {
        let width = if self.data_type == DataType::Int32 { 4 } else { 1 };
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes().into_iter().take(width)).collect();
        raw(&name, self.data_type, dims, bytes)
    }

    /// Adds integers and node.
    fn put(&self, builder: Builder) -> Builder {
        let [codes, scale, zero] = ["codes", "scale", "zero"].map(|part| format!("{}/{part}", self.name));
        let dims = if self.axis.is_some() { vec![self.places() as i64] } else { Vec::new() };
        let mut builder = builder.weight(self.tensor(codes.clone(), &self.shape, &self.codes())).weight(floats(
            &scale,
            &dims,
            &self.scales(),
        ));
        let mut inputs = vec![codes.as_str(), &scale];
        if self.zeros {
            builder = builder.weight(self.tensor(zero.clone(), &dims, &self.zero_points()));
            inputs.push(&zero);
        }
        let axis = self.axis.map_or(Vec::new(), |axis| vec![int("axis", axis as i64 - self.shape.len() as i64)]);
        builder.node_with("DequantizeLinear", &inputs, self.name, axis)
    }

    /// Adds the same numbers in f32.
    fn put_wide(&self, builder: Builder) -> Builder {
        let (scales, zeros) = (self.scales(), self.zero_points());
        let inner: i64 = self.axis.map_or(1, |axis| self.shape[axis + 1..].iter().product());
        let wide = self.codes().into_iter().enumerate().map(|(index, code)| {
            let place = index / inner as usize % scales.len();
            (code - zeros[place]) as f32 * scales[place]
        });
        builder.weight(floats(self.name, &self.shape, &wide.collect::<Vec<_>>()))
    }
}

/// Outputs whose weights have a scale a column and no zero points, and others.
const AS_THEY_ARE: [&str; 5] = ["y", "grouped", "product", "gemm", "rows"];
const ANEW: [&str; 2] = ["lines", "shifted"];

fn weights() -> Vec<Quantized> {
    let plain = Quantized::int8;
    vec![
        plain("kernel", &[64, 32, 3, 3], Some(0)),
        Quantized { data_type: DataType::Int32, ..plain("bias", &[64], Some(0)) },
        plain("groups", &[1024, 16, 1, 1], Some(0)),
        plain("table", &[300, 160], Some(0)),
        plain("across", &[160, 96], Some(1)),
        plain("turned", &[100, 160], Some(0)),
        plain("one", &[160, 64], None),
        plain("down", &[160, 72], Some(0)),
        Quantized { data_type: DataType::Uint8, zeros: true, ..plain("shift", &[160, 80], Some(1)) },
    ]
}

fn graph(put: impl Fn(&Quantized, Builder) -> Builder) -> Builder {
    let builder = Builder::new(17).input("x", DataType::Float, &[Fixed(1), Fixed(32), Fixed(12), Fixed(12)]).input(
        "ids",
        DataType::Int64,
        &[Fixed(5)],
    );
    let builder = weights().iter().fold(builder, |builder, weight| put(weight, builder));
    builder
        .node_with("Conv", &["x", "kernel", "bias"], "y", vec![ints("pads", &[1, 1, 1, 1])])
        .node_with("Conv", &["y", "groups"], "grouped", vec![int("group", 4)])
        .node("Gather", &["table", "ids"], "rows")
        .node("MatMul", &["rows", "across"], "mixed")
        .node_with("Gemm", &["rows", "turned"], "gemm", vec![int("transB", 1)])
        .node("MatMul", &["rows", "one"], "plain")
        .node_with("Concat", &["mixed", "plain"], "product", vec![int("axis", 1)])
        .node("MatMul", &["rows", "down"], "lines")
        .node("MatMul", &["rows", "shift"], "shifted")
        .output("y", DataType::Float, &[Fixed(1), Fixed(64), Fixed(12), Fixed(12)])
        .output("grouped", DataType::Float, &[Fixed(1), Fixed(1024), Fixed(12), Fixed(12)])
        .output("rows", DataType::Float, &[Fixed(5), Fixed(160)])
        .output("product", DataType::Float, &[Fixed(5), Fixed(160)])
        .output("gemm", DataType::Float, &[Fixed(5), Fixed(100)])
        .output("lines", DataType::Float, &[Fixed(5), Fixed(72)])
        .output("shifted", DataType::Float, &[Fixed(5), Fixed(80)])
}

/// The graph with integers and the graph with what they stand for.
struct Pair {
    folder: tempfile::TempDir,
    integers: PathBuf,
    wide: PathBuf,
}

impl Pair {
    fn new() -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let integers = graph(Quantized::put).save(folder.path().join("integers.onnx"));
        let wide = graph(Quantized::put_wide).save(folder.path().join("wide.onnx"));
        Pair { folder, integers, wide }
    }
}

fn engine(file: &Path, backend: Backend, weights: Weights, cache: Option<&Cache>) -> Box<dyn Engine> {
    let graph = Graph::open(file).unwrap_or_else(|error| panic!("{error}"));
    let threads = Threads::new(std::num::NonZeroUsize::new(2)).unwrap();
    engine::load_with(graph, backend, weights, Some(Precision::F32), &threads, cache).unwrap()
}

type Made = BTreeMap<&'static str, Vec<f32>>;

fn play(engine: &mut dyn Engine) -> Made {
    let x = Tensor::new(&[1, 32, 12, 12], numbers(5, 32 * 144)).unwrap();
    let ids = Tensor::new(&[5], vec![0i64, 299, 7, -1, 150]).unwrap();
    let mut outputs = engine.run(&[("x", &x), ("ids", &ids)]).unwrap_or_else(|error| panic!("{error}"));
    let names = AS_THEY_ARE.into_iter().chain(ANEW);
    names.map(|name| (name, outputs.take(name).unwrap().into_f32())).collect()
}

fn apart(made: &Made, expected: &Made, name: &str) -> f64 {
    let expected: Vec<f64> = expected[name].iter().map(|x| f64::from(*x)).collect();
    relative_error(&made[name], &expected)
}

#[test]
fn the_cpu_engine_computes_with_the_numbers_that_the_integers_stand_for() {
    let pair = Pair::new();
    let expected = play(&mut *engine(&pair.wide, Backend::Cpu, Weights::Stored, None));
    let cache = Cache::new(pair.folder.path().join("cache"));
    for start in ["without a cache", "into the cache", "from the cache"] {
        let cache = Some(&cache).filter(|_| start != "without a cache");
        let made = play(&mut *engine(&pair.integers, Backend::Cpu, Weights::Stored, cache));
        assert!(made == expected, "{start}");
    }
}

#[test]
fn eight_bits_of_the_file_are_not_rounded_again() {
    let pair = Pair::new();
    let expected = play(&mut *engine(&pair.wide, Backend::Cpu, Weights::Stored, None));
    let made = play(&mut *engine(&pair.integers, Backend::Cpu, Weights::Int8, None));
    for name in AS_THEY_ARE {
        assert!(made[name] == expected[name], "{name}");
    }
    for name in ANEW {
        let apart = apart(&made, &expected, name);
        assert!(apart > 1e-5 && apart < 0.05, "{name}: {apart}, with the columns' own scales");
    }
}

#[test]
fn eight_bits_stay_eight_bits_in_memory() {
    let pair = Pair::new();
    let kept = |file: &Path| {
        let shapes: [(&str, &[usize]); 2] = [("x", &[1, 32, 12, 12]), ("ids", &[5])];
        engine(file, Backend::Cpu, Weights::Stored, None).plan(&shapes).unwrap().unwrap().memory.weights
    };
    let packed = 64 * 32 * 9 + 1024 * 16 + 160 * (96 + 112 + 64);
    let saved = kept(&pair.wide) - kept(&pair.integers);
    assert!(saved > packed * 28 / 10, "{saved} of {packed} weights");
    let summary = |file: &Path| Graph::open(file).unwrap().summary();
    let (integers, wide) = (summary(&pair.integers), summary(&pair.wide));
    assert_eq!(integers.parameters, wide.parameters);
    assert_eq!(integers.ops["DequantizeLinear"], weights().len());
    assert!(integers.bytes * 3 < wide.bytes, "{} and {}", integers.bytes, wide.bytes);
}

#[test]
fn tract_computes_with_the_same_numbers() {
    let pair = Pair::new();
    let [expected, made] =
        [&pair.wide, &pair.integers].map(|file| play(&mut *engine(file, Backend::Tract, Weights::Stored, None)));
    assert!(made == expected, "other bits than from f32");
}

#[cfg(feature = "vulkan")]
#[test]
#[ignore = "needs a Vulkan device"]
fn a_device_computes_with_the_same_numbers() {
    let pair = Pair::new();
    let expected = play(&mut *engine(&pair.wide, Backend::Vulkan, Weights::Stored, None));
    let made = play(&mut *engine(&pair.integers, Backend::Vulkan, Weights::Stored, None));
    assert!(made == expected, "other bits than from f32");
}

/// What is computed, as well as constants behind other nodes, goes through the operators that the operator consists of.
#[test]
fn integers_of_a_run_are_dequantized_too() {
    let file = Builder::new(21)
        .input("x", DataType::Uint8, &[Fixed(2), Fixed(3)])
        .input("zero", DataType::Uint8, &[Fixed(3)])
        .weight(floats("scale", &[3], &[0.5, 0.25, 2.0]))
        .node_with("DequantizeLinear", &["x", "scale", "zero"], "y", vec![int("axis", -1)])
        .output("y", DataType::Float, &[Fixed(2), Fixed(3)]);
    let folder = tempfile::tempdir().unwrap();
    let file = file.save(folder.path().join("m.onnx"));
    let x = Tensor::new(&[2, 3], vec![0u8, 10, 255, 4, 5, 6]).unwrap();
    let zero = Tensor::new(&[3], vec![0u8, 20, 5]).unwrap();
    let made = engine(&file, Backend::Cpu, Weights::Stored, None).run(&[("x", &x), ("zero", &zero)]);
    let y = made.unwrap_or_else(|error| panic!("{error}")).take("y").unwrap().into_f32();
    assert_eq!(y, [0.0, -2.5, 500.0, 2.0, -3.75, 2.0]);
}
