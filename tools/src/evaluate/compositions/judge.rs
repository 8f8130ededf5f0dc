//! The judge: which thing is it, fitted on drawings in the other styles, and colours by arithmetic.

use std::ops::Range;

use anyhow::Result;
use undiffuse::pipeline::Picture;

use super::look::Look;
use super::tasks::Truth;
use crate::dataset::background::{PALETTE, TINTS};
use crate::dataset::pack::{SIDE, Stickers};
use crate::dataset::scene::Scene;
use crate::draws::Draws;
use crate::evaluate::features::Features;
use crate::evaluate::lab::picture;
use crate::evaluate::ridge::Ridge;

/// Tells things and colours.
pub struct Judge {
    things: Ridge,
}

/// What of a prompt was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The thing, or at least one of the two.
    pub thing: bool,
    /// All that the prompt says.
    pub right: bool,
}

/// What is seen in a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// One in each of the [`columns`] that are looked at.
    things: Vec<usize>,
    colour: &'static str,
    background: &'static str,
}

/// Where things are looked for: in the whole picture, or in each half.
fn columns(truth: &Truth) -> impl Iterator<Item = Range<usize>> {
    let parts = match truth {
        Truth::Colour { .. } | Truth::Background { .. } => 1,
        Truth::Both(_) | Truth::Sides(_) => 2,
    };
    (0..parts).map(move |part| part * SIDE / parts..(part + 1) * SIDE / parts)
}

impl Judge {
    /// Fits to drawings: for each thing those in other styles than the one that is judged. Each is seen as it is, in another
    /// colour, on a colour, and small in either half of a picture.
    ///
    /// # Errors
    /// If a drawing may not stand in such a scene, or the features network fails.
    pub fn fit(data: &Stickers, drawings: &[Vec<usize>], net: &mut Features, draws: &mut Draws) -> Result<Self> {
        let (mut crops, mut labels) = (vec![], vec![]);
        for (thing, own) in drawings.iter().enumerate() {
            for drawing in own {
                let seen = scenes(data, drawings, thing, *drawing, draws)?;
                labels.extend(seen.iter().map(|_| thing));
                for (scene, columns) in seen {
                    crops.push(Look::at(&picture(scene.render(data))?)?.cropped(columns)?);
                }
            }
        }
        Ok(Self { things: Ridge::fit(&net.of(&crops)?, &labels, drawings.len())? })
    }

    /// A verdict a picture.
    ///
    /// # Errors
    /// If the features network fails.
    pub fn judge<'a>(
        &self,
        pictures: &[Picture],
        truths: impl Iterator<Item = &'a Truth>,
        net: &mut Features,
    ) -> Result<Vec<Verdict>> {
        let looks: Vec<(Look, &Truth)> =
            pictures.iter().zip(truths).map(|(p, truth)| Ok((Look::at(p)?, truth))).collect::<Result<_>>()?;
        let crops = looks.iter().flat_map(|(look, truth)| columns(truth).map(|c| look.cropped(c)));
        let features = net.of(&crops.collect::<Result<Vec<_>>>()?)?;
        let mut things = features.iter().map(|f| self.things.best(f));
        let mut verdict = |(look, truth): &(Look, &Truth)| {
            let things = things.by_ref().take(columns(truth).count()).collect();
            Seen { things, colour: look.colour(), background: look.background() }.against(truth)
        };
        Ok(looks.iter().map(&mut verdict).collect())
    }
}

impl Seen {
    fn against(&self, truth: &Truth) -> Verdict {
        let one = |wanted: &[usize]| self.things.iter().any(|thing| wanted.contains(thing));
        match truth {
            Truth::Colour { thing, colour } => both(one(&[*thing]), self.colour == *colour),
            Truth::Background { thing, colour } => both(one(&[*thing]), self.background == *colour),
            Truth::Both([a, b]) => {
                Verdict { thing: one(&[*a, *b]), right: self.things == [*a, *b] || self.things == [*b, *a] }
            }
            Truth::Sides(things) => Verdict { thing: one(things), right: self.things == things },
        }
    }
}

fn both(thing: bool, colour: bool) -> Verdict {
    Verdict { thing, right: thing && colour }
}

/// Scenes of a drawing, and the columns in which it stands.
fn scenes(
    data: &Stickers,
    drawings: &[Vec<usize>],
    thing: usize,
    drawing: usize,
    draws: &mut Draws,
) -> Result<Vec<(Scene, Range<usize>)>> {
    let tint = TINTS[draws.below(TINTS.len() - 1)].name;
    let behind = PALETTE[1 + draws.below(PALETTE.len() - 1)].0;
    let mut all = vec![
        (Scene::backed(data, drawing, "white")?, 0..SIDE),
        (Scene::backed(data, drawing, behind)?, 0..SIDE),
        (Scene::tinted(data, drawing, tint, None)?, 0..SIDE),
    ];
    let others: Vec<usize> = (0..drawings.len()).filter(|t| *t != thing).flat_map(|t| drawings[t].clone()).collect();
    let beside: Vec<usize> = others.into_iter().filter(|o| data.style(*o) == data.style(drawing)).collect();
    if !beside.is_empty() {
        let [one, other] = [0, 1].map(|_| beside[draws.below(beside.len())]);
        all.push((Scene::pair(data, drawing, one, None)?, 0..SIDE / 2));
        all.push((Scene::pair(data, other, drawing, None)?, SIDE / 2..SIDE));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_said_must_be_seen() {
        let verdict = |things: &[usize], truth: Truth| {
            let seen = Seen { things: things.to_vec(), colour: "red", background: "white" };
            let Verdict { thing, right } = seen.against(&truth);
            assert_eq!(things.len(), columns(&truth).count());
            (thing, right)
        };
        assert_eq!(verdict(&[3], Truth::Colour { thing: 3, colour: "red" }), (true, true));
        assert_eq!(verdict(&[3], Truth::Colour { thing: 3, colour: "blue" }), (true, false));
        assert_eq!(verdict(&[3], Truth::Colour { thing: 4, colour: "red" }), (false, false));
        assert_eq!(verdict(&[3], Truth::Background { thing: 3, colour: "white" }), (true, true));
        assert_eq!(verdict(&[3], Truth::Background { thing: 3, colour: "red" }), (true, false));
        let two = |wanted| verdict(&[1, 2], Truth::Both(wanted));
        assert_eq!(
            [[1, 2], [2, 1], [1, 5], [5, 6]].map(two),
            [(true, true), (true, true), (true, false), (false, false)]
        );
        assert_eq!([[1, 2], [2, 1]].map(|t| verdict(&[1, 2], Truth::Sides(t))), [(true, true), (true, false)]);
        assert_eq!(verdict(&[1, 1], Truth::Both([1, 2])), (true, false), "one thing twice is not both");
    }
}
