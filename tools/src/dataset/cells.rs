//! Which (concept, style) cells are held out: a seeded hash decides, so that the answer does not depend on the order of anything.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

/// The share of cells that is asked for.
pub const SHARE: f64 = 0.05;
/// A concept keeps at least so many styles that are trained on.
pub const STYLES_KEPT: usize = 2;

/// The cells to hold out, of all that occur. A cell is a concept's name and a style's word; repeated ones count once.
pub fn held_out<'a>(cells: impl IntoIterator<Item = (&'a str, &'a str)>, seed: u64) -> BTreeSet<(&'a str, &'a str)> {
    let mut styles: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (concept, style) in cells {
        styles.entry(concept).or_default().insert(style);
    }
    styles.iter().flat_map(|(concept, styles)| held_out_of(concept, styles, seed)).collect()
}

fn held_out_of<'a>(concept: &'a str, styles: &BTreeSet<&'a str>, seed: u64) -> Vec<(&'a str, &'a str)> {
    let mut drawn: Vec<_> = styles.iter().map(|style| (draw(concept, style, seed), (concept, *style))).collect();
    drawn.retain(|(value, _)| *value < SHARE);
    drawn.sort_by(|one, other| one.0.total_cmp(&other.0));
    drawn.truncate(styles.len().saturating_sub(STYLES_KEPT));
    drawn.into_iter().map(|(_, cell)| cell).collect()
}

/// A number in [0, 1) that seed, concept and style determine.
fn draw(concept: &str, style: &str, seed: u64) -> f64 {
    let digest = Sha256::digest(format!("{seed}/{concept}/{style}"));
    let bits = digest.iter().take(8).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLES: [&str; 4] = ["3d", "flat", "noto", "blob"];

    fn concepts() -> Vec<String> {
        (0..2000).map(|i| format!("concept {i}")).collect()
    }

    #[test]
    fn the_share_is_as_asked_for() {
        let concepts = concepts();
        let cells = concepts.iter().flat_map(|c| STYLES.map(|s| (c.as_str(), s)));
        let share = held_out(cells, 1).len() as f64 / (concepts.len() * STYLES.len()) as f64;
        assert!((share - SHARE).abs() < 0.01, "{share}");
    }

    #[test]
    fn order_and_repetition_change_nothing_but_the_seed_does() {
        let concepts = concepts();
        let cells: Vec<_> = concepts.iter().flat_map(|c| STYLES.map(|s| (c.as_str(), s))).collect();
        let forward = held_out(cells.iter().copied(), 1);
        let backward = held_out(cells.iter().rev().chain(&cells[..10]).copied(), 1);
        assert_eq!(forward, backward);
        assert_ne!(forward, held_out(cells.iter().copied(), 2));
    }

    #[test]
    fn another_concept_changes_nothing() {
        let concepts = concepts();
        let cells = || concepts.iter().flat_map(|c| STYLES.map(|s| (c.as_str(), s)));
        let more = held_out(cells().chain(STYLES.map(|s| ("one more", s))), 1);
        let kept: BTreeSet<_> = more.into_iter().filter(|cell| cell.0 != "one more").collect();
        assert_eq!(kept, held_out(cells(), 1));
    }

    #[test]
    fn concepts_keep_two_styles() {
        let concepts = concepts();
        let two = concepts.iter().flat_map(|c| ["3d", "flat"].map(|s| (c.as_str(), s)));
        assert!(held_out(two, 1).is_empty());
        let three = concepts.iter().flat_map(|c| ["3d", "flat", "noto"].map(|s| (c.as_str(), s)));
        let mut per_concept: BTreeMap<&str, usize> = BTreeMap::new();
        held_out(three, 1).iter().for_each(|(concept, _)| *per_concept.entry(concept).or_default() += 1);
        assert!(!per_concept.is_empty() && per_concept.values().all(|n| *n == 1));
    }

    /// Expected: `int.from_bytes(hashlib.sha256(b"7/fox/3d").digest()[:8]) / 2**64` of Python, to 53 bits.
    #[test]
    fn the_draw_is_the_head_of_the_digest() {
        assert!((draw("fox", "3d", 7) - 0.31698470221614783).abs() < 1e-15);
    }
}
