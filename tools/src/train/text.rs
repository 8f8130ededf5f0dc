//! `train text`: a small BERT learns to give MiniLM-L6's whitened sentence vector, the drawing style and MiniLM's
//! standardised token states, each at its own position.

use super::course::{Course, Used};
use super::progress::Report;
use super::run::{Options, State, Task, no_grad, train as train_loop};
use crate::dataset::background::PALETTE;
use crate::dataset::caption::{caption_on, captions};
use crate::dataset::pack::{Concept, Stickers};
use crate::dataset::style::phrases;
use crate::draws::{Draws, mix};
use crate::net::bert::Bert;
use crate::net::params::{Params, read_safetensors, read_trained};
use crate::net::reader::{READER, Reader};
use crate::net::torch::Torch;
use crate::record::records;
use crate::trained::{self, TEXT};
use crate::wordnet;
use crate::words::{LEADING, LENGTH, Words, describe, prune};
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The tensor of the token table.
pub(super) const TABLE: &str = "embeddings.word_embeddings.weight";

/// What text encoders are taught with.
#[derive(clap::Args, Debug)]
pub(super) struct Taught {
    /// The packed data that `dataset` made.
    #[arg(long)]
    pub data: PathBuf,
    /// The folder of all-MiniLM-L6-v2: model.safetensors, tokenizer.json.
    #[arg(long)]
    pub teacher: PathBuf,
    /// WordNet's `data.noun`.
    #[arg(long)]
    pub wordnet: PathBuf,
}

/// Options of `train text`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    taught: Taught,
    /// Weights to begin with, and the tokenizer that they were trained with: `weights.safetensors` of an earlier run, or an
    /// exported model directory.
    #[arg(long)]
    from: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

impl Args {
    pub(super) fn course(&self) -> Course {
        Course {
            stage: "train text",
            options: self.options.clone(),
            data: self.taught.data.clone(),
            from: self.from.clone().map(|from| (from, &TEXT[..], &records::TEXT[..])),
            with: self.taught.files(),
            settings: json!({}),
        }
    }
}

impl Taught {
    /// The files beside the data, for the record.
    pub(super) fn files(&self) -> Vec<Used> {
        let teacher = self.teacher.join("model.safetensors");
        vec![("teacher", teacher, &[]), ("wordnet", self.wordnet.clone(), &[])]
    }
}

/// Runs `train text`.
pub fn train(args: Args) -> Result<()> {
    let device = args.options.device()?;
    std::fs::create_dir_all(&args.options.out)?;
    let data = Stickers::open(&args.taught.data)?;
    let nouns = nouns(&args.taught.wordnet)?;
    let words = words(&args, &data, &nouns)?;
    let teacher = Teacher::open(&args.taught.teacher, &words, &data, device)?;
    let net = Bert::student(words.vocabulary() as i64, LENGTH as i64);
    std::fs::write(args.options.out.join("config.json"), serde_json::to_string_pretty(&net)?)?;
    let params = Params::fresh(args.options.seed, device);
    let blank = Tensor::zeros([1, LENGTH as i64], (Kind::Int64, device));
    let _ = no_grad(|| net.forward(&Torch(&params), &blank, LENGTH as i64));
    params.close("the text encoder")?;
    println!("text encoder: {} parameters, {} pieces, {} nouns", params.count(), net.vocabulary, nouns.len());
    let (held_out, nouns) = nouns.into_iter().partition(|n| mix(0, n).is_multiple_of(50));
    let mut state = State::in_precision(params, args.options.precision);
    if let Some(from) = &args.from {
        let mut weights = read_trained(from, &TEXT)?;
        weights.retain(|name, _| !name.starts_with(READER));
        if let Some(table) = weights.get_mut(TABLE) {
            *table = table.narrow(0, 0, net.vocabulary.min(table.size()[0]));
        }
        state.start_from(&weights).with_context(|| format!("{}", from.display()))?;
    }
    let mut task = Distil { net, words, teacher, data, nouns, held_out, batch: args.options.batch, device };
    train_loop(&args.options, &mut state, &mut task)
}

/// Words and definitions: texts that no caption has.
fn nouns(path: &Path) -> Result<Vec<String>> {
    let synsets = wordnet::nouns(path)?;
    ensure!(!synsets.is_empty(), "{}: no noun found in it", path.display());
    Ok(synsets.into_iter().flat_map(|s| s.words.into_iter().chain([s.gloss])).collect())
}

