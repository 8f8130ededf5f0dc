//! From packages to a list of drawings, each with its concept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::iconify::IconSet;
use super::names::{Names, SYNONYMS, is_flag, is_toned, normal_code};
use super::pack::Concept;
use super::packages::{Archive, CLDR, CLDR_DERIVED, EMOJIBASE};
use super::render::Source;
use super::style::Style;

/// A drawing that was not rendered yet.
pub struct Drawing {
    /// Whose it is.
    pub style: Style,
    /// Its name in its package.
    pub id: String,
    /// What it shows.
    pub concept: Concept,
    /// The code points that it is drawn for, as [`normal_code`] writes them.
    pub code: String,
    /// The drawing itself.
    pub source: Source,
}

/// What was found, and the names of what was left out because no concept is known for it.
#[derive(Default)]
pub struct Collection {
    /// By style, then by name in its package.
    pub drawings: Vec<Drawing>,
    /// Style and name in its package.
    pub unknown: Vec<(Style, String)>,
}

/// Reads all packages, fetching what `cache` lacks. Flags are left out, and skin tones unless `skin_tones`.
///
/// # Errors
/// If a package cannot be fetched or read.
pub fn collect(cache: &Path, skin_tones: bool) -> Result<Collection> {
    let open = |package| Archive::open(&package, cache);
    let mut sets = BTreeMap::new();
    for style in Style::ALL.into_iter().filter(|s| *s != Style::Fluent3d) {
        sets.insert(style, IconSet::read(&open(style.package())?)?);
    }
    let mut names = Names::read(&open(CLDR)?, &open(CLDR_DERIVED)?, &open(EMOJIBASE)?)?;
    sets.values().for_each(|set| names.learn(set));
    names.learn_table(SYNONYMS);

    let mut collector = Collector { names: &names, skin_tones, found: Collection::default() };
    collector.fluent_3d(&open(Style::Fluent3d.package())?, &sets[&Style::FluentFlat])?;
    sets.iter().for_each(|(style, set)| collector.icons(*style, set));
    Ok(collector.found)
}

struct Collector<'a> {
    names: &'a Names,
    skin_tones: bool,
    found: Collection,
}

impl Collector<'_> {
    /// The package also carries art that Microsoft never opened: only what is in the flat set too, which is built from
    /// Microsoft's repository, is taken.
    fn fluent_3d(&mut self, archive: &Archive, opened: &IconSet) -> Result<()> {
        let opened: BTreeSet<String> = opened.code_points().map(|(code, _)| normal_code(code)).collect();
        for (path, bytes) in archive.files(|path| path.starts_with("assets/") && path.ends_with(".webp"))? {
            let id = path.trim_start_matches("assets/").trim_end_matches(".webp");
            let code = normal_code(id);
            if opened.contains(&code) {
                self.add(Style::Fluent3d, id, Some(&code), Source::WebP(bytes));
            }
        }
        Ok(())
    }

    fn icons(&mut self, style: Style, set: &IconSet) {
        let mut listed: BTreeMap<&str, String> = BTreeMap::new();
        for (code, name) in set.code_points() {
            listed.entry(name).or_insert_with(|| normal_code(code));
        }
        for (name, svg) in set.drawings() {
            let code = self.code(style, name, listed.get(name));
            self.add(style, name, code.as_deref(), Source::Svg(svg));
        }
    }

    /// The code points of an icon: the table decides, then the set's own list, then the name.
    fn code(&self, style: Style, icon: &str, listed: Option<&String>) -> Option<String> {
        let by_table = self.names.code_of_icon(style.word(), icon);
        let code = by_table.or(listed.map(String::as_str)).or_else(|| self.names.code(icon));
        code.map(str::to_owned)
    }

    fn add(&mut self, style: Style, id: &str, code: Option<&str>, source: Source) {
        let Some((code, concept)) = code.and_then(|code| Some((code, self.names.concept(code)?))) else {
            self.found.unknown.push((style, id.to_owned()));
            return;
        };
        if self.is_wanted(code, concept) {
            let (id, code, concept) = (id.to_owned(), code.to_owned(), concept.clone());
            self.found.drawings.push(Drawing { style, id, concept, code, source });
        }
    }

    fn is_wanted(&self, code: &str, concept: &Concept) -> bool {
        let flag = is_flag(code) || concept.group == "flags";
        !flag && concept.group != "component" && (self.skin_tones || !is_toned(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(skin_tones: bool) -> (Vec<String>, Vec<String>) {
        let mut names = Names::of(&[
            ("1f98a", "fox", "animals-nature"),
            ("1f44b", "waving hand", "people-body"),
            ("1f44b-1f3ff", "waving hand: dark skin tone", "people-body"),
            ("1f3ff", "dark skin tone", "component"),
            ("1f3c1", "chequered flag", "flags"),
            ("1f1eb-1f1f7", "flag: france", "flags"),
        ]);
        let icon = |name: &str| format!(r#""{name}": {{"body": "<g/>"}}"#);
        let icons = ["fox-face", "waving-hand", "waving-hand-dark", "dark-skin-tone", "chequered-flag", "fr", "logo"];
        let icons = format!(r#"{{"icons": {{{}}}}}"#, icons.map(icon).join(", "));
        let chars = r#"{"1f98a": "fox-face", "1f44b-1f3ff": "waving-hand-dark", "1f1eb-1f1f7": "fr"}"#;
        let set = IconSet::from_json(&icons, chars);
        names.learn(&set);
        let mut collector = Collector { names: &names, skin_tones, found: Collection::default() };
        collector.icons(Style::Noto, &set);
        let Collection { drawings, unknown } = collector.found;
        let drawings = drawings.into_iter().map(|d| format!("{} {}", d.id, d.concept.name)).collect();
        (drawings, unknown.into_iter().map(|(_, id)| id).collect())
    }

    #[test]
    fn flags_components_and_tones_are_left_out() {
        let (drawings, unknown) = collected(false);
        assert_eq!(drawings, ["fox-face fox", "waving-hand waving hand"]);
        assert_eq!(unknown, ["logo"]);
    }

    #[test]
    fn tones_are_taken_on_demand() {
        assert!(collected(true).0.contains(&"waving-hand-dark waving hand: dark skin tone".to_owned()));
    }
}
