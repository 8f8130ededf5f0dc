//! What can be seen of a picture without any network: the colour behind, and what stands out from it.

use std::ops::Range;

use anyhow::Result;
use undiffuse::pipeline::{Picture, Size};

use crate::dataset::background::{PALETTE, TINTS, Tint};
use crate::dataset::pack::SIDE;
use crate::evaluate::lab::picture;

/// Pixels of the frame that shows the colour behind.
const FRAME: usize = 2;
/// What differs by so much from the colour behind, as the distance of RGB values, stands out.
const STANDS_OUT: f32 = 40.0;
/// A pixel counts as so far from a tint at most, so that a few of another colour do not decide.
const FAR: f32 = 90.0;
/// How much the distance of the median from a tint's colour counts, beside that of all pixels from its ramp: ramps cross.
const MOST: f32 = 0.25;
/// White around a cropped thing, as a share of its longer side.
const MARGIN: f32 = 0.1;

type Rgb = [f32; 3];

/// A picture of 64x64 pixels, its colour behind, and a range of columns that is looked at.
pub struct Look {
    pixels: Vec<Rgb>,
    behind: Rgb,
}

impl Look {
    /// # Errors
    /// If the picture cannot be brought to 64x64.
    pub fn at(picture: &Picture) -> Result<Self> {
        let small = picture.resampled(Size::new(SIDE, SIDE)?)?;
        let pixels: Vec<Rgb> = small.rgb().chunks_exact(3).map(|p| [0, 1, 2].map(|c| f32::from(p[c]))).collect();
        let edge = |i: &usize| [i / SIDE, i % SIDE].iter().any(|v| *v < FRAME || *v >= SIDE - FRAME);
        let frame: Vec<Rgb> = (0..pixels.len()).filter(edge).map(|i| pixels[i]).collect();
        Ok(Self { behind: median(&frame), pixels })
    }

    /// The name that [`PALETTE`] has for the colour behind.
    pub fn background(&self) -> &'static str {
        let nearest = |a: &&(&str, [u8; 3]), b: &&(&str, [u8; 3])| {
            let far = |colour: [u8; 3]| distance(self.behind, colour.map(f32::from));
            far(a.1).total_cmp(&far(b.1))
        };
        PALETTE.iter().min_by(nearest).map_or("", |(name, _)| name)
    }

    /// The name of the tint on whose ramp from shade to light what stands out lies, and whose colour is nearest to most of it; where
    /// nothing stands out, of the tint that is nearest to the colour behind.
    pub fn colour(&self) -> &'static str {
        let mut seen: Vec<Rgb> =
            (0..self.pixels.len()).filter(|i| self.stands_out(*i)).map(|i| self.pixels[i]).collect();
        if seen.is_empty() {
            seen.push(self.behind);
        }
        let most = median(&seen);
        let far = |tint: &Tint| {
            let ramp = seen.iter().map(|pixel| from_ramp(*pixel, tint).min(FAR)).sum::<f32>() / seen.len() as f32;
            ramp + MOST * distance(most, tint.colour.map(f32::from))
        };
        TINTS.iter().min_by(|a, b| far(a).total_cmp(&far(b))).map_or("", |tint| tint.name)
    }

    /// What stands out in these columns, in the middle of a square of the colour behind; all of the columns where nothing does.
    ///
    /// # Errors
    /// None but those of making a picture.
    pub fn cropped(&self, columns: Range<usize>) -> Result<Picture> {
        let out = |x: usize, y: usize| self.stands_out(y * SIDE + x);
        let xs: Vec<usize> = columns.clone().filter(|x| (0..SIDE).any(|y| out(*x, y))).collect();
        let ys: Vec<usize> = (0..SIDE).filter(|y| columns.clone().any(|x| out(x, *y))).collect();
        let span = |of: &[usize], all: Range<usize>| match (of.first(), of.last()) {
            (Some(first), Some(last)) => (*first as f32, *last as f32 + 1.0),
            _ => (all.start as f32, all.end as f32),
        };
        let (x, y) = (span(&xs, columns.clone()), span(&ys, 0..SIDE));
        let side = (x.1 - x.0).max(y.1 - y.0) * (1.0 + 2.0 * MARGIN);
        let corner = [(x.0 + x.1 - side) / 2.0, (y.0 + y.1 - side) / 2.0];
        let place = |i: usize| [i % SIDE, i / SIDE].map(|v| (v as f32 + 0.5) * side / SIDE as f32 - 0.5);
        let pixels: Vec<Rgb> = (0..SIDE * SIDE)
            .map(|i| {
                let [dx, dy] = place(i);
                self.between(corner[0] + dx, corner[1] + dy, &columns)
            })
            .collect();
        picture((0..3).flat_map(|c| pixels.iter().map(move |p| p[c] / 127.5 - 1.0)).collect())
    }

    fn stands_out(&self, i: usize) -> bool {
        distance(self.pixels[i], self.behind) > STANDS_OUT
    }

    /// Bilinear; outside of the columns there is only the colour behind.
    fn between(&self, x: f32, y: f32, columns: &Range<usize>) -> Rgb {
        let inside = |x: i64, y: i64| {
            let known = columns.contains(&usize::try_from(x).unwrap_or(SIDE)) && (0..SIDE as i64).contains(&y);
            if known { self.pixels[y as usize * SIDE + x as usize] } else { self.behind }
        };
        let (left, top) = (x.floor(), y.floor());
        let row = |y: i64| mix(inside(left as i64, y), inside(left as i64 + 1, y), x - left);
        mix(row(top as i64), row(top as i64 + 1), y - top)
    }
}

