//! Decodes an ONNX file piece by piece: read at once, the file would stand in memory beside the constants copied from it.

use crate::error::{Error, ErrorKind, Result, fail};
use prost::Message;
use prost::bytes::Buf;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tract_onnx::pb::ModelProto;

/// Bytes read ahead.
const PIECE: usize = 1 << 18;

/// Decodes `file`.
///
/// # Errors
/// `NotFound` or `Io`; `Malformed` for what is empty, a directory, a git-lfs pointer, not protobuf or cut short.
pub(super) fn decode(file: &Path) -> Result<ModelProto> {
    let io = |error| Error::io("read", file, error);
    let handle = File::open(file).map_err(io)?;
    let metadata = handle.metadata().map_err(io)?;
    if metadata.is_dir() {
        return fail!(Malformed, "is a directory, not an ONNX file");
    }
    if metadata.len() == 0 {
        return fail!(Malformed, "is empty (0 bytes)").map_err(|error: Error| error.advise("fetch or export it again"));
    }
    let mut pieces = Pieces::new(handle, metadata.len()).map_err(io)?;
    if pieces.chunk().starts_with(b"version https://git-lfs") {
        return fail!(Malformed, "is a git-lfs pointer, not the model itself")
            .map_err(|error: Error| error.advise("run `git lfs pull`"));
    }
    let decoded = ModelProto::decode(&mut pieces);
    match pieces.failure {
        Some(error) => Err(io(error)),
        None => decoded.map_err(broken),
    }
}

fn broken(error: prost::DecodeError) -> Error {
    Error::new(ErrorKind::Malformed, format!("is not an ONNX file, or is cut short ({error})"))
        .advise("fetch or export it again")
}

/// A file as the source of a protobuf decoder.
struct Pieces {
    file: File,
    /// Bytes of the file that are not in `piece` yet.
    unread: u64,
    piece: Vec<u8>,
    position: usize,
    /// A decoder cannot be told of a failed read: it is given zeros, and the result thrown away.
    failure: Option<std::io::Error>,
}

impl Pieces {
    fn new(file: File, length: u64) -> std::io::Result<Pieces> {
        let mut pieces = Pieces { file, unread: length, piece: Vec::new(), position: 0, failure: None };
        pieces.refill();
        pieces.failure.take().map_or(Ok(pieces), Err)
    }

    fn refill(&mut self) {
        let length = self.unread.min(PIECE as u64) as usize;
        self.unread -= length as u64;
        self.position = 0;
        self.piece.clear();
        self.piece.resize(length, 0);
        if self.failure.is_none() {
            self.failure = self.file.read_exact(&mut self.piece).err();
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        (self.piece.len() - self.position).saturating_add(usize::try_from(self.unread).unwrap_or(usize::MAX))
    }

    fn chunk(&self) -> &[u8] {
        &self.piece[self.position..]
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining(), "advanced past the end, which Buf forbids");
        while count > 0 {
            let step = count.min(self.piece.len() - self.position);
            self.position += step;
            count -= step;
            if self.position == self.piece.len() && self.unread > 0 {
                self.refill();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_the_file() {
        let bytes: Vec<u8> = (0..PIECE * 2 + 777).map(|index| (index % 251) as u8).collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, &bytes).unwrap();
        let mut pieces = Pieces::new(File::open(&file).unwrap(), bytes.len() as u64).unwrap();
        assert_eq!(pieces.remaining(), bytes.len());
        let mut whole = vec![0; bytes.len() - 100];
        pieces.copy_to_slice(&mut whole[..5]);
        pieces.copy_to_slice(&mut whole[5..]);
        pieces.advance(99);
        assert_eq!((whole, pieces.chunk()), (bytes[..bytes.len() - 100].to_vec(), &bytes[bytes.len() - 1..]));
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, [0; 10]).unwrap();
        assert!(Pieces::new(File::open(&file).unwrap(), 11).is_err());
    }
}
