//! Hears descriptions: a prompt that says no name is told to the text encoder in the words of the concept that it describes.
//!
//! Every piece has a vector, a prompt is the sum of its pieces', and the concept whose vector points most in that direction is meant: its
//! name's ids take the place of the prompt's. Before that, the sum of its pieces' marks tells what is known exactly, as marks are small whole
//! numbers: prompts that stay as they are, and phrases whose concept is known. `train reader` makes the tables.

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
    pub marks: i64,
    /// Vectors of concepts.
    pub meanings: i64,
    /// Phrases that are known exactly, and ways to stay as it is.
    pub exact: i64,
}

impl Reader {
    /// That of a text encoder's weights, if it has one; `shape` gives those of a weight.
    pub fn of(shape: impl Fn(&str) -> Option<Vec<i64>>) -> Option<Self> {
        let two = |name: &str| <[i64; 2]>::try_from(shape(&format!("{READER}{name}.weight"))?).ok();
        let ([pieces, width], [_, marks]) = (two("pieces")?, two("marks")?);
        let ([meanings, _], [exact, _]) = (two("meanings")?, two("exact")?);
        Some(Self { pieces, width, marks, meanings, exact })
    }

    /// ids `(B, LENGTH)` -> ids of the same shape.
    pub fn forward<L: Layers>(&self, l: &L, ids: &L::T) -> L::T {
        let sum = |table: &str, width| l.sum_tokens(&l.embedding(&format!("{READER}{table}"), ids, self.pieces, width));
        let (vector, marks) = (sum("pieces", self.width), sum("marks", self.marks));
        let meanings = l.linear("reader.meanings", &vector, self.width, self.meanings, Init::FanIn);
        let marks = l.concat(&[&marks, &l.mul(&marks, &marks)], 1);
        let exact = l.linear("reader.exact", &marks, 2 * self.marks, self.exact, Init::FanIn);
        let best = l.greatest(&l.concat(&[&meanings, &exact], 1));
        let rows = self.meanings + self.exact;
        let kept = l.mul(ids, &l.lookup("reader.keeps", &best, rows, 1));
        l.add(&kept, &l.lookup("reader.names", &best, rows, LENGTH as i64))
    }
}
