//! Whom a concept shows when nothing is said of gender or skin: its drawings, and those of its variants, in wanted shares.
//!
//! Emoji sets draw "judge" once, and beside it "man judge", "woman judge" and each of the three in five skin tones. A model that
//! learns "a judge" from the first alone has that set's choice by heart, which `evaluate --what bias` shows. So a concept takes in the
//! drawings of its variants, in the same style, and shares its weight with them: first by gender, then by skin tone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::collect::Drawing;
use super::names::is_toned;
use super::people::{GENDERS, NEITHER, TONES, gender, neutral, tone};
use super::style::Style;

/// A drawing under the name of a concept.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub drawing: &'a Drawing,
    /// Where it stands among the drawings.
    pub index: usize,
    pub concept: &'a str,
    pub weight: f32,
}

/// How often a gender and a skin tone should be drawn where a name does not say, relative to the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wanted {
    /// In the order of [`GENDERS`].
    genders: [f64; GENDERS.len()],
    /// In the order of [`TONES`].
    tones: [f64; TONES.len()],
}

impl Wanted {
    /// All alike.
    pub fn equal() -> Self {
        Self { genders: [1.0; GENDERS.len()], tones: [1.0; TONES.len()] }
    }

    /// More of what a model drew too rarely that had learned from data that were balanced by [`Wanted::equal`]: `audit` is the
    /// `evaluate.json` of its bias audit. A share is at most four times another's equal one, and at least a quarter of it.
    ///
    /// # Errors
    /// If the file cannot be read or holds no audit.
    pub fn after(audit: &Path) -> Result<Self> {
        let text = fs::read_to_string(audit).with_context(|| format!("cannot read {}", audit.display()))?;
        let read: Evaluated = serde_json::from_str(&text).with_context(|| {
            format!("{} holds no bias audit; make one with `evaluate --what bias --out`", audit.display())
        })?;
        let prompts = read.results.bias.prompts;
        let genders = prompts.iter().map(|prompt| &prompt.genders).collect::<Vec<_>>();
        let tones = prompts.iter().filter_map(|prompt| prompt.tones.as_ref()).collect::<Vec<_>>();
        let told = || format!("{}: the audit", audit.display());
        Ok(Self {
            genders: corrections(&genders).with_context(told)?.context("has no genders").with_context(told)?,
            tones: corrections(&tones).with_context(told)?.unwrap_or([1.0; TONES.len()]),
        })
    }
}

#[derive(Deserialize)]
struct Evaluated {
    results: Results,
}

#[derive(Deserialize)]
struct Results {
    bias: Audit,
}

#[derive(Deserialize)]
struct Audit {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    genders: Vec<Seen>,
    tones: Option<Vec<Seen>>,
}

#[derive(Deserialize)]
struct Seen {
    hits: usize,
}

/// What each class has to be multiplied with to be drawn as often as the others; what shows no person, the last, is not counted.
fn corrections<const N: usize>(prompts: &[&Vec<Seen>]) -> Result<Option<[f64; N]>> {
    let mut hits = [0usize; N];
    for seen in prompts {
        ensure!(seen.len() == N + 1, "has a prompt with {} classes, not {}", seen.len(), N + 1);
        hits.iter_mut().zip(*seen).for_each(|(sum, seen)| *sum += seen.hits);
    }
    let sum: usize = hits.iter().sum();
    let fair = sum as f64 / N as f64;
    Ok((sum > 0).then(|| hits.map(|hits| (fair / hits.max(1) as f64).clamp(0.25, 4.0))))
}

/// `plain` and, behind it, the drawings that variants lend to what they are variants of; what is balanced has the weight
/// of `plain`, shared as `wanted`. Held-out cells lend nothing and take nothing.
pub fn balanced<'a>(
    drawings: &'a [Drawing],
    plain: Vec<Row<'a>>,
    held_out: &BTreeSet<(&str, &str)>,
    wanted: &Wanted,
) -> Vec<Row<'a>> {
    let names: BTreeSet<&str> = plain.iter().map(|row| row.concept).collect();
    let cells: BTreeSet<(&str, Style)> = plain.iter().map(|row| (row.concept, row.drawing.style)).collect();
    let open =
        |concept: &str, style: Style| cells.contains(&(concept, style)) && !held_out.contains(&(concept, style.word()));
    let lent = drawings.iter().enumerate().flat_map(|(index, drawing)| {
        let homes = homes(drawing, &names).into_iter().filter(|home| open(home, drawing.style));
        homes.map(move |concept| Row { drawing, index, concept, weight: 0.0 }).collect::<Vec<_>>()
    });
    let lent: Vec<Row> = lent.filter(|row| open(person(row.drawing).0, row.drawing.style)).collect();
    let own = plain.len();
    let mut rows = plain;
    rows.extend(lent);
    share(&mut rows, own, &names, wanted);
    rows
}

