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

/// Gives unit vectors of texts, `(N, width)`.
pub type Vectors<'a> = &'a dyn Fn(&[String]) -> Result<Tensor>;

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

/// Vectors of definitions, each read once.
pub struct Glosses {
    synsets: Vec<usize>,
    /// `(synsets, width)`: unit vectors.
    vectors: Tensor,
}

impl Glosses {
    pub fn of(graph: &Graph, mut synsets: Vec<usize>, sentences: Vectors) -> Result<Self> {
        synsets.sort_unstable();
        synsets.dedup();
        let texts: Vec<String> = synsets.iter().map(|s| gloss(graph, *s)).collect();
        let vectors = if texts.is_empty() { sentences(&[String::new()])?.narrow(0, 0, 0) } else { sentences(&texts)? };
        Ok(Self { synsets, vectors })
    }

    /// `(senses, width)`, of those that were asked for at first.
    pub fn rows(&self, senses: &[usize]) -> Tensor {
        let places: Vec<i64> =
            senses.iter().filter_map(|s| self.synsets.binary_search(s).ok()).map(|place| place as i64).collect();
        self.vectors.index_select(0, &Tensor::from_slice(&places).to_device(self.vectors.device()))
    }
}

impl<'a> Meaning<'a> {
    pub fn new(graph: &'a Graph, concepts: &[Concept], sentences: Vectors) -> Result<Self> {
        let names: Vec<String> = concepts.iter().map(|c| c.name.clone()).collect();
        let anchors = anchors(graph, concepts, sentences)?;
        Ok(Self { graph, anchors, names: sentences(&names)?.transpose(0, 1) })
    }

    /// Whether a concept lies near a sense of the word.
    pub fn reaches(&self, word: &str) -> bool {
        self.senses(word).iter().any(|sense| !self.near(*sense).is_empty())
    }

    /// How much less than that of a concept that is not found the distance of those near a synset costs.
    pub fn nearness(&self, synset: usize) -> Vec<(usize, f64)> {
        let near = self.near(synset).into_iter();
        near.map(|(concept, away)| (concept, STEP * f64::from(FAR.saturating_sub(away)))).collect()
    }

    /// The concept of each word.
    pub fn of(&self, words: &[String], sentences: Vectors) -> Result<Vec<Meant>> {
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let glosses = Glosses::of(self.graph, words.iter().flat_map(|w| self.senses(w)).copied().collect(), sentences)?;
        let own = sentences(words)?;
        let vectors = (0..words.len()).map(|i| own.narrow(0, i as i64, 1));
        words.iter().zip(vectors).map(|(word, own)| self.of_one(word, &own, &glosses)).collect()
    }

    /// The concept of a word with the vector `(1, width)`.
    fn of_one(&self, word: &str, own: &Tensor, glosses: &Glosses) -> Result<Meant> {
        let senses = self.senses(word);
        if !senses.is_empty() {
            return self.best(senses, &((glosses.rows(senses) + own) * 0.5).matmul(&self.names));
        }
        let (score, concept) = own.matmul(&self.names).max_dim(1, false);
        Ok(Meant { concept: concept.int64_value(&[0]) as usize, score: score.double_value(&[0]), noun: false })
    }

