//! `train synonyms`: a text encoder that a denoiser was trained on learns to hear other words.
//!
//! A denoiser draws what its captions named; "pooch" is far from all of them for a small encoder. Nothing of the encoder moves but rows of
//! its token table whose words stand in no caption, so that it goes on saying of every caption, bit for bit, what it said. Such a word
//! gets the row of the concept that it means (see [`meaning`]), or, where the name has several pieces, a row that is trained until the
//! word sounds as the name does; a word that means nothing drawable sounds as "a". Nouns of WordNet that the tokenizer had to spell
//! become pieces of their own, with a new row each.

pub(super) mod meaning;
pub(super) mod vocabulary;

use super::course::Course;
use super::progress::Report;
use super::run::{Options, State, Task, train as train_loop};
use super::sentences::Sentences;
use super::text::{TABLE, Taught, TextEncoder};
use crate::dataset::background::TINTS;
use crate::dataset::pack::{Concept, Stickers};
use crate::dataset::said;
use crate::draws::Draws;
use crate::net::Init;
use crate::net::bert::Bert;
use crate::net::params::{Params, write_safetensors};
use crate::net::reader::READER;
use crate::net::torch::Torch;
use crate::record::records;
use crate::trained::{self, TEXT};
use crate::wordnet::graph::Graph;
use crate::words::{LEADING, Words};
use anyhow::{Context, Result, ensure};
use meaning::{Meaning, Meant};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};
use vocabulary::{Said, inner};

/// Options of `train synonyms`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    taught: Taught,
    /// The text encoder: a run of `train text`, or an exported model directory.
    #[arg(long)]
    from: PathBuf,
    /// A word that is no noun means the concept whose name is nearest to it, if the cosine is at least this.
    #[arg(long, default_value_t = 0.5)]
    nearest: f64,
    /// A noun becomes a piece of its own if the cosine to its concept, less what its distance in WordNet costs, is at least this.
    #[arg(long, default_value_t = 0.1)]
    add: f64,
    #[command(flatten)]
    options: Options,
}

impl Args {
    pub(super) fn course(&self) -> Course {
        Course {
            stage: "train synonyms",
            options: self.options.clone(),
            data: self.taught.data.clone(),
            from: Some((self.from.clone(), &TEXT, &records::TEXT)),
            with: self.taught.files(),
            settings: json!({ "nearest": self.nearest, "add": self.add }),
        }
    }
}

/// A text as which a word sounds that means nothing drawable.
const NOTHING: &str = "a";
/// The file of the run's folder that says what each word means.
const FOUND: &str = "words.tsv";

/// Runs `train synonyms`.
pub fn train(args: Args) -> Result<()> {
    let device = args.options.device()?;
    let out = &args.options.out;
    std::fs::create_dir_all(out)?;
    let data = Stickers::open(&args.taught.data)?;
    let before = TextEncoder::open(&args.from, device)?;
    let heard = AllHeard::new(meant(&args, &data, before.words())?, before.words());
    let tokenizer = before.words().grown(&heard.added);
    std::fs::write(out.join("tokenizer.json"), &tokenizer).context("cannot keep the tokenizer")?;
    let words = Words::from_json(&tokenizer)?;
    let net = Bert { vocabulary: words.vocabulary() as i64, ..before.net.clone() };
    std::fs::write(out.join("config.json"), serde_json::to_string_pretty(&net)?)?;

    let table = start(&before, &heard)?;
    let targets = Targets::of(&heard, &before)?;
    ensure!(
        !targets.said.is_empty(),
        "{}: no noun of it is near a concept of several words",
        args.taught.wordnet.display()
    );
    println!(
        "{} words, {} of them added, with {} rows to train",
        heard.words.len(),
        heard.added.len(),
        targets.said.len()
    );
    let own = table.index_select(
        0,
        &Tensor::from_slice(&targets.said.iter().map(|w| w.row).collect::<Vec<_>>()).to_device(device),
    );
    let mut state = State::in_precision(Params::of_one(ROWS, own), args.options.precision).undecayed();
    let mut task = Hear { before, words, net, table, targets, batch: args.options.batch };
    train_loop(&args.options, &mut state, &mut task)?;
    let mut weights = task.with(&state.averaged()).map();
    weights.retain(|name, _| !name.starts_with(READER));
    write_safetensors(&out.join(trained::WEIGHTS), &weights)
}

