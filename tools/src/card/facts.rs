//! What is true of a model directory: its files as they are, and its records.

use crate::net::onnx::count_parameters;
use crate::record::files::{paths, sha256};
use crate::record::{FOLDER, Record, Records, file_name};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// A file of the directory.
pub struct File {
    /// With `/`, from the directory.
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
    /// Numbers that were trained, of a graph.
    pub parameters: Option<usize>,
}

/// A model directory.
pub struct Facts {
    pub name: String,
    pub records: Records,
    /// All but the card and what it is made from.
    pub files: Vec<File>,
}

impl Facts {
    /// # Errors
    /// If a file cannot be read, or a record or a graph is malformed.
    pub fn of(folder: &Path) -> Result<Self> {
        let full = folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))?;
        let own = |path: &String| ![super::CARD, super::PROSE].contains(&path.as_str()) && !path.starts_with(FOLDER);
        let files = paths(folder)?.into_iter().filter(own).map(|path| File::of(folder, path));
        Ok(Self { name: file_name(&full), records: Records::open(folder)?, files: files.collect::<Result<_>>()? })
    }

    pub fn parameters(&self) -> usize {
        self.files.iter().filter_map(|file| file.parameters).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The model's files among those that a record's figures are of.
    pub fn of_model(record: &Record) -> impl Iterator<Item = (&String, &String)> {
        record.inputs.iter().filter(|(path, _)| path.contains('/'))
    }

    /// Those that are not in the directory as they were.
    pub fn changed<'a>(&self, record: &'a Record) -> Vec<(&'a String, &'a String)> {
        let here = |path: &str, hash: &str| self.files.iter().any(|file| file.path == path && file.sha256 == hash);
        Self::of_model(record).filter(|(path, hash)| !here(path, hash)).collect()
    }

    /// Graphs that no record says who wrote.
    pub fn of_unknown_origin(&self) -> Vec<&str> {
        let wrote = |file: &&File| {
            self.records.ordered().iter().any(|(_, record)| record.outputs.get(&file.path) == Some(&file.sha256))
        };
        let graphs = self.files.iter().filter(|file| file.parameters.is_some());
        graphs.filter(|file| !wrote(file)).map(|file| file.path.as_str()).collect()
    }
}

impl File {
    fn of(folder: &Path, path: String) -> Result<Self> {
        let file = folder.join(&path);
        let bytes = fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?.len();
        let parameters = path.ends_with(".onnx").then(|| count_parameters(&file)).transpose()?;
        Ok(Self { bytes, sha256: sha256(&file)?, parameters, path })
    }
}
