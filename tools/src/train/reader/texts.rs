//! What a reader learns from: nouns of things, their definitions, and parts of these.

use crate::draws::Draws;
use crate::wordnet::graph::Graph;
use std::collections::{BTreeMap, BTreeSet};

/// What can be drawn lies below this noun.
const ROOT: &str = "physical entity";
/// Parts of a definition, and the words of one.
const PARTS: usize = 2;
const WORDS: std::ops::RangeInclusive<usize> = 2..=7;

/// `most` of them and the synsets that they are of, chosen by `seed`, each once.
pub fn of(graph: &Graph, most: usize, seed: u64) -> Vec<(String, usize)> {
    let mut draws = Draws::new(seed);
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    for synset in below(graph) {
        said(graph, synset, &mut draws).into_iter().for_each(|text| _ = all.entry(text).or_insert(synset));
    }
    let all: Vec<(String, usize)> = all.into_iter().collect();
    draws.some(most, all.len()).into_iter().map(|i| all[i].clone()).collect()
}

/// The synsets below [`ROOT`].
fn below(graph: &Graph) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: Vec<usize> = graph.senses(ROOT).to_vec();
    while let Some(synset) = open.pop() {
        if found.insert(synset) {
            open.extend(&graph.narrower[synset]);
        }
    }
    found
}

/// Words, definition, and parts of it.
fn said(graph: &Graph, synset: usize, draws: &mut Draws) -> Vec<String> {
    let synset = &graph.synsets[synset];
    let words: Vec<&str> =
        synset.gloss.split(|c: char| !c.is_alphanumeric() && c != '-').filter(|w| !w.is_empty()).collect();
    let part = |_| {
        let count = (WORDS.start() + draws.below(WORDS.end() - WORDS.start() + 1)).min(words.len());
        let from = draws.below(words.len() - count + 1);
        words[from..from + count].join(" ")
    };
    let parts: Vec<String> = (0..PARTS).map(part).filter(|part| !part.is_empty()).collect();
    synset.words.iter().cloned().chain([synset.gloss.clone()]).chain(parts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_definitions_and_parts_of_things_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let data = "00000001 03 n 01 physical_entity 0 001 ~ 00000002 n 0000 | that exists  \n\
            00000002 05 n 02 vixen 0 she-fox 0 001 @ 00000001 n 0000 | a female fox of the woods; \"a sly vixen\"  \n\
            00000003 09 n 01 thought 0 000 | what is in the mind  \n";
        std::fs::write(folder.path().join("data.noun"), data).unwrap();
        std::fs::write(folder.path().join("index.noun"), "physical_entity n 1 1 ~ 1 0 00000001  \n").unwrap();
        let graph = Graph::open(&folder.path().join("data.noun")).unwrap();
        let told = of(&graph, 100, 1);
        assert!(told.contains(&("vixen".to_owned(), 1)));
        let all: Vec<&str> = told.iter().map(|(text, _)| text.as_str()).collect();
        for text in ["vixen", "she-fox", "a female fox of the woods", "physical entity"] {
            assert_eq!(all.iter().filter(|t| **t == text).count(), 1, "{text}");
        }
        let parts = all.iter().filter(|t| "a female fox of the woods".contains(*t) && t.contains(' ')).count();
        assert!((2..=3).contains(&parts), "{all:?}");
        assert!(!all.iter().any(|t| t.contains("mind") || t.contains("sly")), "{all:?}");
        assert_eq!(of(&graph, 3, 1).len(), 3);
        assert_eq!(of(&graph, 3, 1), of(&graph, 3, 1));
    }
}
