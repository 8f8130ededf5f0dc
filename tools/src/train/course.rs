//! What a run is made from, and the record that it leaves of that and of what came of it.

use super::progress::{FILE, Progress};
use super::run::Options;
use crate::dataset::pack::Stickers;
use crate::dataset::record as data_record;
use crate::net::params::read_safetensors;
use crate::record::files::name_in;
use crate::record::{OWN, Record, Records};
use crate::trained::{self, WEIGHTS, read_json};
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// A trained network or another file that a run uses: a name, where it is, and the stages of an exported model that hold it.
pub type Used = (&'static str, PathBuf, &'static [&'static str]);

/// What a run is made from.
pub struct Course {
    /// `train denoiser`.
    pub stage: &'static str,
    pub options: Options,
    pub data: PathBuf,
    /// What its weights began as, if not as noise; the stages of an exported model that hold them; the stages whose records tell how these
    /// were made.
    pub from: Option<(PathBuf, &'static [&'static str], &'static [&'static str])>,
    /// What else it uses.
    pub with: Vec<Used>,
    /// Options of this network alone.
    pub settings: Value,
}

impl Course {
    /// Writes the run's record, and beside it those of what it went on from.
    ///
    /// # Errors
    /// If one of the files cannot be read or written.
    pub fn record(self) -> Result<()> {
        let out = &self.options.out;
        let mut before = Records::default();
        let data = data_record::of(&self.data, &Stickers::open(&self.data)?)?;
        let mut record = Record::new(self.stage);
        record.inputs.extend(data.outputs.clone());
        before.add(data);
        if let Some((path, stages, made_by)) = &self.from {
            before.extend(Records::that_made(path, made_by)?);
            record = with_files(record, "from", path, stages)?;
        }
        for (name, path, stages) in &self.with {
            record = with_files(record, name, path, stages)?;
        }
        record.settings = self.settings();
        self.results(&mut record)?;
        before.write(out)?;
        record.write(&out.join(OWN))
    }

    /// All options but for the folder and those that only say when something is written.
    fn settings(&self) -> Map<String, Value> {
        let silent = ["out", "threads", "slice", "checkpoint_every", "report_every", "steps"];
        let own = serde_json::to_value(&self.options).unwrap_or_default();
        let parts = [own, self.settings.clone()].into_iter().filter_map(|part| part.as_object().cloned());
        parts.flatten().filter(|(name, value)| !value.is_null() && !silent.contains(&name.as_str())).collect()
    }

    fn results(&self, record: &mut Record) -> Result<()> {
        let out = &self.options.out;
        let progress: Progress = read_json(&out.join(FILE))?;
        let weights = out.join(WEIGHTS);
        let parameters: usize = read_safetensors(&weights)?
            .values()
            .filter(|tensor| tensor.kind() != tch::Kind::Int64)
            .map(|tensor| tensor.numel())
            .sum();
        let speed = progress.speed(self.options.batch);
        let figures: Map<String, Value> = [("steps", progress.steps.into()), ("parameters", parameters.into())]
            .into_iter()
            .chain(progress.loss.map(|loss| ("loss", loss.into())))
            .chain(speed.map(|speed| ("samples_a_second", speed.round().into())))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        record.figures = figures;
        record.figures.extend(progress.figures.into_iter().map(|(name, value)| (name, value.into())));
        if let Some(step) = progress.reported.filter(|step| *step != progress.steps) {
            record.notes.push(format!("Figures of held-out data are of step {step}."));
        }
        record.seconds = Some(progress.seconds);
        record.outputs = trained::files(out, &[])
            .iter()
            .map(|file| Ok((name_in(out, file), crate::record::files::sha256(file)?)))
            .collect::<Result<_>>()?;
        Ok(())
    }
}

fn with_files(record: Record, name: &str, path: &Path, stages: &[&str]) -> Result<Record> {
    trained::files(path, stages)
        .iter()
        .try_fold(record, |record, file| record.input(format!("{name}/{}", name_in(path, file)), file))
        .with_context(|| format!("what {name} was made from"))
}
