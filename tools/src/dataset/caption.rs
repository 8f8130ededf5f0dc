//! Captions: what a picture is called in training.
//!
//! One rule holds for all of them: **a caption without a style word means the style [`SHIPPED`]**; every other style is always named.

use super::pack::Concept;
use super::style::{SHIPPED, phrases};

/// Share of captions whose base is the bare name.
const BARE: f64 = 0.55;
/// Share of captions of the style [`SHIPPED`] that name no style.
pub(super) const UNNAMED: f64 = 0.7;
/// Keywords in a caption, at most.
const KEYWORDS: usize = 3;

/// A caption for a drawing of `concept` in the style with the word `style`, on white.
///
/// `draw` gives numbers in [0, 1); the caption is a function of them alone.
pub fn caption(concept: &Concept, style: &str, draw: &mut impl FnMut() -> f64) -> String {
    caption_on(concept, style, None, draw)
}

/// As [`caption`], naming the colour of the background if there is one: "fox on a blue background, flat style".
pub fn caption_on(concept: &Concept, style: &str, background: Option<&str>, draw: &mut impl FnMut() -> f64) -> String {
    let bare = draw() < BARE;
    let bases = if bare { vec![concept.name.clone()] } else { elaborate(concept) };
    let base = on(pick(&bases, draw), background);
    if style == SHIPPED && draw() < UNNAMED {
        return base;
    }
    let styled = styled(concept, style, &base, background);
    pick(&styled, draw).clone()
}

/// Every caption that [`caption`] can give, in a fixed order, without repetitions.
pub fn captions(concept: &Concept, style: &str) -> Vec<String> {
    captions_on(concept, style, None)
}

/// Every caption that [`caption_on`] can give, in a fixed order, without repetitions.
pub fn captions_on(concept: &Concept, style: &str, background: Option<&str>) -> Vec<String> {
    let mut all = Vec::new();
    for base in std::iter::once(concept.name.clone()).chain(elaborate(concept)) {
        let base = on(&base, background);
        let styled = styled(concept, style, &base, background);
        if style == SHIPPED {
            all.push(base);
        }
        all.extend(styled);
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|caption| seen.insert(caption.clone()));
    all
}

pub(super) fn pick<'a>(from: &'a [String], draw: &mut impl FnMut() -> f64) -> &'a String {
    let last = from.len() - 1;
    &from[((draw() * from.len() as f64) as usize).min(last)]
}

/// The bases that say more than the bare name, each as likely as the others; the keywords begin anywhere in their list, so that
/// all are met: see [`keyworded`].
fn elaborate(concept: &Concept) -> Vec<String> {
    let name = with_article(&concept.name);
    let mut bases = vec![name.clone(), format!("an emoji of {name}"), format!("a picture of {name}")];
    bases.extend(keyworded(concept));
    bases
}

/// "fox, animal, face", and so on round the list of keywords.
fn keyworded(concept: &Concept) -> Vec<String> {
    let words = &concept.keywords;
    let count = KEYWORDS.min(words.len());
    let from = |start: usize| (0..count).map(|i| words[(start + i) % words.len()].as_str()).collect::<Vec<_>>();
    (0..words.len()).map(|start| format!("{}, {}", concept.name, from(start).join(", "))).collect()
}

pub(super) fn on(base: &str, background: Option<&str>) -> String {
    match background {
        None => base.to_owned(),
        Some(colour) => format!("{base} on {} background", with_article(colour)),
    }
}

/// The base with the style's phrases behind it, and the bare name with them around it.
fn styled(concept: &Concept, style: &str, base: &str, background: Option<&str>) -> Vec<String> {
    let name = &concept.name;
    let of = |phrase: &str| {
        [
            format!("{base}, {phrase} style"),
            format!("{base}, {phrase}"),
            on(&with_article(&format!("{phrase} {name}")), background),
            on(&format!("{phrase} {name}"), background),
            format!("{}, {phrase}", on(&format!("{name} emoji"), background)),
        ]
    };
    phrases(style).into_iter().flat_map(of).collect()
}

/// "a fox", "an apple"; plurals, and names that are no noun, stay as they are.
pub(super) fn with_article(name: &str) -> String {
    if is_plural(name) || name.contains(':') || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return name.to_owned();
    }
    let sounds_like_a_consonant = ["uni", "use", "euro", "one", "uk", "ufo"].iter().any(|p| name.starts_with(p));
    let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u', '8']) && !sounds_like_a_consonant;
    let vowel = vowel || name.starts_with("hour") || name.starts_with("fx") || name.starts_with("x-ray");
    format!("{} {name}", if vowel { "an" } else { "a" })
}

