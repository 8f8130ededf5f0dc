//! Which words captions say.

use super::background::{PALETTE, TINTS};
use super::caption::{captions, captions_on};
use super::pack::Stickers;
use super::scene::pair::Said;

/// Texts that between them hold every word that a caption of a drawing or of a scene can hold.
pub fn texts(data: &Stickers) -> Vec<String> {
    let Some(any) = data.concepts().first() else { return Vec::new() };
    let styles = data.styles();
    let mut all: Vec<String> = data.concepts().iter().flat_map(|c| captions(c, &styles[0])).collect();
    let backgrounds: Vec<Option<&str>> =
        std::iter::once(None).chain(PALETTE.iter().map(|(name, _)| Some(*name))).collect();
    for style in styles {
        for background in &backgrounds {
            all.extend(captions_on(any, style, *background));
            all.extend(Said { left: &any.name, right: &any.name, style, background: *background }.captions());
        }
    }
    all.extend(TINTS.iter().map(|tint| tint.name.to_owned()));
    all
}
