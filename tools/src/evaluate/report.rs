//! The report: a section a measure, printed, as JSON, and as Markdown that a model card can take over.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::Args;
use super::lab::Lab;
use crate::record::files::{hashes, sha256, short};
use crate::record::{self, Record, Records};
pub use crate::table::Table;

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

/// The files of a model that decide what it draws.
pub const DRAWS: [&str; 5] = [
    "text_encoder/model.onnx",
    "unet/model.onnx",
    "vae_decoder/model.onnx",
    "tokenizer/tokenizer.json",
    "scheduler/scheduler_config.json",
];
/// What makes copies of drawings too.
const COPIES: [&str; 1] = ["vae_encoder/model.onnx"];
/// A record holds no longer lists of plain values: evaluate.json has those of single pictures.
const LIST: usize = 8;

/// Figures without the long lists of numbers and texts in them.
fn short_of_lists(figures: &Value) -> Value {
    let long = |value: &Value| {
        value.as_array().is_some_and(|list| list.len() > LIST && !list.iter().any(|v| v.is_object() || v.is_array()))
    };
    match figures {
        Value::Object(all) => {
            all.iter().filter(|(_, v)| !long(v)).map(|(k, v)| (k.clone(), short_of_lists(v))).collect()
        }
        Value::Array(all) => all.iter().map(short_of_lists).collect(),
        other => other.clone(),
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
            ("command", json!(record::command())),
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

    /// Puts what a measure found into the records of the measured model, in the place of what it found there before at as many steps.
    ///
    /// # Errors
    /// If the model's records cannot be read or written.
    pub fn record(&self, section: &Section, args: &Args, seconds: f64) -> Result<()> {
        let mut records = Records::open(&args.model)?;
        let steps = args.steps.map_or(String::new(), |steps| format!("-{steps}-steps"));
        records.put(&format!("evaluate-{}{steps}", section.key), self.of_section(section, args, seconds)?);
        records.write(&args.model)
    }

    fn of_section(&self, section: &Section, args: &Args, seconds: f64) -> Result<Record> {
        let mut record = Record::new(format!("evaluate {}", section.key))
            .setting("seeds", &args.seeds)
            .setting("cells_seed", args.cells_seed)
            .setting("steps", args.steps)
            .setting("guidance", args.guidance)
            .input(record::file_name(&args.data), &args.data)?
            .input(record::file_name(&args.features), &args.features)?;
        let hash = |file: &str| Some((file.to_owned(), self.of.get("model")?.get(file)?.as_str()?.to_owned()));
        let files = DRAWS.iter().chain(COPIES.iter().filter(|_| section.key == "nearest"));
        record.inputs.extend(files.filter_map(|file| hash(file)));
        record.seconds = Some(seconds);
        record.figures = match short_of_lists(&section.figures) {
            Value::Object(figures) => figures,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        (record.title, record.table, record.notes) =
            (section.title.clone(), section.table.clone(), section.notes.clone());
        Ok(record)
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
    fn a_record_has_the_figures_without_long_lists() {
        let figures = json!({ "ranks": (0..9).collect::<Vec<_>>(), "top1": { "hits": 3, "seeds": [0, 1] }, "by": [{ "x": (0..9).collect::<Vec<_>>(), "y": 1 }] });
        assert_eq!(short_of_lists(&figures), json!({ "top1": { "hits": 3, "seeds": [0, 1] }, "by": [{ "y": 1 }] }));
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
}
