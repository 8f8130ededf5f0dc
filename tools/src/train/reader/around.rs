//! What prompts say around a name: colours and styles, which are told on, and words that say more than one thing.

use super::marks::tensor;
use crate::dataset::background::{PALETTE, TINTS};
use crate::dataset::pack::Concept;
use crate::dataset::scene::{is_colour, tintable, tints};
use crate::dataset::style::phrases;
use crate::train::synonyms::vocabulary::inner;
use crate::words::{LEADING, LENGTH, Words};
use anyhow::{Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// Words around a name, beside colours and styles.
const AROUND: &str = "a an the of picture emoji style";
/// Words of captions that say more than a name.
const MORE: &str = "and background next left right";
const COMMA: &str = ",";

/// Places of what is counted; the colours, then the styles, are behind.
const SAYS_MORE: usize = 0;
const COMMAS: usize = 1;
const FIRST: usize = 2;

/// Colours and styles are those of one piece.
pub struct Around {
    colours: Vec<(&'static str, i64)>,
    styles: Vec<i64>,
    /// What pieces count as; those without a number stand around names and say nothing.
    places: BTreeMap<i64, Option<usize>>,
}

impl Around {
    pub fn of(words: &Words, styles: &[String]) -> Result<Self> {
        let ids = |text: &str| -> Result<Vec<i64>> { Ok(inner(&words.ids(text)?).to_vec()) };
        let styles: Vec<&str> = styles.iter().flat_map(|style| phrases(style)).collect();
        let names = PALETTE.iter().map(|(name, _)| *name).chain(TINTS.iter().map(|tint| tint.name));
        let mut places: BTreeMap<i64, Option<usize>> = BTreeMap::new();
        for text in names.chain(styles.iter().copied()).chain([AROUND]) {
            places.extend(ids(text)?.into_iter().map(|id| (id, None)));
        }
        places.extend(ids(MORE)?.into_iter().map(|id| (id, Some(SAYS_MORE))));
        places.extend(ids(COMMA)?.into_iter().map(|id| (id, Some(COMMAS))));
        let single = |text: &str| -> Result<Option<i64>> {
            let ids = ids(text)?;
            Ok((ids.len() == 1 && ids[0] != UNKNOWN).then_some(ids[0]))
        };
        let mut around = Self { colours: Vec::new(), styles: Vec::new(), places: BTreeMap::new() };
        for tint in &TINTS {
            around.colours.extend(single(tint.name)?.map(|id| (tint.name, id)));
        }
        for style in styles {
            around.styles.extend(single(style)?);
        }
        let told = around.colours.iter().map(|(_, id)| *id).chain(around.styles.iter().copied());
        places.extend(told.zip((FIRST..).map(Some)));
        places.remove(&UNKNOWN);
        Ok(Self { places, ..around })
    }

    /// How many things are counted.
    pub fn count(&self) -> usize {
        FIRST + self.colours.len() + self.styles.len()
    }

    /// Whether a piece stands around names.
    pub fn has(&self, id: i64) -> bool {
        self.places.contains_key(&id)
    }

    /// What the words with these ids say.
    pub fn said(&self, ids: &[i64]) -> Vec<i64> {
        let mut said = vec![0; self.count()];
        ids.iter().filter_map(|id| *self.places.get(id)?).for_each(|place| said[place] += 1);
        said
    }

    fn styles_of(&self, said: &[i64]) -> i64 {
        said[FIRST + self.colours.len()..].iter().sum()
    }

    /// The place of something that tells a caption from a phrase with the same pieces: a colour, else a comma.
    pub fn sign_of_a_caption(&self, said: &[i64]) -> Option<usize> {
        (FIRST..FIRST + self.colours.len()).chain([COMMAS]).find(|place| said[*place] > 0)
    }

    /// Whether more is said than a name with colours and a style, which may stand behind a comma.
    pub fn says_more(&self, said: &[i64]) -> bool {
        said[SAYS_MORE] > 0 || said[COMMAS] > self.styles_of(said)
    }

    /// Whether no word and no second comma outweighs a phrase.
    pub fn takes_a_phrase(&self, said: &[i64]) -> bool {
        said[SAYS_MORE] == 0 && said[COMMAS] - self.styles_of(said) <= 1
    }

    /// Weights of what is said for a phrase: two less for each of `places`.
    pub fn against(&self, places: &BTreeSet<usize>) -> Vec<i64> {
        let weight = |place| if places.contains(&place) { -2 } else { -i64::from(place == SAYS_MORE) };
        (0..self.count()).map(weight).collect()
    }

    /// Weights by which [`Self::says_more`] is told, less a half.
    pub fn more(&self) -> [Vec<i64>; 2] {
        let styles = FIRST + self.colours.len()..self.count();
        let commas = (0..self.count()).map(|i| i64::from(i == COMMAS) - i64::from(styles.contains(&i)));
        [(0..self.count()).map(|i| i64::from(i == SAYS_MORE)).collect(), commas.collect()]
    }

    /// `(vocabulary, count)`.
    pub fn table(&self, vocabulary: i64) -> Tensor {
        let rows: Vec<Vec<i64>> = (0..vocabulary).map(|id| self.said(&[id])).collect();
        tensor(&rows.concat(), self.count())
    }

    /// Weights and biases that choose a colour: the first is none, which is best also where two are said.
    pub fn choose_colour(&self) -> (Tensor, Tensor) {
        self.choose(FIRST, self.colours.len(), 0.5, 0.25)
    }

    /// Weights and biases that choose a style: the first is none.
    pub fn choose_style(&self) -> (Tensor, Tensor) {
        self.choose(FIRST + self.colours.len(), self.styles.len(), 0.0, 0.5)
    }

    fn choose(&self, from: usize, count: usize, each: f32, least: f32) -> (Tensor, Tensor) {
        let weight = |row: usize, column: usize| match row {
            0 if (from..from + count).contains(&column) => each,
            0 => 0.0,
            _ => f32::from(u8::from(column == from + row - 1)),
        };
        let rows: Vec<f32> = (0..=count).flat_map(|row| (0..self.count()).map(move |c| weight(row, c))).collect();
        let bias: Vec<f32> = (0..=count).map(|row| if row == 0 { least } else { 0.0 }).collect();
        (Tensor::from_slice(&rows).reshape([-1, self.count() as i64]), Tensor::from_slice(&bias))
    }

    /// The integers by which a name is said behind a style and a colour, by the names of [`crate::net::reader::Reader`]; `names` are ids,
    /// `natural` tells whether a concept is of a colour anyway.
    ///
    /// # Errors
    /// If a name is too long.
    pub fn tables(
        &self,
        concepts: &[Concept],
        names: &[Vec<i64>],
        natural: impl Fn(&Concept, &str) -> bool,
    ) -> Result<Vec<(&'static str, Tensor)>> {
        let (colours, styles) = (self.colours.len() + 1, self.styles.len() + 1);
        let longest = names.iter().map(|ids| inner(ids).len()).max().unwrap_or(0);
        ensure!(longest + LEADING + 4 <= LENGTH, "a concept's name is too long for a style and a colour before it");
        let taken = concepts.iter().flat_map(|concept| self.taken(concept, &natural)).chain(vec![0; colours]);
        let steps = |count: usize, step: usize| (0..count).map(|i| (i * step) as i64).collect::<Vec<_>>();
        let pairs = || (0..styles).flat_map(|style| (0..colours).map(move |colour| (style, colour)));
        let before = pairs().flat_map(|(style, colour)| framed(&self.before(style, colour), 0, |_| 0));
        let places = pairs().flat_map(|(style, colour)| {
            let ids = self.before(style, colour);
            framed(&vec![LENGTH as i64 - 1; ids.len()], ids.len(), |place| place as i64)
        });
        let (all, length) = (concepts.len() + 1, LENGTH as i64);
        let none = |at_none: i64, at_others: i64| (0..all).map(move |i| if i + 1 == all { at_none } else { at_others });
        let list = |values: Vec<i64>| Tensor::from_slice(&values).to_kind(Kind::Float);
        let rows = |values: Vec<i64>, width: i64| list(values).reshape([-1, width]);
        Ok(vec![
            ("colours.first", list(steps(all, colours))),
            ("colours.taken", list(taken.collect())),
            ("styles.first", list(steps(styles, colours))),
            ("before", rows(before.collect(), length)),
            ("places", rows(places.collect(), length)),
            ("names.first", rows(steps(all, LENGTH), 1)),
            ("names", list([names.concat(), vec![0; LENGTH]].concat())),
            ("takes", rows(none(0, 1).collect(), 1)),
            ("keeps", rows(none(1, 0).collect(), 1)),
        ])
    }

    /// For no colour and each colour, the one that is said before the name.
    fn taken(&self, concept: &Concept, natural: &impl Fn(&Concept, &str) -> bool) -> Vec<i64> {
        let coloured = concept.name.split(' ').any(is_colour);
        let may: Vec<&str> = if tintable(concept) && !coloured {
            tints(concept).into_iter().map(|i| TINTS[i].name).collect()
        } else {
            Vec::new()
        };
        let told =
            |(i, (name, _)): (i64, &(&str, i64))| if may.contains(name) && !natural(concept, name) { i } else { 0 };
        std::iter::once(0).chain((1..).zip(&self.colours).map(told)).collect()
    }

    /// The ids of a style and a colour, 0 for none.
    fn before(&self, style: usize, colour: usize) -> Vec<i64> {
        let style = style.checked_sub(1).map(|i| self.styles[i]);
        style.into_iter().chain(colour.checked_sub(1).map(|i| self.colours[i].1)).collect()
    }
}

/// The id of what the tokenizer does not know.
const UNKNOWN: i64 = 1;

/// `inner` behind the leading tokens, in [`LENGTH`] numbers: the others are `other` of their place, those behind `less` places less.
fn framed(inner: &[i64], less: usize, other: impl Fn(usize) -> i64) -> Vec<i64> {
    let behind = LEADING + inner.len();
    let at = |i: usize| match i {
        _ if i < LEADING => other(i),
        _ if i < behind => inner[i - LEADING],
        _ => other(i - less),
    };
    (0..LENGTH).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::describe;

    fn words() -> Words {
        let all = "[PAD] [UNK] [CLS] [SEP] [MASK] fox blue red flat , and big a style in apple";
        Words::from_json(&describe(&all.split(' ').map(String::from).zip(0..).collect())).unwrap()
    }

    fn around() -> Around {
        Around::of(&words(), &["3d".to_owned(), "flat".to_owned()]).unwrap()
    }

    fn said(text: &str) -> Vec<i64> {
        around().said(inner(&words().ids(text).unwrap()))
    }

    #[test]
    fn commas_and_words_for_more_are_told_from_styles() {
        let around = around();
        assert_eq!(around.count(), 2 + 2 + 1, "blue and red; flat");
        let more = |text: &str| {
            let said = said(text);
            let value = |row: &Vec<i64>| row.iter().zip(&said).map(|(a, b)| a * b).sum::<i64>();
            let told = around.more().iter().map(value).max() > Some(0);
            assert_eq!(around.says_more(&said), told, "{text}");
            told
        };
        assert_eq!(["fox, flat style", "a big red fox", "flat"].map(more), [false; 3]);
        assert_eq!(["fox, big", "fox and apple", "fox, red, flat"].map(more), [true; 3]);
        assert_eq!(
            [["big red fox", "fox, flat"], ["fox", "flat fox"]]
                .map(|pair| { pair.map(|text| around.sign_of_a_caption(&said(text)).is_some()) }),
            [[true; 2], [false; 2]]
        );
    }

    /// The place of the greatest.
    fn chosen((weight, bias): (Tensor, Tensor), said: &[i64]) -> i64 {
        tensor(said, said.len()).linear(&weight, Some(&bias)).argmax(1, false).int64_value(&[0])
    }

    /// The words in which the tables say a concept, of a prompt.
    fn told(concept: i64, prompt: &str) -> Vec<i64> {
        let named = |name: &str| Concept { name: name.into(), group: "animals-nature".into(), ..Concept::default() };
        let concepts = ["fox", "red apple", "apple"].map(named);
        let names: Vec<Vec<i64>> = concepts.iter().map(|c| words().ids(&c.name).unwrap()).collect();
        let around = around();
        let tables = around.tables(&concepts, &names, |concept, colour| concept.name == "apple" && colour == "red");
        let tables: BTreeMap<&str, Vec<f32>> =
            tables.unwrap().into_iter().map(|(name, t)| (name, Vec::try_from(t.flatten(0, -1)).unwrap())).collect();
        let at = |name: &str, place: i64| tables[name][place as usize] as i64;
        let said = said(prompt);
        let colour = at("colours.first", concept) + chosen(around.choose_colour(), &said);
        let row = at("styles.first", chosen(around.choose_style(), &said)) + at("colours.taken", colour);
        let id = |i: i64| {
            let name = at("names", at("names.first", concept) + at("places", row * LENGTH as i64 + i));
            name + at("before", row * LENGTH as i64 + i) * at("takes", concept)
        };
        (0..LENGTH as i64).map(id).collect()
    }

    #[test]
    fn a_style_and_a_colour_stand_before_the_name() {
        let ids = |text: &str| words().ids(text).unwrap();
        for (concept, prompt, wanted) in [
            (0, "big", "fox"),
            (0, "a big blue", "blue fox"),
            (0, "big in a style, flat", "flat fox"),
            (0, "big blue in red", "fox"),
            (0, "red big, flat style", "flat red fox"),
            (1, "big blue, flat style", "flat red apple"),
            (2, "red big", "apple"),
            (2, "blue big", "blue apple"),
        ] {
            assert_eq!(told(concept, prompt), ids(wanted), "{prompt}");
        }
        assert_eq!(told(3, "red big, flat style"), [0; LENGTH], "none is none");
    }

    #[test]
    fn a_name_that_leaves_no_room_is_refused() {
        let long = [Concept { name: "fox ".repeat(28), ..Concept::default() }];
        let names = [words().ids(&long[0].name).unwrap()];
        assert!(around().tables(&long, &names, |_, _| false).is_err());
    }
}
