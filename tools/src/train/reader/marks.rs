//! What is known of a prompt exactly: that it stays as it is, since it says a name, a single word, or more than one thing; or that it is a
//! phrase of several words whose concept is known.
//!
//! A piece of a name or phrase has signs of its own, so that the sum of a prompt's signs tells those that have just these pieces; words
//! around names have none. All are small whole numbers, which f16 holds.

use crate::dataset::background::{PALETTE, TINTS};
use crate::dataset::caption::captions;
use crate::dataset::pack::{Concept, Stickers};
use crate::dataset::said;
use crate::dataset::style::phrases as phrases_of;
use crate::draws::Draws;
use crate::train::synonyms::vocabulary::inner;
use crate::words::Words;
use anyhow::{Result, ensure};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// Numbers of a piece: its signs, a one that counts it, and one if it keeps a prompt as it is.
const MARKS: usize = 22;
const COUNT: usize = MARKS - 2;
const KEEPS: usize = MARKS - 1;
/// Padding, and what stands around every prompt.
const UNSAID: [i64; 4] = [0, 2, 3, 4];
/// Words around a name, beside colours and styles.
const AROUND: &str = "a an the of picture emoji style";
/// Words of captions that say more than a name.
const MORE: &str = ", background and next left right";

/// Draws the signs.
const SEED: u64 = 1;
/// What f16 holds exactly, of whole numbers.
const EXACT: i64 = 2048;

type Mark = [i64; MARKS];

/// The marks of pieces, and what they tell.
pub struct Marks {
    pieces: Vec<Mark>,
    /// Sums of the phrases, and their concepts.
    phrases: BTreeMap<Mark, usize>,
    /// Sums of the names that have several pieces.
    names: BTreeSet<Mark>,
}

impl Marks {
    /// Of the names of `data`, and of phrases that stand for one of them.
    ///
    /// # Errors
    /// If a name is too long, or a caption would not stay.
    pub fn of(words: &Words, data: &Stickers, phrases: &[(String, usize)]) -> Result<Self> {
        let names: Vec<String> = data.concepts().iter().map(|c| c.name.clone()).collect();
        let styles: Vec<&str> = data.styles().iter().flat_map(|style| phrases_of(style)).collect();
        let marks = Self::new(words, &names, phrases, &styles)?;
        let told =
            |concept: &Concept| data.styles().iter().flat_map(|style| captions(concept, style)).collect::<Vec<_>>();
        let captions = data.concepts().par_iter().flat_map_iter(told).chain(said::texts(data));
        captions.try_for_each(|caption| {
            let stays = marks.keep(&words.ids(&caption)?);
            ensure!(stays, "the caption {caption:?} would be taken for a description");
            Ok(())
        })?;
        Ok(marks)
    }

    fn new(words: &Words, names: &[String], phrases: &[(String, usize)], styles: &[&str]) -> Result<Self> {
        let ids = |text: &str| -> Result<Vec<i64>> { Ok(inner(&words.ids(text)?).to_vec()) };
        let colours = PALETTE.iter().map(|(name, _)| *name).chain(TINTS.iter().map(|tint| tint.name));
        let around = colours.chain(styles.iter().copied()).chain([AROUND]);
        let around: BTreeSet<i64> = around.map(ids).collect::<Result<Vec<_>>>()?.concat().into_iter().collect();
        let more: BTreeSet<i64> = ids(MORE)?.into_iter().collect();
        let names: Vec<Vec<i64>> = names.iter().map(|name| ids(name)).collect::<Result<_>>()?;
        let phrases: Vec<(Vec<i64>, usize)> =
            phrases.iter().map(|(phrase, concept)| Ok((ids(phrase)?, *concept))).collect::<Result<_>>()?;
        let known: BTreeSet<i64> = names.iter().chain(phrases.iter().map(|(ids, _)| ids)).flatten().copied().collect();
        let mut draws = Draws::new(SEED);
        let other = signed(&mut draws);
        let own: BTreeMap<i64, Mark> = known.iter().map(|id| (*id, signed(&mut draws))).collect();
        let mark = |id: i64| match id {
            _ if more.contains(&id) => std::array::from_fn(|i| i64::from(i == KEEPS)),
            _ if around.contains(&id) || UNSAID.contains(&id) => [0; MARKS],
            _ => own.get(&id).copied().unwrap_or(other),
        };
        let pieces: Vec<Mark> = (0..words.vocabulary() as i64).map(mark).collect();
        let sum = |ids: &Vec<i64>| sum(ids.iter().map(|id| pieces[*id as usize]));
        let several = |sum: &Mark| sum[COUNT] > 1 && sum[KEEPS] == 0;
        let names: BTreeSet<Mark> = names.iter().map(sum).filter(several).collect();
        ensure!(
            names.iter().all(|sum| squared(sum) < EXACT),
            "a concept's name has more pieces than f16 can tell apart"
        );
        let phrases = phrases.iter().map(|(ids, concept)| (sum(ids), *concept));
        let short = |sum: &Mark| several(sum) && squared(sum) < EXACT && !names.contains(sum);
        let phrases = phrases.filter(|(sum, _)| short(sum)).collect();
        Ok(Self { pieces, phrases, names })
    }

