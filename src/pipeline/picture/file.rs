//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// A file to be written at the end of a long run: that it can be is checked at once, and it appears complete or not at all.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    partial: PathBuf,
}

impl OutputFile {
    /// Checks that a file can be made where `path` says. Nothing stays behind.
    ///
    /// # Errors
    /// `NotFound` when the directory is missing, `Io` when it cannot be written to, `Invalid` when `path` is a directory or a device.
    pub fn at(path: &Path) -> Result<Self> {
        let Some(name) = path.file_name().filter(|_| path.is_file() || !path.exists()) else {
            return Err(Error::new(ErrorKind::Invalid, "is no file that could be written to").in_file(path));
        };
        let directory = directory_of(path);
        if !directory.is_dir() {
            let error = Error::new(ErrorKind::NotFound, "the output directory does not exist").in_file(directory);
            return Err(error.advise("create it first"));
        }
        let partial = directory.join(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        let output = Self { path: path.to_path_buf(), partial };
        output.create().map_err(|e| unwritable(directory, e))?;
        Ok(output)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `bytes`; see [`write_with`](Self::write_with).
    ///
    /// # Errors
    /// `Io`; the path is then as it was.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.write_with(|partial| {
            let written = File::create(partial).and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            });
            written.map_err(|e| Error::io("write", &self.path, e))
        })
    }

    /// Lets `save` write a file beside the path and renames it onto the path.
    ///
    /// # Errors
    /// What `save` returns, or `Io`; the path is then as it was.
    pub fn write_with(&self, save: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let renamed = save(&self.partial)
            .and_then(|()| fs::rename(&self.partial, &self.path).map_err(|e| Error::io("write", &self.path, e)));
        renamed.inspect_err(|_| drop(fs::remove_file(&self.partial)))
    }

    fn create(&self) -> std::io::Result<()> {
        File::create(&self.partial)?;
        fs::remove_file(&self.partial)
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn unwritable(directory: &Path, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write to the output directory: {cause}"))
        .in_file(directory)
        .caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checked_file_leaves_nothing_and_a_written_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = OutputFile::at(&dir.path().join("a.png")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        file.write(b"whole").unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"whole");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn bad_places_are_found_before_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let missing = OutputFile::at(&dir.path().join("no/a.png")).unwrap_err().to_string();
        assert!(missing.ends_with("no: the output directory does not exist; create it first"), "{missing}");
        let directory = OutputFile::at(dir.path()).unwrap_err().to_string();
        assert!(directory.ends_with("is no file that could be written to"), "{directory}");
    }
}
