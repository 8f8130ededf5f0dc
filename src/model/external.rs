//! External data: where the bytes of a tensor lie when they are not in the ONNX file.
//!
//! ONNX, `TensorProto.external_data`: keys `location` (relative to the ONNX file), `offset`, `length`.

use crate::error::{Error, ErrorKind, Result, fail};
use std::path::{Component, Path, PathBuf};
use tract_onnx::pb::TensorProto;

/// A range of bytes in a file beside the ONNX file, known to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct External {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl External {
    /// Resolves the external data of `tensor`, which must be `expected` bytes long.
    ///
    /// # Errors
    /// `Malformed` for a location outside of the model's folder or fields that are no numbers, `NotFound` for a missing file, `Mismatch`
    /// when the file is shorter than the tensor needs; each names the tensor and the file.
    pub(crate) fn resolve(onnx: &Path, tensor: &TensorProto, expected: u64) -> Result<External> {
        Self::of(onnx, tensor, expected).map_err(|error| error.in_field(&tensor.name).in_file(onnx))
    }

    fn of(onnx: &Path, tensor: &TensorProto, expected: u64) -> Result<External> {
        let location = entry(tensor, "location").unwrap_or_default();
        let file = locate(onnx, location)?;
        let offset = number(tensor, "offset")?.unwrap_or(0);
        let found = std::fs::metadata(&file).map_err(|error| Error::io("read", &file, error))?.len();
        if let Some(length) = number(tensor, "length")?.filter(|&length| length != expected) {
            return fail!(Mismatch, "the tensor takes {expected} bytes, its external data declares {length}");
        }
        if offset.checked_add(expected).is_none_or(|end| end > found) {
            return fail!(
                Mismatch,
                "external data needs {expected} bytes at offset {offset} of {location}, which has {found} bytes"
            )
            .map_err(|error: Error| {
                error.advise("the file is cut short or belongs to another export; fetch it again")
            });
        }
        Ok(External { file, offset, length: expected })
    }
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

fn number(tensor: &TensorProto, key: &str) -> Result<Option<u64>> {
    let Some(text) = entry(tensor, key) else { return Ok(None) };
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => fail!(Malformed, "the external data's {key} is {text:?}, not a number of bytes"),
    }
}

/// The data file, which must lie in the ONNX file's folder, or, where the ONNX file is a link (as in a download cache), in the folder
/// of the file it links to.
fn locate(onnx: &Path, location: &str) -> Result<PathBuf> {
    let inside = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || !Path::new(location).components().all(inside) {
        return fail!(Malformed, "external data lies at {location:?}, which is not inside the model's folder");
    }
    let folder = onnx.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = folder.join(location);
    let real = canonical(&file).map_err(|error| {
        error.advise(format!("the external data of {} is missing: fetch it into the same folder", onnx.display()))
    })?;
    let linked = canonical(onnx)?;
    if real.starts_with(canonical(folder)?) || linked.parent().is_some_and(|parent| real.starts_with(parent)) {
        return Ok(real);
    }
    Err(Error::new(ErrorKind::Malformed, format!("external data {location:?} links to outside of the model's folder")))
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| Error::io("read", path, error))
}