fn mix(a: Rgb, b: Rgb, share: f32) -> Rgb {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * share)
}

fn distance(a: Rgb, b: Rgb) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
}

fn median(of: &[Rgb]) -> Rgb {
    [0, 1, 2].map(|c| {
        let mut values: Vec<f32> = of.iter().map(|p| p[c]).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    })
}

/// The distance of a colour from the two straight lines that join a tint's shade, colour and light.
fn from_ramp(pixel: Rgb, tint: &Tint) -> f32 {
    let [shade, colour, light] = [tint.shade, tint.colour, tint.light].map(|c| c.map(f32::from));
    from_line(pixel, shade, colour).min(from_line(pixel, colour, light))
}

fn from_line(pixel: Rgb, from: Rgb, to: Rgb) -> f32 {
    let along = [0, 1, 2].map(|c| to[c] - from[c]);
    let dot = |a: Rgb, b: Rgb| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let share = dot([0, 1, 2].map(|c| pixel[c] - from[c]), along) / dot(along, along).max(f32::MIN_POSITIVE);
    distance(pixel, mix(from, to, share.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of one colour on another.
    fn block(columns: Range<usize>, rows: Range<usize>, colour: [u8; 3], behind: [u8; 3]) -> Look {
        let inside = |i: usize| columns.contains(&(i % SIDE)) && rows.contains(&(i / SIDE));
        let at = |i: usize| if inside(i) { colour } else { behind };
        let planes = (0..3).flat_map(|c| (0..SIDE * SIDE).map(move |i| (c, i)));
        let planes = planes.map(|(c, i)| f32::from(at(i)[c]) / 127.5 - 1.0).collect();
        Look::at(&picture(planes).unwrap()).unwrap()
    }

    #[test]
    fn colours_are_named() {
        for (name, behind) in PALETTE {
            assert_eq!(block(20..40, 20..40, [1, 2, 3], behind).background(), name);
        }
        for tint in TINTS.iter().filter(|tint| tint.name != "white") {
            for colour in
                [tint.colour, mix(tint.colour.map(f32::from), tint.light.map(f32::from), 0.2).map(|v| v as u8)]
            {
                assert_eq!(block(10..50, 20..40, colour, [255; 3]).colour(), tint.name);
            }
        }
    }

    #[test]
    fn distances_from_a_line_by_hand() {
        let line = |pixel: Rgb| from_line(pixel, [0.0, 0.0, 0.0], [10.0, 0.0, 0.0]);
        assert_eq!([line([5.0, 3.0, 4.0]), line([13.0, 4.0, 0.0]), line([-2.0, 0.0, 0.0])], [5.0, 5.0, 2.0]);
    }

    #[test]
    fn crops_are_square_around_what_stands_out() {
        let crop = block(40..50, 10..30, [200, 0, 0], [255; 3]).cropped(32..64).unwrap();
        let at = |x: usize, y: usize| crop.rgb()[3 * (y * SIDE + x) + 1];
        // The block is 20 high, the square 24: it takes 53 of 64 rows and 27 columns in the middle.
        assert_eq!([at(32, 3), at(32, 8), at(32, 55), at(32, 61)], [255, 0, 0, 255]);
        assert_eq!([at(15, 32), at(21, 32), at(42, 32), at(48, 32)], [255, 0, 0, 255]);
        let other = block(20..50, 10..30, [200, 0, 0], [255; 3]).cropped(0..32).unwrap();
        assert!(other.rgb().contains(&0) && block(40..50, 1..2, [200; 3], [255; 3]).cropped(0..32).is_ok());
    }
}
