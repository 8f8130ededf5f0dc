//! Vectors of pieces and of concepts: what the pieces' sum says of a text most should be the concept that is meant.

use super::vectors::Vectors;
use crate::draws::Draws;
use crate::net::Init;
use crate::net::params::Params;
use crate::train::progress::Report;
use crate::train::run::Task;
use crate::words::{LENGTH, SPECIAL};
use anyhow::Result;
use std::collections::HashMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Meanings are said within a quarter, so that marks, which are whole numbers and a half at least, decide first.
const LOUDEST: f64 = 0.25;
/// How far apart cosines are that differ in meaning.
const TEMPERATURE: f64 = 0.05;
/// What a vector of length 1 adds to a concept of length 1 while it is learned.
const LOUD: f64 = 8.0;
/// A piece in fewer texts than this has too little to learn from.
const RARE: usize = 5;

/// The trained parameters.
const PIECES: &str = "pieces";
const MEANINGS: &str = "meanings";

/// A text to learn from.
pub struct Told {
    /// `LENGTH` of them.
    pub ids: Vec<i64>,
    /// What the concepts near it in WordNet have ahead of the others, as cosines.
    pub near: Vec<(usize, f64)>,
}

/// Texts, and what they should say.
pub struct Fit {
    texts: Vec<Told>,
    /// `(texts, 384)` and `(concepts, 384)`: unit vectors of the teacher.
    vectors: Tensor,
    keys: Tensor,
    /// The vector that a piece has, of those that are learned.
    which: Vec<i64>,
    width: i64,
    batch: usize,
    held_out: usize,
}

impl Fit {
    /// Every `held_out`th text is left out; rare pieces with the same row of `alike` share a vector.
    pub fn new(
        texts: Vec<Told>,
        [vectors, keys]: [Tensor; 2],
        alike: &Tensor,
        sizes: (i64, usize, usize),
    ) -> Result<Self> {
        let (width, batch, held_out) = sizes;
        let which = which(&texts, alike)?;
        Ok(Self { texts, vectors: unit(&vectors), keys: unit(&keys), which, width, batch, held_out })
    }

    /// Before the first step: pieces say nothing yet; concepts point where the teacher's vectors of them do.
    pub fn start(&self, seed: u64) -> Result<Params> {
        let params = Params::fresh(seed, Device::Cpu);
        let pieces = self.pieces(&params);
        let meanings = self.meanings(&params);
        params.close("a reader's texts")?;
        let centred = &self.keys - self.keys.mean_dim([0i64].as_slice(), true, Kind::Float);
        let start = unit(&centred.matmul(&principal(&centred, meanings.size()[1])));
        params.rebind([(PIECES.to_owned(), pieces), (MEANINGS.to_owned(), start)].into());
        Ok(params)
    }

    fn pieces(&self, params: &Params) -> Tensor {
        let rows = self.which.iter().max().map_or(0, |last| last + 1);
        params.get(PIECES, &[rows, self.width], Init::Normal(0.02))
    }

    fn meanings(&self, params: &Params) -> Tensor {
        params.get(MEANINGS, &[self.keys.size()[0], self.width], Init::Zero)
    }

