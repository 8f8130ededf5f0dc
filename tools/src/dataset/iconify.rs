//! Icon sets in the JSON form of [Iconify](https://iconify.design/docs/types/iconify-json.html): SVG bodies by name.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Deserialize;

use super::packages::Archive;

/// `icons.json` and `chars.json` of one package.
pub struct IconSet {
    icons: Icons,
    /// Code points in hexadecimal, joined by `-`, to icon name. Empty for sets that are keyed by name only.
    chars: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Icons {
    icons: BTreeMap<String, Icon>,
    #[serde(default)]
    aliases: BTreeMap<String, Alias>,
    #[serde(default = "default_side")]
    width: f32,
    #[serde(default = "default_side")]
    height: f32,
}

#[derive(Deserialize)]
struct Icon {
    body: String,
    #[serde(default)]
    left: f32,
    #[serde(default)]
    top: f32,
    width: Option<f32>,
    height: Option<f32>,
    #[serde(default)]
    hidden: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alias {
    parent: String,
    #[serde(default)]
    h_flip: bool,
    #[serde(default)]
    v_flip: bool,
    #[serde(default)]
    rotate: u32,
}

/// Iconify's default width and height.
fn default_side() -> f32 {
    16.0
}

impl IconSet {
    /// Reads the set of one package.
    ///
    /// # Errors
    /// If the archive lacks a file or one is malformed.
    pub fn read(archive: &Archive) -> Result<Self> {
        Ok(Self { icons: archive.json("icons.json")?, chars: archive.json("chars.json")? })
    }

    /// Name and SVG text of each icon, by name. Those that the set withdrew ("hidden") are left out.
    pub fn drawings(&self) -> impl Iterator<Item = (&str, String)> {
        self.icons.icons.iter().filter(|(_, icon)| !icon.hidden).map(|(name, icon)| (name.as_str(), self.svg(icon)))
    }

    fn svg(&self, icon: &Icon) -> String {
        let width = icon.width.unwrap_or(self.icons.width);
        let height = icon.height.unwrap_or(self.icons.height);
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width}" height="{height}" viewBox="{} {} {width} {height}">{}</svg>"#,
            icon.left, icon.top, icon.body
        )
    }

    /// Code points and icon name.
    pub fn code_points(&self) -> impl Iterator<Item = (&str, &str)> {
        self.chars.iter().map(|(code, name)| (code.as_str(), name.as_str()))
    }

    /// Pairs (further name, icon name) of the same drawing; turned and mirrored ones are left out.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        let same = |alias: &Alias| !alias.h_flip && !alias.v_flip && alias.rotate == 0;
        self.icons.aliases.iter().filter(move |(_, a)| same(a)).map(|(name, a)| (name.as_str(), a.parent.as_str()))
    }
}

#[cfg(test)]
impl IconSet {
    /// A set from the texts of `icons.json` and `chars.json`.
    pub fn from_json(icons: &str, chars: &str) -> Self {
        Self { icons: serde_json::from_str(icons).unwrap(), chars: serde_json::from_str(chars).unwrap() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn svg_has_the_box_of_the_icon_or_of_the_set() {
        let set = IconSet::from_json(
            r#"{"icons": {"a": {"body": "<g/>"}, "b": {"body": "<p/>", "left": -1, "top": 2, "width": 33},
                          "old": {"body": "", "hidden": true}}, "width": 32, "height": 24}"#,
            "{}",
        );
        let drawings: Vec<_> = set.drawings().collect();
        assert_eq!(drawings.iter().map(|d| d.0).collect::<Vec<_>>(), ["a", "b"]);
        assert!(drawings[0].1.contains(r#"width="32" height="24" viewBox="0 0 32 24"><g/></svg>"#));
        assert!(drawings[1].1.contains(r#"width="33" height="24" viewBox="-1 2 33 24"><p/></svg>"#));
    }

    #[test]
    fn mirrored_aliases_are_no_names() {
        let set = IconSet::from_json(
            r#"{"icons": {}, "aliases": {"bear": {"parent": "bear-face"}, "right": {"parent": "left", "hFlip": true}}}"#,
            r#"{"1f43b": "bear-face"}"#,
        );
        assert_eq!(set.aliases().collect::<Vec<_>>(), [("bear", "bear-face")]);
        assert_eq!(set.code_points().collect::<Vec<_>>(), [("1f43b", "bear-face")]);
    }
}
