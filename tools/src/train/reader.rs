//! `train reader`: a text encoder that a denoiser was trained on learns to hear descriptions.
//!
//! "Thing that opens a lock" is made of words that captions use, whose rows must not move. So it is told to the encoder as "key": see
//! [`Reader`]. Which concept a text describes is MiniLM's to say; [`fit`] gives every piece the vector with which the sums of pieces come
//! nearest to MiniLM's vectors of WordNet's nouns, definitions and parts of these. [`marks`] sees to it that captions stay as they are, and
//! knows WordNet's phrases, whose concepts [`meaning`] finds as those of single words.

mod fit;
mod marks;
mod texts;

use super::sentences::Sentences;
use super::synonyms::meaning::{self, Glosses, Meaning, Meant};
use super::text::{Taught, TextEncoder};
use crate::dataset::pack::{Concept, Stickers};
use crate::net::params::{read_safetensors, write_safetensors};
use crate::net::reader::{READER, Reader};
use crate::trained;
use crate::wordnet::graph::Graph;
use crate::words::{LENGTH, Words};
use anyhow::{Context, Result, ensure};
use fit::Fit;
use marks::Marks;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Options of `train reader`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    taught: Taught,
    /// The text encoder: a run of `train synonyms` or `train text`, or an exported model directory.
    #[arg(long)]
    from: PathBuf,
    /// Gets the text encoder with its reader.
    #[arg(long)]
    out: PathBuf,
    /// Texts to learn from, at most.
    #[arg(long, default_value_t = 120_000)]
    texts: usize,
    /// Numbers of a vector.
    #[arg(long, default_value_t = 128)]
    width: i64,
    /// A phrase of WordNet means a concept if the cosine to it, less what its distance costs, is at least this.
    #[arg(long, default_value_t = 0.1)]
    sure: f64,
    /// Chooses texts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads of libtorch; unless told, its own choice.
    #[arg(long)]
    threads: Option<i32>,
}

/// The file of the run's folder that says what each phrase means.
const PHRASES: &str = "phrases.tsv";
/// Texts that are read before what is known is written down.
const PART: usize = 10_000;
/// One in so many texts is held out, to tell how well the others teach it.
const HELD_OUT: usize = 50;

