//! Words that are keywords of concepts and name none: no caption says them alone, so a denoiser draws nothing sensible for them.

use crate::dataset::pack::{Concept, Stickers};
use crate::dataset::scene::is_colour;
use crate::dataset::style::SHIPPED;
use crate::train::synonyms::meaning::Vectors;
use crate::wordnet::graph::Graph;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// Each of these keywords, and the concept among those with it that is nearest to it in meaning; kinds of it, by WordNet, if there are such.
/// `keys` are vectors of the concepts.
pub fn words(data: &Stickers, graph: &Graph, keys: &Tensor, sentences: Vectors) -> Result<Vec<(String, usize)>> {
    let mut carried: Vec<(String, Vec<usize>)> = carried(data.concepts(), &drawn(data)).into_iter().collect();
    for (word, concepts) in &mut carried {
        let kind = |i: &usize| is_kind_of(graph, &data.concepts()[*i].name, word);
        if concepts.iter().any(kind) {
            concepts.retain(kind);
        }
    }
    if carried.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = data.concepts().iter().map(|c| c.name.clone()).collect();
    let own: Vec<String> = carried.iter().map(|(word, _)| word.clone()).collect();
    let unit = |rows: &Tensor| rows / rows.norm_scalaropt_dim(2.0, [1i64].as_slice(), true).clamp_min(1e-6);
    let near = sentences(&own)?.matmul(&(sentences(&names)? * 2.0 + unit(keys)).transpose(0, 1));
    let nearest = |(row, (word, concepts)): (i64, (String, Vec<usize>))| {
        let near: Vec<f32> = Vec::try_from(near.get(row).to_kind(Kind::Float))?;
        let best = concepts.into_iter().max_by(|a, b| near[*a].total_cmp(&near[*b])).unwrap_or_default();
        Ok((word, best))
    };
    (0..).zip(carried).map(nearest).collect()
}

/// Keywords that are no names, and their concepts: those that are drawn in the style that goes unnamed, and of no colour that is not asked
/// for, if there are such.
fn carried(concepts: &[Concept], drawn: &BTreeSet<usize>) -> BTreeMap<String, Vec<usize>> {
    let names: BTreeSet<&str> = concepts.iter().map(|c| c.name.as_str()).collect();
    let mut all: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, concept) in concepts.iter().enumerate() {
        for word in concept.keywords.iter().filter(|word| !names.contains(word.as_str())) {
            all.entry(word.clone()).or_default().push(i);
        }
    }
    let preferred = |i: &usize| drawn.contains(i) && !concepts[*i].name.split(' ').any(is_colour);
    for concepts in all.values_mut().filter(|concepts| concepts.iter().any(preferred)) {
        concepts.retain(preferred);
    }
    all
}

/// Whether a sense of `name` is one of `word`, or narrower.
fn is_kind_of(graph: &Graph, name: &str, word: &str) -> bool {
    let wanted = graph.senses(word);
    let (mut open, mut seen) = (graph.senses(name).to_vec(), BTreeSet::new());
    while let Some(synset) = open.pop() {
        if wanted.contains(&synset) {
            return true;
        }
        if seen.insert(synset) {
            open.extend(&graph.broader[synset]);
        }
    }
    false
}

/// The concepts with a drawing in the style [`SHIPPED`] that is learned from.
fn drawn(data: &Stickers) -> BTreeSet<usize> {
    let learned = |i: &usize| !data.held_out(*i) && data.styles()[data.style(*i)] == SHIPPED;
    (0..data.len()).filter(learned).map(|i| data.concept(i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vixen_is_a_kind_of_fox() {
        let folder = tempfile::tempdir().unwrap();
        let data = "00000001 05 n 01 animal 0 000 | that lives  \n00000002 05 n 01 fox 0 001 @ 00000001 n 0000 | a wild animal  \n\
            00000003 05 n 01 vixen 0 001 @ 00000002 n 0000 | a female fox  \n";
        let index = "animal n 1 0 1 0 00000001  \nfox n 1 0 1 0 00000002  \nvixen n 1 0 1 0 00000003  \n";
        std::fs::write(folder.path().join("data.noun"), data).unwrap();
        std::fs::write(folder.path().join("index.noun"), index).unwrap();
        let graph = Graph::open(&folder.path().join("data.noun")).unwrap();
        let kinds = [("vixen", "fox"), ("vixen", "animal"), ("fox", "vixen"), ("fox", "fox"), ("teapot", "fox")];
        assert_eq!(kinds.map(|(name, word)| is_kind_of(&graph, name, word)), [true, true, false, true, false]);
    }

    #[test]
    fn a_keyword_stands_for_concepts_that_are_drawn_and_of_no_colour() {
        let concept = |name: &str, keywords: &[&str]| Concept {
            name: name.into(),
            keywords: keywords.iter().map(|k| (*k).to_owned()).collect(),
            ..Concept::default()
        };
        let concepts = [
            concept("tulip", &["flower", "plant"]),
            concept("white flower", &["flower"]),
            concept("rose", &["flower", "tulip"]),
            concept("red book", &["novel"]),
        ];
        let all = carried(&concepts, &[0, 1, 3].into());
        assert_eq!(all["flower"], [0]);
        assert_eq!(all["novel"], [3], "there is no other");
        assert!(!all.contains_key("tulip"), "that is a name");
    }
}
