//! Retrieval for prompts that stand in no caption: other words for a concept, in the shipped style, among the real Noto drawings of 400
//! concepts. The concept's own name, and its real drawing, stand beside them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde_json::{Map, json};

use super::cells::{self, CONCEPTS, Row};
use super::gallery::Gallery;
use super::lab::Lab;
use super::report::{Section, Table};
use crate::dataset::pack::Concept;
use crate::dataset::style::SHIPPED;

/// A line each: the name of a concept and other words for it, separated by a tab.
const LIST: &str = include_str!("paraphrases.tsv");

/// Other words for a concept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Paraphrase<'a> {
    name: &'a str,
    words: &'a str,
}

/// Asks for each paraphrase whose concept has drawings to be found by.
///
/// # Errors
/// If a paraphrase stands in a caption, no concept of the list is there, or a picture cannot be made.
pub fn measure(lab: &mut Lab) -> Result<Section> {
    let list: Vec<Paraphrase> = LIST.lines().filter_map(row).collect();
    let said = list.iter().filter_map(|p| Some((p, said_by(p.words, lab.data.concepts())?)));
    let refused: Vec<String> = said.map(|(p, by)| format!("{:?} for {:?} (in {by:?})", p.words, p.name)).collect();
    ensure!(refused.is_empty(), "these paraphrases stand in captions of the data: {}", refused.join(", "));

    let (rows, noto, shipped) = (lab.rows(), lab.gallery_style()?, lab.style(SHIPPED)?);
    let cells = drawn(&rows, [noto, shipped]);
    let names: BTreeMap<String, usize> = lab.names().into_iter().zip(0..).collect();
    let known = |p: &Paraphrase<'static>| Some((*p, *cells.get(names.get(p.name)?)?));
    let asked: Vec<(Paraphrase, [Row; 2])> = list.iter().filter_map(known).collect();
    ensure!(!asked.is_empty(), "{} has no concept of the list of paraphrases", lab.args.data.display());
    let gallery = gallery(lab, &rows, asked.iter().map(|(_, [noto, _])| *noto).collect())?;

    let concepts = || asked.iter().map(|(_, [noto, _])| noto.concept);
    let real = gallery.score(&lab.features_of(&asked.iter().map(|(_, rows)| rows[1]).collect::<Vec<_>>())?, concepts());
    let mut table = Table::new(["prompts", "n", "top-1", "top-5"]);
    let mut figures = Map::new();
    for (what, prompts) in [
        ("paraphrases", asked.iter().map(|(p, _)| p.words.to_owned()).collect::<Vec<_>>()),
        ("names", asked.iter().map(|(p, _)| p.name.to_owned()).collect()),
    ] {
        let made = lab.make(&prompts)?;
        let score = gallery.score(&lab.net.of(&made.pictures)?, lab.args.seeds.iter().flat_map(|_| concepts()));
        table.push([what.to_owned()].iter().chain(&score.row()));
        figures.insert(what.into(), json!({ "made": score.json(), "prompts": prompts, "made_with": made.with }));
    }
    table.push(["(real drawings)".to_owned()].iter().chain(&real.row()));
    figures.insert("real".into(), real.json());
    figures.insert("gallery".into(), json!(gallery.names(lab)));
    let title = format!("Paraphrases that stand in no caption, among {} real drawings", gallery.concepts.len());
    Ok(Section::new("paraphrases", title, table, figures.into()))
}

fn row(line: &str) -> Option<Paraphrase<'_>> {
    let (name, words) = line.split_once('\t')?;
    Some(Paraphrase { name, words })
}

/// The first picture in each of two styles, by concept, for the concepts that have both.
fn drawn(rows: &[Row], styles: [usize; 2]) -> BTreeMap<usize, [Row; 2]> {
    let firsts = styles.map(|style| {
        let mut first: BTreeMap<usize, Row> = BTreeMap::new();
        rows.iter().filter(|row| row.style == style).for_each(|row| _ = first.entry(row.concept).or_insert(*row));
        first
    });
    let both = |(concept, row): (&usize, &Row)| Some((*concept, [*row, *firsts[1].get(concept)?]));
    firsts[0].iter().filter_map(both).collect()
}

/// The drawings to be found, and as many others as make a gallery.
fn gallery(lab: &mut Lab, rows: &[Row], mut wanted: Vec<Row>) -> Result<Gallery> {
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    wanted.retain(|row| seen.insert(row.concept));
    let others = cells::choose(rows, &lab.names(), lab.gallery_style()?, CONCEPTS, 0, lab.args.cells_seed).gallery;
    let missing = CONCEPTS.saturating_sub(wanted.len());
    wanted.extend(others.into_iter().filter(|row| !seen.contains(&row.concept)).take(missing));
    Gallery::of(lab, &wanted)
}

/// The name or keyword in which `words` stand, next to each other and in this order. Captions hold nothing but names, keywords, and
/// words that all captions share.
fn said_by<'a>(words: &str, concepts: &'a [Concept]) -> Option<&'a str> {
    let words = spelt(words);
    let texts = concepts.iter().flat_map(|c| std::iter::once(&c.name).chain(&c.keywords));
    texts.map(String::as_str).find(|text| spelt(text).contains(&words))
}

/// Lower case, a space around every word, no punctuation.
fn spelt(text: &str) -> String {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    format!(" {} ", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_well_formed() {
        let mut seen = BTreeSet::new();
        for line in LIST.lines() {
            let Paraphrase { name, words } = row(line).unwrap_or_else(|| panic!("{line}"));
            assert!(!name.is_empty() && words == words.to_lowercase() && !words.contains('\t'), "{line}");
            assert!(!spelt(name).contains(&spelt(words)), "{line}: the name says it");
            assert!(seen.insert(words) && seen.insert(name), "{line}: stands there twice");
        }
        assert!(seen.len() > 200, "{} words and names", seen.len());
    }

    #[test]
    fn what_captions_say_is_found() {
        let keywords = vec!["puppy".to_owned(), "pet".to_owned()];
        let dog = Concept { name: "dog face".into(), keywords, ..Concept::default() };
        let concepts = [Concept { name: "e-mail".into(), ..Concept::default() }, dog];
        assert_eq!(said_by("Puppy", &concepts), Some("puppy"));
        assert_eq!(said_by("face", &concepts), Some("dog face"));
        assert_eq!(said_by("e mail", &concepts), Some("e-mail"));
        assert_eq!(["pup", "pooch", "face dog"].map(|words| said_by(words, &concepts)), [None; 3]);
    }

    #[test]
    fn concepts_need_a_drawing_in_both_styles() {
        let row = |picture, concept, style| Row { picture, concept, style, held_out: false };
        let rows = [row(0, 0, 1), row(1, 0, 3), row(2, 1, 1), row(3, 2, 3), row(4, 0, 3)];
        assert_eq!(drawn(&rows, [3, 1]), BTreeMap::from([(0, [rows[1], rows[0]])]));
    }
}
