//! Drawings in another colour, and what they are called then.

use super::super::background::{PALETTE, TINTS, Tint};
use super::super::pack::Concept;

/// A half of a ramp covers at least so many levels, so that a drawing that is dark or light as a whole gets no harsh contrasts.
const REACH: f32 = 110.0;

/// RGBA bytes with straight alpha in the colour `tint`. Most of the drawing gets the colour itself, what is darker or lighter goes
/// towards its shade and its light; alpha, and which of two pixels is the lighter one, stay as they are.
pub fn tinted(rgba: &[u8], tint: &Tint) -> Vec<u8> {
    let ramp = ramp(tint, median(rgba));
    let mut out = rgba.to_vec();
    for pixel in out.chunks_exact_mut(4) {
        let colour = ramp[luma(pixel)];
        pixel[..3].copy_from_slice(&colour);
    }
    out
}

/// Luma of Rec. 601, from 0 to 255.
fn luma(pixel: &[u8]) -> usize {
    (77 * usize::from(pixel[0]) + 150 * usize::from(pixel[1]) + 29 * usize::from(pixel[2])) >> 8
}

/// The median of luma, weighted by alpha.
fn median(rgba: &[u8]) -> usize {
    let mut counts = [0u32; 256];
    rgba.chunks_exact(4).for_each(|pixel| counts[luma(pixel)] += u32::from(pixel[3]));
    let half = counts.iter().sum::<u32>() / 2;
    let mut sum = 0;
    let below = |count: &&u32| {
        sum += **count;
        sum <= half
    };
    counts.iter().take_while(below).count().min(255)
}

/// The colour for each luma, where `middle` gets the colour itself.
fn ramp(tint: &Tint, middle: usize) -> [[u8; 3]; 256] {
    let middle = middle as f32;
    std::array::from_fn(|luma| match luma as f32 - middle {
        below if below < 0.0 => mix(tint.colour, tint.shade, -below / middle.max(REACH)),
        above => mix(tint.colour, tint.light, above / (255.0 - middle).max(REACH)),
    })
}

fn mix(from: [u8; 3], to: [u8; 3], share: f32) -> [u8; 3] {
    [0, 1, 2].map(|c| (f32::from(from[c]) * (1.0 - share) + f32::from(to[c]) * share).round() as u8)
}

/// The name in another colour: "blue apple" for "apple" and for "red apple". Only for what is [`tintable`].
pub fn recoloured(name: &str, colour: &str) -> String {
    let words: Vec<&str> = name.split(' ').collect();
    let Some(at) = words.iter().position(|w| is_colour(w)) else { return format!("{colour} {name}") };
    let toned = at > 0 && matches!(words[at - 1], "light" | "dark");
    [&words[..at - usize::from(toned)], &[colour], &words[at + 1..]].concat().join(" ")
}

/// Whether a word of a name is a colour.
pub fn is_colour(word: &str) -> bool {
    PALETTE.iter().any(|(name, _)| *name == word) || matches!(word, "grey" | "violet" | "golden" | "silver")
}

/// Whether a drawing of the concept in another colour is still one, and its name can say so.
pub fn tintable(concept: &Concept) -> bool {
    let group = match concept.group.as_str() {
        "animals-nature" | "food-drink" | "objects" | "activities" => true,
        "travel-places" => PLACES.contains(&concept.subgroup.as_str()),
        "smileys-emotion" => is_plain_face(concept) || CREATURES.contains(&concept.subgroup.as_str()),
        "symbols" => matches!(concept.subgroup.as_str(), "geometric" | "punctuation"),
        _ => false,
    };
    group && !COLOURFUL.iter().any(|part| concept.name.contains(part)) && takes_a_colour(&concept.name)
}

/// The tints that a [`tintable`] concept may get, as indices into [`TINTS`]. Faces get none of the colours of skin.
pub fn tints(concept: &Concept) -> Vec<usize> {
    let skin = |tint: &Tint| matches!(tint.name, "brown" | "black" | "white");
    (0..TINTS.len()).filter(|i| !(is_plain_face(concept) && skin(&TINTS[*i]))).collect()
}

/// Subgroups of "travel-places" that are things, not views.
const PLACES: [&str; 8] = [
    "place-building",
    "place-religious",
    "transport-ground",
    "transport-water",
    "transport-air",
    "hotel",
    "time",
    "sky-weather",
];

/// Subgroups of "smileys-emotion" that need no "face" in their names.
const CREATURES: [&str; 4] = ["heart", "cat-face", "monkey-face", "face-costume"];

/// Parts of the names of what is many colours, no thing, or written on.
const COLOURFUL: [&str; 15] = [
    "rainbow",
    "palette",
    "milky way",
    "fog",
    "o'clock",
    "-thirty",
    "mahjong",
    "playing card",
    " suit",
    "identification",
    "medal",
    "night",
    "behind",
    "ceremony",
    "symbol",
];

fn is_plain_face(concept: &Concept) -> bool {
    concept.subgroup.starts_with("face-") && concept.name.split(' ').any(|word| word == "face")
}

