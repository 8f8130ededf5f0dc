//! `train synonyms`: a text encoder that a denoiser was trained on learns to hear other words.
//!
//! A denoiser draws what its captions named; "pooch" is far from all of them for a small encoder. So the encoder goes on saying what it
//! said of every caption, and of a noun or a definition of WordNet it learns to say what it said of the concept that is meant: the one
//! that shares a synset with it, else the one whose name is nearest to it for MiniLM, if it is near enough. The denoiser stays as it is.

use super::run::{Options, State, Task, no_grad, train as train_loop};
use super::text::{Taught, Teacher, TextEncoder};
use crate::dataset::caption::caption;
use crate::dataset::pack::Stickers;
use crate::dataset::scene::{Scene, Sources};
use crate::draws::{Draws, mix};
use crate::net::params::{Params, read_trained};
use crate::net::torch::Torch;
use crate::trained::{self, TEXT};
use crate::wordnet::{self, Synset};
use crate::words::{LEADING, LENGTH};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// Options of `train synonyms`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    taught: Taught,
    /// The text encoder: a run of `train text`, or an exported model directory.
    #[arg(long)]
    from: PathBuf,
    /// A noun that shares no synset with a concept is left out if its cosine to the nearest name is under this.
    #[arg(long, default_value_t = 0.5)]
    nearest: f64,
    #[command(flatten)]
    options: Options,
}

/// Share of a batch that is captions.
const KEPT: f64 = 0.5;
/// Of these, the share of captions of scenes.
const SCENES: f64 = 0.4;
/// Words of a noun, and of a definition, at most.
const LONGEST: [usize; 2] = [3, 12];

/// Runs `train synonyms`.
pub fn train(args: Args) -> Result<()> {
    let device = args.options.device()?;
    let out = &args.options.out;
    std::fs::create_dir_all(out)?;
    let data = Stickers::open(&args.taught.data)?;
    let before = TextEncoder::open(&args.from, device)?;
    std::fs::copy(trained::tokenizer(&args.from), out.join("tokenizer.json")).context("cannot keep the tokenizer")?;
    std::fs::write(out.join("config.json"), serde_json::to_string_pretty(&before.net)?)?;
    let teacher = Teacher::open(&args.taught.teacher, before.words(), &data, device)?;
    let synsets = wordnet::nouns(&args.taught.wordnet)?;
    let names: Vec<&str> = data.concepts().iter().map(|c| c.name.as_str()).collect();
    let meant = meant(&synsets, &names, args.nearest, |texts| teacher.sentences(before.words(), texts, device))?;
    let (held_out, meant): (Vec<_>, Vec<_>) = meant.into_iter().partition(|m| mix(0, &m.text).is_multiple_of(50));
    ensure!(
        !meant.is_empty() && !held_out.is_empty(),
        "{}: no noun of it is near a concept",
        args.taught.wordnet.display()
    );
    println!("{} nouns and definitions, {} of them held out", meant.len() + held_out.len(), held_out.len());
    let params = Params::fresh(args.options.seed, device);
    let _ = no_grad(|| {
        before.net.forward(&Torch(&params), &Tensor::zeros([1, LENGTH as i64], (Kind::Int64, device)), LENGTH as i64)
    });
    params.close("the text encoder")?;
    let mut state = State::in_precision(params, args.options.precision);
    state.start_from(&read_trained(&args.from, &TEXT)?)?;
    let sources = Sources::new(&data)?;
    let mut task = Hear { before, data, sources, meant, held_out, batch: args.options.batch };
    train_loop(&args.options, &mut state, &mut task)
}

/// A text, and the concept that it means.
#[derive(Clone, Debug, PartialEq)]
struct Meant {
    text: String,
    concept: usize,
}

/// The nouns and definitions that mean a concept. `sentences` gives unit vectors of texts, `(N, width)`.
fn meant(
    synsets: &[Synset],
    names: &[&str],
    nearest: f64,
    sentences: impl Fn(&[&str]) -> Result<Tensor>,
) -> Result<Vec<Meant>> {
    let known: HashMap<&str, usize> = names.iter().enumerate().map(|(i, name)| (*name, i)).collect();
    let short = |text: &str, most: usize| text.split(' ').count() <= most;
    let of_synset = |synset: &Synset| synset.words.iter().find_map(|w| known.get(w.as_str()).copied());
    let mut concepts: Vec<Option<usize>> = synsets.iter().map(of_synset).collect();
    let open: Vec<usize> =
        (0..synsets.len()).filter(|i| concepts[*i].is_none() && short(&synsets[*i].words[0], LONGEST[0])).collect();
    let own = sentences(names)?.transpose(0, 1);
    for chunk in open.chunks(512) {
        let texts: Vec<&str> = chunk.iter().map(|i| synsets[*i].words[0].as_str()).collect();
        let (near, which) = sentences(&texts)?.matmul(&own).max_dim(1, false);
        let (near, which) = (Vec::<f32>::try_from(near)?, Vec::<i64>::try_from(which)?);
        for ((i, near), which) in chunk.iter().zip(near).zip(which) {
            concepts[*i] = (f64::from(near) >= nearest).then_some(which as usize);
        }
    }
    let texts = |(synset, concept): (&Synset, Option<usize>)| {
        let words = synset.words.iter().filter(|w| short(w, LONGEST[0]) && !known.contains_key(w.as_str()));
        let gloss = Some(&synset.gloss).filter(|g| short(g, LONGEST[1]));
        let all: Vec<String> = words.chain(gloss).cloned().collect();
        concept.map(|concept| all.into_iter().map(move |text| Meant { text, concept }))
    };
    Ok(synsets.iter().zip(concepts).filter_map(texts).flatten().collect())
}