    /// `(texts, concepts)`: what is said of texts with these ids, `LENGTH` each.
    fn said(&self, params: &Params, ids: &[i64]) -> Tensor {
        let own = |id: &i64| self.which[*id as usize];
        let rows = Tensor::from_slice(&ids.iter().map(own).collect::<Vec<_>>());
        let words =
            Tensor::from_slice(ids).ge(SPECIAL.len() as i64).to_kind(Kind::Float).reshape([-1, LENGTH as i64, 1]);
        let vectors = self.pieces(params).index_select(0, &rows).reshape([-1, LENGTH as i64, self.width]);
        let sum = (vectors * &words).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let count = words.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).clamp_min(1.0);
        (sum / count.sqrt()).matmul(&self.meanings(params).transpose(0, 1)) * LOUD
    }

    /// `(texts, concepts)`: the teacher's cosines, and what WordNet adds.
    fn wanted(&self, texts: &[usize]) -> Tensor {
        let places: Vec<i64> = texts.iter().map(|i| *i as i64).collect();
        let count = self.keys.size()[0] as usize;
        let mut near = vec![0.0f32; texts.len() * count];
        for (row, text) in texts.iter().enumerate() {
            self.texts[*text].near.iter().for_each(|(concept, ahead)| near[row * count + concept] = *ahead as f32);
        }
        let cosines = self.vectors.index_select(0, &Tensor::from_slice(&places)).matmul(&self.keys.transpose(0, 1));
        cosines + Tensor::from_slice(&near).reshape([texts.len() as i64, -1])
    }

    fn ids(&self, texts: &[usize]) -> Vec<i64> {
        texts.iter().flat_map(|i| self.texts[*i].ids.iter().copied()).collect()
    }

    /// Vectors of pieces and of concepts, so long that no prompt says more than [`LOUDEST`].
    pub fn tables(&self, params: &Params) -> Vectors {
        let longest = |rows: &Tensor| rows.norm_scalaropt_dim(2.0, [1i64].as_slice(), false).max().clamp_min(1e-6);
        let (pieces, meanings) = (self.pieces(params), self.meanings(params));
        let pieces = &pieces / longest(&pieces);
        let meanings = &meanings / longest(&meanings) * (LOUDEST / LENGTH as f64);
        let words = Tensor::arange(self.which.len() as i64, (Kind::Int64, Device::Cpu)).ge(SPECIAL.len() as i64);
        let own = pieces.index_select(0, &Tensor::from_slice(&self.which));
        Vectors { pieces: own * words.to_kind(Kind::Float).unsqueeze(1), meanings }
    }
}

/// Of each piece, the place of its vector.
fn which(texts: &[Told], alike: &Tensor) -> Result<Vec<i64>> {
    let rows: Vec<Vec<f32>> = Vec::try_from(alike.to_kind(Kind::Float))?;
    let mut counts = vec![0; rows.len()];
    texts.iter().flat_map(|text| &text.ids).for_each(|id| counts[*id as usize] += 1);
    let (mut known, mut next) = (HashMap::new(), 0);
    let place = |(row, count): (&Vec<f32>, usize)| {
        let row: Vec<u32> = row.iter().map(|v| v.to_bits()).collect();
        let place = if count < RARE { *known.entry(row).or_insert(next) } else { next };
        next = next.max(place + 1);
        place
    };
    Ok(rows.iter().zip(counts).map(place).collect())
}

impl Task for Fit {
    fn figures(&self) -> &'static [&'static str] {
        &["same concept"]
    }

    fn loss(&mut self, params: &Params, _: u64, draws: &mut Draws) -> Result<(Tensor, Vec<Tensor>)> {
        let mut texts = Vec::new();
        while texts.len() < self.batch {
            let text = draws.below(self.texts.len());
            texts.extend((!text.is_multiple_of(self.held_out)).then_some(text));
        }
        let wanted = self.wanted(&texts);
        let said = self.said(params, &self.ids(&texts));
        let shares = (&wanted / TEMPERATURE).softmax(1, Kind::Float);
        let loss = -(shares * said.log_softmax(1, Kind::Float)).sum(Kind::Float) / texts.len() as f64;
        Ok((loss, vec![same(&said, &wanted).detach()]))
    }

    fn report(&mut self, averaged: &Params, _: u64, _: &Path) -> Result<Report> {
        let _guard = tch::no_grad_guard();
        let texts: Vec<usize> = (0..self.texts.len()).step_by(self.held_out).collect();
        let mut sum = 0.0;
        for part in texts.chunks(1000) {
            let same = same(&self.said(averaged, &self.ids(part)), &self.wanted(part));
            sum += same.double_value(&[]) * part.len() as f64;
        }
        let same = sum / texts.len() as f64;
        let line = format!("of {} texts held out, the same concept {same:.3}", texts.len());
        Ok(Report { line, figures: vec![("held_out_same_concept", same), ("held_out_texts", texts.len() as f64)] })
    }
}

