//! The report: a section a measure, printed, as JSON, and as Markdown that a model card can take over.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::lab::Lab;

/// Rows of text under a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

/// What one measure found.
pub struct Section {
    key: &'static str,
    title: String,
    table: Table,
    notes: Vec<String>,
    figures: Value,
}

/// All that was measured, and of what.
pub struct Report {
    of: Map<String, Value>,
    sections: Vec<Section>,
}

impl Table {
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(String::from).to_vec()] }
    }

    /// With one more row.
    pub fn row<S: AsRef<str>>(mut self, cells: impl IntoIterator<Item = S>) -> Self {
        self.push(cells);
        self
    }

    pub fn push<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|cell| cell.as_ref().to_owned()).collect());
    }

    /// In columns.
    fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("  {}", cells.join("  ").trim_end())
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn markdown(&self) -> String {
        let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
        let rule = format!("|{}\n", "---|".repeat(self.rows[0].len()));
        let body: String = self.rows[1..].iter().map(line).collect();
        line(&self.rows[0]) + &rule + &body
    }
}

impl Section {
    /// `key` names it in the JSON report, `figures` are all its numbers.
    pub fn new(key: &'static str, title: impl Into<String>, table: Table, figures: Value) -> Self {
        Self { key, title: title.into(), table, notes: vec![], figures }
    }

    /// With a sentence under the table.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// As it is printed.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.title, self.table.text());
        self.notes.iter().for_each(|note| text += &format!("  {note}\n"));
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n{}\n", self.title, self.table.markdown());
        self.notes.iter().for_each(|note| text += &format!("{note}\n\n"));
        text
    }
}

impl Report {
    /// Of the model, the data and the options of `lab`.
    ///
    /// # Errors
    /// If one of its files cannot be read.
    pub fn new(lab: &Lab) -> Result<Self> {
        let args = lab.args;
        let of = [
            ("command", json!(std::env::args().skip(1).collect::<Vec<_>>().join(" "))),
            ("seeds", json!(args.seeds)),
            ("cells_seed", json!(args.cells_seed)),
            ("count", json!(args.count)),
            ("model", json!(hashes(lab.model.folder())?)),
            ("features_sha256", json!(sha256(&args.features)?)),
            ("data_sha256", json!(sha256(&args.data)?)),
        ];
        Ok(Self { of: of.map(|(key, value)| (key.to_owned(), value)).into_iter().collect(), sections: vec![] })
    }

    /// A section with the same key takes the place of the old one.
    pub fn add(&mut self, section: Section) {
        self.sections.retain(|s| s.key != section.key);
        self.sections.push(section);
    }

    /// Writes evaluate.json and evaluate.md.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("evaluate.json", serde_json::to_string_pretty(&self.json())?)?;
        write("evaluate.md", self.markdown())
    }

    fn json(&self) -> Value {
        let results: Map<String, Value> = self.sections.iter().map(|s| (s.key.to_owned(), s.figures.clone())).collect();
        let mut all = self.of.clone();
        all.insert("results".to_owned(), Value::Object(results));
        Value::Object(all)
    }

    fn markdown(&self) -> String {
        let mut text: String = self.sections.iter().map(Section::markdown).collect();
        let of = |key: &str| self.of.get(key).and_then(Value::as_str).unwrap_or_default();
        let _ =
            write!(text, "Made by `undiffuse-tools {}`; data SHA-256 `{}`", of("command"), short(of("data_sha256")));
        let _ = write!(text, ", features `{}`", short(of("features_sha256")));
        let graphs = self.of.get("model").and_then(Value::as_object).into_iter().flatten();
        for (file, hash) in graphs.filter(|(file, _)| file.ends_with(".onnx")) {
            let _ = write!(text, ", {file} `{}`", short(hash.as_str().unwrap_or_default()));
        }
        text + ".\n"
    }
}

/// The beginning of a checksum.
fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// The checksum of every file of a folder, by path.
///
/// # Errors
/// If one cannot be read.
pub fn hashes(folder: &Path) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            all.extend(hashes(&entry.path())?.into_iter().map(|(inner, hash)| (format!("{name}/{inner}"), hash)));
        } else {
            all.insert(name, json!(sha256(&entry.path())?));
        }
    }
    Ok(all)
}

/// The checksum of a file.
///
/// # Errors
/// If it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(key: &'static str, value: u32) -> Section {
        let table = Table::new(["what", "value"]).row(["a long name", "1"]).row(["b", "2"]);
        Section::new(key, "A title", table, json!({ "value": value })).note("A note.")
    }

    fn report() -> Report {
        let of = json!({ "command": "evaluate --x", "data_sha256": "0123456789abcdef0123", "model": {
            "unet/model.onnx": "fedcba98765432100", "model_index.json": "00" } });
        Report { of: of.as_object().unwrap().clone(), sections: vec![] }
    }

    #[test]
    fn tables_are_aligned_on_screen_and_barred_in_markdown() {
        let one = section("one", 1);
        assert_eq!(one.text(), "A title\n  what         value\n  a long name  1\n  b            2\n  A note.\n");
        let wanted = "### A title\n\n| what | value |\n|---|---|\n| a long name | 1 |\n| b | 2 |\n\nA note.\n\n";
        assert_eq!(one.markdown(), wanted);
    }

    #[test]
    fn sections_stand_by_key_and_the_files_are_named_with_hashes() {
        let mut report = report();
        [section("one", 1), section("two", 2), section("one", 3)].into_iter().for_each(|s| report.add(s));
        let json = report.json();
        assert_eq!(json["results"], json!({ "two": { "value": 2 }, "one": { "value": 3 } }));
        assert_eq!(json["command"], "evaluate --x");
        let end = "Made by `undiffuse-tools evaluate --x`; data SHA-256 `0123456789abcdef`, features ``, unet/model.onnx `fedcba9876543210`.\n";
        assert!(report.markdown().ends_with(end), "{}", report.markdown());
    }

    #[test]
    fn every_file_of_a_folder_has_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("unet")).unwrap();
        fs::write(folder.path().join("unet/model.onnx"), "abc").unwrap();
        let found = hashes(folder.path()).unwrap();
        // `printf abc | sha256sum`
        assert_eq!(found["unet/model.onnx"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