/// Runs `train reader`.
pub fn train(args: Args) -> Result<()> {
    args.threads.into_iter().for_each(tch::set_num_threads);
    std::fs::create_dir_all(&args.out)?;
    let _guard = tch::no_grad_guard();
    let (data, graph) = (Stickers::open(&args.taught.data)?, Graph::open(&args.taught.wordnet)?);
    let encoder = TextEncoder::open(&args.from, Device::Cpu)?;
    let (words, teacher) = (encoder.words(), Sentences::open(&args.taught.teacher, Device::Cpu)?);
    let texts = texts::of(&graph, args.texts, args.seed);
    ensure!(!texts.is_empty(), "{}: no noun in it is a physical entity", args.taught.wordnet.display());
    let vectors = vectors(&texts, &teacher, &args.out.join("vectors.safetensors"))?;
    let keys = keys(&graph, data.concepts(), &teacher)?;

    let fit = Fit::of(&ids(words, &texts)?, &vectors, words.vocabulary() as i64, args.width, HELD_OUT)?;
    println!("{} texts; {}", texts.len(), fit.report(&keys));
    let phrases = phrases(&graph, data.concepts(), &teacher, &args)?;
    let marks = Marks::of(words, &data, &phrases)?;
    println!("{} phrases of {} are known", marks.concepts().len(), phrases.len());
    let mut weights = encoder.params.map();
    weights.retain(|name, _| !name.starts_with(READER));
    weights.extend(tables(&fit, &keys, &marks, words, data.concepts())?);
    let shape = |name: &str| weights.get(name).map(Tensor::size);
    ensure!(Reader::of(shape).is_some(), "the reader's tables do not fit each other");
    write_safetensors(&args.out.join(trained::WEIGHTS), &weights)?;
    std::fs::write(args.out.join("config.json"), serde_json::to_string_pretty(&encoder.net)?)?;
    std::fs::copy(trained::tokenizer(&args.from), args.out.join("tokenizer.json"))
        .context("cannot keep the tokenizer")?;
    Ok(())
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

/// Vectors of the concepts, `(C, 384)`: of name, name with keywords, and definition together.
fn keys(graph: &Graph, concepts: &[Concept], teacher: &Sentences) -> Result<Tensor> {
    let names: Vec<String> = concepts.iter().map(|c| c.name.clone()).collect();
    let described = teacher.of(&meaning::described(concepts))?;
    let senses = |c: &Concept| {
        let own = graph.senses(&c.name);
        if own.is_empty() { graph.senses(c.name.rsplit(' ').next().unwrap_or_default()) } else { own }
    };
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

/// WordNet's phrases that mean a concept, and which, as an earlier part of the run found, or found now.
fn phrases(graph: &Graph, concepts: &[Concept], teacher: &Sentences, args: &Args) -> Result<Vec<(String, usize)>> {
    let path = args.out.join(PHRASES);
    let places: HashMap<&str, usize> = concepts.iter().map(|c| c.name.as_str()).zip(0..).collect();
    if path.exists() {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let line =
            |l: &str| l.split_once('\t').and_then(|(phrase, name)| Some((phrase.to_owned(), *places.get(name)?)));
        return text.lines().map(line).collect::<Option<_>>().with_context(|| format!("{}: malformed", path.display()));
    }
    let sentences = |texts: &[String]| teacher.of(texts);
    let meaning = Meaning::new(graph, concepts, &sentences)?;
    let several = graph.words().into_iter().filter(|word| word.contains([' ', '-']) && meaning.reaches(word));
    let several: Vec<String> = several.map(str::to_owned).collect();
    let near = |(phrase, meant): (String, Meant)| (meant.score >= args.sure).then_some((phrase, meant.concept));
    let meant = meaning.of(&several, &sentences)?;
    let found: Vec<(String, usize)> = several.into_iter().zip(meant).filter_map(near).collect();
    let text: String = found.iter().map(|(phrase, c)| format!("{phrase}\t{}\n", concepts[*c].name)).collect();
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(found)
}

/// Ids of texts, `LENGTH` each.
fn ids(words: &Words, texts: &[String]) -> Result<Vec<Vec<i64>>> {
    texts.par_iter().map(|text| words.ids(text)).collect()
}

/// The reader's weights, by name.
fn tables(
    fit: &Fit,
    keys: &Tensor,
    marks: &Marks,
    words: &Words,
    concepts: &[Concept],
) -> Result<Vec<(String, Tensor)>> {
    let (pieces, meanings) = fit.scaled(keys);
    let (rows, stays) = (concepts.len() as i64, marks.stays());
    let names: Vec<String> = concepts.iter().map(|c| c.name.clone()).collect();
    let named = Tensor::from_slice(&ids(words, &names)?.concat()).reshape([rows, LENGTH as i64]).to_kind(Kind::Float);
    let of_phrases: Vec<i64> = marks.concepts().iter().map(|concept| *concept as i64).collect();
    let of_phrases = named.index_select(0, &Tensor::from_slice(&of_phrases));
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let keeps = Tensor::cat(&[zeros(&[rows + of_phrases.size()[0], 1]), zeros(&[stays, 1]) + 1.0], 0);
    let names = Tensor::cat(&[named, of_phrases, zeros(&[stays, LENGTH as i64])], 0);
    let all = [
        ("pieces.weight", pieces),
        ("meanings.weight", meanings),
        ("meanings.bias", zeros(&[rows])),
        ("marks.weight", marks.table()),
        ("exact.weight", marks.weight()),
        ("exact.bias", marks.bias()),
        ("keeps", keeps),
        ("names", names),
    ];
    Ok(all.into_iter().map(|(name, tensor)| (format!("{READER}{name}"), tensor)).collect())
}
