//! Hears descriptions: a prompt that says no name is told to the text encoder in the words of the concept that it describes.
//!
//! Every piece has a vector, a prompt is the sum of its pieces', and the concept whose vector says most in that direction is meant: its
//! name's ids take the place of the prompt's, behind a style and a colour that the prompt says. Before that, sums of small whole numbers
//! tell what is known exactly: prompts that stay as they are, and phrases whose concept is known. `train reader` makes the tables.

use super::{Init, Layers};
use crate::words::LENGTH;

/// Before the names of the reader's weights.
pub const READER: &str = "reader.";

/// The sizes of a reader.
#[derive(Clone, Debug, PartialEq)]
pub struct Reader {
    /// Pieces of the tokenizer.
    pub pieces: i64,
    pub width: i64,
    /// Numbers that tell which pieces a prompt has.
    pub signs: i64,
    /// Numbers that count what it says beside a name.
    pub said: i64,
    /// Vectors of concepts.
    pub meanings: i64,
    /// Phrases that are known exactly, and ways to stay as it is.
    pub exact: i64,
    /// Colours, and none.
    pub colours: i64,
    /// Styles, and none.
    pub styles: i64,
}

impl Reader {
    /// That of a text encoder's weights, if it has one; `shape` gives those of a weight.
    pub fn of(shape: impl Fn(&str) -> Option<Vec<i64>>) -> Option<Self> {
        let two = |name: &str| <[i64; 2]>::try_from(shape(&format!("{READER}{name}.weight"))?).ok();
        let ([pieces, width], [_, signs], [_, said]) = (two("pieces")?, two("signs")?, two("said")?);
        let ([meanings, _], [exact, _]) = (two("meanings")?, two("exact")?);
        let ([colours, _], [styles, _]) = (two("colours")?, two("styles")?);
        Some(Self { pieces, width, signs, said, meanings, exact, colours, styles })
    }

    /// ids `(B, LENGTH)` -> ids of the same shape.
    pub fn forward<L: Layers>(&self, l: &L, ids: &L::T) -> L::T {
        let sum = |table: &str, width| l.sum_tokens(&l.embedding(&format!("{READER}{table}"), ids, self.pieces, width));
        let (vector, signs, said) = (sum("pieces", self.width), sum("signs", self.signs), sum("said", self.said));
        let meanings = l.linear("reader.meanings", &vector, self.width, self.meanings, Init::FanIn);
        let told = l.concat(&[&signs, &l.mul(&signs, &signs), &said], 1);
        let exact = l.linear("reader.exact", &told, 2 * self.signs + self.said, self.exact, Init::FanIn);
        let best = l.greatest(&l.concat(&[&meanings, &exact], 1));
        let concept = l.numbers("reader.concepts", &best, self.meanings + self.exact);
        self.told(l, ids, &concept, &said)
    }

    /// The name of the concept, behind style and colour; the ids as they are for the last concept, which is none.
    fn told<L: Layers>(&self, l: &L, ids: &L::T, concept: &L::T, said: &L::T) -> L::T {
        let all = self.meanings + 1;
        let length = LENGTH as i64;
        let colour = l.greatest(&l.linear("reader.colours", said, self.said, self.colours, Init::FanIn));
        let style = l.greatest(&l.linear("reader.styles", said, self.said, self.styles, Init::FanIn));
        let colour = l.add(&l.numbers("reader.colours.first", concept, all), &colour);
        let colour = l.numbers("reader.colours.taken", &colour, all * self.colours);
        let around = l.add(&l.numbers("reader.styles.first", &style, self.styles), &colour);
        let before = l.lookup("reader.before", &around, self.styles * self.colours, length);
        let places = l.lookup("reader.places", &around, self.styles * self.colours, length);
        let places = l.add(&places, &l.lookup("reader.names.first", concept, all, 1));
        let name = l.numbers("reader.names", &places, all * length);
        let told = l.add(&l.mul(&before, &l.lookup("reader.takes", concept, all, 1)), &name);
        l.add(&l.mul(ids, &l.lookup("reader.keeps", concept, all, 1)), &told)
    }
}
