//! What is asked: scenes with exact truth, each from drawings in the shipped style, with a caption that they were made for and the same
//! scene with one thing changed.

use anyhow::{Context, Result};

use crate::dataset::background::{PALETTE, TINTS};
use crate::dataset::pack::Stickers;
use crate::dataset::scene::Scene;
use crate::dataset::style::SHIPPED;
use crate::draws::Draws;

/// What a prompt tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Colour,
    Background,
    TwoObjects,
    LeftRight,
}

impl Task {
    pub const ALL: [Self; 4] = [Self::Colour, Self::Background, Self::TwoObjects, Self::LeftRight];

    pub fn name(self) -> &'static str {
        match self {
            Self::Colour => "colour of the object",
            Self::Background => "colour of the background",
            Self::TwoObjects => "two objects",
            Self::LeftRight => "left and right",
        }
    }
}

/// What must be seen. Things are numbered as the judge numbers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    Colour {
        thing: usize,
        colour: &'static str,
    },
    Background {
        thing: usize,
        colour: &'static str,
    },
    /// On either side.
    Both([usize; 2]),
    Sides([usize; 2]),
}

/// A prompt, a real picture of it, and one that differs in what is tested.
pub struct Asked {
    pub task: Task,
    pub prompt: String,
    pub truth: Truth,
    pub real: Scene,
    pub wrong: Scene,
}

/// `count` prompts of each task; `pictures` are the drawings of the things.
///
/// # Errors
/// If a thing may not stand in such a scene.
pub fn asked(data: &Stickers, pictures: &[usize], count: usize, draws: &mut Draws) -> Result<Vec<Asked>> {
    let all = Task::ALL.into_iter().flat_map(|task| (0..count).map(move |i| (task, i)));
    all.map(|(task, i)| one(data, pictures, task, i, draws)).collect()
}

fn one(data: &Stickers, pictures: &[usize], task: Task, i: usize, draws: &mut Draws) -> Result<Asked> {
    // Each thing is as often the first one as every other.
    let thing = i % pictures.len();
    let [second, third] = [0, 1].map(|_| ()).map(|()| draws.below(pictures.len() - 1));
    let second = other(second, thing);
    let third =
        (third..pictures.len()).chain(0..third).find(|t| *t != thing && *t != second).context("three things")?;
    let pair = |left: usize, right: usize| Scene::pair(data, pictures[left], pictures[right], None);
    let (real, wrong, truth) = match task {
        Task::Colour => {
            let [colour, not] = two(&TINTS.iter().map(|t| t.name).filter(|n| *n != "white").collect::<Vec<_>>(), draws);
            let scene = |colour: &str| Scene::tinted(data, pictures[thing], colour, None);
            (scene(colour)?, scene(not)?, Truth::Colour { thing, colour })
        }
        Task::Background => {
            let [colour, not] = two(&PALETTE.iter().map(|p| p.0).filter(|n| *n != "white").collect::<Vec<_>>(), draws);
            let scene = |colour: &str| Scene::backed(data, pictures[thing], colour);
            (scene(colour)?, scene(not)?, Truth::Background { thing, colour })
        }
        Task::TwoObjects => (pair(thing, second)?, pair(thing, third)?, Truth::Both([thing, second])),
        Task::LeftRight => (pair(thing, second)?, pair(second, thing)?, Truth::Sides([thing, second])),
    };
    Ok(Asked { task, prompt: prompt(data, &real, task, i)?, truth, real, wrong })
}

/// `drawn` below `n - 1` as a number below `n` other than `not`.
fn other(drawn: usize, not: usize) -> usize {
    if drawn < not { drawn } else { drawn + 1 }
}

