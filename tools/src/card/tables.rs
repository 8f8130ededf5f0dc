//! The tables of a card.

use super::facts::Facts;
use super::numbers::{duration, millions, number, size, spoken, value};
use crate::record::Record;
use crate::record::files::short;
use crate::table::Table;
use serde_json::Value;

/// Figures of a stage that have a place of their own.
const PLACED: [&str; 3] = ["steps", "parameters", "samples_a_second"];

/// Every file with its size, its parameters and the beginning of its checksum, and what that is together.
pub fn files(facts: &Facts) -> String {
    let mut table = Table::new(["file", "size", "parameters", "SHA-256"]);
    for file in &facts.files {
        let parameters = file.parameters.map(millions).unwrap_or_default();
        table.push([format!("`{}`", file.path), size(file.bytes), parameters, format!("`{}…`", short(&file.sha256))]);
    }
    table.push(["all".to_owned(), size(facts.bytes()), millions(facts.parameters()), String::new()]);
    table.markdown()
}

/// A row a stage that the model went through, and under it the commands.
pub fn stages(facts: &Facts) -> String {
    let mut table = Table::new(["stage", "parameters", "trained", "took", "result"]);
    let ordered = facts.records.ordered();
    let made: Vec<&(&str, &Record)> =
        ordered.iter().filter(|(_, record)| !record.stage.starts_with("evaluate")).collect();
    if made.is_empty() {
        return "No record says how this model was made.\n".to_owned();
    }
    made.iter().for_each(|(_, record)| table.push(stage(record)));
    let mut text = table.markdown();
    let commands: Vec<&str> = made.iter().map(|(_, r)| r.command.as_str()).filter(|c| !c.is_empty()).collect();
    if !commands.is_empty() {
        let lines: String = commands.iter().map(|command| format!("undiffuse-tools {command}\n")).collect();
        text += &format!("\nThe commands, with files' names without their folders:\n\n```\n{lines}```\n");
    }
    text + &origin(facts, &made)
}

/// Where records or files are not what stages wrote.
fn origin(facts: &Facts, made: &[&(&str, &Record)]) -> String {
    let mut text = String::new();
    let mut sources: Vec<&str> = made.iter().filter_map(|(_, record)| record.source.as_deref()).collect();
    sources.sort_unstable();
    sources.dedup();
    for source in sources {
        let of = made.iter().filter(|(_, record)| record.source.as_deref() == Some(source)).count();
        text += &format!("\nFigures of {of} of these stages are from: {source}.\n");
    }
    let unknown = facts.of_unknown_origin();
    if !unknown.is_empty() {
        text += &format!("\n**Not written by any stage on record:** {}.\n", unknown.join(", "));
    }
    text
}

fn stage(record: &Record) -> [String; 5] {
    let setting = |name: &str| record.settings.get(name).and_then(value);
    let figure = |name: &str| record.figures.get(name).and_then(Value::as_f64);
    let steps = figure("steps").map(|steps| match setting("batch") {
        Some(batch) => format!("{} steps of {batch}", number(steps)),
        None => format!("{} steps", number(steps)),
    });
    let seed = setting("seed").map(|seed| format!("seed {seed}"));
    let trained: Vec<String> = [steps, seed, setting("device"), setting("precision")].into_iter().flatten().collect();
    let speed = figure("samples_a_second").map(|speed| format!("{} samples a second", number(speed)));
    let took: Vec<String> = record.seconds.map(duration).into_iter().chain(speed).collect();
    let found = |(name, v): (&String, &Value)| match v {
        Value::Object(_) => value(v).map(|said| format!("{}: {said}", spoken(name))),
        _ => value(v).map(|said| format!("{} {said}", spoken(name))),
    };
    let free = record.figures.iter().filter(|(name, _)| !PLACED.contains(&name.as_str())).filter_map(found);
    let result: Vec<String> = [free.collect::<Vec<_>>().join("; ")].into_iter().chain(record.notes.clone()).collect();
    [
        format!("`{}`", record.stage),
        figure("parameters").map(|count| millions(count as usize)).unwrap_or_default(),
        trained.join(", "),
        took.join(", "),
        result.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(". ").replace('|', "\\|"),
    ]
}

/// A measurement: its title, table and notes, and of what it is.
pub fn measured(facts: &Facts, record: &Record) -> String {
    let mut text = format!("**{}**\n\n{}\n", record.title, record.table.markdown());
    record.notes.iter().for_each(|note| text += &format!("{note}\n\n"));
    text + &provenance(facts, record)
}

/// By which command, with which seeds and data, and on which files.
fn provenance(facts: &Facts, record: &Record) -> String {
    let command = (!record.command.is_empty()).then(|| format!("`undiffuse-tools {}`", record.command));
    let list = |name: &str| match record.settings.get(name)? {
        Value::Array(all) => Some(all.iter().filter_map(value).collect::<Vec<_>>().join(", ")),
        other => value(other),
    };
    let seeds = list("seeds").map(|seeds| format!("seed {seeds}"));
    let files = record.inputs.iter().filter(|(path, _)| !path.contains('/'));
    let files = files.map(|(path, hash)| format!("{path} `{}`", short(hash)));
    let source = record.source.as_ref().map(|source| format!("figures from: {source}"));
    let all: Vec<String> = command.into_iter().chain(seeds).chain(files).chain(source).collect();
    format!("{}{}.\n", of_which(facts, record), all.iter().map(|part| format!("; {part}")).collect::<String>())
}

/// Whether the figures are of the files in the directory.
fn of_which(facts: &Facts, record: &Record) -> String {
    let changed = facts.changed(record);
    if Facts::of_model(record).next().is_none() {
        return "**It is not on record which files were measured**".to_owned();
    }
    if changed.is_empty() {
        return "Measured on this directory's files".to_owned();
    }
    let named: Vec<String> = changed.iter().map(|(path, hash)| format!("{path} `{}`", short(hash))).collect();
    format!("**Measured on other weights: {}**", named.join(", "))
}

/// One number of a record, by the names on the way to it; marked where it is of other weights.
pub fn figure(facts: &Facts, record: &Record, path: &str) -> Option<String> {
    let mut names = path.split('.');
    let first = names.next()?;
    let root = record.figures.get(first).or_else(|| record.settings.get(first))?;
    let found = names.try_fold(root, |at, name| match at {
        Value::Array(all) => all.get(name.parse::<usize>().ok()?),
        other => other.get(name),
    })?;
    let said = value(found)?;
    let other = !facts.changed(record).is_empty() && record.stage.starts_with("evaluate");
    Some(if other { format!("{said} (of other weights)") } else { said })
}
