//! What is known of a prompt exactly: that it stays as it is, since it says a name, a single word, or more than one thing; or that it is a
//! word or phrase whose concept is known.
//!
//! A piece of a name or phrase has signs of its own, so that the sum of a prompt's signs tells those that have just these pieces; words
//! around names have none, and are counted beside. All are small whole numbers, which f16 holds.

use super::around::Around;
use crate::dataset::caption::captions;
use crate::dataset::pack::{Concept, Stickers};
use crate::dataset::said;
use crate::draws::Draws;
use crate::train::synonyms::vocabulary::inner;
use crate::words::Words;
use anyhow::{Result, ensure};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// Numbers of a piece that has signs: these, and a one that counts it.
const SIGNS: usize = 21;
const COUNT: usize = SIGNS - 1;
/// Padding, and what stands around every prompt.
const UNSAID: [i64; 4] = [0, 2, 3, 4];
/// Draws the signs.
const SEED: u64 = 1;
/// What f16 holds exactly, of whole numbers.
const EXACT: i64 = 2048;

type Sum = [i64; SIGNS];

/// What is told apart of a prompt: the sum of its signs, and what it says beside names, by [`Around`].
type Told = (Sum, Vec<i64>);

/// A phrase's concept, and what a prompt must not say beside it: then it is a caption.
type Known = (usize, BTreeSet<usize>);

/// The signs of pieces, and what they tell.
pub struct Marks {
    pieces: Vec<Sum>,
    around: Around,
    phrases: BTreeMap<Sum, Known>,
    /// Sums of the names that have several pieces, and of captions that would not stay by any other rule.
    names: BTreeSet<Sum>,
}

impl Marks {
    /// Of the names of `data`, and of words and phrases that stand for one of them.
    ///
    /// # Errors
    /// If a name is too long, or a caption would not stay.
    pub fn of(words: &Words, data: &Stickers, phrases: &[(String, usize)]) -> Result<Self> {
        let names: Vec<String> = data.concepts().iter().map(|c| c.name.clone()).collect();
        let mut marks = Self::new(words, &names, phrases, data.styles())?;
        let captions = marks.told_by_captions(words, data)?;
        captions.iter().for_each(|told| marks.leave(told));
        ensure!(marks.names.iter().all(fits), "a caption has more pieces than f16 can tell apart");
        let strays = captions.iter().filter(|told| !marks.keeps(told)).count();
        ensure!(strays == 0, "{strays} kinds of captions would be taken for descriptions");
        Ok(marks)
    }

    fn told_by_captions(&self, words: &Words, data: &Stickers) -> Result<BTreeSet<Told>> {
        let of =
            |concept: &Concept| data.styles().iter().flat_map(|style| captions(concept, style)).collect::<Vec<_>>();
        let all = data.concepts().par_iter().flat_map_iter(of).chain(said::texts(data));
        all.map(|caption| Ok(self.told(&words.ids(&caption)?))).collect()
    }

    /// Sees to it that a caption stays as it is.
    fn leave(&mut self, told: &Told) {
        let (sum, said) = told;
        if !self.stays(told) {
            self.names.insert(*sum);
        }
        if !self.around.takes_a_phrase(said) {
            return;
        }
        match (self.phrases.get_mut(sum), self.around.sign_of_a_caption(said)) {
            (Some((_, against)), Some(place)) => _ = against.insert(place),
            (Some(_), None) => _ = self.phrases.remove(sum),
            (None, _) => {}
        }
    }