/// The run's tokenizer: made once, then kept, so that ids never change within a run.
fn words(args: &Args, data: &Stickers, nouns: &[String]) -> Result<Words> {
    let path = args.options.out.join("tokenizer.json");
    if let Some(from) = &args.from {
        adopt(&trained::tokenizer(from), &args.taught.teacher, &path)?;
    } else if !path.exists() {
        let captions: Vec<String> =
            data.concepts().iter().flat_map(|c| data.styles().iter().flat_map(|s| captions(c, s))).collect();
        // Of WordNet, the pieces that several entries use: rare ones are spelled from smaller pieces.
        let common = common_words(nouns, 5);
        let texts = captions.iter().map(String::as_str).chain(common.iter().map(String::as_str));
        std::fs::write(&path, prune(&args.taught.teacher.join("tokenizer.json"), texts)?)?;
    }
    Words::open(&path)
}

/// Keeps the tokenizer of other weights for this run, but for the words that `train synonyms` put behind: the teacher has none of them.
fn adopt(from: &Path, teacher: &Path, to: &Path) -> Result<()> {
    let all = std::fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let pieces = Words::from_json(&all).with_context(|| format!("{}", from.display()))?.pieces();
    let taught: BTreeSet<String> = Words::open(&teacher.join("tokenizer.json"))?.pieces().into_iter().collect();
    let (known, added) = pieces.split_at(pieces.iter().take_while(|p| taught.contains(*p)).count());
    if let Some(last) = added.iter().rfind(|p| taught.contains(*p)) {
        bail!("{}: the teacher lacks {}, which stands before {last}", from.display(), added[0]);
    }
    let tokenizer = if added.is_empty() { all } else { describe(&known.iter().cloned().zip(0..).collect()) };
    if to.exists() {
        let same = std::fs::read_to_string(to)? == tokenizer;
        ensure!(same, "{} is not {}: give --out a new folder", to.display(), from.display());
        return Ok(());
    }
    std::fs::write(to, tokenizer).with_context(|| format!("cannot write {}", to.display()))
}

fn common_words(texts: &[String], at_least: usize) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in texts.iter().flat_map(|t| t.split(|c: char| !c.is_alphanumeric())) {
        *counts.entry(word).or_default() += 1;
    }
    counts.into_iter().filter(|(_, n)| *n >= at_least).map(|(w, _)| w.to_owned()).collect()
}

/// MiniLM with the statistics that make its outputs plain targets.
struct Teacher {
    net: Bert,
    params: Params,
    /// The student's id to the teacher's.
    ids: Tensor,
    /// Mean and whitening matrix of the sentence vectors.
    pooled: (Tensor, Tensor),
    /// Mean and deviation of the token states.
    tokens: (Tensor, Tensor),
}

impl Teacher {
    pub fn open(folder: &Path, words: &Words, data: &Stickers, device: Device) -> Result<Self> {
        let net = Bert::minilm();
        let weights = read_safetensors(&folder.join("model.safetensors"))?;
        let own = |(k, v): (String, Tensor)| (k.strip_prefix("bert.").unwrap_or(&k).to_owned(), v.to_kind(Kind::Float));
        let weights = weights.into_iter().map(own).collect();
        let params = Params::frozen(weights, device);
        let ids = teacher_ids(folder, words)?.to_device(device);
        let width = net.width;
        let identity = (Tensor::zeros([width], (Kind::Float, device)), Tensor::eye(width, (Kind::Float, device)));
        let unit = (Tensor::zeros([width], (Kind::Float, device)), Tensor::ones([width], (Kind::Float, device)));
        let mut teacher = Self { net, params, ids, pooled: identity, tokens: unit };
        let names: Vec<&str> = data.concepts().iter().map(|c| c.name.as_str()).collect();
        teacher.measure(&names, words, device)?;
        teacher.params.close(&format!("{}/model.safetensors", folder.display()))?;
        Ok(teacher)
    }

