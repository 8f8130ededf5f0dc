//! Words that are keywords of concepts and name none: no caption says them alone, so a denoiser draws nothing sensible for them.

use crate::dataset::pack::{Concept, Stickers};
use crate::dataset::scene::is_colour;
use crate::dataset::style::SHIPPED;
use crate::train::synonyms::meaning::Vectors;
use crate::wordnet::graph::Graph;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// Each of these keywords, and the concept among [`those`] with it that is nearest to it in meaning. `keys` are vectors of the concepts.
pub fn words(data: &Stickers, graph: &Graph, keys: &Tensor, sentences: Vectors) -> Result<Vec<(String, usize)>> {
    let mut carried: Vec<(String, Vec<usize>)> = carried(data.concepts(), &drawn(data)).into_iter().collect();
    for (word, concepts) in &mut carried {
        *concepts = those(graph, word, concepts, |i| &data.concepts()[i].name);
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

/// Which of the concepts a word may mean: kinds of it, by WordNet, if there are such; else, of a word for people, people; and never what only
/// has a name like a kind of it, as a new moon, which is a time, has.
fn those<'a>(graph: &Graph, word: &str, concepts: &[usize], name: impl Fn(usize) -> &'a str) -> Vec<usize> {
    let is_person = |senses: &[usize]| senses.first().is_some_and(|sense| graph.synsets[*sense].is_person());
    let of_that_name = |i: usize| name(i).rsplit(' ').next() == Some(word) && !graph.senses(name(i)).is_empty();
    let kinds = |i: &usize| is_kind_of(graph, name(*i), word);
    let people = |i: &usize| is_person(graph.senses(word)) && is_person(graph.senses_of_name(name(*i)));
    let others = |i: &usize| !of_that_name(*i);
    let rules: [&dyn Fn(&usize) -> bool; 3] = [&kinds, &people, &others];
    let kept = |rule: &dyn Fn(&usize) -> bool| concepts.iter().copied().filter(|i| rule(i)).collect::<Vec<_>>();
    rules.into_iter().map(kept).find(|kept| !kept.is_empty()).unwrap_or_else(|| concepts.to_vec())
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

    fn graph(data: &str, index: &str) -> Graph {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data.noun"), data).unwrap();
        std::fs::write(folder.path().join("index.noun"), index).unwrap();
        Graph::open(&folder.path().join("data.noun")).unwrap()
    }

    #[test]
    fn a_doctor_is_a_person_and_a_new_moon_no_moon() {
        let data = "00000001 18 n 01 doctor 0 000 | who heals  \n00000002 18 n 01 worker 0 000 | who works  \n\
            00000003 06 n 01 hospital 0 000 | a building  \n00000004 17 n 01 moon 0 000 | a satellite  \n\
            00000005 28 n 01 new_moon 0 000 | a time  \n00000006 06 n 01 cake 0 000 | a baked thing  \n\
            00000007 06 n 01 fruitcake 0 001 @ 00000006 n 0000 | with fruit  \n";
        let index = ["doctor", "worker", "hospital", "moon", "new_moon", "cake", "fruitcake"];
        let index = (1..).zip(index).map(|(i, word)| format!("{word} n 1 0 1 0 {i:08}  \n")).collect::<String>();
        let graph = graph(data, &index);
        let cases: [(&str, &[&str], &[usize]); 5] = [
            ("doctor", &["hospital", "health worker", "pill"], &[1]),
            ("doctor", &["hospital", "pill"], &[0, 1]),
            ("moon", &["new moon", "crescent moon", "moon cake"], &[1, 2]),
            ("moon", &["new moon"], &[0]),
            ("cake", &["moon cake", "fruitcake"], &[1]),
        ];
        for (word, names, wanted) in cases {
            let all: Vec<usize> = (0..names.len()).collect();
            assert_eq!(those(&graph, word, &all, |i| names[i]), wanted, "{word} {names:?}");
        }
    }

    #[test]
    fn a_vixen_is_a_kind_of_fox() {
        let data = "00000001 05 n 01 animal 0 000 | that lives  \n00000002 05 n 01 fox 0 001 @ 00000001 n 0000 | a wild animal  \n\
            00000003 05 n 01 vixen 0 001 @ 00000002 n 0000 | a female fox  \n";
        let index = "animal n 1 0 1 0 00000001  \nfox n 1 0 1 0 00000002  \nvixen n 1 0 1 0 00000003  \n";
        let graph = graph(data, index);
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
