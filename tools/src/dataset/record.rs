//! What `dataset` did, told by the packed file itself, so that the record goes wherever the data goes.

use super::pack::Stickers;
use crate::record::files::sha256;
use crate::record::{Record, file_name};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

/// Notes of a packed file that are figures or settings of its record, where it has them.
const SETTINGS: [&str; 3] = ["seed", "packages", "balance"];
const FIGURES: [&str; 1] = ["counts"];

/// The record of the packed file `path`, which is open as `packed`.
///
/// # Errors
/// If the file cannot be read, or a note in it is malformed.
pub fn of(path: &Path, packed: &Stickers) -> Result<Record> {
    // Files of older versions do not say which command made them.
    let made = packed.note("made").map(serde_json::from_str).transpose();
    let made = made.with_context(|| format!("{}: its note `made` is malformed", path.display()))?;
    let mut record = made.unwrap_or_else(|| Record { stage: "dataset".to_owned(), ..Record::default() });
    let note = |name: &&str| Some(((*name).to_owned(), read(packed.note(name)?)));
    record.settings.extend(SETTINGS.iter().filter_map(note));
    record.figures.extend(FIGURES.iter().filter_map(note));
    let held_out = (0..packed.len()).filter(|i| packed.held_out(*i)).count();
    record = record
        .figure("pictures", packed.len())
        .figure("concepts", packed.concepts().len())
        .figure("styles", packed.styles().len())
        .figure("held_out", held_out);
    record.outputs.insert(file_name(path), sha256(path)?);
    Ok(record)
}

/// A note, which is JSON or plain text.
fn read(note: &str) -> Value {
    serde_json::from_str(note).unwrap_or_else(|_| Value::String(note.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::pack::{self, Concept, PICTURE_BYTES, Sticker};

    #[test]
    fn a_packed_file_says_how_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stickers.safetensors");
        let sticker = |held_out| Sticker { rgba: vec![9; PICTURE_BYTES], style: 0, concept: 0, held_out, weight: 1.0 };
        let (concepts, stickers) =
            ([Concept { name: "fox".into(), ..Concept::default() }], [sticker(true), sticker(false)]);
        let mut made = Record::new("dataset");
        made.command = "dataset --out stickers.safetensors".into();
        let notes = [("seed", "7".to_owned()), ("made", serde_json::to_string(&made).unwrap())];
        let pack = |notes: &[(&str, String)]| {
            pack::write(&path, &["3d"], &concepts, &stickers, notes).unwrap();
            of(&path, &Stickers::open(&path).unwrap()).unwrap()
        };
        let record = pack(&notes);
        assert_eq!((record.command, record.settings["seed"].clone()), (made.command, Value::from(7)));
        assert_eq!([&record.figures["pictures"], &record.figures["held_out"]], [2, 1]);
        assert_eq!(record.outputs["stickers.safetensors"], sha256(&path).unwrap());
        let older = pack(&[]);
        assert_eq!((older.stage.as_str(), older.command.as_str()), ("dataset", ""));
    }
}
