//! `train reader`: a text encoder that a denoiser was trained on learns to hear descriptions.
//!
//! "Thing that opens a lock" is made of words that captions use, whose rows must not move. So it is told to the encoder as "key": see
//! [`Reader`]. Which concept a text describes is MiniLM's and WordNet's to say; [`fit`] learns vectors of pieces whose sums say the same of
//! WordNet's nouns, definitions and parts of these. [`marks`] sees to it that captions stay as they are, and knows keywords that are no
//! names ([`general`]) and WordNet's phrases, whose concepts [`meaning`] finds as those of single words. [`around`] keeps a style and a
//! colour.

mod around;
mod fit;
mod general;
mod marks;
mod texts;

use super::course::Course;
use super::run::{Options, State, train as train_loop};
use super::sentences::Sentences;
use super::synonyms::meaning::{self, Glosses, Meaning, Meant, Vectors};
use super::synonyms::vocabulary::inner;
use super::text::{TABLE, Taught, TextEncoder};
use crate::dataset::pack::{Concept, Stickers};
use crate::net::params::{Params, read_safetensors, write_safetensors};
use crate::net::reader::{READER, Reader};
use crate::record::records;
use crate::trained::{self, TEXT};
use crate::wordnet::graph::Graph;
use crate::words::Words;
use anyhow::{Context, Result, ensure};
use fit::{Fit, Told};
use marks::Marks;
use rayon::prelude::*;
use serde_json::json;
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
    /// Texts to learn from, at most.
    #[arg(long, default_value_t = 120_000)]
    texts: usize,
    /// Numbers of a vector.
    #[arg(long, default_value_t = 128)]
    width: i64,
    /// A phrase of WordNet means a concept if the cosine to it, less what its distance costs, is at least this.
    #[arg(long, default_value_t = 0.1)]
    sure: f64,
    #[command(flatten)]
    options: Options,
}

impl Args {
    pub(super) fn course(&self) -> Course {
        Course {
            stage: "train reader",
            options: self.options.clone(),
            data: self.taught.data.clone(),
            from: Some((self.from.clone(), &TEXT, &records::TEXT)),
            with: self.taught.files(),
            settings: json!({ "texts": self.texts, "width": self.width, "sure": self.sure }),
        }
    }
}

/// The file of the run's folder that says what each phrase means.
const PHRASES: &str = "phrases.tsv";
/// Texts that are read before what is known is written down.
const PART: usize = 10_000;
/// One in so many texts is held out, to tell how well the others teach it.
const HELD_OUT: usize = 50;

/// Runs `train reader`.
pub fn train(args: Args) -> Result<()> {
    ensure!(args.options.device()? == Device::Cpu, "`train reader` is for the CPU");
    let out = &args.options.out;
    std::fs::create_dir_all(out)?;
    let (data, graph) = (Stickers::open(&args.taught.data)?, Graph::open(&args.taught.wordnet)?);
    let encoder = TextEncoder::open(&args.from, Device::Cpu)?;
    let teacher = Sentences::open(&args.taught.teacher, Device::Cpu)?;
    let keys = keys(&graph, data.concepts(), &teacher)?;
    let (mut fit, known) = learned_from(&args, &graph, &data, &encoder, &teacher, &keys)?;
    let params = fit.start(args.options.seed)?;
    let mut state = State::in_precision(params, args.options.precision).undecayed();
    train_loop(&args.options, &mut state, &mut fit)?;

    let _guard = tch::no_grad_guard();
    let told = tables(&fit, &state.averaged(), &known, encoder.words(), &data, &graph)?;
    let mut weights = encoder.params.map();
    weights.retain(|name, _| !name.starts_with(READER));
    weights.extend(told);
    let shape = |name: &str| weights.get(name).map(Tensor::size);
    ensure!(Reader::of(shape).is_some(), "the reader's tables do not fit each other");
    write_safetensors(&out.join(trained::WEIGHTS), &weights)?;
    std::fs::write(out.join("config.json"), serde_json::to_string_pretty(&encoder.net)?)?;
    std::fs::copy(trained::tokenizer(&args.from), out.join("tokenizer.json")).context("cannot keep the tokenizer")?;
    Ok(())
}