struct Hear {
    before: TextEncoder,
    data: Stickers,
    sources: Sources,
    meant: Vec<Meant>,
    held_out: Vec<Meant>,
    batch: usize,
}

/// Texts, and others whose states they should have.
#[derive(Default)]
struct Pairs {
    texts: Vec<String>,
    as_of: Vec<String>,
}

impl Pairs {
    fn add(&mut self, text: String, as_of: String) {
        self.texts.push(text);
        self.as_of.push(as_of);
    }
}

/// The ways in which a name is said; a noun is said in them too.
const WAYS: [&str; 3] = ["{}", "a {}", "a picture of a {}"];

impl Hear {
    fn draw(&self, draws: &mut Draws) -> Pairs {
        let mut pairs = Pairs::default();
        for _ in 0..self.batch {
            if draws.unit() < KEPT {
                let text = self.caption(draws);
                pairs.add(text.clone(), text);
            } else {
                let way = WAYS[draws.below(WAYS.len())];
                self.add(&self.meant[draws.below(self.meant.len())], way, &mut pairs);
            }
        }
        pairs
    }

    fn add(&self, meant: &Meant, way: &str, pairs: &mut Pairs) {
        let name = &self.data.concepts()[meant.concept].name;
        // A definition begins with its own article.
        let way = if meant.text.contains(' ') { WAYS[0] } else { way };
        pairs.add(way.replace("{}", &meant.text), way.replace("{}", name));
    }

    fn caption(&self, draws: &mut Draws) -> String {
        if draws.unit() < SCENES {
            let scene = Scene::draw(&self.sources, &self.data, &mut || draws.unit());
            return scene.caption(&self.data, &mut || draws.unit());
        }
        let concept = &self.data.concepts()[draws.below(self.data.concepts().len())];
        let style = &self.data.styles()[draws.below(self.data.styles().len())];
        caption(concept, style, &mut || draws.unit())
    }

    /// Mean squared errors of the two leading states and of the words', and the mean cosine of the pooled ones.
    fn compare(&self, params: &Params, pairs: &Pairs) -> Result<[Tensor; 3]> {
        let (ids, others) = (self.before.ids(&pairs.texts)?, self.before.ids(&pairs.as_of)?);
        let mask = ids.ne(0).to_kind(Kind::Float);
        let wanted = aligned(&self.before.states_of(&others), &others, &ids);
        let states = self.before.net.forward(&Torch(params), &ids, LENGTH as i64).to_kind(Kind::Float);
        let squared = (&states - &wanted).square().mean_dim([2i64].as_slice(), false, Kind::Float);
        let leading = squared.narrow(1, 0, LEADING as i64).mean(Kind::Float);
        let rest = (LENGTH - LEADING) as i64;
        let mask = mask.narrow(1, LEADING as i64, rest);
        let words = (squared.narrow(1, LEADING as i64, rest) * &mask).sum(Kind::Float) / (mask.sum(Kind::Float) + 1.0);
        let pooled = |t: &Tensor| t.select(1, 0);
        let cosine = Tensor::cosine_similarity(&pooled(&states), &pooled(&wanted), 1, 1e-6).mean(Kind::Float);
        Ok([leading, words, cosine])
    }
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
        let parts = self.compare(params, &self.draw(draws))?;
        Ok((&parts[0] * 2.0 + &parts[1] * 0.5, parts.iter().map(Tensor::detach).collect()))
    }

    fn report(&mut self, averaged: &Params, _: u64, _: &Path) -> Result<String> {
        let _guard = tch::no_grad_guard();
        let (mut kept, mut unseen) = (Pairs::default(), Pairs::default());
        let mut draws = Draws::new(1);
        for _ in 0..256 {
            let text = self.caption(&mut draws);
            kept.add(text.clone(), text);
        }
        self.held_out.iter().take(256).for_each(|m| self.add(m, WAYS[0], &mut unseen));
        let cosine = |pairs: &Pairs| Ok::<f64, anyhow::Error>(self.compare(averaged, pairs)?[2].double_value(&[]));
        let (kept, unseen) = (cosine(&kept)?, cosine(&unseen)?);
        Ok(format!(
            "cosine: captions to what they were {kept:.3}, unseen nouns and definitions to what is meant {unseen:.3}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_means_the_concept_of_its_synset_or_the_nearest_name() {
        let synset = |words: &[&str], gloss: &str| Synset {
            words: words.iter().map(|w| (*w).to_owned()).collect(),
            gloss: gloss.into(),
        };
        let synsets = [
            synset(&["auto", "automobile"], "a motor vehicle"),
            synset(&["pooch"], &"very ".repeat(20)),
            synset(&["justice"], "being just"),
            synset(&["a noun of many words"], "left out"),
        ];
        // Directions of texts: the first is that of cars, the second that of dogs.
        let sentences = |texts: &[&str]| {
            let of = |text: &&str| match *text {
                "automobile" => [1.0f32, 0.0, 0.0],
                "dog" => [0.0, 1.0, 0.0],
                "pooch" => [0.0, 0.8, 0.6],
                "justice" => [0.3, 0.2, 0.93],
                other => panic!("{other} is not asked for"),
            };
            let rows: Vec<[f32; 3]> = texts.iter().map(of).collect();
            Ok(Tensor::from_slice(&rows.concat()).reshape([-1, 3]))
        };
        let found = meant(&synsets, &["dog", "automobile"], 0.5, sentences).unwrap();
        let wanted = [("auto", 1), ("a motor vehicle", 1), ("pooch", 0)];
        assert_eq!(found, wanted.map(|(text, concept)| Meant { text: text.into(), concept }));
    }

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
