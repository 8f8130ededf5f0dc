//! A file as a slice of bytes, without copying it.
#![expect(unsafe_code, reason = "mapping a file has no safe form; the premises stand below")]

use memmap2::Mmap;
use std::fs::File;

/// Maps `file` for reading.
pub(crate) fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the mapping is read-only and private to the caller, who reads plain bytes, for which every bit pattern is valid. Premise: no
    // other process truncates or rewrites the model while it is read; if one does, the bytes are wrong or the process gets SIGBUS, as with
    // every mapped file.
    unsafe { Mmap::map(file) }
}