    /// Sets the statistics from the bare names.
    fn measure(&mut self, names: &[&str], words: &Words, device: Device) -> Result<()> {
        let mut pooled = Vec::new();
        let mut tokens = Vec::new();
        for chunk in names.chunks(64) {
            let ids = batch_ids(words, chunk, device)?;
            let (p, t, mask) = self.states(&ids);
            pooled.push(p);
            let flat = t.flatten(0, 1);
            tokens.push(flat.index_select(0, &mask.flatten(0, 1).nonzero().squeeze_dim(1)));
        }
        self.pooled = whitening(&Tensor::cat(&pooled, 0));
        let tokens = Tensor::cat(&tokens, 0);
        let deviation = tokens.std_dim([0i64].as_slice(), true, false);
        let floor = deviation.mean(Kind::Float).double_value(&[]) * 0.1;
        self.tokens = (tokens.mean_dim([0i64].as_slice(), false, Kind::Float), deviation.clamp_min(floor));
        Ok(())
    }

    /// Raw sentence vectors `(B, 384)`, token states after the leading ones `(B, L - 2, 384)` and their mask.
    fn states(&self, ids: &Tensor) -> (Tensor, Tensor, Tensor) {
        let _guard = tch::no_grad_guard();
        // The teacher has no [MASK] after [CLS].
        let own = Tensor::cat(&[ids.narrow(1, 0, 1), ids.narrow(1, LEADING as i64, ids.size()[1] - LEADING as i64)], 1);
        let own = self.ids.index_select(0, &own.flatten(0, 1)).reshape(own.size());
        let length = own.size()[1];
        let states = self.net.forward(&Torch(&self.params), &own, length);
        let mask = own.ne(0).to_kind(Kind::Float);
        let weight = mask.unsqueeze(-1);
        let sum = (&states * &weight).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let mean = sum / weight.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let norm = mean.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Float).sqrt();
        (mean / norm, states.narrow(1, 1, length - 1), mask.narrow(1, 1, length - 1))
    }

    fn whiten(&self, pooled: &Tensor) -> Tensor {
        (pooled - &self.pooled.0).matmul(&self.pooled.1)
    }

    fn standardise(&self, tokens: &Tensor) -> Tensor {
        (tokens - &self.tokens.0) / &self.tokens.1
    }
}

