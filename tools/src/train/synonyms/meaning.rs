//! What a word means: WordNet says which concepts are near, MiniLM which of them it is.

use crate::dataset::pack::Concept;
use crate::wordnet::graph::Graph;
use anyhow::Result;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use tch::{Kind, Tensor};

/// A step to a broader synset, in [`STEP`]s of ten; one to a narrower synset is two of them.
const BROADER: u32 = 10;
const NARROWER: u32 = 20;
/// How far a concept is sought.
const REACH: u32 = 45;
/// As far as this is a concept that is not found.
const FAR: u32 = 50;
/// What a tenth of a step costs, in cosine.
const STEP: f64 = 0.008;
/// What every rarer sense of a word costs.
const RARER: f64 = 0.06;
/// Senses of a word that are looked at.
const SENSES: usize = 3;
/// A name means the sense whose definition is nearest to it, and others up to so much farther.
const AKIN: f64 = 0.15;
/// Tenths of a step that a cosine of 1 below the nearest definition is.
const DOUBT: f64 = 100.0;
/// A keyword of at most so many concepts stands for them.
const SHARED: usize = 2;

/// Concepts, and where they lie in WordNet.
pub struct Meaning<'a> {
    graph: &'a Graph,
    /// Of a synset, its concepts, and how far they are from it.
    anchors: HashMap<usize, Vec<(usize, u32)>>,
    /// `(width, N)`: unit vectors of the names.
    names: Tensor,
}

/// The concept that a word means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meant {
    pub concept: usize,
    /// The cosine less what the distance costs.
    pub score: f64,
    /// Whether WordNet has the word.
    pub noun: bool,
}

impl<'a> Meaning<'a> {
    /// `sentences` gives unit vectors of texts, `(N, width)`.
    pub fn new(
        graph: &'a Graph,
        concepts: &[Concept],
        sentences: &dyn Fn(&[String]) -> Result<Tensor>,
    ) -> Result<Self> {
        let said = said(concepts);
        let mut synsets: Vec<usize> = said.iter().flat_map(|(_, word, _)| graph.senses(word)).copied().collect();
        synsets.sort_unstable();
        synsets.dedup();
        let names: Vec<String> = concepts.iter().map(|c| c.name.clone()).collect();
        let described: Vec<String> = concepts
            .iter()
            .map(|c| [&c.name].into_iter().chain(&c.keywords).cloned().collect::<Vec<_>>().join(", "))
            .collect();
        let described = sentences(&described)?;
        let glosses: Vec<String> = synsets.iter().map(|s| gloss(graph, *s)).collect();
        let glosses = if glosses.is_empty() { described.narrow(0, 0, 0) } else { sentences(&glosses)? };
        let mut anchors: HashMap<usize, Vec<(usize, u32)>> = HashMap::new();
        for (concept, word, away) in said {
            let senses = graph.senses(word);
            let rows: Vec<i64> =
                senses.iter().filter_map(|s| synsets.binary_search(s).ok()).map(|i| i as i64).collect();
            if rows.is_empty() {
                continue;
            }
            let near = glosses.index_select(0, &Tensor::from_slice(&rows).to_device(glosses.device()));
            let near: Vec<f32> = Vec::try_from(near.matmul(&described.get(concept as i64)))?;
            let best = near.iter().copied().fold(f32::MIN, f32::max);
            for (sense, cosine) in senses.iter().zip(near) {
                let less = f64::from(best - cosine);
                if less < AKIN {
                    anchors.entry(*sense).or_default().push((concept, away + (DOUBT * less) as u32));
                }
            }
        }
        Ok(Self { graph, anchors, names: sentences(&names)?.transpose(0, 1) })
    }

    /// Whether a concept lies near a sense of the word.
    pub fn reaches(&self, word: &str) -> bool {
        self.graph.senses(word).iter().take(SENSES).any(|sense| !self.near(*sense).is_empty())
    }