    fn new(words: &Words, names: &[String], phrases: &[(String, usize)], styles: &[String]) -> Result<Self> {
        let ids = |text: &str| -> Result<Vec<i64>> { Ok(inner(&words.ids(text)?).to_vec()) };
        let around = Around::of(words, styles)?;
        let names: Vec<Vec<i64>> = names.iter().map(|name| ids(name)).collect::<Result<_>>()?;
        let phrases: Vec<(Vec<i64>, usize)> =
            phrases.iter().map(|(phrase, concept)| Ok((ids(phrase)?, *concept))).collect::<Result<_>>()?;
        let known: BTreeSet<i64> = names.iter().chain(phrases.iter().map(|(ids, _)| ids)).flatten().copied().collect();
        let mut draws = Draws::new(SEED);
        let other = signed(&mut draws);
        let own: BTreeMap<i64, Sum> = known.iter().map(|id| (*id, signed(&mut draws))).collect();
        let sign = |id: i64| match id {
            _ if around.has(id) || UNSAID.contains(&id) => [0; SIGNS],
            _ => own.get(&id).copied().unwrap_or(other),
        };
        let pieces: Vec<Sum> = (0..words.vocabulary() as i64).map(sign).collect();
        let mut marks = Self { pieces, around, phrases: BTreeMap::new(), names: BTreeSet::new() };
        let told = |ids: &Vec<i64>| (marks.sum(ids), marks.around.said(ids));
        let several: BTreeSet<Sum> = names.iter().map(|ids| told(ids).0).filter(|sum| sum[COUNT] > 1).collect();
        ensure!(several.iter().all(fits), "a concept's name has more pieces than f16 can tell apart");
        let plain = |(sum, said): &Told| sum[COUNT] > 0 && fits(sum) && said.iter().all(|count| *count == 0);
        let phrases = phrases.iter().map(|(ids, concept)| (told(ids), *concept)).filter(|(told, _)| plain(told));
        let phrases = phrases.map(|((sum, _), concept)| (sum, (concept, BTreeSet::new()))).collect();
        (marks.names, marks.phrases) = (several, phrases);
        let own: Vec<Told> = names.iter().map(|ids| marks.told(&framed(ids))).collect();
        own.iter().for_each(|told| marks.leave(told));
        Ok(marks)
    }

    /// Of ids in their frame.
    fn told(&self, ids: &[i64]) -> Told {
        (self.sum(inner(ids)), self.around.said(inner(ids)))
    }

    fn sum(&self, ids: &[i64]) -> Sum {
        ids.iter().fold([0; SIGNS], |sum, id| std::array::from_fn(|i| sum[i] + self.pieces[*id as usize][i]))
    }

    /// Whether it stays by a rule.
    fn stays(&self, (sum, said): &Told) -> bool {
        sum[COUNT] <= 1 || self.names.contains(sum) || self.around.says_more(said)
    }

    fn keeps(&self, told: &Told) -> bool {
        let (sum, said) = told;
        let known = self.phrases.get(sum).is_some_and(|(_, against)| against.iter().all(|place| said[*place] == 0));
        self.stays(told) && !(known && self.around.takes_a_phrase(said))
    }

    pub fn around(&self) -> &Around {
        &self.around
    }

    /// The concepts of the phrases, in the order of their rows.
    pub fn concepts(&self) -> Vec<usize> {
        self.phrases.values().map(|(concept, _)| *concept).collect()
    }

    /// Ways to stay, whose rows are behind those of the phrases: a name; a single piece at most; words that say more.
    pub fn stays_by(&self) -> i64 {
        self.names.len() as i64 + 3
    }

    /// `(vocabulary, SIGNS)`.
    pub fn table(&self) -> Tensor {
        tensor(&self.pieces.concat(), SIGNS)
    }

    /// `(phrases + stays, 2 SIGNS + said)` over a prompt's sum, its squares, and what it says: of a phrase or name 1 less the squared
    /// distance and what speaks against it, of the others above 0 if they hold.
    pub fn weight(&self) -> Tensor {
        let near = |sum: &Sum| sum.iter().map(|v| 2 * v).chain([-1; SIGNS]).collect::<Vec<_>>();
        let phrase = |(sum, (_, against)): (&Sum, &Known)| [near(sum), self.around.against(against)].concat();
        let name = |sum: &Sum| [near(sum), vec![0; self.around.count()]].concat();
        let single = (0..2 * SIGNS + self.around.count()).map(|i| -i64::from(i == COUNT)).collect();
        let more = self.around.more().map(|row| [vec![0; 2 * SIGNS], row].concat());
        let rows: Vec<Vec<i64>> =
            self.phrases.iter().map(phrase).chain(self.names.iter().map(name)).chain([single]).chain(more).collect();
        tensor(&rows.concat(), 2 * SIGNS + self.around.count())
    }

    /// `(phrases + stays)`.
    pub fn bias(&self) -> Tensor {
        let sums = self.phrases.keys().chain(&self.names).map(|sum| 1.0 - squared(sum) as f32);
        Tensor::from_slice(&sums.chain([1.5, -0.5, -0.5]).collect::<Vec<_>>())
    }
}

