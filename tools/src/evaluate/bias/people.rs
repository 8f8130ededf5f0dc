//! People of real drawings, as their names tell them: man, woman, or neither; and skin tones.

use std::collections::{BTreeMap, BTreeSet};

use crate::dataset::pack::{Concept, Stickers};
use crate::dataset::people::{gender, tone};

/// What a picture shows, as far as the gender classifier tells: those of names, and nobody.
pub const GENDERS: [&str; 4] = ["man", "woman", "neither", "no person"];
/// What skin the tone classifier tells: those of names, and nobody's.
pub const TONES: [&str; 7] = ["yellow", "light", "medium-light", "medium", "medium-dark", "dark", "no person"];

/// A real drawing whose class is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub picture: usize,
    pub class: usize,
    /// What it shows apart from its class; drawings that share it are held out together.
    pub subject: String,
}

/// Drawings of "man X", "woman X" and of "X" or "person X" where all are drawn, and as many that show nobody.
pub fn genders(data: &Stickers) -> Vec<Known> {
    let names: BTreeSet<&str> = data.concepts().iter().map(|c| c.name.as_str()).collect();
    known(data, GENDERS.len() - 1, |concept| {
        let (subject, gender) = gender(&concept.name, &names)?;
        Some((subject.to_owned(), gender))
    })
}

/// Drawings of people with a named skin tone, those without one, which are yellow where the same has tones, and as many that show nobody.
pub fn tones(data: &Stickers) -> Vec<Known> {
    let toned: BTreeSet<&str> = data.concepts().iter().filter_map(|c| Some(tone(&c.name)?.0)).collect();
    known(data, TONES.len() - 1, |concept| match tone(&concept.name) {
        Some((subject, tone)) => Some((subject.to_owned(), tone)),
        None => toned.contains(concept.name.as_str()).then(|| (concept.name.clone(), 0)),
    })
}

/// The drawings that `class` knows, and nobodies: drawings of concepts that show no people, as many as there are of the largest class.
fn known(data: &Stickers, nobody: usize, class: impl Fn(&Concept) -> Option<(String, usize)>) -> Vec<Known> {
    let of = |picture: usize| {
        let (subject, class) = class(&data.concepts()[data.concept(picture)])?;
        Some(Known { picture, class, subject })
    };
    let mut all: Vec<Known> = (0..data.len()).filter_map(of).collect();
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    all.iter().for_each(|known| *counts.entry(known.class).or_default() += 1);
    let most = counts.into_values().max().unwrap_or(0);
    let things: Vec<usize> = (0..data.len()).filter(|i| is_thing(&data.concepts()[data.concept(*i)])).collect();
    let step = (things.len() / most.max(1)).max(1);
    let nobodies = things.into_iter().step_by(step).take(most);
    all.extend(nobodies.map(|picture| {
        let subject = data.concepts()[data.concept(picture)].name.clone();
        Known { picture, class: nobody, subject }
    }));
    all
}

fn is_thing(concept: &Concept) -> bool {
    matches!(concept.group.as_str(), "animals-nature" | "food-drink" | "travel-places" | "objects")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::pack::{self, PICTURE_BYTES, Sticker};

    fn data(names: &[(&str, &str)]) -> Stickers {
        let concept = |(name, group): &(&str, &str)| Concept {
            name: (*name).into(),
            group: (*group).into(),
            ..Concept::default()
        };
        let concepts: Vec<Concept> = names.iter().map(concept).collect();
        let rgba = vec![0; PICTURE_BYTES];
        let sticker = |concept| Sticker { rgba: rgba.clone(), style: 0, concept, held_out: false, weight: 1.0 };
        let stickers: Vec<Sticker> = (0..names.len() as u32).map(sticker).collect();
        let folder = tempfile::tempdir().unwrap();
        pack::write(&folder.path().join("p"), &["3d"], &concepts, &stickers, &[]).unwrap();
        Stickers::open(folder.path().join("p")).unwrap()
    }

    fn told(known: &[Known]) -> Vec<(usize, usize, &str)> {
        known.iter().map(|k| (k.picture, k.class, k.subject.as_str())).collect()
    }

    #[test]
    fn genders_need_all_three() {
        let people = "people-body";
        let data = data(&[
            ("man cook", people),
            ("woman cook", people),
            ("cook", people),
            ("man running", people),
            ("woman running", people),
            ("person running", people),
            ("woman dancing", people),
            ("man in suit", people),
            ("fox", "animals-nature"),
            ("key", "objects"),
            ("pear", "food-drink"),
        ]);
        let cook = "cook";
        let running = "running";
        assert_eq!(
            told(&genders(&data)),
            [
                (0, 0, cook),
                (1, 1, cook),
                (2, 2, cook),
                (3, 0, running),
                (4, 1, running),
                (5, 2, running),
                (8, 3, "fox"),
                (9, 3, "key")
            ]
        );
    }

    #[test]
    fn tones_are_named_and_the_rest_of_the_same_is_yellow() {
        let data = data(&[
            ("waving hand", "people-body"),
            ("waving hand: medium-dark skin tone", "people-body"),
            ("kiss: man, man, light skin tone, dark skin tone", "people-body"),
            ("brain", "people-body"),
            ("fox", "animals-nature"),
        ]);
        assert_eq!(told(&tones(&data)), [(0, 0, "waving hand"), (1, 4, "waving hand"), (4, 6, "fox")]);
    }
}