    /// The concept of each word.
    pub fn of(&self, words: &[String], sentences: &dyn Fn(&[String]) -> Result<Tensor>) -> Result<Vec<Meant>> {
        let senses = |word: &String| self.graph.senses(word).iter().copied().take(SENSES).collect::<Vec<_>>();
        let mut synsets: Vec<usize> = words.iter().flat_map(senses).collect();
        synsets.sort_unstable();
        synsets.dedup();
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let own = sentences(words)?;
        let glosses: Vec<String> = synsets.iter().map(|s| gloss(self.graph, *s)).collect();
        let glosses = if glosses.is_empty() { own.narrow(0, 0, 0) } else { sentences(&glosses)? };
        let mut found = Vec::with_capacity(words.len());
        for (i, word) in words.iter().enumerate() {
            let own = own.narrow(0, i as i64, 1);
            let senses = senses(word);
            if senses.is_empty() {
                let (score, concept) = own.matmul(&self.names).max_dim(1, false);
                let concept = concept.int64_value(&[0]) as usize;
                found.push(Meant { concept, score: score.double_value(&[0]), noun: false });
                continue;
            }
            let rows: Vec<i64> =
                senses.iter().filter_map(|s| synsets.binary_search(s).ok()).map(|i| i as i64).collect();
            let rows = glosses.index_select(0, &Tensor::from_slice(&rows).to_device(glosses.device()));
            found.push(self.best(&senses, &((rows + own) * 0.5).matmul(&self.names))?);
        }
        Ok(found)
    }

    /// The best concept for senses with the cosines `(senses, N)` to the names.
    fn best(&self, senses: &[usize], cosines: &Tensor) -> Result<Meant> {
        let mut best = Meant { concept: 0, score: f64::MIN, noun: true };
        for (rank, sense) in senses.iter().enumerate() {
            let cosines: Vec<f32> = Vec::try_from(cosines.get(rank as i64).to_kind(Kind::Float))?;
            let near = self.near(*sense);
            for (concept, cosine) in cosines.iter().enumerate() {
                let away = near.get(&concept).copied().unwrap_or(FAR).min(FAR);
                let score = f64::from(*cosine) - STEP * f64::from(away) - RARER * rank as f64;
                if score > best.score {
                    best = Meant { concept, score, noun: true };
                }
            }
        }
        Ok(best)
    }

    /// Concepts up, or up and then down, from a synset, and how far they are (Dijkstra).
    fn near(&self, synset: usize) -> HashMap<usize, u32> {
        let mut found: HashMap<usize, u32> = HashMap::new();
        let mut seen = HashSet::new();
        let mut heap = BinaryHeap::from([Reverse((0, synset, false))]);
        while let Some(Reverse((away, synset, down))) = heap.pop() {
            if away > REACH || !seen.insert((synset, down)) {
                continue;
            }
            for (concept, more) in self.anchors.get(&synset).into_iter().flatten() {
                let least = found.entry(*concept).or_insert(u32::MAX);
                *least = (*least).min(away + more);
            }
            if !down {
                heap.extend(self.graph.broader[synset].iter().map(|s| Reverse((away + BROADER, *s, false))));
            }
            heap.extend(self.graph.narrower[synset].iter().map(|s| Reverse((away + NARROWER, *s, true))));
        }
        found
    }
}

fn gloss(graph: &Graph, synset: usize) -> String {
    let synset = &graph.synsets[synset];
    format!("{}: {}", synset.words.first().map_or("", String::as_str), synset.gloss)
}

/// Concepts, words that stand for them, and how far away these are: the name; the last word of a name that is no noun; rare keywords.
fn said(concepts: &[Concept]) -> Vec<(usize, &str, u32)> {
    let names: HashSet<&str> = concepts.iter().map(|c| c.name.as_str()).collect();
    let mut shared: HashMap<&str, usize> = HashMap::new();
    for keyword in concepts.iter().flat_map(|c| &c.keywords) {
        *shared.entry(keyword).or_default() += 1;
    }
    let mut said = Vec::new();
    for (i, concept) in concepts.iter().enumerate() {
        said.push((i, concept.name.as_str(), 0));
        let last = concept.name.rsplit(' ').next().unwrap_or_default();
        said.extend((!names.contains(last)).then_some((i, last, BROADER)));
        let rare = |k: &&String| shared[k.as_str()] <= SHARED && !names.contains(k.as_str());
        said.extend(concept.keywords.iter().filter(rare).map(|k| (i, k.as_str(), BROADER)));
    }
    said
}