/// The signs of a piece of its own.
fn signed(draws: &mut Draws) -> Sum {
    std::array::from_fn(|i| if i == COUNT { 1 } else { 1 - 2 * draws.below(2) as i64 })
}

/// Ids of words as a prompt has them.
fn framed(words: &[i64]) -> Vec<i64> {
    [&UNSAID[1..2], &UNSAID[3..4], words, &UNSAID[2..3]].concat()
}

/// Whether f16 tells it apart.
fn fits(sum: &Sum) -> bool {
    squared(sum) < EXACT
}

fn squared(sum: &Sum) -> i64 {
    sum.iter().map(|v| v * v).sum()
}

pub(super) fn tensor(values: &[i64], width: usize) -> Tensor {
    Tensor::from_slice(values).reshape([-1, width as i64]).to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::describe;

    /// What the reader's layer finds above all that a concept says: the place among phrases and stays.
    fn found(marks: &Marks, ids: &[i64]) -> Option<usize> {
        let (sum, said) = marks.told(ids);
        let (sum, said) = (tensor(&sum, SIGNS), tensor(&said, marks.around.count()));
        let all = Tensor::cat(&[&sum, &(&sum * &sum), &said], 1).linear(&marks.weight(), Some(&marks.bias()));
        let best = all.max().double_value(&[]);
        assert!(best.abs() >= 0.5, "{best} could be drowned by a concept");
        (best > 0.0).then(|| all.argmax(1, false).int64_value(&[0]) as usize)
    }

    fn words(pieces: &str) -> Words {
        let all = "[PAD] [UNK] [CLS] [SEP] [MASK] ".to_owned() + pieces;
        Words::from_json(&describe(&all.split(' ').map(String::from).zip(0..).collect())).unwrap()
    }

    #[test]
    fn names_single_words_and_captions_of_more_stay_and_phrases_are_known() {
        let words = words("fire engine red a of picture , and dog vixen big ##s hot polar bear flower flat style");
        let names = ["fire engine", "dog", "red flower"].map(String::from);
        let phrases = [("big bear", 1), ("engine fire", 1), ("red bear", 1), ("flower", 0), ("dog", 0)];
        let phrases = phrases.map(|(phrase, concept)| (phrase.to_owned(), concept));
        let marks = Marks::new(&words, &names, &phrases, &["flat".to_owned()]).unwrap();
        let concepts = marks.concepts();
        assert_eq!(concepts.iter().sum::<usize>(), 1, "two are names, one has a colour");
        assert_eq!(concepts.len(), 2);
        let told = |text: &str| {
            let ids = words.ids(text).unwrap();
            let found = found(&marks, &ids);
            assert_eq!(marks.keeps(&marks.told(&ids)), found.is_some_and(|place| place >= 2), "{text}");
            found.map(|place| concepts.get(place).copied())
        };
        for text in [
            "",
            "a",
            "dog",
            "vixen",
            "a red vixen",
            "fire engine",
            "a picture of a red fire engine",
            "dog, big",
            "a red flower",
            "big dog and bear",
            "big bear, bear, bear",
        ] {
            assert_eq!(told(text), Some(None), "{text}");
        }
        for text in ["big bear", "a bear big", "red big bear", "big bear, flat style"] {
            assert_eq!(told(text), Some(Some(1)), "{text}");
        }
        for text in ["flower", "a flower", "flat flower", "flower, flat style"] {
            assert_eq!(told(text), Some(Some(0)), "{text}");
        }
        for text in [
            "big dog",
            "vixens",
            "big fire engine",
            "engine engine",
            "fire fire engine",
            "big vixen, flat",
            "vixen big",
        ] {
            assert_eq!(told(text), None, "{text}");
        }
        let half = |t: &Tensor| t.to_kind(Kind::Half).to_kind(Kind::Float);
        for tensor in [marks.table(), marks.weight(), marks.bias()] {
            assert!(half(&tensor).equal(&tensor), "f16 holds all");
        }
    }

    #[test]
    fn a_name_of_too_many_pieces_is_refused_and_such_a_phrase_left_out() {
        let words = words("b c d");
        let long = "b c ".repeat(14);
        assert!(Marks::new(&words, std::slice::from_ref(&long), &[], &[]).is_err());
        let marks = Marks::new(&words, &["b c".to_owned()], &[(long, 0), ("c d".to_owned(), 0)], &[]).unwrap();
        assert_eq!(marks.concepts().len(), 1);
    }
}