    /// The senses of a word that are looked at.
    fn senses(&self, word: &str) -> &'a [usize] {
        let all = self.graph.senses(word);
        &all[..all.len().min(SENSES)]
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

/// Concepts at the synsets of what stands for them, and how far away they are there.
fn anchors(graph: &Graph, concepts: &[Concept], sentences: Vectors) -> Result<HashMap<usize, Vec<(usize, u32)>>> {
    let said = said(concepts);
    let glosses = Glosses::of(graph, said.iter().flat_map(|(_, w, _)| graph.senses(w)).copied().collect(), sentences)?;
    let described = sentences(&described(concepts))?;
    let mut anchors: HashMap<usize, Vec<(usize, u32)>> = HashMap::new();
    for (concept, word, away) in said {
        let senses = graph.senses(word);
        let near: Vec<f32> = Vec::try_from(glosses.rows(senses).matmul(&described.get(concept as i64)))?;
        let best = near.iter().copied().fold(f32::MIN, f32::max);
        for (sense, cosine) in senses.iter().zip(near) {
            let less = f64::from(best - cosine);
            if less < AKIN {
                anchors.entry(*sense).or_default().push((concept, away + (DOUBT * less) as u32));
            }
        }
    }
    Ok(anchors)
}

/// Names with their keywords.
pub fn described(concepts: &[Concept]) -> Vec<String> {
    let words = |c: &Concept| [&c.name].into_iter().chain(&c.keywords).cloned().collect::<Vec<_>>().join(", ");
    concepts.iter().map(words).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// A hen is a chicken; so is a pullet; a crane is a bird, and a machine; nothing is near to a thought.
    fn graph() -> (tempfile::TempDir, Graph) {
        let folder = tempfile::tempdir().unwrap();
        let data = "00000001 05 n 01 bird 0 002 ~ 00000002 n 0000 ~ 00000004 n 0000 | feathered  \n\
            00000002 05 n 01 chicken 0 003 @ 00000001 n 0000 ~ 00000003 n 0000 ~ 00000007 n 0000 | farm bird  \n\
            00000003 05 n 01 hen 0 001 @ 00000002 n 0000 | laying bird  \n\
            00000004 05 n 01 crane 0 001 @ 00000001 n 0000 | wading bird  \n\
            00000005 06 n 01 crane 0 000 | lifting machine  \n\
            00000006 09 n 01 thought 0 000 | idea  \n\
            00000007 05 n 01 pullet 0 001 @ 00000002 n 0000 | young bird  \n";
        let index = "bird n 1 0 1 0 00000001  \nchicken n 1 0 1 0 00000002  \nhen n 1 0 1 0 00000003  \n\
            crane n 2 0 2 0 00000004 00000005  \nthought n 1 0 1 0 00000006  \npullet n 1 0 1 0 00000007  \n";
        std::fs::write(folder.path().join("data.noun"), data).unwrap();
        std::fs::write(folder.path().join("index.noun"), index).unwrap();
        let graph = Graph::open(&folder.path().join("data.noun")).unwrap();
        (folder, graph)
    }

    /// Unit vectors over three directions: birds, machines, anything else.
    fn sentences(texts: &[String]) -> Result<Tensor> {
        let row = |text: &String| -> [f32; 3] {
            let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
            match () {
                () if has(&["machine", "building"]) => [0.0, 1.0, 0.0],
                () if has(&["bird", "chicken", "feathered", "hen"]) => [1.0, 0.0, 0.0],
                () => [0.0, 0.0, 1.0],
            }
        };
        Ok(Tensor::from_slice(&texts.iter().flat_map(row).collect::<Vec<_>>()).reshape([-1, 3]).to_device(Device::Cpu))
    }

    fn concepts() -> Vec<Concept> {
        let concept = |name: &str, keywords: &[&str]| Concept {
            name: name.into(),
            keywords: keywords.iter().map(|k| (*k).to_owned()).collect(),
            ..Concept::default()
        };
        vec![concept("chicken", &["bird"]), concept("building crane", &["machine"]), concept("hatching chicken", &[])]
    }

    #[test]
    fn a_word_means_the_concept_that_is_nearest_in_wordnet_and_in_meaning() {
        let (_folder, graph) = graph();
        let meaning = Meaning::new(&graph, &concepts(), &sentences).unwrap();
        let words = ["hen", "crane", "flying machine", "thought"].map(String::from);
        let found = meaning.of(&words, &sentences).unwrap();
        assert_eq!((found[0].concept, found[0].noun), (0, true), "a chicken, not a hatching one");
        assert!(found[0].score > 0.5 * 1.0 + 0.5 - 0.2, "{}", found[0].score);
        assert_eq!((found[2].concept, found[2].noun), (1, false));
        assert!(found[3].score < 0.1, "{}", found[3].score);
        assert_eq!([meaning.reaches("pullet"), meaning.reaches("thought")], [true, false]);
        assert!(meaning.of(&[], &sentences).unwrap().is_empty());
        let near: HashMap<usize, f64> = meaning.nearness(2).into_iter().collect();
        assert!(near[&0] > 0.0 && !near.contains_key(&1), "{near:?}");
    }

    #[test]
    fn a_rarer_sense_costs_more() {
        let (_folder, graph) = graph();
        let meaning = Meaning::new(&graph, &concepts(), &sentences).unwrap();
        let found = meaning.of(&["crane".to_owned()], &sentences).unwrap();
        // The bird is the first sense, and no concept of its own; the machine is one, and the second sense.
        let score = meaning.best(&[4], &Tensor::from_slice(&[0.0f32, 0.5, 0.0]).reshape([1, 3])).unwrap().score;
        let second = meaning.best(&[0, 4], &Tensor::from_slice(&[-1.0f32, -1.0, -1.0, 0.0, 0.5, 0.0]).reshape([2, 3]));
        let second = second.unwrap();
        assert_eq!(second.concept, 1);
        assert!((score - second.score - RARER).abs() < 1e-9, "{score} {}", second.score);
        assert!(found[0].noun);
    }

    #[test]
    fn names_their_last_words_and_rare_keywords_stand_for_concepts() {
        let all = concepts();
        let said = said(&all);
        assert_eq!(said[..2], [(0, "chicken", 0), (0, "bird", BROADER)]);
        assert!(said.contains(&(1, "crane", BROADER)));
        assert!(!said.contains(&(2, "chicken", BROADER)), "that is a concept of its own");
    }

    #[test]
    fn each_definition_is_read_once() {
        let (_folder, graph) = graph();
        let glosses = Glosses::of(&graph, vec![4, 0, 4], &sentences).unwrap();
        assert_eq!(glosses.vectors.size(), [2, 3]);
        assert!(glosses.rows(&[4]).equal(&sentences(&["machine".to_owned()]).unwrap()));
        assert_eq!(glosses.rows(&[]).size(), [0, 3]);
        assert_eq!(Glosses::of(&graph, Vec::new(), &sentences).unwrap().rows(&[]).size(), [0, 3]);
    }
}
