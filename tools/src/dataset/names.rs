//! From code points and icon names to concepts: CLDR's short names and keywords, and the groups of the Unicode emoji list.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use serde::Deserialize;

use super::iconify::IconSet;
use super::pack::Concept;
use super::packages::Archive;

/// What the icons show that have names of their own: fxemoji's are run together and often misspelt, and some say what a later
/// emoji says of something else. See [`Names::learn_table`].
pub const SYNONYMS: &str = include_str!("synonyms.tsv");

/// What CLDR and the emoji list know of each code point sequence, and which sequence an icon name means.
#[derive(Default)]
pub struct Names {
    by_code: HashMap<String, Concept>,
    /// Keys are made by [`squash`].
    by_name: HashMap<String, String>,
    /// By style and icon name.
    by_icon: HashMap<(String, String), String>,
}

#[derive(Deserialize)]
struct Annotations {
    annotations: BTreeMap<String, Annotation>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(default)]
    default: Vec<String>,
    #[serde(default)]
    tts: Vec<String>,
}

#[derive(Deserialize)]
struct Emoji {
    hexcode: String,
    group: Option<u32>,
    subgroup: Option<u32>,
    #[serde(default)]
    skins: Vec<Emoji>,
}

#[derive(Deserialize)]
struct Groups {
    groups: BTreeMap<u32, String>,
    subgroups: BTreeMap<u32, String>,
}

impl Names {
    /// Reads `cldr-annotations-full`, `cldr-annotations-derived-full` and `emojibase-data`.
    ///
    /// # Errors
    /// If an archive lacks a file or one is malformed.
    pub fn read(cldr: &Archive, derived: &Archive, emojibase: &Archive) -> Result<Self> {
        let mut names = Self::default();
        let file: HashMap<String, Annotations> = cldr.json("annotations/en/annotations.json")?;
        file.into_values().for_each(|a| names.annotate(a));
        let file: HashMap<String, Annotations> = derived.json("annotationsDerived/en/annotations.json")?;
        file.into_values().for_each(|a| names.annotate(a));
        let emoji: Vec<Emoji> = emojibase.json("en/data.json")?;
        names.group(&emoji, &emojibase.json("meta/groups.json")?);
        names.name_all();
        Ok(names)
    }

    fn annotate(&mut self, annotations: Annotations) {
        for (text, annotation) in annotations.annotations {
            let Some(name) = annotation.tts.first().map(|name| tidy(name)) else { continue };
            let keywords = annotation.default.iter().map(|k| tidy(k)).filter(|k| *k != name).collect();
            self.by_code.insert(code_of(&text), Concept { name, keywords, ..Concept::default() });
        }
    }

    fn group(&mut self, emoji: &[Emoji], groups: &Groups) {
        for one in emoji.iter().flat_map(|e| std::iter::once(e).chain(&e.skins)) {
            let Some(concept) = self.by_code.get_mut(&normal_code(&one.hexcode)) else { continue };
            let name =
                |of: &BTreeMap<u32, String>, i: Option<u32>| i.and_then(|i| of.get(&i).cloned()).unwrap_or_default();
            concept.group = name(&groups.groups, one.group);
            concept.subgroup = name(&groups.subgroups, one.subgroup);
        }
    }

    /// Makes every CLDR name known as an icon name. Emoji go before mere symbols, and shorter sequences before longer ones.
    fn name_all(&mut self) {
        let mut codes: Vec<_> =
            self.by_code.iter().map(|(code, c)| (c.group.is_empty(), code.len(), code, c)).collect();
        codes.sort_by_key(|&(symbol, length, code, _)| (symbol, length, code.clone()));
        for (_, _, code, concept) in codes {
            self.by_name.entry(squash(&concept.name)).or_insert_with(|| code.clone());
        }
    }

    /// Learns the icon names of a set: those that it lists with code points, then every alias of a name that is known by then.
    /// What is known already stays.
    pub fn learn(&mut self, set: &IconSet) {
        for (code, name) in set.code_points() {
            self.by_name.entry(squash(name)).or_insert_with(|| normal_code(code));
        }
        for (one, other) in set.aliases().chain(set.aliases().map(|(alias, parent)| (parent, alias))) {
            if let Some(code) = self.by_name.get(&squash(one)).cloned() {
                self.by_name.entry(squash(other)).or_insert(code);
            }
        }
    }

