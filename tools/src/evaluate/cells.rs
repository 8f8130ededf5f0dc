//! Concept retrieval: pictures of (concept, style) cells, trained and held out, among the real Noto drawings of 400 concepts. The
//! real drawings of the same cells are the ceiling.
//!
//! The gallery's concepts and the cells are chosen by a seeded hash.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use super::gallery::Gallery;
use super::lab::Lab;
use super::report::{Section, Table};
use crate::dataset::pack::Stickers;

/// Concepts of a gallery.
pub const CONCEPTS: usize = 400;

/// One row of the packed file, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub picture: usize,
    pub concept: usize,
    pub style: usize,
    pub held_out: bool,
}

/// The gallery, a Noto picture a concept, and the cells that are asked for in the other styles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells {
    pub gallery: Vec<Row>,
    pub trained: Vec<Row>,
    pub held_out: Vec<Row>,
}

/// Asks for trained and for held-out cells.
///
/// # Errors
/// If the data has no Noto drawings or nothing else, or a picture cannot be made.
pub fn measure(lab: &mut Lab) -> Result<Section> {
    let (count, noto) = (lab.args.count.get(), lab.gallery_style()?);
    let cells = choose(&lab.rows(), &lab.names(), noto, CONCEPTS, count, lab.args.cells_seed);
    ensure!(!cells.trained.is_empty(), "{} has no trained cell to ask for", lab.args.data.display());
    let gallery = Gallery::of(lab, &cells.gallery)?;
    let mut table = Table::new(["cells", "pictures", "n", "top-1", "top-5"]);
    let mut figures = Map::new();
    for (kind, rows) in [("trained", &cells.trained), ("held_out", &cells.held_out)] {
        if rows.len() < count {
            eprintln!("{kind}: only {} of {count} cells exist", rows.len());
        }
        if rows.is_empty() {
            continue;
        }
        let captions: Vec<String> = rows.iter().map(|row| lab.caption(row)).collect();
        let concepts = || rows.iter().map(|row| row.concept);
        let real = gallery.score(&lab.features_of(rows)?, concepts());
        let made = lab.make(&captions)?;
        let score = gallery.score(&lab.net.of(&made.pictures)?, lab.args.seeds.iter().flat_map(|_| concepts()));
        let of_model = format!("made, steps: {}", made.with.steps);
        for (what, score) in [(of_model, &score), ("real".to_owned(), &real)] {
            table.push([kind.replace('_', "-"), what].iter().chain(&score.row()));
        }
        let found = json!({ "made": score.json(), "real": real.json(), "cells": captions, "made_with": made.with });
        figures.insert(kind.to_owned(), found);
    }
    figures.insert("gallery".to_owned(), json!(gallery.names(lab)));
    Ok(Section::new(
        "cells",
        format!("Concept retrieval among {} real drawings", gallery.concepts.len()),
        table,
        figures.into(),
    ))
}

/// All rows of a packed file.
pub fn rows(data: &Stickers) -> Vec<Row> {
    let row = |i| Row { picture: i, concept: data.concept(i), style: data.style(i), held_out: data.held_out(i) };
    (0..data.len()).map(row).collect()
}

/// `concepts` of those that have a picture in the style `noto` and one in another; up to half of them are taken among those that
/// have a held-out cell, so that there are enough. `count` cells of each kind, fewer where there are fewer.
pub fn choose(rows: &[Row], names: &[String], noto: usize, concepts: usize, count: usize, seed: u64) -> Cells {
    let mut first: BTreeMap<(usize, usize), Row> = BTreeMap::new();
    rows.iter().for_each(|row| _ = first.entry((row.concept, row.style)).or_insert(*row));
    let others = |concept: usize| first.values().filter(move |row| row.concept == concept && row.style != noto);
    let mut known: Vec<Row> =
        first.values().filter(|row| row.style == noto && others(row.concept).next().is_some()).copied().collect();
    known.sort_by_cached_key(|row| hash(seed, &names[row.concept], noto));
    let (with, without): (Vec<Row>, Vec<Row>) =
        known.into_iter().partition(|row| others(row.concept).any(|other| other.held_out));
    let half = (concepts / 2).min(with.len()).max(concepts.saturating_sub(without.len()).min(with.len()));
    let gallery: Vec<Row> =
        with[..half].iter().chain(without.iter().take(concepts.saturating_sub(half))).copied().collect();
    let mut asked: Vec<Row> = gallery.iter().flat_map(|row| others(row.concept)).copied().collect();
    asked.sort_by_cached_key(|row| hash(seed, &names[row.concept], row.style));
    let (held_out, trained): (Vec<Row>, Vec<Row>) = asked.into_iter().partition(|row| row.held_out);
    let some = |rows: Vec<Row>| rows.into_iter().take(count).collect();
    Cells { gallery, trained: some(trained), held_out: some(held_out) }
}

fn hash(seed: u64, name: &str, style: usize) -> Vec<u8> {
    Sha256::digest(format!("{seed}/{name}/{style}")).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> (Vec<Row>, Vec<String>) {
        let rows =
            (0..300).map(|i| Row { picture: i, concept: i / 3, style: i % 3, held_out: i % 3 == 1 && i % 5 == 0 });
        (rows.collect(), (0..100).map(|i| format!("concept {i}")).collect())
    }

    #[test]
    fn the_same_seed_chooses_the_same_cells_and_never_one_twice() {
        let (rows, names) = data();
        let cells = choose(&rows, &names, 0, 40, 15, 7);
        assert_eq!(cells, choose(&rows, &names, 0, 40, 15, 7));
        assert_ne!(cells, choose(&rows, &names, 0, 40, 15, 8));
        assert_eq!([cells.gallery.len(), cells.trained.len(), cells.held_out.len()], [40, 15, 15]);
        assert!(cells.trained.iter().all(|row| !row.held_out && row.style != 0 && !cells.held_out.contains(row)));
        assert!(
            cells.held_out.iter().all(|row| row.held_out && cells.gallery.iter().any(|g| g.concept == row.concept))
        );
    }
}
