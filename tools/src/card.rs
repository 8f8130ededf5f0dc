//! `card`: a model's README.md, made from its records, its files and what only a person can say; and the index of all models.
//!
//! `card.md` in the model's directory is a template (minijinja) of sentences. In it `{{ measured("cells") }}` stands for the table of a
//! measurement, `{{ rest() }}` for those of all that have no place yet, `{{ stages() }}` for how the model was made, `{{ files() }}` for its
//! files with sizes and checksums, and `{{ figure("train-denoiser", "loss") }}` for one number. A placeholder without a record is an error,
//! and so is a measurement without a place; one of other weights than those in the directory says so.

mod facts;
mod numbers;
mod tables;
mod template;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail, ensure};
use facts::Facts;
use minijinja::{Environment, context};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use template::Written;

/// The card.
pub const CARD: &str = "README.md";
/// The sentences of it.
pub const PROSE: &str = "card.md";
/// The sentences of a model of which nobody has said anything.
const START: &str = include_str!("card/start.md");
/// What stands in the folder of all models.
const INDEX: &str = include_str!("card/index.md");

/// Options of `card`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Model directories whose README.md to write; one without a card.md gets a first one, to be filled in
    #[arg(required_unless_present = "all")]
    models: Vec<PathBuf>,
    /// A folder of model directories: writes the cards of all of them, and README.md in the folder, their index
    #[arg(long, value_name = "DIR")]
    all: Option<PathBuf>,
    /// Write nothing; end with an error if a file is not what its records and files give
    #[arg(long)]
    check: bool,
}

/// Runs `card`.
///
/// # Errors
/// If a file cannot be read or written, a placeholder has no record, or, with `--check`, a card is not what it should be.
pub fn run(args: &Args) -> Result<()> {
    let mut folders: BTreeSet<PathBuf> = args.models.iter().cloned().collect();
    if let Some(all) = &args.all {
        folders.extend(models(all)?);
    }
    if !args.check {
        folders.iter().try_for_each(|folder| begin(folder))?;
    }
    let mut files = Vec::new();
    for folder in &folders {
        files.push((folder.join(CARD), written(folder)?.text));
    }
    if let Some(all) = &args.all {
        files.push((all.join(CARD), index(all)?));
    }
    if args.check { check(&files) } else { files.iter().try_for_each(|(path, text)| write(path, text)) }
}

/// Holds the cards of all models in a folder, and their index, to what their records and files give.
///
/// # Errors
/// If one is not that, or cannot be made.
pub fn check_all(folder: &Path) -> Result<()> {
    run(&Args { models: Vec::new(), all: Some(folder.to_owned()), check: true })
}

/// The card of a model.
fn written(folder: &Path) -> Result<Written> {
    let path = folder.join(PROSE);
    let prose = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    template::written(Facts::of(folder)?, &prose).with_context(|| path.display().to_string())
}

/// The index of the models in a folder.
fn index(all: &Path) -> Result<String> {
    let rows = models(all)?
        .iter()
        .map(|folder| {
            let Written { draws, parameters, megabytes, name, .. } = written(folder)?;
            Ok(context! { draws, parameters, megabytes, name })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut environment = Environment::new();
    environment.set_keep_trailing_newline(true);
    Ok(environment.render_named_str("index.md", INDEX, context! { models => rows })?)
}

/// The model directories in a folder, by name.
fn models(all: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(all).with_context(|| format!("cannot read {}", all.display()))?;
    let mut found = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    found.retain(|path| path.join("model_index.json").exists());
    found.sort();
    ensure!(!found.is_empty(), "{}: holds no model directory", all.display());
    Ok(found)
}

/// Gives a model without sentences a first card.md.
fn begin(folder: &Path) -> Result<()> {
    ensure!(folder.join("model_index.json").exists(), "{}: is no model directory", folder.display());
    let path = folder.join(PROSE);
    if path.exists() {
        return Ok(());
    }
    write(&path, START)?;
    println!("say there what it draws, what it learned from and what it cannot do; then run `card` again");
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn check(files: &[(PathBuf, String)]) -> Result<()> {
    let differs = |(path, text): &&(PathBuf, String)| fs::read_to_string(path).ok().as_ref() != Some(text);
    let wrong: Vec<String> = files.iter().filter(differs).map(|(path, _)| path.display().to_string()).collect();
    if !wrong.is_empty() {
        bail!("{}: not what the records and files give; run `undiffuse-tools card` without --check", wrong.join(", "));
    }
    Ok(())
}