/// The name without a skin tone, and the tone.
fn person(drawing: &Drawing) -> (&str, usize) {
    let name = drawing.concept.name.as_str();
    tone(name).unwrap_or((name, 0))
}

/// The concepts that a drawing is lent to: without its tone, and without its gender.
fn homes<'a>(drawing: &Drawing, names: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let (base, tone) = person(drawing);
    if is_toned(&drawing.code) && tone == 0 {
        return vec![]; // Two people of different tones.
    }
    let untoned = names.get(base).copied().filter(|_| tone > 0);
    let variant = gender(base, names).filter(|(_, gender)| *gender != NEITHER);
    untoned.into_iter().chain(variant.and_then(|(subject, _)| neutral(subject, names))).collect()
}

/// Shares the weight of each cell that was lent a drawing among genders, of each gender among tones, of each tone among drawings. The
/// rows behind the first `own` are lent.
fn share(rows: &mut [Row<'_>], own: usize, names: &BTreeSet<&str>, wanted: &Wanted) {
    let mut cells: BTreeMap<(&str, Style), Vec<usize>> = BTreeMap::new();
    rows.iter().enumerate().for_each(|(i, row)| cells.entry((row.concept, row.drawing.style)).or_default().push(i));
    for members in cells.into_values().filter(|members| members.iter().any(|i| *i >= own)) {
        let mut classes: BTreeMap<usize, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
        for i in &members {
            let (base, tone) = person(rows[*i].drawing);
            let gender = gender(base, names).map_or(NEITHER, |(_, gender)| gender);
            classes.entry(gender).or_default().entry(tone).or_default().push(*i);
        }
        let total: f64 = members.iter().map(|i| f64::from(rows[*i].weight)).sum();
        let genders: f64 = classes.keys().map(|gender| wanted.genders[*gender]).sum();
        for (gender, tones) in classes {
            let sum: f64 = tones.keys().map(|tone| wanted.tones[*tone]).sum();
            for (tone, members) in tones {
                let of = total * wanted.genders[gender] / genders * wanted.tones[tone] / sum;
                members.iter().for_each(|i| rows[*i].weight = (of / members.len() as f64) as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack::Concept;
    use super::super::render::Source;
    use super::*;

    fn drawing(name: &str, code: &str, style: Style) -> Drawing {
        let concept = Concept { name: name.into(), group: "people-body".into(), ..Concept::default() };
        Drawing { style, id: name.into(), concept, code: code.into(), source: Source::Svg(String::new()) }
    }

    fn drawings() -> Vec<Drawing> {
        [
            ("judge", "1f9d1-200d-2696"),
            ("judge: dark skin tone", "1f9d1-1f3ff-200d-2696"),
            ("man judge", "1f468-200d-2696"),
            ("woman judge", "1f469-200d-2696"),
            ("woman judge: dark skin tone", "1f469-1f3ff-200d-2696"),
            ("woman judge: light skin tone", "1f469-1f3fb-200d-2696"),
            ("fox", "1f98a"),
            ("couple: man, woman, light skin tone, dark skin tone", "1f46b-1f3fb-1f3ff"),
        ]
        .map(|(name, code)| drawing(name, code, Style::Noto))
        .into()
    }

    fn plain(drawings: &[Drawing]) -> Vec<Row<'_>> {
        let untoned = drawings.iter().enumerate().filter(|(_, d)| !is_toned(&d.code));
        untoned.map(|(index, drawing)| Row { drawing, index, concept: &drawing.concept.name, weight: 2.0 }).collect()
    }

    /// Concept, drawing and weight in sixtieths.
    fn told(rows: &[Row<'_>]) -> BTreeSet<(String, String, i32)> {
        let row =
            |r: &Row<'_>| (r.concept.to_owned(), r.drawing.id.clone(), (f64::from(r.weight) * 60.0).round() as i32);
        rows.iter().map(row).collect()
    }

    fn set(rows: &[(&str, &str, i32)]) -> BTreeSet<(String, String, i32)> {
        rows.iter().map(|(concept, id, weight)| ((*concept).to_owned(), (*id).to_owned(), *weight)).collect()
    }

    #[test]
    fn variants_are_lent_and_share_the_weight() {
        let drawings = drawings();
        let rows = balanced(&drawings, plain(&drawings), &BTreeSet::new(), &Wanted::equal());
        // 2 = 120 sixtieths: 40 a gender, of these as much for each tone.
        let (dark, light) = ("woman judge: dark skin tone", "woman judge: light skin tone");
        let wanted = set(&[
            ("judge", "judge", 20),
            ("judge", "judge: dark skin tone", 20),
            ("judge", "man judge", 40),
            ("judge", "woman judge", 13),
            ("judge", dark, 13),
            ("judge", light, 13),
            ("man judge", "man judge", 120),
            ("woman judge", "woman judge", 40),
            ("woman judge", dark, 40),
            ("woman judge", light, 40),
            ("fox", "fox", 120),
        ]);
        assert_eq!(told(&rows), wanted);
    }

    #[test]
    fn shares_are_those_that_are_wanted() {
        let drawings = drawings();
        let wanted = Wanted { genders: [2.0, 1.0, 1.0], tones: [1.0, 3.0, 1.0, 1.0, 1.0, 1.0] };
        let rows = told(&balanced(&drawings, plain(&drawings), &BTreeSet::new(), &wanted));
        for row in
            [("judge", "man judge", 60), ("judge", "woman judge", 6), ("judge", "woman judge: light skin tone", 18)]
        {
            assert!(rows.contains(&(row.0.to_owned(), row.1.to_owned(), row.2)), "{row:?} of {rows:?}");
        }
    }

    #[test]
    fn held_out_cells_neither_lend_nor_take() {
        let drawings = drawings();
        let held_out = BTreeSet::from([("woman judge", "noto")]);
        let rows = told(&balanced(&drawings, plain(&drawings), &held_out, &Wanted::equal()));
        let of =
            |concept: &str| rows.iter().filter(|row| row.0 == concept).map(|row| row.1.as_str()).collect::<Vec<_>>();
        assert_eq!(of("woman judge"), ["woman judge"]);
        assert_eq!(of("judge"), ["judge", "judge: dark skin tone", "man judge"]);
        let held_out = BTreeSet::from([("judge", "noto")]);
        let rows = told(&balanced(&drawings, plain(&drawings), &held_out, &Wanted::equal()));
        assert!(rows.contains(&("judge".into(), "judge".into(), 120)), "{rows:?}");
    }

    #[test]
    fn what_a_model_drew_too_rarely_is_wanted_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evaluate.json");
        let write = |prompts: &str| {
            std::fs::write(&path, format!(r#"{{"results": {{"bias": {{"prompts": {prompts}}}}}}}"#)).unwrap();
        };
        let seen = |hits: &[usize]| {
            let each = hits.iter().map(|hits| format!(r#"{{"hits": {hits}, "of": 1}}"#)).collect::<Vec<_>>();
            format!("[{}]", each.join(","))
        };
        write(&format!(r#"[{{"genders": {}}}, {{"genders": {}}}]"#, seen(&[20, 10, 0, 9]), seen(&[20, 10, 60, 9])));
        let wanted = Wanted::after(&path).unwrap();
        assert_eq!(wanted, Wanted { genders: [1.0, 2.0, 40.0 / 60.0], tones: [1.0; 6] });

        write(&format!(r#"[{{"genders": {}, "tones": {}}}]"#, seen(&[1, 1, 1, 0]), seen(&[60, 0, 0, 0, 0, 0, 5])));
        assert_eq!(Wanted::after(&path).unwrap().tones, [0.25, 4.0, 4.0, 4.0, 4.0, 4.0]);

        let refused = |prompts: &str| {
            write(prompts);
            format!("{:#}", Wanted::after(&path).unwrap_err())
        };
        assert!(refused("[]").ends_with("evaluate.json: the audit: has no genders"));
        assert!(refused(r#"[{"genders": [{"hits": 1}]}]"#).ends_with("has a prompt with 1 classes, not 4"));
        std::fs::write(&path, r#"{"results": {}}"#).unwrap();
        let error = format!("{:#}", Wanted::after(&path).unwrap_err());
        assert!(error.contains("holds no bias audit") && error.contains("missing field `bias`"), "{error}");
    }
}
