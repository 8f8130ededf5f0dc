//! What `train reader` learns from and knows: the data's concepts, WordNet, the text encoder and its teacher.

use super::fit::{Fit, Told};
use super::{Args, general, ids, texts};
use crate::dataset::pack::{Concept, Stickers};
use crate::net::params::{read_safetensors, write_safetensors};
use crate::train::run::{State, train as train_loop};
use crate::train::sentences::Sentences;
use crate::train::synonyms::meaning::{self, Glosses, Meaning, Meant};
use crate::train::text::{TABLE, TextEncoder};
use crate::wordnet::graph::Graph;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tch::{Device, Kind, Tensor};

use super::vectors::Vectors;

/// The file of the run's folder that says what each phrase means.
const PHRASES: &str = "phrases.tsv";
/// Texts that are read before what is known is written down.
const PART: usize = 10_000;
/// One in so many texts is held out, to tell how well the others teach it.
const HELD_OUT: usize = 50;

pub struct Sources<'a> {
    pub args: &'a Args,
    pub graph: Graph,
    pub data: Stickers,
    pub encoder: TextEncoder,
    pub teacher: Sentences,
}

impl Sources<'_> {
    /// Vectors of pieces and concepts, learned from WordNet's texts.
    pub fn learned(&self, meaning: &Meaning, keys: &Tensor) -> Result<Vectors> {
        let options = &self.args.options;
        let mut fit = self.fit(meaning, keys)?;
        let params = fit.start(options.seed)?;
        let mut state = State::in_precision(params, options.precision).undecayed();
        train_loop(options, &mut state, &mut fit)?;
        let _guard = tch::no_grad_guard();
        Ok(fit.tables(&state.averaged()))
    }

    fn fit(&self, meaning: &Meaning, keys: &Tensor) -> Result<Fit> {
        let _guard = tch::no_grad_guard();
        let args = self.args;
        let (texts, synsets): (Vec<String>, Vec<usize>) =
            texts::of(&self.graph, args.texts, args.options.seed).into_iter().unzip();
        ensure!(!texts.is_empty(), "{}: no noun in it is a physical entity", args.taught.wordnet.display());
        let vectors = vectors(&texts, &self.teacher, &args.options.out.join("vectors.safetensors"))?;
        let mut near: HashMap<usize, Vec<(usize, f64)>> = HashMap::new();
        let ids = ids(self.encoder.words(), &texts)?.into_iter().zip(synsets);
        let told = ids.map(|(ids, synset)| Told {
            ids,
            near: near.entry(synset).or_insert_with(|| meaning.nearness(synset)).clone(),
        });
        let alike =
            self.encoder.params.map().remove(TABLE).with_context(|| format!("the text encoder has no {TABLE}"))?;
        let sizes = (args.width, args.options.batch, HELD_OUT);
        Fit::new(told.collect(), [vectors, keys.shallow_clone()], &alike, sizes)
    }

    /// The vectors that the text encoder's own reader has.
    pub fn kept(&self) -> Result<Vectors> {
        Vectors::kept(&self.encoder.params, self.encoder.words().vocabulary(), self.data.concepts().len())
    }

    /// Words and phrases that mean a concept, and which.
    pub fn known(&self, meaning: &Meaning, keys: &Tensor) -> Result<Vec<(String, usize)>> {
        let sentences = |texts: &[String]| self.teacher.of(texts);
        let mut known = general::words(&self.data, &self.graph, keys, &sentences)?;
        known.extend(self.phrases(meaning)?);
        Ok(known)
    }

    /// WordNet's phrases that mean a concept, and which, as an earlier part of the run found, or found now.
    fn phrases(&self, meaning: &Meaning) -> Result<Vec<(String, usize)>> {
        let (path, concepts) = (self.args.options.out.join(PHRASES), self.data.concepts());
        if path.exists() {
            return read_phrases(&path, concepts);
        }
        let several = self.graph.words().into_iter().filter(|word| word.contains([' ', '-']) && meaning.reaches(word));
        let several: Vec<String> = several.map(str::to_owned).collect();
        let sure =
            |(phrase, meant): (String, Meant)| (meant.score >= self.args.sure).then_some((phrase, meant.concept));
        let meant = meaning.of(&several, &|texts: &[String]| self.teacher.of(texts))?;
        let found: Vec<(String, usize)> = several.into_iter().zip(meant).filter_map(sure).collect();
        let text: String = found.iter().map(|(phrase, c)| format!("{phrase}\t{}\n", concepts[*c].name)).collect();
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(found)
    }

    /// Vectors of the concepts, `(C, 384)`: of name, name with keywords, and definition together.
    pub fn keys(&self) -> Result<Tensor> {
        let (graph, concepts, teacher) = (&self.graph, self.data.concepts(), &self.teacher);
        let names: Vec<String> = concepts.iter().map(|c| c.name.clone()).collect();
        let described = teacher.of(&meaning::described(concepts))?;
        let senses = |c: &Concept| graph.senses_of_name(&c.name);
        let sentences = |texts: &[String]| teacher.of(texts);
        let glosses = Glosses::of(graph, concepts.iter().flat_map(senses).copied().collect(), &sentences)?;
        let defined = concepts.iter().zip(0..).map(|(concept, i)| {
            let described = described.get(i);
            let own = glosses.rows(senses(concept));
            if own.size()[0] == 0 {
                return described;
            }
            own.get(own.matmul(&described).argmax(0, false).int64_value(&[]))
        });
        Ok(teacher.of(&names)? + &described + Tensor::stack(&defined.collect::<Vec<_>>(), 0))
    }
}

fn read_phrases(path: &Path, concepts: &[Concept]) -> Result<Vec<(String, usize)>> {
    let places: HashMap<&str, usize> = concepts.iter().map(|c| c.name.as_str()).zip(0..).collect();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = |l: &str| l.split_once('\t').and_then(|(phrase, name)| Some((phrase.to_owned(), *places.get(name)?)));
    text.lines().map(line).collect::<Option<_>>().with_context(|| format!("{}: malformed", path.display()))
}

/// MiniLM's unit vectors of the texts, `(N, 384)`; those that an earlier part of the run found are in `path`.
fn vectors(texts: &[String], teacher: &Sentences, path: &Path) -> Result<Tensor> {
    let mut known = if path.exists() {
        read_safetensors(path)?.remove("vectors").with_context(|| format!("{}: no vectors in it", path.display()))?
    } else {
        Tensor::zeros([0, 384], (Kind::Float, Device::Cpu))
    };
    let done = known.size()[0] as usize;
    ensure!(done <= texts.len(), "{} is of more texts: give --out a new folder", path.display());
    for part in texts[done..].chunks(PART) {
        known = Tensor::cat(&[known, teacher.of(part)?], 0);
        write_safetensors(path, &BTreeMap::from([("vectors".to_owned(), known.shallow_clone())]))?;
        println!("read {} of {} texts", known.size()[0], texts.len());
    }
    Ok(known)
}
