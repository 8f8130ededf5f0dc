//! Bytes that stay in their file: mapped, read when touched, given back when done with.
//!
//! The file must not be cut short while it is open: a read behind its end kills the process (`SIGBUS`), as with every mapped file.
#![allow(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};
use memmap2::Mmap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A range of a mapped file.
#[derive(Clone)]
pub(crate) struct Mapped {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl Mapped {
    /// All of `file`.
    ///
    /// # Errors
    /// `NotFound`, `Io`, or `Malformed` for a directory and for an empty file, which cannot be mapped.
    pub(crate) fn open(file: &Path) -> Result<Mapped> {
        let io = |error| Error::io("read", file, error);
        let handle = File::open(file).map_err(io)?;
        let metadata = handle.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(Error::new(ErrorKind::Malformed, "is a directory, not an ONNX file"));
        }
        if metadata.len() == 0 {
            return Err(Error::new(ErrorKind::Malformed, "is empty (0 bytes)").advise("fetch or export it again"));
        }
        // SAFETY: the mapping is read-only and private to this process; that the file is not cut short while it is mapped is demanded of the
        // caller in this module's head.
        let map = unsafe { Mmap::map(&handle) }.map_err(io)?;
        let range = 0..map.len();
        Ok(Mapped { map: Arc::new(map), range })
    }

    /// A part of this range, `None` when it does not lie inside.
    pub(crate) fn part(&self, start: usize, length: usize) -> Option<Mapped> {
        let start = self.range.start.checked_add(start)?;
        let end = start.checked_add(length).filter(|end| *end <= self.range.end)?;
        Some(Mapped { map: self.map.clone(), range: start..end })
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }

    /// Gives the memory of the pages back to the system; they are read from the file again when they are touched again.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        {
            // SAFETY: a private read-only file mapping loses nothing by DONTNEED: untouched pages are read from the file anew.
            let advised = unsafe {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                self.map.unchecked_advise_range(advice, self.range.start, self.range.len())
            };
            if let Err(error) = advised {
                log::debug!("pages of a mapped file were not given back: {error}");
            }
        }
    }
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapped({:?})", self.range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_inside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let content: Vec<u8> = (0..20_000).map(|x| (x % 251) as u8).collect();
        std::fs::write(&file, &content).unwrap();
        let all = Mapped::open(&file).unwrap();
        let part = all.part(5000, 9000).unwrap();
        assert_eq!(part.bytes(), &content[5000..14000]);
        part.release();
        assert_eq!(part.bytes(), &content[5000..14000], "released pages are read again");
        assert_eq!(part.part(1000, 8000).unwrap().bytes(), &content[6000..14000]);
        for (start, length) in [(1000, 8001), (9001, 0), (usize::MAX, 2)] {
            assert!(part.part(start, length).is_none(), "{start} {length}");
        }
    }

    #[test]
    fn what_cannot_be_mapped_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(Mapped::open(&empty).unwrap_err().to_string().contains("is empty (0 bytes)"));
        assert!(Mapped::open(folder.path()).unwrap_err().to_string().contains("is a directory"));
        assert_eq!(Mapped::open(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
