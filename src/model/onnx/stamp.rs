//! Which model a graph is, told without reading its weights.

use super::{Graph, Weight};
use crate::model::mapped::Mapped;
use std::hash::{Hash, Hasher};
use xxhash_rust::xxh3::Xxh3;

/// Weights that are looked into, at most, and bytes that are read of each: a retrained model of the same shape, in an image whose files all
/// have one date, differs in each of them.
const SAMPLES: usize = 64;
const SAMPLE: usize = 64;

impl Graph {
    /// Another number for another graph or other weights: a hash of the file without its weights, of size and dates of the files that hold them,
    /// and of a few of their bytes. Costs a millisecond whatever the size.
    pub(crate) fn stamp(&self) -> u128 {
        let mut hasher = Xxh3::new();
        self.digest.hash(&mut hasher);
        let mapped: Vec<&Mapped> = self.weights.iter().filter_map(Weight::mapped).collect();
        let files = mapped.chunk_by(|a, b| a.is_beside(b)).map(|beside| beside[0].identity());
        files.for_each(|identity| identity.hash(&mut hasher));
        for weight in mapped.iter().step_by(mapped.len().div_ceil(SAMPLES).max(1)) {
            let bytes = weight.bytes();
            let middle = bytes.len().saturating_sub(SAMPLE) / 2;
            hasher.write(&bytes[middle..bytes.len().min(middle + SAMPLE)]);
            weight.release_around();
        }
        hasher.digest128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};
    use tract_onnx::pb::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

    fn model(name: &str, raw_data: Vec<u8>) -> Vec<u8> {
        let dims = vec![raw_data.len() as i64 / 4];
        let weight = TensorProto { name: "w".into(), data_type: 1, dims, raw_data, ..TensorProto::default() };
        let value = |name: &str| {
            let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto::default()) };
            let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() });
            ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
        };
        let (input, output) = (vec!["x".into(), "w".into()], vec!["y".into()]);
        let node = NodeProto { input, output, op_type: "Add".into(), ..NodeProto::default() };
        let graph = GraphProto {
            name: name.into(),
            node: vec![node],
            initializer: vec![weight],
            input: vec![value("x")],
            output: vec![value("y")],
            ..GraphProto::default()
        };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 18 }];
        ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
    }

    #[test]
    fn a_graph_is_known_by_all_that_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.onnx");
        let stamp = |content: &[u8]| {
            std::fs::write(&file, content).unwrap();
            Graph::open(&file).unwrap().stamp()
        };
        let first = stamp(&model("a", vec![0; 400]));
        assert_eq!(Graph::open(&file).unwrap().stamp(), first);
        assert_ne!(stamp(&model("b", vec![0; 400])), first);
    }

    /// As in a system image that is built anew: nothing but the weights differs, not even the dates.
    #[test]
    #[cfg(target_os = "linux")]
    fn weights_are_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.onnx");
        std::fs::write(&file, model("a", vec![0; 40_000])).unwrap();
        let graph = Graph::open(&file).unwrap();
        let before = graph.stamp();
        let retrained = model("a", (0..40_000).map(|i| i as u8).collect());
        use std::io::Write as _;
        std::fs::File::options().write(true).open(&file).unwrap().write_all(&retrained).unwrap();
        // The same mapping, with the dates that it was opened with.
        assert_ne!(graph.stamp(), before);
    }
}