/// Maps every piece of the pruned vocabulary to its id in the teacher's.
fn teacher_ids(folder: &Path, words: &Words) -> Result<Tensor> {
    let path = folder.join("tokenizer.json");
    let full = tokenizers::Tokenizer::from_file(&path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    let id =
        |piece: &String| full.token_to_id(piece).with_context(|| format!("{}: has no piece {piece}", path.display()));
    let ids: Vec<i64> = words.pieces().iter().map(|p| id(p).map(i64::from)).collect::<Result<_>>()?;
    Ok(Tensor::from_slice(&ids))
}

/// Mean and `(C + 0.1 tr(C)/d I)^(-1/2)` of row vectors.
fn whitening(rows: &Tensor) -> (Tensor, Tensor) {
    let mean = rows.mean_dim([0i64].as_slice(), false, Kind::Float);
    let centred = rows - &mean;
    let covariance = centred.transpose(0, 1).matmul(&centred) / rows.size()[0] as f64;
    let ridge = covariance.diagonal(0, 0, 1).mean(Kind::Float).double_value(&[]) * 0.1;
    let (values, vectors) = covariance.linalg_eigh("L");
    let scaled = &vectors * (values.clamp_min(0.0) + ridge).rsqrt().unsqueeze(0);
    (mean, scaled.matmul(&vectors.transpose(0, 1)))
}

/// The code of a style: 384 signs, drawn from its name.
fn style_code(style: &str, width: usize) -> Vec<f32> {
    let mut draws = Draws::new(mix(17, style));
    (0..width).map(|_| if draws.unit() < 0.5 { -1.0 } else { 1.0 }).collect()
}

/// Ids of texts, cut to the longest of them.
fn batch_ids(words: &Words, texts: &[&str], device: Device) -> Result<Tensor> {
    let ids: Vec<Vec<i64>> = texts.par_iter().map(|t| words.ids(t)).collect::<Result<_>>()?;
    let longest = ids.iter().map(|i| i.iter().rposition(|v| *v != 0).map_or(1, |p| p + 1)).max().unwrap_or(1);
    let flat: Vec<i64> = ids.iter().flat_map(|i| i[..longest].iter().copied()).collect();
    Ok(Tensor::from_slice(&flat).reshape([texts.len() as i64, longest as i64]).to_device(device))
}

/// A text, what it says apart from the style, and its style.
struct Caption {
    text: String,
    base: String,
    style: String,
}

/// A caption without the words that name its style.
fn without_style(text: &str, style: &str) -> String {
    for phrase in phrases(style) {
        for written in [format!(", {phrase} style"), format!(", {phrase}"), format!("{phrase} ")] {
            if let Some((before, after)) = text.split_once(&written) {
                return format!("{before}{after}");
            }
        }
    }
    text.to_owned()
}

struct Distil {
    net: Bert,
    words: Words,
    teacher: Teacher,
    data: Stickers,
    nouns: Vec<String>,
    held_out: Vec<String>,
    batch: usize,
    device: Device,
}

impl Distil {
    /// Three quarters captions, a fifth WordNet, the rest empty.
    fn draw(&self, draws: &mut Draws) -> Caption {
        let kind = draws.unit();
        if kind < 0.02 {
            return Caption { text: String::new(), base: String::new(), style: "3d".into() };
        }
        if kind < 0.22 {
            let text = self.nouns[draws.below(self.nouns.len())].clone();
            return Caption { base: text.clone(), text, style: "3d".into() };
        }
        let concept: &Concept = &self.data.concepts()[draws.below(self.data.concepts().len())];
        let styles = self.data.styles();
        // Half of the captions are in the plain style, as most prompts are.
        let style = if draws.unit() < 0.4 { "3d" } else { &styles[draws.below(styles.len())] };
        let colour = (draws.unit() < 0.1).then(|| PALETTE[draws.below(PALETTE.len())].0);
        let text = caption_on(concept, style, colour, &mut || draws.unit());
        Caption { base: without_style(&text, style), text, style: style.to_owned() }
    }

    /// Mean squared errors of pooled vector, style and tokens, and the cosine of the pooled vectors.
    fn compare(&self, params: &Params, texts: &[Caption]) -> Result<[Tensor; 4]> {
        let full: Vec<&str> = texts.iter().map(|c| c.text.as_str()).collect();
        let base: Vec<&str> = texts.iter().map(|c| c.base.as_str()).collect();
        let ids = batch_ids(&self.words, &full, self.device)?;
        let (pooled, _, _) = self.teacher.states(&batch_ids(&self.words, &base, self.device)?);
        let (_, tokens, mask) = self.teacher.states(&ids);
        let said: Vec<f32> = texts.iter().map(|c| if c.text.is_empty() { 0.0 } else { 1.0 }).collect();
        let said = Tensor::from_slice(&said).to_device(self.device).unsqueeze(1);
        let codes: Vec<f32> = texts.iter().flat_map(|c| style_code(&c.style, self.net.width_out())).collect();
        let style = Tensor::from_slice(&codes).reshape([texts.len() as i64, -1]).to_device(self.device) * &said;
        let (pooled, tokens) = (self.teacher.whiten(&pooled) * &said, self.teacher.standardise(&tokens));
        let mask = (mask * &said).unsqueeze(-1);

        let length = ids.size()[1];
        let states = self.net.forward(&Torch(params), &ids, length);
        let own = states.select(1, 0);
        let pooled_error = (&own - &pooled).square().mean(Kind::Float);
        let style_error = (states.select(1, 1) - style).square().mean(Kind::Float);
        let difference = (states.narrow(1, LEADING as i64, length - LEADING as i64) - tokens).square() * &mask;
        let token_error = difference.sum(Kind::Float) / (mask.sum(Kind::Float) * self.net.width_out() as f64 + 1.0);
        let cosine = Tensor::cosine_similarity(&own, &pooled, 1, 1e-6).mean(Kind::Float);
        Ok([pooled_error, style_error, token_error, cosine])
    }
}

impl Task for Distil {
    fn figures(&self) -> &'static [&'static str] {
        &["pooled", "style", "tokens", "cosine"]
    }

    fn loss(&mut self, params: &Params, _: u64, draws: &mut Draws) -> Result<(Tensor, Vec<Tensor>)> {
        let texts: Vec<Caption> = (0..self.batch).map(|_| self.draw(draws)).collect();
        let parts = self.compare(params, &texts)?;
        let loss = &parts[0] + &parts[1] + &parts[2] * 0.5;
        Ok((loss, parts.iter().map(Tensor::detach).collect()))
    }

    fn report(&mut self, averaged: &Params, _: u64, _: &Path) -> Result<Report> {
        let _guard = tch::no_grad_guard();
        let own = |text: &String| Caption { text: text.clone(), base: text.clone(), style: "3d".into() };
        let unseen: Vec<Caption> = self.held_out.iter().take(256).map(own).collect();
        let mut draws = Draws::new(1);
        let seen: Vec<Caption> = (0..256).map(|_| self.draw(&mut draws)).collect();
        let cosine = |texts: &[Caption]| Ok::<f64, anyhow::Error>(self.compare(averaged, texts)?[3].double_value(&[]));
        let (seen, unseen) = (cosine(&seen)?, cosine(&unseen)?);
        let line = format!("cosine to the teacher: captions {seen:.3}, unseen nouns and glosses {unseen:.3}");
        Ok(Report { line, figures: vec![("captions_cosine", seen), ("unseen_cosine", unseen)] })
    }
}

