//! Which words captions leave free, and which ones the tokenizer may learn.

use crate::wordnet::graph::Graph;
use crate::words::{LEADING, Words};
use anyhow::Result;
use rayon::prelude::*;
use std::collections::BTreeSet;

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
        let pieces: BTreeSet<String> = words.pieces().into_iter().collect();
        let plain = |word: &&str| LETTERS.contains(&word.len()) && word.chars().all(|c| c.is_ascii_lowercase());
        let new = |word: &&str| !pieces.contains(*word) && !self.begins_with(word);
        graph.words().into_iter().filter(plain).filter(new).map(str::to_owned).collect()
    }

    /// Whether a caption has a word that begins with `start`: the tokenizer takes the longest piece first.
    fn begins_with(&self, start: &str) -> bool {
        self.words.range(start.to_owned()..).next().is_some_and(|word| word.starts_with(start))
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
        assert_eq!(inner(&[2, 4, 7, 8, 3, 0, 0]), [7, 8]);
        assert_eq!(inner(&[2, 4, 3, 0]), [0i64; 0]);
    }
}
