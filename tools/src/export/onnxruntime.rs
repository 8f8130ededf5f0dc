//! The exported graphs, run by the runtime, against onnxruntime.

use crate::trained::read_json;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The script that compares.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/check_export.py");

/// Runs `tools/python/check_export.py` on `model` with `python`, which must have its pins installed: of each stage, the largest difference
/// over the deviation of what onnxruntime gives.
///
/// # Errors
/// If `undiffuse` is not built beside this program, `python` cannot be run, or an output is too far away.
pub fn check(python: &Path, model: &Path) -> Result<BTreeMap<String, f64>> {
    let program = std::env::current_exe()?.with_file_name(format!("undiffuse{}", std::env::consts::EXE_SUFFIX));
    ensure!(program.exists(), "{}: is not built; run `cargo build --release` first", program.display());
    let found = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(python);
    command.arg(SCRIPT).arg(model).arg("--undiffuse").arg(program).arg("--json").arg(found.path());
    let status = command.status().with_context(|| format!("cannot run {}", python.display()))?;
    ensure!(status.success(), "the comparison with onnxruntime failed: {status}");
    read_json(found.path())
}
