//! `log.csv` and `loss.png` of a run.

use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// Steps in the running mean that is shown and plotted.
const WINDOW: usize = 100;

pub struct Log {
    path: PathBuf,
    writer: csv::Writer<File>,
    recent: VecDeque<f64>,
}

impl Log {
    /// Opens the log of a run that stands at `step`: lines after it, of a part whose checkpoint was not written, go.
    pub fn open(folder: &Path, figures: &[&str], step: u64) -> Result<Self> {
        let path = folder.join("log.csv");
        let kept = if path.exists() && step > 0 { read(&path)? } else { Vec::new() };
        let kept: Vec<_> = kept.into_iter().filter(|row| row.0 <= step).collect();
        let mut text = String::from("step,loss,gradient_norm,rate");
        figures.iter().for_each(|f| text += &format!(",{f}"));
        text.push('\n');
        kept.iter().for_each(|row| text += &format!("{}\n", row.2));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let file = OpenOptions::new().append(true).open(&path)?;
        let writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        let recent = kept.iter().rev().take(WINDOW).rev().map(|row| row.1).collect();
        Ok(Self { path, writer, recent })
    }

    pub fn add(&mut self, step: u64, loss: f64, norm: f64, rate: f64, figures: &[f64]) -> Result<()> {
        let numbers = [loss, norm, rate].into_iter().chain(figures.iter().copied()).map(|v| format!("{v:.6e}"));
        self.writer.write_record([step.to_string()].into_iter().chain(numbers))?;
        self.recent.push_back(loss);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        Ok(())
    }

    /// Mean loss of the last steps, if there were any.
    pub fn recent(&self) -> Option<f64> {
        (!self.recent.is_empty()).then(|| self.recent.iter().sum::<f64>() / self.recent.len() as f64)
    }

    pub fn flush(&mut self) -> Result<()> {
        Ok(self.writer.flush()?)
    }

    /// Draws the running mean of the loss.
    pub fn plot(&mut self) -> Result<()> {
        self.flush()?;
        let rows = read(&self.path)?;
        let mut smooth = Vec::with_capacity(rows.len());
        let mut sum = 0.0;
        for (i, row) in rows.iter().enumerate() {
            sum += row.1;
            if i >= WINDOW {
                sum -= rows[i - WINDOW].1;
            }
            smooth.push((row.0 as f64, sum / (i + 1).min(WINDOW) as f64));
        }
        crate::plot::lines(&self.path.with_file_name("loss.png"), "loss", "step", &[("mean of 100 steps", &smooth)])
    }
}

/// Step, loss and the whole line.
fn read(path: &Path) -> Result<Vec<(u64, f64, String)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parse = |line: &str| {
        let mut cells = line.split(',');
        Some((cells.next()?.parse().ok()?, cells.next()?.parse().ok()?, line.to_owned()))
    };
    Ok(text.lines().filter_map(parse).collect())
}
