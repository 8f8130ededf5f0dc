//! `REPORT.md` and `results.json`.

use super::Args;
use super::density::{Mixture, Subject};
use super::folder::{REPORT, RESULTS};
use super::samples::{HIGHEST, LANGEVIN_STEP, LOWEST};
use super::study::{FLOORS, LEVELS, SHOWN, STEPS_PER_LEVEL, Study, Trip, World};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// The lesson's text, with `{{name}}` where a number of the run belongs.
const TEXT: &str = include_str!("report.md");

/// Writes both into the lesson's folder.
///
/// # Errors
/// If a file cannot be written.
pub fn write(args: &Args, world: &World, study: &Study, took: Duration) -> Result<()> {
    let results = serde_json::to_string_pretty(&results(args, world, study, took))?;
    for (name, text) in [(REPORT, text(args, world, study, took)), (RESULTS, results)] {
        let path = args.out.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn text(args: &Args, world: &World, study: &Study, took: Duration) -> String {
    let values = [truth(world), training(args, world, study), judged(world, study), run(args, took)];
    values
        .into_iter()
        .flatten()
        .fold(TEXT.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), &value))
}

type Values = Vec<(&'static str, String)>;

/// What is known before the run.
fn truth(world: &World) -> Values {
    let percent = |subject: Subject| format!("{:.0}", 100.0 * subject.share());
    let last = world.schedule.len() - 1;
    vec![
        ("surface", percent(Subject::Surface)),
        ("light_right", percent(Subject::LightRight)),
        ("light_left", percent(Subject::LightLeft)),
        ("blobs", Mixture::camera().len().to_string()),
        ("last_t", last.to_string()),
        ("timesteps", world.schedule.len().to_string()),
        ("alpha_first", format!("{:.4}", world.schedule.alpha_bar(0))),
        ("alpha_last", format!("{:.5}", world.schedule.alpha_bar(last))),
        ("langevin_step", LANGEVIN_STEP.to_string()),
        ("levels", LEVELS.to_string()),
        ("langevin_steps", STEPS_PER_LEVEL.to_string()),
        ("highest", HIGHEST.to_string()),
        ("lowest", LOWEST.to_string()),
    ]
}

fn training(args: &Args, world: &World, study: &Study) -> Values {
    let row = |cell: &dyn Fn(usize, f64) -> String| {
        study.errors.iter().map(|(t, error)| cell(*t, *error)).collect::<Vec<_>>().join(" | ")
    };
    let (loss, least) = study.last_loss();
    vec![
        ("steps", args.steps.to_string()),
        ("batch", args.batch.to_string()),
        ("parameters", study.learned.0.count().to_string()),
        ("loss", format!("{loss:.4}")),
        ("least", format!("{least:.4}")),
        ("error_times", row(&|t, _| t.to_string())),
        ("error_rules", "---|".repeat(study.errors.len())),
        ("error_sigmas", row(&|t, _| format!("{:.2}", world.schedule.sigma(t)))),
        ("errors", row(&|_, error| format!("{:.1} %", 100.0 * error))),
    ]
}

fn judged(world: &World, study: &Study) -> Values {
    let count = world.truth.len() / 2;
    vec![
        ("few", SHOWN[2].evaluations().to_string()),
        ("many", SHOWN[0].evaluations().to_string()),
        ("count", count.to_string()),
        ("judges", (2 * count).to_string()),
        ("floor", format!("{:.4}", world.floor)),
        ("floor_most", format!("{:.4}", world.floor_most)),
        ("floors", FLOORS.to_string()),
        ("ceiling", format!("{:.4}", world.ceiling.distance)),
        ("table", table(world, study)),
        ("verdict", verdict(world, study)),
    ]
}

fn run(args: &Args, took: Duration) -> Values {
    let command = format!(
        "undiffuse-tools lesson two-pixels --out DIR --steps {} --batch {} --samples {} --seed {} --device {} --threads {}",
        args.steps, args.batch, args.samples, args.seed, args.device, args.threads
    );
    vec![
        ("command", command),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("seed", args.seed.to_string()),
        ("seconds", format!("{:.0}", took.as_secs_f64())),
    ]
}

/// The shown walks and what they are measured against, as a Markdown table.
pub fn table(world: &World, study: &Study) -> String {
    let mut rows = vec![
        "| samples | evaluations | distance | times the floor | exact | odd | surface / right / left |".to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
        known(world, "true pictures", &world.true_quality),
    ];
    rows.extend(study.shown().map(|trip| walked(world, trip)));
    rows.push(known(world, "noise", &world.ceiling));
    rows.join("\n")
}

fn known(world: &World, name: &str, quality: &super::distance::Quality) -> String {
    let (distance, floors) = (quality.distance, quality.distance / world.floor);
    format!("| {name} | | {distance:.4} | {floors:.1} | | {} |", kinds(quality))
}

fn walked(world: &World, trip: &Trip) -> String {
    let (name, evaluations, distance) = (trip.walk.name(), trip.walk.evaluations(), trip.learned.distance);
    let floors = distance / world.floor;
    let (exact, kinds) = (trip.exact.distance, kinds(&trip.learned));
    format!("| {name} | {evaluations} | **{distance:.4}** | {floors:.1} | {exact:.4} | {kinds} |")
}

fn kinds(quality: &super::distance::Quality) -> String {
    let [a, b, c] = quality.shares.map(|share| 100.0 * share);
    format!("{:.1} % | {a:.0} / {b:.0} / {c:.0} %", 100.0 * quality.odd)
}

/// What the table says, in words that follow from its numbers.
fn verdict(world: &World, study: &Study) -> String {
    let words = study.shown().map(|trip| {
        let (name, distance) = (trip.walk.name(), trip.learned.distance);
        format!("* {name}: {}.", place(distance, world.floor, world.floor_most, world.ceiling.distance))
    });
    format!("In words:\n\n{}", words.collect::<Vec<_>>().join("\n"))
}

fn place(distance: f64, floor: f64, floor_most: f64, ceiling: f64) -> String {
    if distance <= floor_most {
        return "by this measure as near to the truth as true pictures are".to_owned();
    }
    if distance >= ceiling {
        return "no nearer to the truth than the noise it started from".to_owned();
    }
    let way = 100.0 * (ceiling - distance) / (ceiling - floor);
    format!("{way:.0} % of the way from noise to the truth, {:.1} times the floor", distance / floor)
}

fn results(args: &Args, world: &World, study: &Study, took: Duration) -> Value {
    let trip = |trip: &Trip| {
        json!({
            "name": trip.walk.name(), "evaluations": trip.walk.evaluations(), "learned": trip.learned, "exact": trip.exact,
        })
    };
    let error = |(t, error): &(usize, f64)| json!({ "timestep": t, "relative_error": error });
    let (loss, least) = study.last_loss();
    json!({
        "version": env!("CARGO_PKG_VERSION"), "seed": args.seed, "steps": args.steps, "batch": args.batch,
        "samples": args.samples, "device": args.device, "threads": args.threads, "seconds": took.as_secs_f64(),
        "parameters": study.learned.0.count(), "loss": loss, "least_loss": least,
        "score_errors": study.errors.iter().map(error).collect::<Vec<_>>(),
        "floor": { "mean": world.floor, "most": world.floor_most }, "truth": world.true_quality, "noise": world.ceiling,
        "samplers": study.trips.iter().map(trip).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_words() {
        let words = |distance| place(distance, 0.02, 0.03, 0.4);
        assert!(words(0.025).contains("as near to the truth as true pictures"));
        assert_eq!(words(0.21), "50 % of the way from noise to the truth, 10.5 times the floor");
        assert!(words(0.5).contains("no nearer"));
    }
}