/// The trained parameter.
const ROWS: &str = "rows";

/// A word, the row of the token table that is its own, and a text as which it sounds.
#[derive(Clone, Debug, PartialEq)]
struct Heard {
    word: String,
    row: i64,
    means: String,
}

struct AllHeard {
    words: Vec<Heard>,
    /// Words that the tokenizer lacks, in the order of their rows behind the others.
    added: Vec<String>,
}

impl AllHeard {
    /// Words of the tokenizer keep their rows, others get new ones.
    fn new(meant: Vec<(String, String)>, words: &Words) -> Self {
        let rows: HashMap<String, i64> = words.pieces().into_iter().zip(0..).collect();
        let mut all = Self { words: Vec::new(), added: Vec::new() };
        for (word, means) in meant {
            let row = rows.get(&word).copied().unwrap_or_else(|| {
                all.added.push(word.clone());
                (rows.len() + all.added.len()) as i64 - 1
            });
            all.words.push(Heard { word, row, means });
        }
        all
    }
}

/// The texts of several pieces that words sound as: what a row should be depends on the text alone, so that each is learned once.
struct Targets {
    /// Of each text, a word.
    said: Vec<Heard>,
    /// The rows of all words of these texts, and the place of each text in `said`.
    rows: Tensor,
    which: Tensor,
}

impl Targets {
    fn of(heard: &AllHeard, before: &TextEncoder) -> Result<Self> {
        let mut places: HashMap<&str, Option<i64>> = HashMap::new();
        let (mut said, mut rows, mut which) = (Vec::new(), Vec::new(), Vec::new());
        for word in &heard.words {
            let place = match places.get(word.means.as_str()) {
                Some(place) => *place,
                None => {
                    let several = inner(&before.words().ids(&word.means)?).len() > 1;
                    let place = several.then_some(said.len() as i64);
                    said.extend(several.then(|| word.clone()));
                    places.insert(&word.means, place);
                    place
                }
            };
            if let Some(place) = place {
                rows.push(word.row);
                which.push(place);
            }
        }
        let on_device = |ids: &[i64]| Tensor::from_slice(ids).to_device(before.params.device());
        Ok(Self { said, rows: on_device(&rows), which: on_device(&which) })
    }
}

/// What every free word means, as an earlier part of the run found, or found now: words and texts as which they sound.
fn meant(args: &Args, data: &Stickers, words: &Words) -> Result<Vec<(String, String)>> {
    let path = args.options.out.join(FOUND);
    if path.exists() {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let line = |l: &str| l.split_once('\t').map(|(word, means)| (word.to_owned(), means.to_owned()));
        return text.lines().map(line).collect::<Option<_>>().with_context(|| format!("{}: malformed", path.display()));
    }
    let found = find(args, data, words)?;
    let text: String = found.iter().map(|(word, means)| format!("{word}\t{means}\n")).collect();
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(found)
}