    /// Learns a table of icons that the rules do not find, or get wrong: a line each, the style's word, the icon name and the name of
    /// the concept, separated by tabs; `-` for an icon to leave out. A concept that CLDR does not know becomes one of its own, whose
    /// code is its name.
    pub fn learn_table(&mut self, table: &str) {
        for (style, icon, name) in table.lines().filter_map(row) {
            let code = self.by_name.get(&squash(name)).cloned().unwrap_or_else(|| name.to_owned());
            if name != "-" {
                let own = || Concept { name: name.to_owned(), ..Concept::default() };
                self.by_code.entry(code.clone()).or_insert_with(own);
            }
            self.by_icon.insert((style.to_owned(), icon.to_owned()), code);
        }
    }

    /// The code points that an icon of a style means, by the table alone.
    pub fn code_of_icon(&self, style: &str, icon: &str) -> Option<&str> {
        let find = |icon: &str| self.by_icon.get(&(style.to_owned(), icon.to_owned()));
        find(icon).or_else(|| find(without_number(icon))).map(String::as_str)
    }

    /// The code points that an icon name means; a number at its end ("cactus-2") may count variants.
    pub fn code(&self, name: &str) -> Option<&str> {
        [name, without_number(name)].iter().find_map(|n| self.by_name.get(&squash(n))).map(String::as_str)
    }

    /// The concept of a sequence of code points, in the form of [`normal_code`].
    pub fn concept(&self, code: &str) -> Option<&Concept> {
        self.by_code.get(code)
    }
}

fn row(line: &str) -> Option<(&str, &str, &str)> {
    let mut fields = line.split('\t');
    Some((fields.next()?, fields.next()?, fields.next()?))
}

fn without_number(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-')
}

/// A CLDR name or keyword as captions have it: lower case, no curly quotation marks.
fn tidy(name: &str) -> String {
    name.to_lowercase().replace(['“', '”'], "").replace('’', "'")
}

/// A name reduced to what all sets agree on: letters without accents, digits, `*` and `#`.
pub fn squash(name: &str) -> String {
    let fold = |c: char| match c {
        'ñ' => 'n',
        'é' | 'ê' => 'e',
        'ã' | 'å' | 'á' => 'a',
        'ô' | 'ó' => 'o',
        'ç' => 'c',
        'í' => 'i',
        other => other,
    };
    let name = name.to_lowercase().replace('&', "and");
    name.chars().map(fold).filter(|c| c.is_ascii_alphanumeric() || matches!(c, '*' | '#')).collect()
}

fn code_of(text: &str) -> String {
    let code: Vec<String> = text.chars().map(|c| format!("{:x}", u32::from(c))).collect();
    normal_code(&code.join("-"))
}

/// Code points in lower-case hexadecimal joined by `-`, without leading zeros and variation selectors (U+FE0F).
pub fn normal_code(code: &str) -> String {
    let code = code.to_ascii_lowercase();
    let points = code.split('-').map(|p| p.trim_start_matches('0')).filter(|p| *p != "fe0f");
    points.collect::<Vec<_>>().join("-")
}

/// Whether a normal code is a flag: regional indicators, tag sequences.
pub fn is_flag(code: &str) -> bool {
    code.split('-')
        .filter_map(|p| u32::from_str_radix(p, 16).ok())
        .any(|p| matches!(p, 0x1f1e6..=0x1f1ff | 0xe0020..=0xe007f))
}

/// Whether a normal code has a skin tone.
pub fn is_toned(code: &str) -> bool {
    code.split('-').any(|p| matches!(p, "1f3fb" | "1f3fc" | "1f3fd" | "1f3fe" | "1f3ff"))
}

