//! A contact sheet: a row a concept, a column a style, on white.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use image::{Rgb, RgbImage};

use super::background::WHITE;
use super::pack::{SIDE, Stickers};
use crate::picture::{lay, pixel};

/// Rows of a sheet.
pub const ROWS: usize = 24;
/// White pixels around each picture.
const GAP: u32 = 4;

/// Writes a sheet of [`ROWS`] concepts that have at least half of the styles, evenly spread over the list of concepts. A cell with
/// several pictures shows the first.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, stickers: &Stickers) -> Result<()> {
    let pitch = SIDE as u32 + GAP;
    let rows = rows(stickers);
    let (width, height) = (stickers.styles().len() as u32 * pitch + GAP, rows.len() as u32 * pitch + GAP);
    let mut sheet = RgbImage::from_pixel(width, height, Rgb(WHITE));
    for (row, cells) in (0u32..).zip(&rows) {
        for (style, picture) in cells {
            paint(&mut sheet, *style as u32 * pitch + GAP, row * pitch + GAP, stickers.rgba(*picture));
        }
    }
    sheet.save(path).with_context(|| format!("cannot write {}", path.display()))
}

/// For each concept shown, the first picture of each style.
fn rows(stickers: &Stickers) -> Vec<BTreeMap<usize, usize>> {
    let mut cells: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
    for i in 0..stickers.len() {
        cells.entry(stickers.concept(i)).or_default().entry(stickers.style(i)).or_insert(i);
    }
    let full: Vec<_> = cells.into_values().filter(|c| c.len() * 2 >= stickers.styles().len()).collect();
    let shown = ROWS.min(full.len());
    (0..shown).map(|i| full[i * full.len() / shown].clone()).collect()
}

fn paint(sheet: &mut RgbImage, left: u32, top: u32, rgba: &[u8]) {
    let side = SIDE as u32;
    for i in 0..side * side {
        let mixed = lay(pixel(rgba, i as usize), WHITE).map(|value| value.round() as u8);
        sheet.put_pixel(left + i % side, top + i / side, Rgb(mixed));
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack::{self, Concept, PICTURE_BYTES, Sticker};
    use super::*;

    #[test]
    fn cells_stand_at_their_row_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let concepts = ["a", "b"].map(|name| Concept { name: name.into(), ..Concept::default() });
        let sticker = |style, concept, red| {
            let rgba = [red, 0, 0, 255].repeat(PICTURE_BYTES / 4);
            Sticker { rgba, style, concept, held_out: false, weight: 1.0 }
        };
        let stickers = [sticker(0, 0, 10), sticker(1, 0, 20), sticker(1, 1, 30), sticker(1, 1, 40)];
        let packed = folder.path().join("p");
        pack::write(&packed, &["3d", "flat"], &concepts, &stickers, &[]).unwrap();
        let path = folder.path().join("sheet.png");
        write(&path, &Stickers::open(&packed).unwrap()).unwrap();
        let sheet = image::open(&path).unwrap().into_rgb8();
        assert_eq!(sheet.dimensions(), (140, 140));
        let at = |column: u32, row: u32| sheet.get_pixel(column * 68 + 36, row * 68 + 36).0;
        assert_eq!([at(0, 0), at(1, 0), at(0, 1), at(1, 1)], [[10, 0, 0], [20, 0, 0], WHITE, [30, 0, 0]]);
        assert_eq!(sheet.get_pixel(3, 3).0, WHITE);
    }
}