/// Whether the head of a name, the word before "with", "of" and the like, ends as plurals do.
fn is_plural(name: &str) -> bool {
    let words: Vec<&str> = name.split(' ').collect();
    let end = words.iter().skip(1).position(|w| matches!(*w, "with" | "of" | "in" | "on" | "for" | "and" | "holding"));
    let head = words[end.unwrap_or(words.len() - 1)];
    let singular = ["ss", "us", "is", "'s", "as"].iter().any(|e| head.ends_with(e));
    (head.ends_with('s') && !singular) || matches!(head, "people" | "men" | "women" | "feet" | "teeth")
}

#[cfg(test)]
mod tests {
    use super::super::style::Style;
    use super::*;

    fn fox() -> Concept {
        let keywords = ["animal", "face", "tail", "wild"].map(String::from).to_vec();
        Concept { name: "fox".into(), keywords, ..Concept::default() }
    }

    /// Draws that go round a list of fractions without a short period.
    fn draws(seed: u32) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24)
        }
    }

    #[test]
    fn the_same_draws_give_the_same_caption() {
        let once = |seed| caption(&fox(), "flat", &mut draws(seed));
        assert!((0..100).all(|seed| once(seed) == once(seed)));
        assert!((0..100).any(|seed| once(seed) != once(0)));
    }

    #[test]
    fn extreme_draws_are_in_range() {
        assert_eq!(caption(&fox(), "3d", &mut || 0.0), "fox");
        assert_eq!(caption(&fox(), "flat", &mut || 0.0), "fox, flat style");
        let mut last = || 1.0 - f64::EPSILON;
        assert_eq!(caption(&fox(), "color", &mut last), "fox emoji, gradient");
    }

    #[test]
    fn only_the_shipped_style_goes_unnamed() {
        for style in Style::ALL.map(Style::word) {
            let named = |c: &String| c.split([' ', ',']).any(|w| phrases(style).contains(&w));
            let all = captions(&fox(), style);
            assert_eq!(all.iter().all(named), style != SHIPPED, "{style}");
            for other in Style::ALL.map(Style::word).into_iter().filter(|o| *o != style) {
                let foreign = |c: &String| c.split([' ', ',']).any(|w| phrases(other).contains(&w));
                assert!(!all.iter().any(foreign), "{style} {other}");
            }
        }
    }

    #[test]
    fn shares_are_as_stated() {
        let mut draw = draws(3);
        let captions: Vec<String> = (0..20_000).map(|_| caption(&fox(), "3d", &mut draw)).collect();
        let share =
            |of: &dyn Fn(&str) -> bool| captions.iter().filter(|c| of(c)).count() as f64 / captions.len() as f64;
        assert!((share(&|c| !c.contains("3d")) - UNNAMED).abs() < 0.02);
        assert!((share(&|c| c == "fox") - UNNAMED * BARE).abs() < 0.02);
    }

    #[test]
    fn what_can_be_drawn_is_listed() {
        let mut draw = draws(5);
        for background in [None, Some("blue")] {
            for style in ["3d", "color", "flat"] {
                let all = captions_on(&fox(), style, background);
                let drawn: std::collections::BTreeSet<_> =
                    (0..20_000).map(|_| caption_on(&fox(), style, background, &mut draw)).collect();
                assert_eq!(drawn, all.iter().cloned().collect());
                assert_eq!(drawn.len(), all.len(), "a caption is listed twice");
            }
        }
    }

    #[test]
    fn keywords_go_round() {
        assert_eq!(keyworded(&fox())[..2], ["fox, animal, face, tail", "fox, face, tail, wild"]);
        assert_eq!(keyworded(&fox())[3], "fox, wild, animal, face");
        let one = Concept { name: "x".into(), keywords: vec!["y".into()], ..Concept::default() };
        assert_eq!(keyworded(&one), ["x, y"]);
        assert!(keyworded(&Concept::default()).is_empty());
    }

    #[test]
    fn backgrounds_are_named_before_the_style() {
        let all = captions_on(&fox(), "flat", Some("orange"));
        for wanted in ["fox on an orange background, flat style", "a flat fox on an orange background"] {
            assert!(all.contains(&wanted.to_owned()), "{wanted}");
        }
        assert!(all.iter().all(|c| c.contains("orange background")));
    }

    #[test]
    fn articles() {
        for (name, wanted) in [
            ("fox", "a fox"),
            ("orange", "an orange"),
            ("unicorn", "a unicorn"),
            ("umbrella", "an umbrella"),
            ("hourglass done", "an hourglass done"),
            ("grapes", "grapes"),
            ("clinking beer mugs", "clinking beer mugs"),
            ("face with tears of joy", "a face with tears of joy"),
            ("people with bunny ears", "people with bunny ears"),
            ("glass of milk", "a glass of milk"),
            ("octopus", "an octopus"),
            ("compass", "a compass"),
            ("woman's hat", "a woman's hat"),
            ("keycap: 1", "keycap: 1"),
            ("8-pointed star", "an 8-pointed star"),
            ("1st place medal", "a 1st place medal"),
            ("3d fox", "a 3d fox"),
        ] {
            assert_eq!(with_article(name), wanted);
        }
    }
}
