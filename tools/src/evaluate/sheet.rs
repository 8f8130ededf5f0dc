//! Contact sheets.

use anyhow::{Context, Result};
use image::{Rgb, RgbImage, imageops};
use serde_json::json;
use undiffuse::pipeline::{Picture, Size};

use super::lab::Lab;
use super::maker::{Asked, How};
use super::prompts::PROMPTS;
use super::report::{Section, Table};

/// Pictures a row of the sheet of plain prompts, and the side of each in pixels.
const COLUMNS: usize = 8;
const SHOWN: usize = 128;

/// The plain prompts, each with the first seed, as sheet.png.
///
/// # Errors
/// If a picture cannot be made or the sheet not be written.
pub fn measure(lab: &mut Lab) -> Result<Section> {
    let seed = lab.args.seeds.first().copied().unwrap_or(0);
    let asked: Vec<Asked> = PROMPTS.iter().map(|prompt| Asked { prompt: (*prompt).into(), seed }).collect();
    let made = lab.model.make_as(&asked, How { shown: true, ..lab.model.how })?;
    let path = lab.args.out.join("sheet.png");
    tiled(&made.pictures, COLUMNS, SHOWN)?.save(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let table =
        Table::new(["sheet", "prompts", "seed"]).row(["sheet.png", &PROMPTS.len().to_string(), &seed.to_string()]);
    let figures = json!({ "prompts": PROMPTS, "seed": seed, "made_with": made.with });
    Ok(Section::new("sheet", "Contact sheet", table, figures))
}

/// Pictures side by side, each `side` pixels wide and high, on white.
///
/// # Errors
/// If `side` is no size of a picture.
pub fn tiled(pictures: &[Picture], columns: usize, side: usize) -> Result<RgbImage> {
    let pitch = side as u32;
    let rows = pictures.len().div_ceil(columns) as u32;
    let mut sheet = RgbImage::from_pixel(columns as u32 * pitch, rows * pitch, Rgb([255; 3]));
    for (i, picture) in pictures.iter().enumerate() {
        let small = picture.resampled(Size::new(side, side)?)?;
        let tile = RgbImage::from_raw(pitch, pitch, small.rgb().to_vec()).context("a tile has the wrong size")?;
        let (column, row) = ((i % columns) as i64, (i / columns) as i64);
        imageops::replace(&mut sheet, &tile, column * i64::from(pitch), row * i64::from(pitch));
    }
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::pack::SIDE;
    use crate::evaluate::lab::picture;

    #[test]
    fn tiles_stand_in_rows() {
        let grey = |v: f32| picture(vec![v; 3 * SIDE * SIDE]).unwrap();
        let sheet = tiled(&[-1.0, 0.0, 1.0, -1.0].map(grey), 3, 16).unwrap();
        assert_eq!(sheet.dimensions(), (48, 32));
        let at = |x, y| sheet.get_pixel(x, y).0[0];
        assert_eq!([at(8, 8), at(24, 8), at(40, 8), at(8, 24), at(24, 24)], [0, 128, 255, 0, 255]);
    }
}
