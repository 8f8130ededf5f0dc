//! Decodes an ONNX file without its weights: the mapped protobuf is walked, and the payloads of the initialisers stay where they are.
//!
//! `ModelProto.graph` = 7, `GraphProto.initializer` = 5, `TensorProto.raw_data` = 9 (onnx.proto).

use crate::error::{Error, ErrorKind, Result, fail};
use crate::model::mapped::Mapped;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::ops::Range;
use std::path::Path;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};
use xxhash_rust::xxh3::Xxh3;

const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

/// A decoded file: the initialisers' payloads are apart.
pub(super) struct Decoded {
    /// Without the outer graph's initialisers.
    pub model: ModelProto,
    /// Each initialiser, with `raw_data` left in the file where it had any.
    pub initializers: Vec<(TensorProto, Option<Mapped>)>,
    /// Of everything but the payloads that were left in the file.
    pub digest: u128,
}

/// Decodes `file`.
///
/// # Errors
/// `NotFound` or `Io`; `Malformed` for what is empty, a directory, a git-lfs pointer, not protobuf or cut short.
pub(super) fn decode(file: &Path) -> Result<Decoded> {
    let mapped = Mapped::open(file)?;
    let bytes = mapped.bytes();
    if bytes.starts_with(b"version https://git-lfs") {
        return fail!(Malformed, "is a git-lfs pointer, not the model itself")
            .map_err(|error: Error| error.advise("run `git lfs pull`"));
    }
    let decoded = model(bytes).map_err(broken)?;
    let apart = |(tensor, payload): (TensorProto, Option<Range<usize>>)| {
        let payload = payload.and_then(|range| mapped.part(range.start, range.len()));
        (tensor, payload)
    };
    let (model, initializers, digest) = decoded;
    // The system maps more around each header than the header.
    mapped.release();
    Ok(Decoded { model, initializers: initializers.into_iter().map(apart).collect(), digest })
}

fn broken(error: prost::DecodeError) -> Error {
    Error::new(ErrorKind::Malformed, format!("is not an ONNX file, or is cut short ({error})"))
        .advise("fetch or export it again")
}

type Initializers = Vec<(TensorProto, Option<Range<usize>>)>;

fn model(bytes: &[u8]) -> Result<(ModelProto, Initializers, u128), prost::DecodeError> {
    let (mut rest, mut graph) = (Vec::new(), None);
    let (mut initializers, mut digest) = (Vec::new(), Xxh3::new());
    for field in Fields::new(bytes, 0..bytes.len()) {
        let field = field?;
        match &field.message {
            Some(body) if field.tag == GRAPH => {
                let (part, more) = graph_apart(bytes, body.clone(), &mut digest)?;
                // Protobuf merges an embedded message that occurs twice.
                graph.get_or_insert_with(Vec::new).extend_from_slice(&part);
                initializers.extend(more);
            }
            _ => rest.extend_from_slice(&bytes[field.all]),
        }
    }
    digest.update(&rest);
    let mut model = ModelProto::decode(&*rest)?;
    model.graph = graph.map(|content| GraphProto::decode(&*content)).transpose()?;
    Ok((model, initializers, digest.digest128()))
}

fn graph_apart(
    bytes: &[u8],
    body: Range<usize>,
    digest: &mut Xxh3,
) -> Result<(Vec<u8>, Initializers), prost::DecodeError> {
    let (mut rest, mut initializers) = (Vec::new(), Vec::new());
    for field in Fields::new(bytes, body) {
        let field = field?;
        match &field.message {
            Some(body) if field.tag == INITIALIZER => initializers.push(tensor_apart(bytes, body.clone(), digest)?),
            _ => rest.extend_from_slice(&bytes[field.all]),
        }
    }
    digest.update(&rest);
    Ok((rest, initializers))
}

fn tensor_apart(
    bytes: &[u8],
    body: Range<usize>,
    digest: &mut Xxh3,
) -> Result<(TensorProto, Option<Range<usize>>), prost::DecodeError> {
    let (mut rest, mut payload) = (Vec::new(), None);
    for field in Fields::new(bytes, body) {
        let field = field?;
        match field.message {
            Some(body) if field.tag == RAW_DATA => payload = Some(body),
            _ => rest.extend_from_slice(&bytes[field.all]),
        }
    }
    digest.update(&rest);
    Ok((TensorProto::decode(&*rest)?, payload.filter(|range| !range.is_empty())))
}

