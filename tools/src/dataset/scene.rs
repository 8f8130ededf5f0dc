//! Composed training pictures: a drawing on a named colour or in another colour, and two drawings side by side, each with captions
//! that are exactly true of it.

pub(super) mod pair;
mod sources;
mod tint;

use anyhow::{Context, Result, ensure};

use super::background::{PALETTE, TINTS, WHITE};
use super::caption::{caption_on, captions_on};
use super::pack::{Concept, Stickers};
use crate::picture::{Placement, place};
use pair::{Said, Spot};
pub use sources::Sources;
#[cfg(feature = "train")]
pub(crate) use tint::{is_colour, tintable, tints};
use tint::{recoloured, tinted};

/// What a scene is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A drawing on a named colour.
    Backed,
    /// A drawing in another colour, on white.
    Tinted,
    /// A drawing in another colour, on a named one.
    TintedBacked,
    /// Two drawings of one style side by side, on white.
    Pair,
    /// Two drawings of one style side by side, on a named colour.
    PairBacked,
}

impl Kind {
    /// All kinds, with the share of scenes that are of them.
    pub const SHARES: [(Self, f64); 5] = [
        (Self::Backed, 0.14),
        (Self::Tinted, 0.2),
        (Self::TintedBacked, 0.06),
        (Self::Pair, 0.52),
        (Self::PairBacked, 0.08),
    ];

    fn draw(unit: &mut impl FnMut() -> f64) -> Self {
        let mut left = unit();
        let reached = |(_, share): &&(Self, f64)| {
            left -= share;
            left < 0.0
        };
        Self::SHARES.iter().find(reached).map_or(Self::Pair, |(kind, _)| *kind)
    }
}

/// A 64x64 picture made from one or two drawings, together with what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    subject: Subject,
    /// Index into [`PALETTE`].
    background: Option<usize>,
}

/// Pictures are indices into the packed file.
#[derive(Clone, Debug, PartialEq)]
enum Subject {
    One {
        picture: usize,
        /// Pixels to the right and down.
        shift: [i32; 2],
        /// Index into [`TINTS`].
        tint: Option<usize>,
    },
    /// The left one first.
    Pair([(usize, Spot); 2]),
}

/// A drawing in a scene of its own is shifted by so many pixels at most.
const SHIFT: usize = 2;
/// A tint and the background behind it differ at least by so much, as the distance of their RGB values.
const CONTRAST: i32 = 90;

impl Scene {
    /// Draws a scene from pictures that may be trained on. `unit` gives numbers in [0, 1).
    ///
    /// Without a drawing that can be tinted, or two concepts in a style that can be paired, a drawing on a named colour stands in.
    pub fn draw(sources: &Sources, data: &Stickers, unit: &mut impl FnMut() -> f64) -> Self {
        let kind = Kind::draw(unit);
        let pair = match kind {
            Kind::Pair | Kind::PairBacked => sources.pair(data, unit),
            _ => None,
        };
        if let Some([left, right]) = pair {
            let subject = Subject::Pair([(left, Spot::draw(false, unit)), (right, Spot::draw(true, unit))]);
            let background = (kind == Kind::PairBacked).then(|| below(PALETTE.len(), unit));
            return Self { subject, background };
        }
        let tinted = match kind {
            Kind::Tinted | Kind::TintedBacked => sources.tintable(unit),
            _ => None,
        };
        let tint = tinted.map(|picture| {
            let tints = tint::tints(concept(data, picture));
            tints[below(tints.len(), unit)]
        });
        let picture = tinted.unwrap_or_else(|| sources.any(unit));
        let shift = [0, 1].map(|_| below(2 * SHIFT + 1, unit) as i32 - SHIFT as i32);
        let background = match tint {
            None => Some(below(PALETTE.len(), unit)),
            Some(tint) if kind == Kind::TintedBacked => Some(behind(tint, unit)),
            Some(_) => None,
        };
        Self { subject: Subject::One { picture, shift, tint }, background }
    }

    /// Picture `picture` in the middle of the colour that [`PALETTE`] calls `background`.
    ///
    /// # Errors
    /// If the picture is held out or there is no such colour.
    pub fn backed(data: &Stickers, picture: usize, background: &str) -> Result<Self> {
        trainable(data, picture)?;
        let subject = Subject::One { picture, shift: [0, 0], tint: None };
        Ok(Self { subject, background: Some(palette(background)?) })
    }

    /// Picture `picture` in the colour that [`TINTS`] calls `colour`, in the middle of a colour of [`PALETTE`] or of white.
    ///
    /// # Errors
    /// If the picture is held out or senseless in that colour, or there is no such colour.
    pub fn tinted(data: &Stickers, picture: usize, colour: &str, background: Option<&str>) -> Result<Self> {
        trainable(data, picture)?;
        let concept = concept(data, picture);
        let tint =
            TINTS.iter().position(|t| t.name == colour).with_context(|| format!("no tint is called {colour:?}"))?;
        let sensible = tint::tintable(concept) && tint::tints(concept).contains(&tint);
        ensure!(sensible, "a drawing of {:?} is not made {colour}", concept.name);
        let subject = Subject::One { picture, shift: [0, 0], tint: Some(tint) };
        Ok(Self { subject, background: background.map(palette).transpose()? })
    }

    /// Two pictures side by side, on a colour of [`PALETTE`] or on white.
    ///
    /// # Errors
    /// If one is held out, both are of one concept, they are of different styles, a name would make the caption ambiguous, or there
    /// is no such colour.
    pub fn pair(data: &Stickers, left: usize, right: usize, background: Option<&str>) -> Result<Self> {
        for picture in [left, right] {
            trainable(data, picture)?;
            let name = &concept(data, picture).name;
            ensure!(pair::pairable(name), "captions of pairs cannot hold the name {name:?}");
        }
        ensure!(data.concept(left) != data.concept(right), "pictures {left} and {right} are of one concept");
        ensure!(data.style(left) == data.style(right), "pictures {left} and {right} are of different styles");
        let subject = Subject::Pair([(left, Spot::middle(false)), (right, Spot::middle(true))]);
        Ok(Self { subject, background: background.map(palette).transpose()? })
    }

