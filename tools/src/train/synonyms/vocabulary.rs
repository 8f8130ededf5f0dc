//! Which words captions leave free, and which ones the tokenizer may learn.

use crate::wordnet::graph::Graph;
use crate::words::{LEADING, Words};
use anyhow::Result;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Letters of a word that is added.
const LETTERS: std::ops::RangeInclusive<usize> = 3..=14;

/// What captions are made of.
pub struct Said {
    /// Ids of word pieces.
    pieces: BTreeSet<i64>,
    /// Lower-case words.
    words: BTreeSet<String>,
}

impl Said {
    pub fn new(words: &Words, texts: &[String]) -> Result<Self> {
        let ids: Vec<Vec<i64>> = texts.par_iter().map(|text| words.ids(text)).collect::<Result<_>>()?;
        let split = |text: &String| {
            text.to_lowercase().split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect::<Vec<_>>()
        };
        Ok(Self { pieces: ids.into_iter().flatten().collect(), words: texts.iter().flat_map(split).collect() })
    }

    /// Whole words of the tokenizer that stand in no caption.
    pub fn free(&self, words: &Words) -> Vec<String> {
        let whole = |(id, piece): &(i64, String)| {
            !self.pieces.contains(id) && piece.len() > 1 && piece.chars().all(|c| c.is_ascii_lowercase())
        };
        (0..).zip(words.pieces()).filter(whole).map(|(_, piece)| piece).collect()
    }

    /// Nouns that the tokenizer spells from pieces, and could learn without spelling any caption in another way.
    pub fn unknown(&self, words: &Words, graph: &Graph) -> Vec<String> {
        self.new_among(words, graph.words().into_iter().map(str::to_owned))
    }

    /// The plurals of nouns, as far as the tokenizer spells them from pieces and could learn them likewise, beside what each is a plural of.
    pub fn plurals(&self, words: &Words, graph: &Graph, nouns: &[(String, String)]) -> Vec<(String, String)> {
        let of: BTreeMap<String, &String> = nouns.iter().map(|(noun, means)| (plural(noun), means)).collect();
        let own = of.keys().filter(|word| graph.senses(word).is_empty()).cloned();
        self.new_among(words, own).into_iter().map(|word| (word.clone(), of[&word].clone())).collect()
    }

    fn new_among(&self, words: &Words, all: impl Iterator<Item = String>) -> Vec<String> {
        let pieces: BTreeSet<String> = words.pieces().into_iter().collect();
        let plain = |word: &String| LETTERS.contains(&word.len()) && word.chars().all(|c| c.is_ascii_lowercase());
        all.filter(plain).filter(|word| !pieces.contains(word) && !self.begins_with(word)).collect()
    }

    /// Whether a caption has a word that begins with `start`: the tokenizer takes the longest piece first.
    fn begins_with(&self, start: &str) -> bool {
        self.words.range(start.to_owned()..).next().is_some_and(|word| word.starts_with(start))
    }
}

/// More than one of a noun.
fn plural(noun: &str) -> String {
    let hisses = ["s", "x", "z", "ch", "sh"].iter().any(|end| noun.ends_with(end));
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ if hisses => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

/// The ids of the words alone, of ids that are not cut.
pub fn inner(ids: &[i64]) -> &[i64] {
    let end = ids.iter().rposition(|id| *id != 0).unwrap_or(0);
    ids.get(LEADING..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{SPECIAL, describe};

    #[test]
    fn free_words_stand_in_no_caption_and_new_ones_begin_none() {
        let pieces = SPECIAL.iter().copied().chain(["fox", "hound", "fire", "##fly", "a", "re", "##d"]);
        let words = Words::from_json(&describe(&pieces.map(str::to_owned).zip(0..).collect())).unwrap();
        let said = Said::new(&words, &["A fox".into(), "firefly, red".into()]).unwrap();
        assert_eq!(said.free(&words), ["hound"]);
        let folder = tempfile::tempdir().unwrap();
        let nouns = ["vixen", "fir", "hound", "red", "ab", "fire engine", "fireflys"];
        let lines = |of: &dyn Fn(usize, &str) -> String| -> String {
            nouns.iter().enumerate().map(|(i, n)| of(i, &n.replace(' ', "_")) + "\n").collect()
        };
        let path = folder.path().join("data.noun");
        std::fs::write(&path, lines(&|i, n| format!("0000000{i} 05 n 01 {n} 0 000 | a thing  "))).unwrap();
        std::fs::write(folder.path().join("index.noun"), lines(&|i, n| format!("{n} n 1 0 1 0 0000000{i}"))).unwrap();
        assert_eq!(said.unknown(&words, &Graph::open(&path).unwrap()), ["fireflys", "vixen"]);
        let graph = Graph::open(&path).unwrap();
        let nouns = ["fox", "hound", "firefly", "vixen"].map(|n| (n.to_owned(), "fox".to_owned()));
        let plurals = said.plurals(&words, &graph, &nouns);
        assert_eq!(
            plurals.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>(),
            ["fireflies", "foxes", "hounds", "vixens"]
        );
        assert!(plurals.iter().all(|(_, means)| means == "fox"));
        let caption = Said::new(&words, &["two foxes".into()]).unwrap();
        assert!(!caption.plurals(&words, &graph, &nouns).iter().any(|(word, _)| word == "foxes"), "a caption has it");
        assert_eq!(["bus", "key", "pony"].map(plural), ["buses", "keys", "ponies"]);
        assert_eq!(inner(&[2, 4, 7, 8, 3, 0, 0]), [7, 8]);
        assert_eq!(inner(&[2, 4, 3, 0]), [0i64; 0]);
    }
}