/// Two different ones.
fn two(names: &[&'static str], draws: &mut Draws) -> [&'static str; 2] {
    let one = draws.below(names.len());
    [names[one], names[other(draws.below(names.len() - 1), one)]]
}

/// A caption of the scene that names no style and says what the task asks, with articles; of the ways to tell the sides, the i-th in turn.
fn prompt(data: &Stickers, scene: &Scene, task: Task, i: usize) -> Result<String> {
    let sides = [" to the left of ", " to the right of ", " on the right"];
    let fits = |caption: &String| match task {
        Task::Colour | Task::Background => true,
        Task::TwoObjects => caption.contains(" and ") && !caption.contains(" on the right"),
        Task::LeftRight => caption.contains(sides[i % sides.len()]),
    };
    let plain = |caption: &String| ![SHIPPED, ",", "emoji", "picture of"].iter().any(|part| caption.contains(part));
    let captions: Vec<String> = scene.captions(data).into_iter().filter(|c| fits(c) && plain(c)).collect();
    captions.last().cloned().with_context(|| format!("a scene has no caption for {:?}", task.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::pack::{self, Concept, PICTURE_BYTES, Sticker};

    /// Five things in the shipped style.
    fn data() -> Stickers {
        let concept = |name: &str| Concept { name: name.into(), group: "objects".into(), ..Concept::default() };
        let concepts = ["bell", "crown", "guitar", "key", "scissors"].map(concept);
        let sticker = |concept: u32| {
            let rgba = [50 * concept as u8, 90, 10, 255].repeat(PICTURE_BYTES / 4);
            Sticker { rgba, style: 0, concept, held_out: false, weight: 1.0 }
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        pack::write(&path, &[SHIPPED], &concepts, &[0, 1, 2, 3, 4].map(sticker), &[]).unwrap();
        Stickers::open(&path).unwrap()
    }

    #[test]
    fn scenes_are_what_the_prompts_say_and_the_wrong_ones_are_not() {
        let data = data();
        let all = asked(&data, &[0, 1, 2, 3, 4], 20, &mut Draws::new(1)).unwrap();
        assert_eq!(all.len(), 80);
        let name = |thing: usize| data.concepts()[thing].name.as_str();
        for a in &all {
            assert!(!a.prompt.contains(SHIPPED) && !a.prompt.contains("style"), "{}", a.prompt);
            match a.truth {
                Truth::Colour { thing, colour } => {
                    assert_eq!((a.real.colour(), a.real.concept(&data)), (Some(colour), Some(thing)));
                    assert_ne!(a.wrong.colour(), Some(colour));
                    let article = if thing == 4 { "" } else { "a" };
                    assert!(a.prompt.starts_with(article), "{}", a.prompt);
                    assert!(a.prompt.ends_with(&format!("{colour} {}", name(thing))), "{}", a.prompt);
                }
                Truth::Background { thing, colour } => {
                    assert_eq!((a.real.background(), a.real.concept(&data)), (Some(colour), Some(thing)));
                    assert_ne!(a.wrong.background(), Some(colour));
                    let background = format!(" {colour} background");
                    assert!(a.prompt.contains(name(thing)) && a.prompt.ends_with(&background), "{}", a.prompt);
                }
                Truth::Both([one, other]) => {
                    assert_eq!(a.real.left_right(&data), Some([one, other]));
                    assert!(!a.wrong.left_right(&data).unwrap().contains(&other) && one != other);
                    assert!(a.prompt.contains(&format!("{} and ", name(one))), "{}", a.prompt);
                }
                Truth::Sides([left, right]) => {
                    assert_eq!(a.real.left_right(&data), Some([left, right]));
                    assert_eq!(a.wrong.left_right(&data), Some([right, left]));
                    let swapped = a.prompt.contains("to the right of");
                    assert_eq!(a.prompt.find(name(left)) < a.prompt.find(name(right)), !swapped, "{}", a.prompt);
                }
            }
        }
        let sides = all.iter().filter(|a| a.task == Task::LeftRight);
        assert_eq!(sides.filter(|a| a.prompt.contains("to the left of")).count(), 7);
    }
}