fn find(args: &Args, data: &Stickers, words: &Words) -> Result<Vec<(String, String)>> {
    let teacher = Sentences::open(&args.taught.teacher, args.options.device()?)?;
    let sentences = |texts: &[String]| teacher.of(texts);
    let graph = Graph::open(&args.taught.wordnet)?;
    let said = Said::new(words, &said::texts(data))?;
    let colours = TINTS.iter().map(|t| Concept { name: t.name.into(), ..Concept::default() });
    let concepts: Vec<Concept> = data.concepts().iter().cloned().chain(colours).collect();
    let meaning = Meaning::new(&graph, &concepts, &sentences)?;
    let free = said.free(words);
    let unknown: Vec<String> = said.unknown(words, &graph).into_iter().filter(|w| meaning.reaches(w)).collect();
    let known = |(word, meant): (String, Meant)| {
        let sure = meant.score >= if meant.noun { 0.0 } else { args.nearest };
        (word, if sure { concepts[meant.concept].name.clone() } else { NOTHING.to_owned() })
    };
    let near = |(word, meant): (String, Meant)| {
        (meant.score >= args.add).then(|| (word, concepts[meant.concept].name.clone()))
    };
    let (of_free, of_unknown) = (meaning.of(&free, &sentences)?, meaning.of(&unknown, &sentences)?);
    let mut found: Vec<(String, String)> = free.into_iter().zip(of_free).map(known).collect();
    // Plurals of rarer nouns would be half of the vocabulary.
    let names = data.concepts().iter().map(|c| (c.name.clone(), c.name.clone()));
    let common: Vec<(String, String)> =
        found.iter().filter(|(_, means)| means != NOTHING).cloned().chain(names).collect();
    let plurals = said.plurals(words, &graph, &common);
    found.extend(unknown.into_iter().zip(of_unknown).filter_map(near).chain(plurals));
    Ok(found)
}

/// The token table with rows for what was added; every word that is heard has the mean of the rows of its text.
fn start(before: &TextEncoder, heard: &AllHeard) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let table = before.params.map().remove(TABLE).with_context(|| format!("the text encoder has no {TABLE}"))?;
    let (known, width) = table.size2()?;
    let grown = table.new_zeros([known + heard.added.len() as i64, width], (Kind::Float, table.device()));
    grown.narrow(0, 0, known).copy_(&table);
    for word in &heard.words {
        let ids = before.words().ids(&word.means)?;
        let pieces = Tensor::from_slice(inner(&ids)).to_device(table.device());
        grown.get(word.row).copy_(&table.index_select(0, &pieces).mean_dim([0i64].as_slice(), false, Kind::Float));
    }
    Ok(grown)
}

struct Hear {
    before: TextEncoder,
    words: Words,
    net: Bert,
    /// `(vocabulary, width)`.
    table: Tensor,
    targets: Targets,
    batch: usize,
}

/// The ways in which a name is said; a word is said in them too.
const WAYS: [&str; 4] = ["{}", "a {}", "a picture of a {}", "{} on a blue background"];

impl Hear {
    /// The encoder with the rows of `params` in their places.
    fn with(&self, params: &Params) -> Params {
        let Targets { said, rows, which } = &self.targets;
        let own = params.get(ROWS, &[said.len() as i64, self.table.size()[1]], Init::Zero).to_kind(Kind::Float);
        self.before.params.with(TABLE, self.table.index_copy(0, rows, &own.index_select(0, which)))
    }

    /// Words, and ways in which they are said.
    fn draw(&self, count: usize, draws: &mut Draws) -> Vec<(&Heard, &'static str)> {
        let said = &self.targets.said;
        (0..count).map(|_| (&said[draws.below(said.len())], WAYS[draws.below(WAYS.len())])).collect()
    }

    /// Mean squared errors of the two leading states and of the words', and the mean cosine of the pooled ones, of words said in a way.
    fn compare(&self, params: &Params, said: &[(&Heard, &str)]) -> Result<[Tensor; 3]> {
        let device = self.table.device();
        let own: Vec<Vec<i64>> =
            said.iter().map(|(w, way)| self.words.ids(&way.replace("{}", &w.word))).collect::<Result<_>>()?;
        let ids = shortened(&Tensor::from_slice(&own.concat()).reshape([said.len() as i64, -1]).to_device(device))?;
        let others: Vec<String> = said.iter().map(|(w, way)| way.replace("{}", &w.means)).collect();
        let others = shortened(&self.before.ids(&others)?)?;
        let forward = |net: &Bert, params: &Params, ids: &Tensor| net.forward(&Torch(params), ids, ids.size()[1]);
        let wanted = {
            let _guard = tch::no_grad_guard();
            aligned(&forward(&self.before.net, &self.before.params, &others), &others, &ids)
        };
        let states = forward(&self.net, &self.with(params), &ids).to_kind(Kind::Float);
        let squared = (&states - &wanted).square().mean_dim([2i64].as_slice(), false, Kind::Float);
        let leading = squared.narrow(1, 0, LEADING as i64).mean(Kind::Float);
        let rest = ids.size()[1] - LEADING as i64;
        let mask = ids.ne(0).to_kind(Kind::Float).narrow(1, LEADING as i64, rest);
        let words = (squared.narrow(1, LEADING as i64, rest) * &mask).sum(Kind::Float) / (mask.sum(Kind::Float) + 1.0);
        let pooled = |t: &Tensor| t.select(1, 0);
        let cosine = Tensor::cosine_similarity(&pooled(&states), &pooled(&wanted), 1, 1e-6).mean(Kind::Float);
        Ok([leading, words, cosine])
    }
}