/// The share of rows whose greatest is in the same place.
fn same(a: &Tensor, b: &Tensor) -> Tensor {
    a.argmax(1, false).eq_tensor(&b.argmax(1, false)).to_kind(Kind::Float).mean(Kind::Float)
}

/// `(W, width)`: the directions in which rows `(N, W)` are longest.
fn principal(rows: &Tensor, width: i64) -> Tensor {
    let (_, vectors) = rows.transpose(0, 1).matmul(rows).linalg_eigh("L");
    let all = vectors.size()[1];
    vectors.narrow(1, all - width.min(all), width.min(all))
}

fn unit(rows: &Tensor) -> Tensor {
    rows / rows.norm_scalaropt_dim(2.0, [1i64].as_slice(), true).clamp_min(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::params::generator_lock;

    /// Texts of two of the pieces 5 to 8; the lesser one says the concept, which WordNet knows and the teacher does not.
    fn fit() -> Fit {
        tch::manual_seed(4);
        let told = |(a, b): (i64, i64)| {
            let ids = [&[2, 4, 5 + a, 5 + b, 3], [0; LENGTH - 5].as_slice()].concat();
            Told { ids, near: vec![(a.min(b) as usize, 0.4)] }
        };
        let texts: Vec<Told> = (0..40).map(|i| told((i % 4, i / 4 % 4))).collect();
        let alike = Tensor::from_slice(&[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 9.0]).reshape([-1, 1]);
        let teacher = [
            Tensor::ones([40, 384], (Kind::Float, Device::Cpu)),
            Tensor::eye(384, (Kind::Float, Device::Cpu)).narrow(0, 0, 4),
        ];
        Fit::new(texts, teacher, &alike, (4, 8, 7)).unwrap()
    }

    #[test]
    fn texts_say_the_concept_that_is_wanted() {
        let _lock = generator_lock();
        let mut fit = fit();
        let params = fit.start(1).unwrap();
        let mut draws = Draws::new(1);
        let (before, _) = fit.loss(&params, 0, &mut draws).unwrap();
        for step in 0..200 {
            let (loss, _) = fit.loss(&params, step, &mut draws).unwrap();
            let mut all = params.map();
            let names: Vec<String> = all.keys().cloned().collect();
            let gradients = Tensor::run_backward(&[loss], &all.values().collect::<Vec<_>>(), false, false);
            let _guard = tch::no_grad_guard();
            for (name, gradient) in names.into_iter().zip(gradients) {
                let next = &all[&name] - gradient * 0.1;
                all.insert(name, next);
            }
            params.rebind(all);
        }
        let (after, _) = fit.loss(&params, 0, &mut draws).unwrap();
        assert!(after.double_value(&[]) < before.double_value(&[]));
        assert_eq!(fit.report(&params, 0, Path::new("")).unwrap().line, "of 6 texts held out, the same concept 1.000");
        let ids: Vec<Vec<i64>> = fit.texts.iter().map(|text| text.ids.clone()).take(3).collect();
        assert_eq!(fit.tables(&params).heard(&ids).unwrap(), [0, 0, 0]);
    }

    #[test]
    fn rare_pieces_that_are_alike_share_a_vector_and_no_prompt_is_loud() {
        let _lock = generator_lock();
        let fit = fit();
        assert_eq!(fit.which.len(), 11);
        assert_eq!(fit.which[9], fit.which[10]);
        assert!((5..9).all(|i| (5..9).all(|j| i == j || fit.which[i] != fit.which[j])));
        let Vectors { pieces, meanings } = fit.tables(&fit.start(1).unwrap());
        assert!(pieces.narrow(0, 0, 5).abs().max().double_value(&[]) == 0.0, "what stands around words says nothing");
        let loudest = pieces.matmul(&meanings.transpose(0, 1)).abs().max().double_value(&[]) * LENGTH as f64;
        assert!(loudest <= LOUDEST * 1.001, "{loudest}");
    }
}
