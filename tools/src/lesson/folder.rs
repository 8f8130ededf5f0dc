//! The folder of a lesson: what is written there, and what becomes of older files.

use crate::train::progress;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;

/// The lesson's text.
pub const REPORT: &str = "REPORT.md";
/// Settings and every figure, for programs.
pub const RESULTS: &str = "results.json";
/// Folder of the training run.
pub const TRAINING: &str = "training";

/// The pictures of [`super::figures`], in the report's order.
pub const FIGURES: [&str; 8] =
    ["data.png", "forward.png", "score.png", "training.png", "reverse.png", "paths.png", "samples.png", "steps.png"];

/// What the training run writes.
const RUN: [&str; 6] =
    ["checkpoint.safetensors", "weights.safetensors", "log.csv", "loss.png", "checkpoint.partial", progress::FILE];

/// Makes `out` ready for a new lesson, which always trains from the start.
///
/// # Errors
/// If `out` is a file, cannot be written, or is not empty and `overwrite` was not said. With it the files that a lesson writes
/// are removed, all others stay.
pub fn prepare(out: &Path, overwrite: bool) -> Result<()> {
    ensure!(!out.exists() || out.is_dir(), "--out {}: is a file; name a folder", out.display());
    fs::create_dir_all(out).with_context(|| format!("--out {}: cannot make this folder", out.display()))?;
    let mut entries = fs::read_dir(out).with_context(|| format!("--out {}: cannot be read", out.display()))?;
    if entries.next().is_some() {
        if !overwrite {
            bail!(
                "--out {}: is not empty; name another folder, or say --overwrite to replace an earlier lesson there",
                out.display()
            );
        }
        let removed = clear(out)?;
        println!("removed {removed} files of an earlier lesson from {}", out.display());
    }
    let training = out.join(TRAINING);
    fs::create_dir_all(&training).with_context(|| format!("cannot make {}", training.display()))?;
    let probe = training.join("checkpoint.partial");
    fs::write(&probe, b"")
        .and_then(|()| fs::remove_file(&probe))
        .with_context(|| format!("cannot write {}", probe.display()))
}

/// Removes the files of a lesson and says how many there were.
fn clear(out: &Path) -> Result<usize> {
    let own = FIGURES.iter().chain(&[REPORT, RESULTS]).map(|name| out.join(name));
    let run = RUN.iter().map(|name| out.join(TRAINING).join(name));
    let mut removed = 0;
    for path in own.chain(run).filter(|path| path.exists()) {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        removed += 1;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_and_overwrite_takes_only_a_lessons_files() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new/lesson");
        prepare(&out, false).unwrap();
        fs::write(out.join(REPORT), "old").unwrap();
        fs::write(out.join(TRAINING).join("checkpoint.safetensors"), "old").unwrap();
        fs::write(out.join("notes.txt"), "mine").unwrap();
        let refused = prepare(&out, false).unwrap_err().to_string();
        assert!(refused.contains("is not empty") && refused.contains("--overwrite"), "{refused}");
        assert!(out.join(REPORT).exists());
        prepare(&out, true).unwrap();
        assert!(!out.join(REPORT).exists() && !out.join(TRAINING).join("checkpoint.safetensors").exists());
        assert_eq!(fs::read_to_string(out.join("notes.txt")).unwrap(), "mine");
    }

    #[test]
    fn a_file_in_the_folders_place_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = prepare(file.path(), true).unwrap_err().to_string();
        assert!(error.contains("is a file") && error.contains(&file.path().display().to_string()), "{error}");
    }
}
