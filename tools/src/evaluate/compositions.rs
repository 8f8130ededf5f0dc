//! Does the model put together what a prompt puts together: colour of the object, colour of the background, two objects, which of them
//! is left? After GenEval (Ghosh et al. 2023), on 40 things, and judged by a small classifier whose own accuracy, on real composites of
//! drawings that it was not fitted to, stands beside the model's.

mod judge;
mod look;
mod tasks;
mod things;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use undiffuse::pipeline::Picture;

use super::lab::{Lab, picture};
use super::report::{Section, Table};
use super::retrieval::Share;
use super::sheet::tiled;
use crate::dataset::pack::SIDE;
use crate::dataset::scene::Scene;
use crate::dataset::style::SHIPPED;
use crate::draws::{Draws, mix};
use judge::{Judge, Verdict};
use tasks::{Asked, Task};
use things::THINGS;

/// Prompts of each task.
const EACH: usize = 50;
/// A thing needs so many drawings in other styles for the judge to be fitted to, and there must be so many things.
const DRAWINGS: usize = 3;
const FEWEST: usize = 10;
/// Pictures a row of the sheet.
const COLUMNS: usize = 25;

/// Asks for 200 compositions, and writes compositions.png, two rows a task.
///
/// # Errors
/// If the data lacks most of the things, or a picture cannot be made.
pub fn measure(lab: &mut Lab) -> Result<Section> {
    let things = known(lab)?;
    let (shipped, others): (Vec<usize>, Vec<Vec<usize>>) = things.into_iter().map(|t| (t.shipped, t.others)).unzip();
    let mut draws = Draws::new(mix(lab.args.cells_seed, "compositions"));
    let asked = tasks::asked(&lab.data, &shipped, EACH, &mut draws)?;
    let judge = Judge::fit(&lab.data, &others, &mut lab.net, &mut draws)?;

    let render = |scene: &dyn Fn(&Asked) -> Scene| -> Result<Vec<Picture>> {
        asked.iter().map(|a| picture(scene(a).render(&lab.data))).collect()
    };
    let (real, wrong) = (render(&|a| a.real.clone())?, render(&|a| a.wrong.clone())?);
    let prompts: Vec<String> = asked.iter().map(|a| a.prompt.clone()).collect();
    let made = lab.make(&prompts)?;
    let path = lab.args.out.join("compositions.png");
    tiled(&made.pictures, COLUMNS, SIDE)?.save(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let truths = |times: usize| (0..times).flat_map(|_| asked.iter().map(|a| &a.truth));
    let verdicts = [
        judge.judge(&made.pictures, truths(lab.args.seeds.len()), &mut lab.net)?,
        judge.judge(&real, truths(1), &mut lab.net)?,
        judge.judge(&wrong, truths(1), &mut lab.net)?,
    ];

    let tasks: Vec<Task> = asked.iter().map(|a| a.task).collect();
    let (table, rows) = table(&tasks, &verdicts);
    let figures = json!({ "tasks": rows, "prompts": prompts, "made_right": verdicts[0].iter().map(|v| v.right).collect::<Vec<_>>(),
        "real_right": verdicts[1].iter().map(|v| v.right).collect::<Vec<_>>(), "things": shipped.len(), "made_with": made.with });
    let title = format!("Compositions of {} things, each judged among all of them", shipped.len());
    let section = Section::new("compositions", title, table, figures).note(
        "Judge: share of real composites, of drawings that it was not fitted to, that it finds right; accepted: share of those that differ \
         from the prompt in what is tested.",
    );
    Ok(section.note(
        "No combination is held out: training scenes are drawn at random from the same things and colours, so that a thing in a colour or on \
         one was probably met, a given pair of things probably not.",
    ))
}

/// A thing's drawing in the shipped style, and those in other styles.
struct Thing {
    shipped: usize,
    others: Vec<usize>,
}

/// The things that the data has enough of.
fn known(lab: &Lab) -> Result<Vec<Thing>> {
    let shipped = lab.style(SHIPPED)?;
    let mut drawings: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for row in lab.rows().iter().filter(|row| !row.held_out) {
        drawings.entry(lab.name(row.concept)).or_default().push(row.picture);
    }
    let thing = |name: &&str| {
        let (own, others): (Vec<usize>, Vec<usize>) =
            drawings.get(name)?.iter().partition(|picture| lab.data.style(**picture) == shipped);
        (others.len() >= DRAWINGS).then_some(Thing { shipped: *own.first()?, others })
    };
    let known: Vec<Thing> = THINGS.iter().filter_map(thing).collect();
    ensure!(known.len() >= FEWEST, "{} has only {} of the things", lab.args.data.display(), known.len());
    Ok(known)
}

/// A row a task and one for all: what of the made, the real and the wrong pictures was judged right.
fn table(tasks: &[Task], verdicts: &[Vec<Verdict>; 3]) -> (Table, Vec<serde_json::Value>) {
    let share = |of: &[Verdict], task: Option<Task>, hit: fn(&Verdict) -> bool| {
        let wanted = of.iter().enumerate().filter(|(i, _)| task.is_none_or(|t| tasks[i % tasks.len()] == t));
        let hits: Vec<bool> = wanted.map(|(_, verdict)| hit(verdict)).collect();
        Share::new(hits.iter().filter(|hit| **hit).count(), hits.len())
    };
    let mut table = Table::new(["asked", "n", "right", "the thing, or one of two", "judge", "accepted"]);
    let mut rows = vec![];
    for task in Task::ALL.into_iter().map(Some).chain([None]) {
        let [made, real, wrong] = [0, 1, 2].map(|i| share(&verdicts[i], task, |v| v.right));
        let thing = share(&verdicts[0], task, |v| v.thing);
        let name = task.map_or("all", Task::name);
        let percent = |share: &Share| format!("{:.0} %", share.percent);
        table.push([
            name,
            &made.of.to_string(),
            &made.to_string(),
            &percent(&thing),
            &percent(&real),
            &percent(&wrong),
        ]);
        rows.push(json!({ "asked": name, "made": made, "thing": thing, "real": real, "wrong": wrong }));
    }
    (table, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_by_task_and_go_on_over_seeds() {
        let yes = Verdict { thing: true, right: true };
        let half = Verdict { thing: true, right: false };
        let no = Verdict::default();
        let tasks = [Task::Colour, Task::LeftRight];
        // Two seeds: colour right and half right, sides wrong twice.
        let (_, rows) = table(&tasks, &[vec![yes, no, half, no], vec![yes, yes], vec![no, yes]]);
        let hits = |row: usize, what: &str| {
            (rows[row][what]["hits"].as_u64().unwrap(), rows[row][what]["of"].as_u64().unwrap())
        };
        assert_eq!(
            [hits(0, "made"), hits(0, "thing"), hits(0, "real"), hits(0, "wrong")],
            [(1, 2), (2, 2), (1, 1), (0, 1)]
        );
        assert_eq!([hits(3, "made"), hits(3, "wrong")], [(0, 2), (1, 1)]);
        assert_eq!([hits(4, "made"), hits(4, "real")], [(1, 4), (2, 2)]);
    }

    #[test]
    fn no_thing_stands_there_twice() {
        assert!(THINGS.iter().enumerate().all(|(i, name)| !THINGS[..i].contains(name)));
    }
}
