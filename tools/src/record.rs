//! What a stage did, as a small JSON file: every stage leaves one, `export` and `quantise` carry it into the model directory, and `card`
//! makes the model's card of them.
//!
//! A training run has its own in [`OWN`] and those of what it went on from in the folder [`FOLDER`]; a model directory has all in
//! [`FOLDER`]. No record holds a machine's path: files go by their names and checksums.

pub mod files;
pub mod records;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::table::Table;
use crate::trained::read_json;
pub use records::Records;

/// The file of a training run's folder that says what the run did.
pub const OWN: &str = "record.json";
/// The folder with the records of what a run was made from, or of all that made and measured a model.
pub const FOLDER: &str = "records";

/// What one stage did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Record {
    /// The subcommand, such as `train denoiser`; of a measurement `evaluate` and the measure.
    pub stage: String,
    /// Where the figures come from, if the stage itself did not write them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The command line without the program; files without their folders.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// Program and version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// How long it took, all parts of a run together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// What was asked for: steps, batch, seed, device, …
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
    /// What came of it.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub figures: Map<String, Value>,
    /// SHA-256 of the files it was made from or measured on, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// SHA-256 of the files it wrote, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// Above the table.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title: String,
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub table: Table,
    /// Sentences under the table, or beside the figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Record {
    /// Of the command that this program runs.
    pub fn new(stage: impl Into<String>) -> Self {
        let version = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned();
        Self { stage: stage.into(), command: command(), version, ..Self::default() }
    }

    /// Made from a file, under a name.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn input(mut self, name: impl Into<String>, file: &Path) -> Result<Self> {
        self.inputs.insert(name.into(), files::sha256(file)?);
        Ok(self)
    }

    /// With something that was asked for; what is nothing is left out.
    pub fn setting(mut self, name: &str, value: impl Serialize) -> Self {
        let value = json!(value);
        if !value.is_null() {
            self.settings.insert(name.to_owned(), value);
        }
        self
    }

    /// With something that came of it.
    pub fn figure(mut self, name: &str, value: impl Serialize) -> Self {
        self.figures.insert(name.to_owned(), json!(value));
        self
    }

    /// # Errors
    /// If the file cannot be read, or is no record.
    pub fn read(path: &Path) -> Result<Self> {
        read_json(path)
    }

    /// Writes it with sorted keys.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_string_pretty(&json!(self))? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The command line of this program, without its name and without folders.
pub fn command() -> String {
    std::env::args().skip(1).map(|word| plain(&word)).collect::<Vec<_>>().join(" ")
}

/// A word of a command line as it would be typed beside the files.
fn plain(word: &str) -> String {
    if let Some((option, value)) = word.split_once('=').filter(|(option, _)| option.starts_with("--")) {
        return format!("{option}={}", plain(value));
    }
    let name = if word.contains(['/', '\\']) { file_name(Path::new(word)) } else { word.to_owned() };
    if name.contains(char::is_whitespace) { format!("{name:?}") } else { name }
}

/// The last part of a path, which says nothing of the machine.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| ".".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_whole_and_its_keys_are_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let (file, data) = (folder.path().join("x.json"), folder.path().join("data"));
        fs::write(&data, "abc").unwrap();
        let mut record = Record::new("train denoiser").setting("steps", 7).setting("slice", None::<f64>);
        record = record.figure("loss", 0.25).input("data", &data).unwrap();
        (record.seconds, record.table, record.notes) = (Some(2.5), Table::new(["a"]).row(["b"]), vec!["c".into()]);
        record.write(&file).unwrap();
        assert_eq!(Record::read(&file).unwrap(), record);
        assert!(!record.settings.contains_key("slice") && record.inputs["data"].starts_with("ba7816bf"));
        let text = fs::read_to_string(&file).unwrap();
        let keys: Vec<&str> = text.lines().filter(|line| line.starts_with("  \"")).collect();
        assert!(keys.is_sorted() && keys.len() > 6, "{text}");
        fs::write(&file, "{\"stage\": \"x\", \"colour\": 1}").unwrap();
        let error = format!("{:#}", Record::read(&file).unwrap_err());
        assert!(error.contains("x.json") && error.contains("colour"), "{error}");
    }

    #[test]
    fn a_command_names_no_folder() {
        for (word, want) in [
            ("--data", "--data"),
            ("/home/me/data/x.safetensors", "x.safetensors"),
            ("--out=runs/a", "--out=a"),
            ("runs/a/", "a"),
            ("cells,kid", "cells,kid"),
            ("/home/my runs/a b", "\"a b\""),
        ] {
            assert_eq!(plain(word), want);
        }
    }
}
