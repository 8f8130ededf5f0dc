//! `train reader`: a text encoder that a denoiser was trained on learns to hear descriptions.
//!
//! "Thing that opens a lock" is made of words that captions use, whose rows must not move. So it is told to the encoder as "key": see
//! [`Reader`]. Which concept a text describes is MiniLM's and WordNet's to say; [`fit`] learns vectors of pieces whose sums say the same of
//! WordNet's nouns, definitions and parts of these. [`marks`] sees to it that captions stay as they are, and knows keywords that are no
//! names ([`general`]) and WordNet's phrases, whose concepts [`Meaning`] finds as those of single words. [`around`] keeps a style and a
//! colour.

mod around;
mod fit;
mod general;
mod marks;
mod sources;
mod texts;
mod vectors;

use super::course::Course;
use super::progress::Progress;
use super::run::Options;
use super::sentences::Sentences;
use super::synonyms::meaning::Meaning;
use super::synonyms::vocabulary::inner;
use super::text::{Taught, TextEncoder};
use crate::dataset::pack::{Concept, Stickers};
use crate::net::params::write_safetensors;
use crate::net::reader::{READER, Reader};
use crate::record::records;
use crate::trained::{self, TEXT};
use crate::wordnet::graph::Graph;
use crate::words::Words;
use anyhow::{Context, Result, ensure};
use marks::Marks;
use rayon::prelude::*;
use serde_json::json;
use sources::Sources;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};
use vectors::Vectors;

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
    /// Keep the vectors of the reader that `--from` has: what words and phrases mean is decided anew, and nothing is trained.
    #[arg(long)]
    keep_vectors: bool,
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
            settings: json!({ "texts": self.texts, "width": self.width, "sure": self.sure, "keep_vectors": self.keep_vectors }),
        }
    }
}

/// Runs `train reader`.
pub fn train(args: Args) -> Result<()> {
    ensure!(args.options.device()? == Device::Cpu, "`train reader` is for the CPU");
    let out = &args.options.out;
    std::fs::create_dir_all(out)?;
    let (data, graph) = (Stickers::open(&args.taught.data)?, Graph::open(&args.taught.wordnet)?);
    let encoder = TextEncoder::open(&args.from, Device::Cpu)?;
    let teacher = Sentences::open(&args.taught.teacher, Device::Cpu)?;
    let sources = Sources { args: &args, graph, data, encoder, teacher };
    let keys = sources.keys()?;
    let sentences = |texts: &[String]| sources.teacher.of(texts);
    let meaning = Meaning::new(&sources.graph, sources.data.concepts(), &sentences)?;
    let vectors = if args.keep_vectors {
        Progress::open(out, 0)?.write(out)?;
        sources.kept()?
    } else {
        sources.learned(&meaning, &keys)?
    };

    let _guard = tch::no_grad_guard();
    let told = tables(&vectors, &sources.known(&meaning, &keys)?, &sources)?;
    let Sources { encoder, .. } = sources;
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

/// Ids of texts, `LENGTH` each.
fn ids(words: &Words, texts: &[String]) -> Result<Vec<Vec<i64>>> {
    texts.par_iter().map(|text| words.ids(text)).collect()
}

/// The reader's weights, by name. What the vectors say of a phrase needs no row.
fn tables(vectors: &Vectors, known: &[(String, usize)], sources: &Sources<'_>) -> Result<Vec<(String, Tensor)>> {
    let (data, words) = (&sources.data, sources.encoder.words());
    let texts: Vec<String> = known.iter().map(|(text, _)| text.clone()).collect();
    let own = ids(words, &texts)?;
    let heard = vectors.heard(&own)?;
    let single = |ids: &[i64]| inner(ids).len() == 1;
    let needed = known.iter().zip(own.iter().zip(heard)).filter(|((_, c), (ids, heard))| single(ids) || c != heard);
    let needed: Vec<(String, usize)> = needed.map(|(known, _)| known.clone()).collect();
    let marks = Marks::of(words, data, &needed)?;
    println!("{} of {} words and phrases have a row", marks.concepts().len(), known.len());
    let (rows, stays) = (data.concepts().len(), marks.stays_by() as usize);
    let concepts = (0..rows).chain(marks.concepts()).chain(std::iter::repeat_n(rows, stays));
    let concepts: Vec<i64> = concepts.map(|concept| concept as i64).collect();
    let around = marks.around();
    let (colours, styles) = (around.choose_colour(), around.choose_style());
    let mut all = vec![
        ("pieces.weight", vectors.pieces.shallow_clone()),
        ("meanings.weight", vectors.meanings.shallow_clone()),
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
        around.tables(data.concepts(), &ids(words, &names)?, |concept, colour| {
            natural(&sources.graph, concept, colour)
        })?,
    );
    Ok(all.into_iter().map(|(name, tensor)| (format!("{READER}{name}"), tensor)).collect())
}

/// Whether a concept is of a colour anyway, so that who says it asks for nothing else: its keywords or definitions have it.
fn natural(graph: &Graph, concept: &Concept, colour: &str) -> bool {
    let says = |text: &str| text.split(|c: char| !c.is_alphanumeric()).any(|word| word == colour);
    let defined = graph.senses(&concept.name).iter().any(|sense| says(&graph.synsets[*sense].gloss));
    defined || concept.keywords.iter().any(|keyword| says(keyword))
}