    /// Whether a prompt of these ids stays as it is.
    pub fn keep(&self, ids: &[i64]) -> bool {
        let sum = sum(inner(ids).iter().map(|id| self.pieces[*id as usize]));
        sum[COUNT] <= 1 || sum[KEEPS] > 0 || self.names.contains(&sum)
    }

    /// The concepts of the phrases, in the order of their rows.
    pub fn concepts(&self) -> Vec<usize> {
        self.phrases.values().copied().collect()
    }

    /// Ways to stay, whose rows are behind those of the phrases: a name, a single piece at most, a word that says more.
    pub fn stays(&self) -> i64 {
        self.names.len() as i64 + 2
    }

    /// `(vocabulary, MARKS)`.
    pub fn table(&self) -> Tensor {
        tensor(&self.pieces.concat(), MARKS)
    }

    /// `(phrases + stays, 2 MARKS)` over a prompt's sums and their squares: of a phrase or name 1 less the squared distance, of the others
    /// above 0 if they hold.
    pub fn weight(&self) -> Tensor {
        let near = |sum: &Mark| -> Vec<i64> {
            let squares = (0..MARKS).map(|i| if i == KEEPS { 0 } else { -1 });
            sum.iter().map(|v| 2 * v).chain(squares).collect()
        };
        let only = |place: usize, value: i64| (0..2 * MARKS).map(|i| if i == place { value } else { 0 }).collect();
        let rows: Vec<Vec<i64>> = self.sums().map(near).chain([only(COUNT, -1), only(KEEPS, 1)]).collect();
        tensor(&rows.concat(), 2 * MARKS)
    }

    /// `(phrases + stays)`.
    pub fn bias(&self) -> Tensor {
        let sums = self.sums().map(|sum| 1.0 - squared(sum) as f32);
        Tensor::from_slice(&sums.chain([1.5, -0.5]).collect::<Vec<_>>())
    }

    fn sums(&self) -> impl Iterator<Item = &Mark> {
        self.phrases.keys().chain(&self.names)
    }
}

/// The mark of a piece of its own.
fn signed(draws: &mut Draws) -> Mark {
    std::array::from_fn(|i| match i {
        COUNT => 1,
        KEEPS => 0,
        _ => 1 - 2 * draws.below(2) as i64,
    })
}

fn sum(marks: impl Iterator<Item = Mark>) -> Mark {
    marks.fold([0; MARKS], |sum, mark| std::array::from_fn(|i| sum[i] + mark[i]))
}

fn squared(mark: &Mark) -> i64 {
    mark.iter().map(|v| v * v).sum()
}

fn tensor(values: &[i64], width: usize) -> Tensor {
    Tensor::from_slice(values).reshape([-1, width as i64]).to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::describe;

    /// What the reader's layer finds above all that a concept says: the place among phrases and stays.
    fn found(marks: &Marks, ids: &[i64]) -> Option<usize> {
        let sum = tensor(&sum(inner(ids).iter().map(|id| marks.pieces[*id as usize])), MARKS);
        let all = Tensor::cat(&[&sum, &(&sum * &sum)], 1).linear(&marks.weight(), Some(&marks.bias()));
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
        let words = words("fire engine red a of picture , and dog vixen big ##s hot polar bear");
        let names = ["fire engine", "dog"].map(String::from);
        let phrases = [("big bear".to_owned(), 1), ("engine fire".to_owned(), 1), ("red bear".to_owned(), 1)];
        let marks = Marks::new(&words, &names, &phrases, &["flat"]).unwrap();
        assert_eq!(marks.concepts(), [1], "one is a name, one has a single word beside its colour");
        let told = |text: &str| {
            let ids = words.ids(text).unwrap();
            let found = found(&marks, &ids);
            assert_eq!(marks.keep(&ids), found.is_some_and(|place| place >= 1), "{text}");
            found
        };
        for text in
            ["", "a", "dog", "vixen", "a red vixen", "fire engine", "a picture of a red fire engine", "dog, big"]
        {
            assert!(told(text).unwrap() >= 1, "{text}");
        }
        assert_eq!([told("big bear"), told("a bear big")], [Some(0); 2]);
        for text in
            ["big dog", "vixens", "big fire engine", "engine engine", "fire fire engine", "polar bear", "vixen big"]
        {
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
