//! The sentences of a card, with tables and figures in their places.

use super::facts::Facts;
use super::{numbers, tables};
use crate::record::Record;
use anyhow::{Result, ensure};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// What measurements' records are called: this and the measure.
const MEASURED: &str = "evaluate-";

/// A card, and what the index says of its model.
pub struct Written {
    pub text: String,
    pub name: String,
    /// What it draws, as the template sets `draws`.
    pub draws: String,
    pub parameters: String,
    pub megabytes: String,
}

/// What the functions of a template look at.
struct Desk {
    facts: Facts,
    /// The measurements that have a place.
    placed: Mutex<BTreeSet<String>>,
}

impl Desk {
    fn record(&self, name: &str) -> Result<&Record, Error> {
        let missing = || wrong(format!("there is no record {name:?}: no file records/{name}.json"));
        self.facts.records.get(name).ok_or_else(missing)
    }

    fn measured(&self, what: &str) -> Result<String, Error> {
        let text = tables::measured(&self.facts, self.record(&format!("{MEASURED}{what}"))?);
        self.placed.lock().unwrap_or_else(|e| e.into_inner()).insert(what.to_owned());
        Ok(text)
    }

    fn unplaced(&self) -> Vec<String> {
        let placed = self.placed.lock().unwrap_or_else(|e| e.into_inner());
        let all = self.facts.records.ordered();
        let measured = all.iter().filter_map(|(name, _)| name.strip_prefix(MEASURED));
        measured.filter(|what| !placed.contains(*what)).map(str::to_owned).collect()
    }

    fn rest(&self) -> Result<String, Error> {
        let unplaced = self.unplaced();
        let any = self.facts.records.ordered().iter().any(|(name, _)| name.starts_with(MEASURED));
        if !any {
            return Ok("Nothing was measured: see `undiffuse-tools evaluate --record`.\n".to_owned());
        }
        Ok(unplaced.iter().map(|what| self.measured(what)).collect::<Result<Vec<_>, _>>()?.join("\n"))
    }

    fn figure(&self, name: &str, path: &str) -> Result<String, Error> {
        let found = tables::figure(&self.facts, self.record(name)?, path);
        found.ok_or_else(|| wrong(format!("the record {name:?} has no figure {path:?}")))
    }
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// The card that `prose` makes of `facts`.
///
/// # Errors
/// If a placeholder has no record or is unknown, a measurement has no place, or `draws` is not set. The message names it and the line.
pub fn written(facts: Facts, prose: &str) -> Result<Written> {
    let (name, parameters) = (facts.name.clone(), numbers::millions(facts.parameters()));
    let megabytes = numbers::size(facts.bytes());
    let desk = Arc::new(Desk { facts, placed: Mutex::default() });
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    let own = Arc::clone(&desk);
    environment.add_function("measured", move |what: String| own.measured(&what));
    let own = Arc::clone(&desk);
    environment.add_function("rest", move || own.rest());
    let own = Arc::clone(&desk);
    environment.add_function("figure", move |name: String, path: String| own.figure(&name, &path));
    let own = Arc::clone(&desk);
    environment.add_function("stages", move || tables::stages(&own.facts));
    let own = Arc::clone(&desk);
    environment.add_function("files", move || tables::files(&own.facts));

    let template = environment.template_from_named_str(super::PROSE, prose)?;
    let given = context! { name, parameters, megabytes };
    let known: BTreeSet<String> = environment.globals().map(|(name, _)| name.to_owned()).collect();
    let words = ["name", "parameters", "megabytes"];
    for unknown in template.undeclared_variables(false) {
        ensure!(known.contains(&unknown) || words.contains(&unknown.as_str()), "nothing is known of {unknown:?}");
    }
    let captured = template.render_captured(&given)?;
    let draws = captured.state().lookup("draws");
    let draws = draws.and_then(|draws| draws.as_str().map(str::to_owned));
    ensure!(draws.is_some(), "must say what the model draws: {{% set draws = \"…\" %}}");
    let unplaced = desk.unplaced();
    ensure!(
        unplaced.is_empty(),
        "has no place for what was measured: {}; add {{{{ measured(\"{}\") }}}}, or {{{{ rest() }}}} for all",
        unplaced.join(", "),
        unplaced[0]
    );
    Ok(Written { text: captured.into_output(), name, draws: draws.unwrap_or_default(), parameters, megabytes })
}