impl Bert {
    fn width_out(&self) -> usize {
        self.output.unwrap_or(self.width) as usize
    }
}

/// The trained text encoder, as the denoiser's trainer uses it.
pub struct TextEncoder {
    pub net: Bert,
    pub params: Params,
    reader: Option<Reader>,
    words: Words,
}

impl TextEncoder {
    /// Opens the folder of a `train text` run, or an exported model.
    pub fn open(folder: &Path, device: Device) -> Result<Self> {
        let net = trained::text_encoder(folder)?;
        let params = Params::frozen(read_trained(folder, &TEXT)?, device);
        let reader = Reader::of(|name| params.map().get(name).map(Tensor::size));
        let opened = Self { net, params, reader, words: Words::open(&trained::tokenizer(folder))? };
        let _ = opened.states(&[""])?;
        opened.params.close(&folder.display().to_string())?;
        Ok(opened)
    }

    /// `(B, LENGTH, 384)`.
    pub fn states<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Tensor> {
        Ok(self.states_of(&self.ids(texts)?))
    }

    /// `(B, LENGTH)` int64, on the device.
    pub fn ids<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Tensor> {
        let words = &self.words;
        let ids: Vec<Vec<i64>> = texts.par_iter().map(|t| words.ids(t.as_ref())).collect::<Result<_>>()?;
        Ok(Tensor::from_slice(&ids.concat()).reshape([-1, LENGTH as i64]).to_device(self.params.device()))
    }

    /// `(B, LENGTH)` ids -> `(B, LENGTH, 384)`.
    pub fn states_of(&self, ids: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        let player = Torch(&self.params);
        let read = self.reader.as_ref().map(|reader| reader.forward(&player, ids));
        self.net.forward(&player, read.as_ref().unwrap_or(ids), LENGTH as i64)
    }

    pub fn words(&self) -> &Words {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitening_gives_unit_covariance_up_to_the_ridge() {
        let _lock = crate::net::params::generator_lock();
        tch::manual_seed(3);
        let rows = Tensor::randn([4000, 6], (Kind::Float, Device::Cpu))
            * Tensor::from_slice(&[1.0f32, 2.0, 3.0, 1.0, 1.5, 2.5])
            + 5.0;
        let (mean, matrix) = whitening(&rows);
        let white = (rows - mean).matmul(&matrix);
        let covariance = white.transpose(0, 1).matmul(&white) / 4000.0;
        let diagonal: Vec<f32> = Vec::try_from(covariance.diagonal(0, 0, 1)).unwrap();
        let ridge = 0.1 * (1.0 + 4.0 + 9.0 + 1.0 + 2.25 + 6.25) / 6.0;
        for (got, variance) in diagonal.iter().zip([1.0f64, 4.0, 9.0, 1.0, 2.25, 6.25]) {
            assert!((f64::from(*got) - variance / (variance + ridge)).abs() < 0.05, "{diagonal:?}");
        }
        let off = (&covariance - covariance.diagonal(0, 0, 1).diag_embed(0, 0, 1)).abs().max().double_value(&[]);
        assert!(off < 0.05, "{off}");
    }

    #[test]
    fn the_style_is_taken_out_of_a_caption() {
        for (text, style, want) in [
            ("fox, flat style", "flat", "fox"),
            ("fox, animal, flat", "flat", "fox, animal"),
            ("a flat fox on a blue background", "flat", "a fox on a blue background"),
            ("fox", "3d", "fox"),
        ] {
            assert_eq!(without_style(text, style), want);
        }
    }

    #[test]
    fn style_codes_differ_and_repeat() {
        assert_eq!(style_code("flat", 384), style_code("flat", 384));
        let dot: f32 = style_code("flat", 384).iter().zip(style_code("noto", 384)).map(|(a, b)| a * b).sum();
        assert!(dot.abs() < 100.0);
    }
}