/// What is learned from, and words and phrases that mean a concept, and which.
fn learned_from(
    args: &Args,
    graph: &Graph,
    data: &Stickers,
    encoder: &TextEncoder,
    teacher: &Sentences,
    keys: &Tensor,
) -> Result<(Fit, Vec<(String, usize)>)> {
    let _guard = tch::no_grad_guard();
    let (texts, synsets): (Vec<String>, Vec<usize>) =
        texts::of(graph, args.texts, args.options.seed).into_iter().unzip();
    ensure!(!texts.is_empty(), "{}: no noun in it is a physical entity", args.taught.wordnet.display());
    let vectors = vectors(&texts, teacher, &args.options.out.join("vectors.safetensors"))?;
    let sentences = |texts: &[String]| teacher.of(texts);
    let meaning = Meaning::new(graph, data.concepts(), &sentences)?;
    let mut near: HashMap<usize, Vec<(usize, f64)>> = HashMap::new();
    let ids = ids(encoder.words(), &texts)?.into_iter().zip(synsets);
    let told = ids.map(|(ids, synset)| Told {
        ids,
        near: near.entry(synset).or_insert_with(|| meaning.nearness(synset)).clone(),
    });
    let alike = encoder.params.map().remove(TABLE).with_context(|| format!("the text encoder has no {TABLE}"))?;
    let sizes = (args.width, args.options.batch, HELD_OUT);
    let fit = Fit::new(told.collect(), [vectors, keys.shallow_clone()], &alike, sizes)?;
    let mut known = general::words(data, graph, keys, &sentences)?;
    known.extend(phrases(graph, data.concepts(), &meaning, &sentences, args)?);
    Ok((fit, known))
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
fn phrases(
    graph: &Graph,
    concepts: &[Concept],
    meaning: &Meaning,
    sentences: Vectors,
    args: &Args,
) -> Result<Vec<(String, usize)>> {
    let path = args.options.out.join(PHRASES);
    let places: HashMap<&str, usize> = concepts.iter().map(|c| c.name.as_str()).zip(0..).collect();
    if path.exists() {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let line =
            |l: &str| l.split_once('\t').and_then(|(phrase, name)| Some((phrase.to_owned(), *places.get(name)?)));
        return text.lines().map(line).collect::<Option<_>>().with_context(|| format!("{}: malformed", path.display()));
    }
    let several = graph.words().into_iter().filter(|word| word.contains([' ', '-']) && meaning.reaches(word));
    let several: Vec<String> = several.map(str::to_owned).collect();
    let near = |(phrase, meant): (String, Meant)| (meant.score >= args.sure).then_some((phrase, meant.concept));
    let meant = meaning.of(&several, sentences)?;
    let found: Vec<(String, usize)> = several.into_iter().zip(meant).filter_map(near).collect();
    let text: String = found.iter().map(|(phrase, c)| format!("{phrase}\t{}\n", concepts[*c].name)).collect();
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(found)
}

/// Ids of texts, `LENGTH` each.
fn ids(words: &Words, texts: &[String]) -> Result<Vec<Vec<i64>>> {
    texts.par_iter().map(|text| words.ids(text)).collect()
}

/// The reader's weights, by name. What the vectors say of a phrase needs no row.
fn tables(
    fit: &Fit,
    params: &Params,
    known: &[(String, usize)],
    words: &Words,
    data: &Stickers,
    graph: &Graph,
) -> Result<Vec<(String, Tensor)>> {
    let texts: Vec<String> = known.iter().map(|(text, _)| text.clone()).collect();
    let (own, heard) = (ids(words, &texts)?, fit.concepts(params, &ids(words, &texts)?)?);
    let single = |ids: &[i64]| inner(ids).len() == 1;
    let needed = known.iter().zip(own.iter().zip(heard)).filter(|((_, c), (ids, heard))| single(ids) || c != heard);
    let needed: Vec<(String, usize)> = needed.map(|(known, _)| known.clone()).collect();
    let marks = Marks::of(words, data, &needed)?;
    println!("{} of {} words and phrases have a row", marks.concepts().len(), known.len());
    let (pieces, meanings) = fit.tables(params);
    let (rows, stays) = (data.concepts().len(), marks.stays_by() as usize);
    let concepts = (0..rows).chain(marks.concepts()).chain(std::iter::repeat_n(rows, stays));
    let concepts: Vec<i64> = concepts.map(|concept| concept as i64).collect();
    let around = marks.around();
    let (colours, styles) = (around.choose_colour(), around.choose_style());
    let mut all = vec![
        ("pieces.weight", pieces),
        ("meanings.weight", meanings),
        ("meanings.bias", Tensor::zeros([rows as i64], (Kind::Float, Device::Cpu))),
        ("signs.weight", marks.table()),
        ("said.weight", around.table(words.vocabulary() as i64)),
        ("exact.weight", marks.weight()),
        ("exact.bias", marks.bias()),
        ("concepts", Tensor::from_slice(&concepts).to_kind(Kind::Float)),
        ("colours.weight", colours.0),
        ("colours.bias", colours.1),
        ("styles.weight", styles.0),
        ("styles.bias", styles.1),
    ];
    let names: Vec<String> = data.concepts().iter().map(|c| c.name.clone()).collect();
    all.extend(
        around.tables(data.concepts(), &ids(words, &names)?, |concept, colour| natural(graph, concept, colour))?,
    );
    Ok(all.into_iter().map(|(name, tensor)| (format!("{READER}{name}"), tensor)).collect())
}

/// Whether a concept is of a colour anyway, so that who says it asks for nothing else: its keywords or definitions have it.
fn natural(graph: &Graph, concept: &Concept, colour: &str) -> bool {
    let says = |text: &str| text.split(|c: char| !c.is_alphanumeric()).any(|word| word == colour);
    let defined = graph.senses(&concept.name).iter().any(|sense| says(&graph.synsets[*sense].gloss));
    defined || concept.keywords.iter().any(|keyword| says(keyword))
}