    /// Planar RGB in [-1, 1], `3 * 64 * 64` values.
    pub fn render(&self, data: &Stickers) -> Vec<f32> {
        let background = self.background.map_or(WHITE, |i| PALETTE[i].1);
        match self.subject {
            Subject::One { picture, shift, tint } => {
                let placement = Placement { shift, mirror: false, background };
                match tint {
                    None => place(data.rgba(picture), &placement),
                    Some(tint) => place(&tinted(data.rgba(picture), &TINTS[tint]), &placement),
                }
            }
            Subject::Pair(halves) => pair::compose(halves.map(|(i, spot)| (data.rgba(i), spot)), background),
        }
    }

    /// One of the captions that are true of it.
    pub fn caption(&self, data: &Stickers, unit: &mut impl FnMut() -> f64) -> String {
        let style = &data.styles()[self.style(data)];
        match self.subject {
            Subject::One { picture, tint, .. } => {
                caption_on(&shown(data, picture, tint), style, self.background(), unit)
            }
            Subject::Pair(halves) => self.said(data, halves).caption(unit),
        }
    }

    /// Every caption that [`Self::caption`] can give, in a fixed order, without repetitions.
    pub fn captions(&self, data: &Stickers) -> Vec<String> {
        let style = &data.styles()[self.style(data)];
        match self.subject {
            Subject::One { picture, tint, .. } => captions_on(&shown(data, picture, tint), style, self.background()),
            Subject::Pair(halves) => self.said(data, halves).captions(),
        }
    }

    fn said<'a>(&self, data: &'a Stickers, halves: [(usize, Spot); 2]) -> Said<'a> {
        let [left, right] = halves.map(|(picture, _)| concept(data, picture).name.as_str());
        Said { left, right, style: &data.styles()[self.style(data)], background: self.background() }
    }

    pub fn kind(&self) -> Kind {
        match (&self.subject, self.background) {
            (Subject::One { tint: None, .. }, _) => Kind::Backed,
            (Subject::One { .. }, None) => Kind::Tinted,
            (Subject::One { .. }, Some(_)) => Kind::TintedBacked,
            (Subject::Pair(_), None) => Kind::Pair,
            (Subject::Pair(_), Some(_)) => Kind::PairBacked,
        }
    }

    /// The name of the colour that the drawing was given.
    pub fn colour(&self) -> Option<&'static str> {
        match self.subject {
            Subject::One { tint, .. } => tint.map(|i| TINTS[i].name),
            Subject::Pair(_) => None,
        }
    }

    /// The name of the colour behind, unless it is the white that captions do not name.
    pub fn background(&self) -> Option<&'static str> {
        self.background.map(|i| PALETTE[i].0)
    }

    /// Index into the styles of the file.
    pub fn style(&self, data: &Stickers) -> usize {
        let (Subject::One { picture, .. } | Subject::Pair([(picture, _), _])) = self.subject;
        data.style(picture)
    }

    /// Index of the concept of a single drawing.
    pub fn concept(&self, data: &Stickers) -> Option<usize> {
        match self.subject {
            Subject::One { picture, .. } => Some(data.concept(picture)),
            Subject::Pair(_) => None,
        }
    }

    /// Indices of the concepts of a pair, the left one first.
    pub fn left_right(&self, data: &Stickers) -> Option<[usize; 2]> {
        match self.subject {
            Subject::One { .. } => None,
            Subject::Pair(halves) => Some(halves.map(|(picture, _)| data.concept(picture))),
        }
    }
}

fn trainable(data: &Stickers, picture: usize) -> Result<()> {
    ensure!(picture < data.len(), "there is no picture {picture}: the file has {}", data.len());
    ensure!(!data.held_out(picture), "picture {picture} is held out");
    Ok(())
}

fn palette(name: &str) -> Result<usize> {
    PALETTE.iter().position(|(n, _)| *n == name).with_context(|| format!("no background is called {name:?}"))
}

fn concept(data: &Stickers, picture: usize) -> &Concept {
    &data.concepts()[data.concept(picture)]
}

/// What a drawing shows once it is recoloured: keywords may name its old colour, and go.
fn shown(data: &Stickers, picture: usize, tint: Option<usize>) -> Concept {
    let concept = concept(data, picture);
    match tint {
        None => concept.clone(),
        Some(tint) => Concept { name: recoloured(&concept.name, TINTS[tint].name), ..Concept::default() },
    }
}

/// A colour of [`PALETTE`] on which a drawing in the colour `tint` is seen.
fn behind(tint: usize, unit: &mut impl FnMut() -> f64) -> usize {
    let tint = &TINTS[tint];
    let differs = |i: &usize| PALETTE[*i].0 != tint.name && distance(PALETTE[*i].1, tint.colour) > CONTRAST;
    let seen: Vec<usize> = (0..PALETTE.len()).filter(differs).collect();
    seen[below(seen.len(), unit)]
}

fn distance(one: [u8; 3], other: [u8; 3]) -> i32 {
    one.iter().zip(other).map(|(a, b)| (i32::from(*a) - i32::from(b)).pow(2)).sum::<i32>().isqrt()
}

/// A whole number below `n`.
fn below(n: usize, unit: &mut impl FnMut() -> f64) -> usize {
    ((unit() * n as f64) as usize).min(n - 1)
}

#[cfg(test)]
mod tests;