#[cfg(test)]
impl Names {
    /// Names with these entries: code, name, group.
    pub fn of(entries: &[(&str, &str, &str)]) -> Self {
        let mut names = Self::default();
        for (code, name, group) in entries {
            let concept = Concept { name: (*name).into(), group: (*group).into(), ..Concept::default() };
            names.by_code.insert((*code).into(), concept);
        }
        names.name_all();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::super::style::Style;
    use super::*;

    #[test]
    fn squashes_what_sets_spell_differently() {
        for (one, other) in [
            ("piñata", "pinata"),
            ("jack-o-lantern", "jackolantern"),
            ("woman’s hat", "womans-hat"),
            ("A button (blood type)", "a-button-blood-type"),
            ("Red Apple", "redapple"),
        ] {
            assert_eq!(squash(one), squash(other));
        }
        assert_eq!(squash("keycap: #"), "keycap#");
        assert_ne!(squash("cat"), squash("cat face"));
    }

    #[test]
    fn codes_lose_zeros_and_selectors() {
        assert_eq!(normal_code("0023-FE0F-20E3"), "23-20e3");
        assert_eq!(code_of("🏔️"), "1f3d4");
        assert_eq!(code_of("👩🏻‍🚀"), "1f469-1f3fb-200d-1f680");
    }

    #[test]
    fn knows_flags_and_tones() {
        assert!(is_flag("1f1eb-1f1f7") && is_flag("1f3f4-e0067-e0062-e007f") && !is_flag("1f3f4"));
        assert!(is_toned("1f469-1f3fb-200d-1f680") && !is_toned("1f469-200d-1f680"));
    }

    #[test]
    fn tidies_names() {
        assert_eq!(tidy("Japanese “free of charge” button"), "japanese free of charge button");
        assert_eq!(tidy("woman’s hat"), "woman's hat");
    }

    #[test]
    fn emoji_go_before_symbols_and_variants_are_counted() {
        let names =
            Names::of(&[("2b", "plus", ""), ("2795", "plus", "symbols"), ("1f335", "cactus", "animals-nature")]);
        assert_eq!(names.code("plus"), Some("2795"));
        assert_eq!(names.code("cactus-2"), Some("1f335"));
        assert_eq!(names.code("cacti"), None);
    }

    #[test]
    fn learns_names_both_ways_along_aliases() {
        let mut names = Names::of(&[("1f43b", "bear", "animals-nature"), ("1f451", "crown", "objects")]);
        names.learn(&IconSet::from_json(
            r#"{"icons": {}, "aliases": {"bear": {"parent": "bear-face"}, "kings-hat": {"parent": "royal"}}}"#,
            r#"{"1F451": "royal"}"#,
        ));
        assert_eq!(names.code("bear-face"), Some("1f43b"));
        assert_eq!(names.code("kings-hat"), Some("1f451"));
    }

    #[test]
    fn learns_a_table() {
        let mut names = Names::of(&[("1f346", "eggplant", "food-drink"), ("1f98a", "fox", "animals-nature")]);
        names.learn_table("fxemoji\taubergine\teggplant\nfxemoji\tfoxcrying\tcrying fox\nstreamline\tturkey\t-\n");
        assert_eq!(names.code_of_icon("fxemoji", "aubergine"), Some("1f346"));
        assert_eq!(names.code_of_icon("flat", "aubergine"), None);
        let own = names.code_of_icon("fxemoji", "foxcrying").and_then(|code| names.concept(code));
        assert_eq!(own.unwrap().name, "crying fox");
        let left_out = names.code_of_icon("streamline", "turkey-2").unwrap();
        assert!(names.concept(left_out).is_none());
    }

    #[test]
    fn the_table_is_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for line in SYNONYMS.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [style, icon, name] = fields[..] else { panic!("{line}") };
            assert!(Style::ALL.iter().any(|s| s.word() == style), "{line}");
            assert!(!icon.is_empty() && !name.is_empty() && tidy(name) == name, "{line}");
            assert!(seen.insert((style, icon)), "{line} stands there twice");
        }
    }

    #[test]
    fn reads_annotations_and_groups() {
        let file = r#"{"annotations": {"🦊": {"default": ["animal", "Face", "fox"], "tts": ["fox"]}, "x": {"default": ["y"]}}}"#;
        let mut names = Names::default();
        names.annotate(serde_json::from_str(file).unwrap());
        let emoji: Vec<Emoji> = serde_json::from_str(r#"[{"hexcode": "1F98A", "group": 3, "subgroup": 34}]"#).unwrap();
        let groups = r#"{"groups": {"3": "animals-nature"}, "subgroups": {"34": "animal-mammal"}}"#;
        names.group(&emoji, &serde_json::from_str(groups).unwrap());
        let fox = names.concept("1f98a").unwrap();
        assert_eq!((fox.name.as_str(), fox.keywords.join(" ").as_str()), ("fox", "animal face"));
        assert_eq!((fox.group.as_str(), fox.subgroup.as_str()), ("animals-nature", "animal-mammal"));
        assert!(names.concept("78").is_none(), "an entry without a name");
    }
}