/// `(B, L)` ids, cut behind the longest text.
fn shortened(ids: &Tensor) -> Result<Tensor> {
    let longest = ids.ne(0).sum_dim_intlist([1i64].as_slice(), false, Kind::Int64).max();
    Ok(ids.narrow(1, 0, i64::try_from(longest)?))
}

/// The states of `others` `(B, L, W)` at the places of `ids`: the leading ones as they are, then word for word, the last word again
/// where it has fewer, and the end at the end; padding is zero.
fn aligned(states: &Tensor, others: &Tensor, ids: &Tensor) -> Tensor {
    let device = ids.device();
    let lengths = |ids: &Tensor| ids.ne(0).sum_dim_intlist([1i64].as_slice(), true, Kind::Int64);
    let (own, other) = (lengths(ids), lengths(others));
    let place = Tensor::arange(ids.size()[1], (Kind::Int64, device)).unsqueeze(0).expand_as(ids);
    // The end stands behind the words; a text without any has it at LEADING.
    let last_word = (&other - 2).clamp_min(LEADING as i64);
    let word = place.minimum(&last_word);
    let from = word.where_self(&place.lt_tensor(&(&own - 1)), &(&other - 1).expand_as(ids));
    let from = from.unsqueeze(-1).expand([-1, -1, states.size()[2]], false);
    states.gather(1, &from, false) * ids.ne(0).to_kind(Kind::Float).unsqueeze(-1)
}

impl Task for Hear {
    fn figures(&self) -> &'static [&'static str] {
        &["leading", "words", "cosine"]
    }

    fn loss(&mut self, params: &Params, _: u64, draws: &mut Draws) -> Result<(Tensor, Vec<Tensor>)> {
        let said = self.draw(self.batch, draws);
        let parts = self.compare(params, &said)?;
        Ok((&parts[0] * 2.0 + &parts[1] * 0.5, parts.iter().map(Tensor::detach).collect()))
    }

    fn report(&mut self, averaged: &Params, _: u64, _: &Path) -> Result<Report> {
        let _guard = tch::no_grad_guard();
        let mut draws = Draws::new(1);
        let said = self.draw(256, &mut draws);
        let cosine = self.compare(averaged, &said)?[2].double_value(&[]);
        let line = format!("cosine of words to what is meant {cosine:.3}");
        Ok(Report {
            line,
            figures: vec![("cosine_to_what_is_meant", cosine), ("rows", self.targets.said.len() as f64)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_aligned_word_for_word() {
        // [CLS] [MASK] words [SEP]: one word against three, and three against one.
        let ids = Tensor::from_slice(&[2i64, 4, 9, 3, 0, 0, 0, 2, 4, 9, 9, 9, 3, 0]).reshape([2, 7]);
        let others = Tensor::from_slice(&[2i64, 4, 5, 6, 7, 3, 0, 2, 4, 8, 3, 0, 0, 0]).reshape([2, 7]);
        let states = Tensor::arange(14, (Kind::Float, tch::Device::Cpu)).reshape([2, 7, 1])
            * others.ne(0).to_kind(Kind::Float).unsqueeze(-1);
        let got: Vec<f32> = Vec::try_from(aligned(&states, &others, &ids).flatten(0, -1)).unwrap();
        assert_eq!(got, [0.0, 1.0, 2.0, 5.0, 0.0, 0.0, 0.0, 7.0, 8.0, 9.0, 9.0, 9.0, 10.0, 0.0]);
    }
}