/// The fields of one protobuf message.
struct Fields<'a> {
    bytes: &'a [u8],
    at: Range<usize>,
}

struct Field {
    tag: u32,
    /// Key and content.
    all: Range<usize>,
    /// The content, where it has a length: messages, strings, bytes, packed lists.
    message: Option<Range<usize>>,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], at: Range<usize>) -> Self {
        Fields { bytes, at }
    }

    fn read(&mut self) -> Result<Field, prost::DecodeError> {
        let start = self.at.start;
        let mut cursor = &self.bytes[self.at.clone()];
        let (tag, wire) = decode_key(&mut cursor)?;
        let message = if wire == WireType::LengthDelimited {
            let length = decode_varint(&mut cursor)?;
            let begin = self.at.end - cursor.len();
            // `skip_field` reports what is cut short, in prost's words.
            let end = usize::try_from(length).ok().and_then(|length| begin.checked_add(length));
            match end.filter(|end| *end <= self.at.end) {
                Some(end) => {
                    cursor = &self.bytes[end..self.at.end];
                    Some(begin..end)
                }
                None => return Err(cut_short(&self.bytes[start..self.at.end])),
            }
        } else {
            skip_field(wire, tag, &mut cursor, DecodeContext::default())?;
            None
        };
        self.at.start = self.at.end - cursor.len();
        Ok(Field { tag, all: start..self.at.start, message })
    }
}

/// prost's own error for a field that is longer than what there is.
fn cut_short(field: &[u8]) -> prost::DecodeError {
    let mut cursor = field;
    let read =
        decode_key(&mut cursor).and_then(|(tag, wire)| skip_field(wire, tag, &mut cursor, DecodeContext::default()));
    read.err().unwrap_or_else(|| ModelProto::decode(&[0xffu8][..]).expect_err("an unfinished key"))
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, prost::DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.at.start = self.at.end;
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, raw: &[u8], floats: &[f32]) -> TensorProto {
        TensorProto {
            name: name.into(),
            data_type: 1,
            dims: vec![2],
            raw_data: raw.to_vec(),
            float_data: floats.to_vec(),
            ..TensorProto::default()
        }
    }

    #[test]
    fn payloads_stay_in_the_file() {
        let graph = GraphProto {
            name: "g".into(),
            initializer: vec![tensor("a", &[1, 2, 3, 4, 5, 6, 7, 8], &[]), tensor("b", &[], &[1.5, 2.0])],
            ..GraphProto::default()
        };
        let whole = ModelProto { ir_version: 8, graph: Some(graph), ..ModelProto::default() };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.onnx");
        std::fs::write(&file, whole.encode_to_vec()).unwrap();
        let decoded = decode(&file).unwrap();
        assert_eq!(decoded.model.ir_version, 8);
        let graph = decoded.model.graph.unwrap();
        assert_eq!((graph.name.as_str(), graph.initializer.len()), ("g", 0));
        let [(a, raw), (b, none)] = &decoded.initializers[..] else { panic!("two initialisers") };
        assert_eq!((a.name.as_str(), a.raw_data.len()), ("a", 0));
        assert_eq!(raw.as_ref().unwrap().bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((b.float_data.as_slice(), none.is_none()), (&[1.5, 2.0][..], true));
    }

    #[test]
    fn every_cut_is_an_error_or_a_smaller_model() {
        let graph = GraphProto { initializer: vec![tensor("a", &[7; 100], &[])], ..GraphProto::default() };
        let whole = ModelProto { ir_version: 300, graph: Some(graph), ..ModelProto::default() }.encode_to_vec();
        for end in 0..whole.len() {
            let cut = model(&whole[..end]);
            // Only between two fields of the outermost message is a prefix a message.
            assert_eq!(cut.is_ok(), end == 0 || end == 3, "{end}");
        }
        assert!(model(&whole).is_ok());
    }
}
