//! WordNet's nouns as a graph: the senses of a word, and what is broader and narrower than each.

use super::{Synset, parse};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::path::Path;

/// The synsets of nouns and how they are related.
pub struct Graph {
    pub synsets: Vec<Synset>,
    /// Of each synset, its hypernyms.
    pub broader: Vec<Vec<usize>>,
    /// Of each synset, its hyponyms.
    pub narrower: Vec<Vec<usize>>,
    senses: HashMap<String, Vec<usize>>,
}

impl Graph {
    /// Reads `data.noun` and, beside it, `index.noun` (formats: wndb(5WN)).
    ///
    /// # Errors
    /// If a file cannot be read, or no sense is in it.
    pub fn open(data: &Path) -> Result<Self> {
        let (index, data) = (read(&data.with_file_name("index.noun"))?, read(data)?);
        let lines: Vec<&str> = data.lines().filter(|l| !l.starts_with(' ')).collect();
        let known: Vec<(&str, Synset, &str)> =
            lines.iter().filter_map(|l| Some((l.split_once(' ')?.0, parse(l)?, *l))).collect();
        let places: HashMap<&str, usize> = known.iter().enumerate().map(|(i, (offset, ..))| (*offset, i)).collect();
        let all = |symbols: [&str; 2]| known.iter().map(|(.., line)| pointers(line, symbols, &places)).collect();
        let (broader, narrower) = (all(["@", "@i"]), all(["~", "~i"]));
        let senses: HashMap<String, Vec<usize>> = index.lines().filter_map(|l| entry(l, &places)).collect();
        ensure!(!senses.is_empty(), "index.noun, beside data.noun, has no noun of it");
        Ok(Self { synsets: known.into_iter().map(|(_, synset, _)| synset).collect(), broader, narrower, senses })
    }

    /// The synsets of a word or collocation, the most frequent first.
    pub fn senses(&self, word: &str) -> &[usize] {
        self.senses.get(word).map_or(&[], Vec::as_slice)
    }

    /// Those of the name of a thing or, where WordNet does not know it, of its last word: a crescent moon is a moon.
    pub fn senses_of_name(&self, name: &str) -> &[usize] {
        match self.senses(name) {
            [] => self.senses(name.rsplit(' ').next().unwrap_or_default()),
            own => own,
        }
    }

    /// Every word and collocation, in alphabetical order.
    pub fn words(&self) -> Vec<&str> {
        let mut words: Vec<&str> = self.senses.keys().map(String::as_str).collect();
        words.sort_unstable();
        words
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `… count(decimal) symbol offset class source/target …` after the words.
fn pointers(line: &str, symbols: [&str; 2], places: &HashMap<&str, usize>) -> Vec<usize> {
    let fields: Vec<&str> = line.split(" | ").next().unwrap_or(line).split(' ').collect();
    let words = fields.get(3).and_then(|n| usize::from_str_radix(n, 16).ok()).unwrap_or(0);
    let from = (4 + 2 * words + 1).min(fields.len());
    let wanted = |p: &&[&str]| symbols.contains(&p[0]) && p[2] == "n";
    fields[from..].chunks_exact(4).filter(wanted).filter_map(|p| places.get(p[1]).copied()).collect()
}

/// `word n senses pointers symbol … senses tagged offset …`
fn entry(line: &str, places: &HashMap<&str, usize>) -> Option<(String, Vec<usize>)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let count: usize = fields.get(2).filter(|_| !line.starts_with(' '))?.parse().ok()?;
    let offsets = &fields[fields.len().checked_sub(count)?..];
    let senses: Vec<usize> = offsets.iter().filter_map(|o| places.get(o).copied()).collect();
    (!senses.is_empty()).then(|| (fields[0].replace('_', " "), senses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senses_are_in_order_and_pointers_lead_to_synsets() {
        let folder = tempfile::tempdir().unwrap();
        let data = "  1 This software\n\
            00000010 05 n 01 fox 0 002 @ 00000030 n 0000 ~ 00000020 n 0000 | a wild animal  \n\
            00000020 05 n 02 vixen 0 she-fox 0 002 @ 00000010 n 0000 + 00000010 v 0101 | a female fox  \n\
            00000030 05 n 01 wild_animal 0 001 ~ 00000010 n 0000 | not tame  \n\
            00000040 18 n 01 fox 1 001 @i 00000030 n 0000 | a shifty person  \n";
        std::fs::write(folder.path().join("data.noun"), data).unwrap();
        let index = "  1 This software\nfox n 2 2 @ ~ 2 1 00000040 00000010  \nwild_animal n 1 1 ~ 1 0 00000030  \n";
        std::fs::write(folder.path().join("index.noun"), index).unwrap();
        let graph = Graph::open(&folder.path().join("data.noun")).unwrap();
        assert_eq!(graph.words(), ["fox", "wild animal"]);
        assert_eq!((graph.senses("fox"), graph.senses("vixen")), ([3, 0].as_slice(), [].as_slice()));
        assert_eq!(
            (graph.senses_of_name("grey fox"), graph.senses_of_name("wild animal")),
            ([3, 0].as_slice(), [2].as_slice())
        );
        assert_eq!(graph.synsets.iter().map(Synset::is_person).collect::<Vec<_>>(), [false, false, false, true]);
        assert_eq!(graph.broader, [vec![2], vec![0], vec![], vec![2]]);
        assert_eq!(graph.narrower, [vec![1], vec![], vec![0], vec![]]);
        assert_eq!(graph.synsets[1].gloss, "a female fox");
        std::fs::remove_file(folder.path().join("index.noun")).unwrap();
        let error = Graph::open(&folder.path().join("data.noun")).err().unwrap().to_string();
        assert!(error.contains("index.noun"), "{error}");
    }
}
