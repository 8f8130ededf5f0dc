//! Two drawings side by side, and what is said of them.

use image::imageops::{FilterType, resize};
use image::{Rgba, Rgba32FImage};

use super::super::caption::{UNNAMED, on, pick, with_article};
use super::super::pack::SIDE;
use super::super::style::{SHIPPED, phrases};

/// Where a shrunk drawing lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Width and height in pixels.
    pub side: usize,
    pub left: usize,
    pub top: usize,
}

/// Sides of shrunk drawings.
const SIDES: [usize; 3] = [31, 32, 33];

impl Spot {
    /// In the middle of the left half of the picture, or of the right one.
    pub fn middle(right: bool) -> Self {
        let side = SIDE / 2;
        Self { side, left: if right { side } else { 0 }, top: side / 2 }
    }

    /// About there: up to one pixel aside, three up or down, and inside of the picture.
    pub fn draw(right: bool, unit: &mut impl FnMut() -> f64) -> Self {
        let mut below = |n: usize| (unit() * n as f64) as usize;
        let side = SIDES[below(SIDES.len())];
        let half = if right { SIDE / 2 } else { 0 };
        let left = (half + SIDE / 4 + below(3)).saturating_sub(side / 2 + 1).min(SIDE - side);
        let top = (SIDE - side) / 2 + below(7) - 3;
        Self { side, left, top }
    }
}

/// Drawings (RGBA bytes with straight alpha) on a colour: planar RGB in [-1, 1], `3 * 64 * 64` values.
pub fn compose(drawings: [(&[u8], Spot); 2], background: [u8; 3]) -> Vec<f32> {
    let mut out: Vec<f32> = background.into_iter().flat_map(|v| [f32::from(v) / 127.5 - 1.0; SIDE * SIDE]).collect();
    for (rgba, spot) in drawings {
        for (x, y, Rgba([r, g, b, alpha])) in shrunk(rgba, spot.side).enumerate_pixels() {
            let at = (spot.top + y as usize) * SIDE + spot.left + x as usize;
            for (channel, value) in [r, g, b].into_iter().enumerate() {
                let out = &mut out[channel * SIDE * SIDE + at];
                *out = 2.0 * value - alpha + *out * (1.0 - alpha);
            }
        }
    }
    out
}

/// A drawing of `side` by `side` pixels, its alpha multiplied in, from 0 to 1.
fn shrunk(rgba: &[u8], side: usize) -> Rgba32FImage {
    let mut whole = Rgba32FImage::new(SIDE as u32, SIDE as u32);
    for (Rgba(to), from) in whole.pixels_mut().zip(rgba.chunks_exact(4)) {
        let alpha = f32::from(from[3]) / 255.0;
        let [r, g, b] = [0, 1, 2].map(|c| f32::from(from[c]) * (alpha / 255.0));
        *to = [r, g, b, alpha];
    }
    let mut small = resize(&whole, side as u32, side as u32, FilterType::CatmullRom);
    // The filter rings: a colour stays below its alpha, and that within 0 and 1.
    for Rgba([r, g, b, alpha]) in small.pixels_mut() {
        *alpha = alpha.clamp(0.0, 1.0);
        [r, g, b].into_iter().for_each(|v| *v = v.clamp(0.0, *alpha));
    }
    small
}

/// Share of captions that say "and" and name no side.
const AND: f64 = 0.4;

/// How the drawings may be related; the one on the left is named first, but for "to the right of".
const RELATIONS: [fn(&str, &str) -> String; 5] = [
    |left, right| format!("{left} and {right}"),
    |left, right| format!("{left} next to {right}"),
    |left, right| format!("{left} to the left of {right}"),
    |left, right| format!("{right} to the right of {left}"),
    |left, right| format!("{left} on the left and {right} on the right"),
];

/// What is said of a pair.
pub struct Said<'a> {
    pub left: &'a str,
    pub right: &'a str,
    /// The word for the style.
    pub style: &'a str,
    pub background: Option<&'a str>,
}

impl Said<'_> {
    /// A caption; a function of the numbers that `draw` gives in [0, 1).
    pub fn caption(&self, draw: &mut impl FnMut() -> f64) -> String {
        let others = RELATIONS.len() - 1;
        let relation = if draw() < AND { 0 } else { 1 + ((draw() * others as f64) as usize).min(others - 1) };
        let article = draw() < 0.5;
        if self.style == SHIPPED && draw() < UNNAMED {
            return self.plain(relation, article);
        }
        pick(&self.styled(relation, article), draw).clone()
    }

    /// Every caption that [`Self::caption`] can give.
    pub fn captions(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (relation, article) in (0..RELATIONS.len()).flat_map(|r| [(r, false), (r, true)]) {
            if self.style == SHIPPED {
                all.push(self.plain(relation, article));
            }
            all.extend(self.styled(relation, article));
        }
        let mut seen = std::collections::HashSet::new();
        all.retain(|caption| seen.insert(caption.clone()));
        all
    }

    fn plain(&self, relation: usize, article: bool) -> String {
        self.related(relation, article, str::to_owned)
    }

    /// The style behind the whole, and before each name.
    fn styled(&self, relation: usize, article: bool) -> Vec<String> {
        let base = self.plain(relation, article);
        let of = |phrase: &str| {
            let both = self.related(relation, article, |name| format!("{phrase} {name}"));
            [format!("{base}, {phrase} style"), format!("{base}, {phrase}"), both]
        };
        phrases(self.style).into_iter().flat_map(of).collect()
    }

    fn related(&self, relation: usize, article: bool, named: impl Fn(&str) -> String) -> String {
        let [left, right] = [self.left, self.right].map(|name| match article {
            true => with_article(&named(name)),
            false => named(name),
        });
        on(&RELATIONS[relation](&left, &right), self.background)
    }
}

/// Words of a name in a pair, at most: captions must not outgrow the text encoder, which would lose the style at their end.
const WORDS: usize = 4;

/// Whether a name can stand in the caption of a pair without making it ambiguous.
pub fn pairable(name: &str) -> bool {
    const MISLEADING: [&str; 7] = ["and", "left", "right", "leftwards", "rightwards", "left-facing", "right-facing"];
    let words: Vec<&str> = name.split(' ').collect();
    words.len() <= WORDS
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.contains([':', ','])
        && !words.iter().any(|word| MISLEADING.contains(word))
}