/// Whether the name has no colour, or one that stands before what it belongs to.
fn takes_a_colour(name: &str) -> bool {
    let words: Vec<&str> = name.split(' ').collect();
    let plain = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && !name.contains([':', ',']);
    let colours: Vec<usize> = (0..words.len()).filter(|i| is_colour(words[*i])).collect();
    plain
        && match colours[..] {
            [] => true,
            [at] => words.get(at + 1).is_some_and(|next| !matches!(*next, "with" | "of" | "in" | "on" | "and")),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::super::super::pack::PICTURE_BYTES;
    use super::*;

    /// Bands of a dark, a middle and a light colour, most of it middle, half of it translucent.
    fn drawing() -> Vec<u8> {
        let colour = |i: usize| match i % 8 {
            0 => [20, 10, 10],
            1 => [250, 250, 240],
            2 => [120, 30, 30],
            _ => [200, 60, 40],
        };
        (0..PICTURE_BYTES / 4)
            .flat_map(|i| {
                let [r, g, b] = colour(i);
                [r, g, b, if i < 2000 { 255 } else { (i % 256) as u8 }]
            })
            .collect()
    }

    #[test]
    fn most_of_it_gets_the_colour_and_alpha_stays() {
        for tint in &TINTS {
            let found = tinted(&drawing(), tint);
            assert_eq!(found[12..15], tint.colour, "{}", tint.name);
            assert!(found.chunks_exact(4).zip(drawing().chunks_exact(4)).all(|(a, b)| a[3] == b[3]));
        }
    }

    #[test]
    fn what_was_lighter_is_lighter() {
        let before = drawing();
        for tint in &TINTS {
            let after = tinted(&before, tint);
            let pixel = |i: usize| (luma(&before[4 * i..]), luma(&after[4 * i..]));
            for (i, j) in (0..8).flat_map(|i| (0..8).map(move |j| (i, j))) {
                let ((b, a), (b2, a2)) = (pixel(i), pixel(j));
                assert_eq!(b.cmp(&b2), a.cmp(&a2), "{}: {i} {j}", tint.name);
            }
        }
    }

    #[test]
    fn ramps_rise_wherever_the_middle_lies() {
        for (tint, middle) in TINTS.iter().flat_map(|t| [0, 40, 128, 220, 255].map(|m| (t, m))) {
            let ramp = ramp(tint, middle);
            assert_eq!(ramp[middle], tint.colour);
            assert!(ramp.windows(2).all(|w| luma(&w[0]) <= luma(&w[1])), "{} {middle}", tint.name);
        }
    }

    #[test]
    fn colours_of_names_are_replaced() {
        for (name, wanted) in [
            ("apple", "blue apple"),
            ("red apple", "blue apple"),
            ("blue heart", "blue heart"),
            ("light blue heart", "blue heart"),
            ("large orange diamond", "large blue diamond"),
            ("black medium-small square", "blue medium-small square"),
            ("glass of milk", "blue glass of milk"),
            ("grey heart", "blue heart"),
            ("blueberries", "blue blueberries"),
        ] {
            assert_eq!(recoloured(name, "blue"), wanted);
        }
    }

    fn concept(name: &str, group: &str, subgroup: &str) -> Concept {
        Concept { name: name.into(), group: group.into(), subgroup: subgroup.into(), ..Concept::default() }
    }

    #[test]
    fn faces_get_no_colour_of_skin() {
        let names = |concept| tints(&concept).into_iter().map(|i| TINTS[i].name).collect::<Vec<_>>();
        let all: Vec<&str> = TINTS.iter().map(|t| t.name).collect();
        assert_eq!(names(concept("fox", "animals-nature", "animal-mammal")), all);
        let face = names(concept("grinning face", "smileys-emotion", "face-smiling"));
        assert_eq!(face, ["red", "orange", "yellow", "green", "blue", "purple", "pink", "gray"]);
    }

    #[test]
    fn only_things_are_tinted() {
        for (name, group, subgroup, wanted) in [
            ("red apple", "food-drink", "food-fruit", true),
            ("black cat", "animals-nature", "animal-mammal", true),
            ("red circle", "symbols", "geometric", true),
            ("automobile", "travel-places", "transport-ground", true),
            ("grinning face", "smileys-emotion", "face-smiling", true),
            ("ghost", "smileys-emotion", "face-costume", true),
            ("star-struck", "smileys-emotion", "face-affection", false),
            ("leafy green", "food-drink", "food-vegetable", false),
            ("rainbow", "travel-places", "sky-weather", false),
            ("three o'clock", "travel-places", "time", false),
            ("sunrise", "travel-places", "place-other", false),
            ("waving hand", "people-body", "hand-fingers-open", false),
            ("flag: france", "flags", "country-flag", false),
            ("up arrow", "symbols", "arrow", false),
            ("thing", "", "", false),
        ] {
            assert_eq!(tintable(&concept(name, group, subgroup)), wanted, "{name}");
        }
    }
}
