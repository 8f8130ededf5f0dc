//! Bytes that stay in their file: mapped, read when touched, given back when done with.
//!
//! The file must not be cut short while it is open: a read behind its end kills the process (`SIGBUS`), as with every mapped file.
#![allow(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};
use memmap2::Mmap;
use std::fs::{File, Metadata};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the system maps around a page that is read, at most: Linux's `fault_around_bytes`.
pub(crate) const AROUND: usize = 64 << 10;

/// A range of a mapped file.
#[derive(Clone)]
pub(crate) struct Mapped {
    file: Arc<Mapping>,
    range: Range<usize>,
}

struct Mapping {
    map: Mmap,
    identity: Identity,
}

/// What changes with the content of a file. Not its inode and device, which differ from start to start in layered and network file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    length: u64,
    /// Nanoseconds since 1970.
    modified: u128,
    /// The same of the last change to content or attributes, which no program can set back; 0 where there is none.
    changed: i128,
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
        Mapped::of(&handle).map_err(io)
    }

    /// All of an open file.
    pub(crate) fn of(handle: &File) -> std::io::Result<Mapped> {
        let identity = Identity::of(&handle.metadata()?);
        // SAFETY: the mapping is read-only and private to this process; that the file is not cut short while it is mapped is demanded of the
        // caller in this module's head.
        let map = unsafe { Mmap::map(handle) }?;
        let range = 0..map.len();
        Ok(Mapped { file: Arc::new(Mapping { map, identity }), range })
    }

    /// What tells the file from what it was at another time.
    pub(crate) fn identity(&self) -> Identity {
        self.file.identity
    }

    /// Whether both lie in one mapping.
    pub(crate) fn is_beside(&self, other: &Mapped) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }

    /// A part of this range, `None` when it does not lie inside.
    pub(crate) fn part(&self, start: usize, length: usize) -> Option<Mapped> {
        let start = self.range.start.checked_add(start)?;
        let end = start.checked_add(length).filter(|end| *end <= self.range.end)?;
        Some(Mapped { file: self.file.clone(), range: start..end })
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.file.map[self.range.clone()]
    }

    /// Gives the memory of the pages back to the system; they are read from the file again when they are touched again.
    pub(crate) fn release(&self) {
        self.give_back(self.range.clone());
    }

    /// The same, with the neighbours that were mapped when this range was read.
    pub(crate) fn release_around(&self) {
        let end = (self.range.end + AROUND).min(self.file.map.len());
        self.give_back(self.range.start.saturating_sub(AROUND)..end);
    }

    fn give_back(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: a private read-only file mapping loses nothing by DONTNEED: untouched pages are read from the file anew.
            let advised = unsafe { self.file.map.unchecked_advise_range(advice, range.start, range.len()) };
            if let Err(error) = advised {
                log::debug!("pages of a mapped file were not given back: {error}");
            }
        }
    }

    /// Lets the system read the range ahead, without waiting for it and without taking memory of this process.
    pub(crate) fn read_ahead(&self) {
        #[cfg(unix)]
        self.advise(memmap2::Advice::WillNeed);
    }

    /// Maps all of the range at once, which costs less than a fault for every few pages of it.
    pub(crate) fn fetch(&self) {
        #[cfg(target_os = "linux")]
        self.advise(memmap2::Advice::PopulateRead);
    }

    #[cfg(unix)]
    fn advise(&self, advice: memmap2::Advice) {
        if let Err(error) = self.file.map.advise_range(advice, self.range.start, self.range.len()) {
            log::debug!("{advice:?} of a mapped file: {error}");
        }
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        Identity { length: metadata.len(), modified: metadata.modified().map_or(0, since), changed: changed(metadata) }
    }
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> i128 {
    use std::os::unix::fs::MetadataExt as _;
    i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_: &Metadata) -> i128 {
    0
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
        let small = all.part(8000, 100).unwrap();
        small.read_ahead();
        small.fetch();
        small.release_around();
        assert_eq!(all.bytes(), content, "what is near is read again too");
        assert!(small.is_beside(&part) && !small.is_beside(&Mapped::open(&file).unwrap()));
        for (start, length) in [(1000, 8001), (9001, 0), (usize::MAX, 2)] {
            assert!(part.part(start, length).is_none(), "{start} {length}");
        }
    }

    #[test]
    fn another_content_is_another_identity() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, b"content").unwrap();
        let before = Mapped::open(&file).unwrap().identity();
        assert_eq!(Mapped::open(&file).unwrap().identity(), before);
        // Longer than the ticks that file systems count in.
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::write(&file, b"CONTENT").unwrap();
        let handle = File::options().write(true).open(&file).unwrap();
        handle.set_modified(UNIX_EPOCH + std::time::Duration::from_nanos(before.modified as u64)).unwrap();
        let after = Mapped::open(&file).unwrap().identity();
        assert_eq!((after.length, after.modified), (before.length, before.modified));
        #[cfg(unix)]
        assert_ne!(after, before, "a time of change cannot be set back");
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
