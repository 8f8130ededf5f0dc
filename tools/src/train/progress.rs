//! How far a run came, over all its parts: what its record says of time and results.

use crate::trained::read_json;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The file in the run's folder; written with every checkpoint.
pub const FILE: &str = "progress.json";

/// What a task says of the averaged weights.
#[derive(Default)]
pub struct Report {
    /// For the screen.
    pub line: String,
    /// The numbers in it, for the record.
    pub figures: Vec<(&'static str, f64)>,
}

/// Steps, seconds and the last numbers of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub steps: u64,
    /// Of the loop, sheets and reports included.
    pub seconds: f64,
    /// Of these, for reports.
    pub reporting: f64,
    /// The mean of the last 100 steps.
    pub loss: Option<f64>,
    /// Those of the last report, and the step of it.
    pub figures: BTreeMap<String, f64>,
    pub reported: Option<u64>,
}

impl Progress {
    /// Of a run that stands at `step`.
    ///
    /// # Errors
    /// If the file is there and malformed.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join(FILE);
        // Runs of older versions have none.
        let known = if step > 0 && path.exists() { read_json(&path)? } else { Self::default() };
        Ok(Self { steps: step, ..known })
    }

    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        std::fs::write(&path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn report(&mut self, report: &Report, step: u64, seconds: f64) {
        self.figures = report.figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        self.reported = Some(step);
        self.reporting += seconds;
    }

    /// Samples a second outside of reports.
    pub fn speed(&self, batch: usize) -> Option<f64> {
        let seconds = self.seconds - self.reporting;
        (self.steps > 0 && seconds > 0.0).then(|| (self.steps as f64 * batch as f64) / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_adds_to_what_was_and_a_new_one_begins_at_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut progress = Progress::open(folder.path(), 0).unwrap();
        progress.report(&Report { line: String::new(), figures: vec![("psnr", 28.5)] }, 10, 2.0);
        (progress.steps, progress.seconds, progress.loss) = (10, 6.0, Some(0.5));
        progress.write(folder.path()).unwrap();
        let resumed = Progress::open(folder.path(), 10).unwrap();
        assert_eq!((&resumed, resumed.speed(8)), (&progress, Some(20.0)));
        assert_eq!(Progress::open(folder.path(), 0).unwrap(), Progress::default());
        assert_eq!(Progress::default().speed(8), None);
    }
}
