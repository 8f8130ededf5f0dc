//! The records of a run or a model.

use super::{FOLDER, OWN, Record};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The stages in the order in which a model is made.
const ORDER: [&str; 10] = [
    "dataset",
    "train autoencoder",
    "train text",
    "train synonyms",
    "train reader",
    "train denoiser",
    "train student",
    "convert upscaler",
    "export",
    "quantise",
];

/// Of the stages that end in a text encoder, an autoencoder, a denoiser.
pub const TEXT: [&str; 4] = ["dataset", "train text", "train synonyms", "train reader"];
pub const AUTOENCODER: [&str; 2] = ["dataset", "train autoencoder"];
pub const DENOISER: [&str; 3] = ["dataset", "train denoiser", "train student"];
/// What tools/python/convert_realesr.py writes.
pub const UPSCALER: [&str; 1] = ["convert upscaler"];

/// Records by name: that of the stage, `train-denoiser`, for the second of it `train-denoiser-2`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records(BTreeMap<String, Record>);

impl Records {
    /// Those in the folder `records` of a run or a model; none if there is no such folder.
    ///
    /// # Errors
    /// If a file in it is no record.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut all = BTreeMap::new();
        for name in names(&folder.join(FOLDER))? {
            let record = Record::read(&folder.join(FOLDER).join(format!("{name}.json")))?;
            all.insert(name, record);
        }
        Ok(Self(all))
    }

    /// What made a part of a model: the records of a run's folder, its own among them, or of an exported model, of the given `stages`.
    /// `path` may be a file in the folder.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn that_made(path: &Path, stages: &[&str]) -> Result<Self> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let mut all = Self::open(folder)?;
        if folder.join(OWN).exists() {
            all.add(Record::read(&folder.join(OWN))?);
        }
        all.0.retain(|_, record| stages.contains(&record.stage.as_str()));
        Ok(all)
    }

    /// Adds a record under the first free name of its stage, unless the same is there already.
    pub fn add(&mut self, record: Record) {
        if self.0.values().any(|known| *known == record) {
            return;
        }
        let slug = slug(&record.stage);
        let names = (1..).map(|n| if n == 1 { slug.clone() } else { format!("{slug}-{n}") });
        if let Some(free) = names.into_iter().find(|name| !self.0.contains_key(name)) {
            self.0.insert(free, record);
        }
    }

    /// Puts a record in the place of the one with this name.
    pub fn put(&mut self, name: &str, record: Record) {
        self.0.insert(name.to_owned(), record);
    }

    /// Adds all of `others`, in order.
    pub fn extend(&mut self, others: Self) {
        others.ordered().into_iter().for_each(|(_, record)| self.add(record.clone()));
    }

    /// Without those of which `goes` is true.
    pub fn without(mut self, goes: impl Fn(&Record) -> bool) -> Self {
        self.0.retain(|_, record| !goes(record));
        self
    }

    pub fn get(&self, name: &str) -> Option<&Record> {
        self.0.get(name)
    }

    /// Names and records as a model is made, then the measurements by name.
    pub fn ordered(&self) -> Vec<(&str, &Record)> {
        let place = |stage: &str| ORDER.iter().position(|known| *known == stage).unwrap_or(ORDER.len());
        let mut all: Vec<(&str, &Record)> = self.0.iter().map(|(name, record)| (name.as_str(), record)).collect();
        all.sort_by_key(|(name, record)| (place(&record.stage), record.stage.clone(), number(name), name.to_owned()));
        all
    }

    /// Makes the folder `records` in `folder` hold these and no others.
    ///
    /// # Errors
    /// If a file cannot be written or removed.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let folder = folder.join(FOLDER);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = |name: &str| folder.join(format!("{name}.json"));
        for name in names(&folder)?.iter().filter(|name| !self.0.contains_key(*name)) {
            fs::remove_file(file(name)).with_context(|| format!("cannot remove {}", file(name).display()))?;
        }
        self.0.iter().try_for_each(|(name, record)| record.write(&file(name)))
    }
}

fn slug(stage: &str) -> String {
    stage.replace([' ', '_'], "-")
}

/// The number behind a name, 1 where there is none.
fn number(name: &str) -> usize {
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(1)
}

/// Names of the JSON files of a folder that may be missing.
fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let files = super::files::paths(folder)?;
    Ok(files.iter().filter_map(|file| file.strip_suffix(".json")).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stage: &str, version: &str) -> Record {
        Record { stage: stage.into(), version: version.into(), ..Record::default() }
    }

    #[test]
    fn records_are_kept_once_and_come_in_the_order_of_the_stages() {
        let mut all = Records::default();
        for (stage, version) in [
            ("train student", "1"),
            ("train denoiser", "1"),
            ("train denoiser", "2"),
            ("train denoiser", "1"),
            ("dataset", "1"),
        ] {
            all.add(record(stage, version));
        }
        all.put("evaluate-cells", record("evaluate cells", "1"));
        let names: Vec<&str> = all.ordered().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["dataset", "train-denoiser", "train-denoiser-2", "train-student", "evaluate-cells"]);
        assert_eq!(all.get("train-denoiser-2").unwrap().version, "2");
    }

    #[test]
    fn a_run_gives_its_own_record_and_those_of_before_and_a_folder_holds_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut before = Records::default();
        [record("train denoiser", "1"), record("train text", "1"), record("export", "1")]
            .into_iter()
            .for_each(|record| before.add(record));
        before.write(folder.path()).unwrap();
        record("train student", "1").write(&folder.path().join(OWN)).unwrap();
        let weights = folder.path().join("weights.safetensors");
        let made = Records::that_made(&weights, &DENOISER).unwrap();
        let stages: Vec<&str> = made.ordered().into_iter().map(|(_, record)| record.stage.as_str()).collect();
        assert_eq!(stages, ["train denoiser", "train student"]);
        made.write(folder.path()).unwrap();
        assert_eq!(Records::open(folder.path()).unwrap(), made);
        assert_eq!(Records::that_made(&folder.path().join("nothing/here"), &TEXT).unwrap(), Records::default());
    }
}
