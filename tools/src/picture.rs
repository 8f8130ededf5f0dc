//! From a drawing with alpha to a training picture: shift, mirror and background.

use crate::dataset::background::WHITE;
use crate::dataset::pack::SIDE;

/// How a drawing is put on its background.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Pixels to the right and down.
    pub shift: [i32; 2],
    /// Left and right changed over.
    pub mirror: bool,
    pub background: [u8; 3],
}

impl Placement {
    /// In the middle, on white.
    pub fn plain() -> Self {
        Self { shift: [0, 0], mirror: false, background: WHITE }
    }

    /// Shifted by up to four pixels, mirrored half the time, a quarter of the time on any colour.
    pub fn draw(mut unit: impl FnMut() -> f64) -> Self {
        let mut offset = || (unit() * 9.0) as i32 - 4;
        let shift = [offset(), offset()];
        let mirror = unit() < 0.5;
        let coloured = unit() < 0.25;
        let mut byte = || (unit() * 256.0) as u8;
        let background = if coloured { [byte(), byte(), byte()] } else { WHITE };
        Self { shift, mirror, background }
    }
}

/// RGBA bytes (64x64, straight alpha) to planar RGB in [-1, 1], `3 * 64 * 64` values.
pub fn place(rgba: &[u8], placement: &Placement) -> Vec<f32> {
    let mut out = vec![0.0; 3 * SIDE * SIDE];
    for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
        let source = source(y, x, placement).map_or([0; 4], |i| pixel(rgba, i));
        for (channel, value) in lay(source, placement.background).into_iter().enumerate() {
            out[(channel * SIDE + y) * SIDE + x] = value / 127.5 - 1.0;
        }
    }
    out
}

/// Pixel `i` of RGBA bytes.
pub fn pixel(rgba: &[u8], i: usize) -> [u8; 4] {
    [0, 1, 2, 3].map(|c| rgba[4 * i + c])
}

/// A pixel with straight alpha on a colour, from 0 to 255.
pub fn lay(pixel: [u8; 4], behind: [u8; 3]) -> [f32; 3] {
    let alpha = f32::from(pixel[3]) / 255.0;
    [0, 1, 2].map(|c| f32::from(pixel[c]) * alpha + f32::from(behind[c]) * (1.0 - alpha))
}

/// The pixel of the drawing that lands on `(y, x)`.
fn source(y: usize, x: usize, placement: &Placement) -> Option<usize> {
    let inside = |v: i32| (0..SIDE as i32).contains(&v).then_some(v as usize);
    let y = inside(y as i32 - placement.shift[1])?;
    let x = inside(x as i32 - placement.shift[0])?;
    Some(y * SIDE + if placement.mirror { SIDE - 1 - x } else { x })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_mixed_by_alpha() {
        assert_eq!(lay([255, 0, 51, 255], [0, 255, 255]), [255.0, 0.0, 51.0]);
        assert_eq!(lay([255, 0, 51, 0], [0, 255, 255]), [0.0, 255.0, 255.0]);
        let mixed = lay([255, 0, 51, 51], [0, 255, 255]);
        // 255 * 0.2; 255 * 0.8; 51 * 0.2 + 255 * 0.8
        assert!(
            mixed.iter().zip([51.0, 204.0, 214.2]).all(|(found, wanted)| (found - wanted).abs() < 1e-4),
            "{mixed:?}"
        );
    }

    #[test]
    fn shift_mirror_and_background_land_where_they_should() {
        let mut rgba = vec![0u8; 4 * SIDE * SIDE];
        let at = 4 * (10 * SIDE + 20);
        rgba[at..at + 4].copy_from_slice(&[255, 0, 102, 255]);
        let placement = Placement { shift: [3, -2], mirror: true, background: [0, 51, 255] };
        let out = place(&rgba, &placement);
        let pixel = |y: usize, x: usize| [0, 1, 2].map(|c| out[(c * SIDE + y) * SIDE + x]);
        let near = |got: [f32; 3], want: [f32; 3]| got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6);
        assert!(near(pixel(0, 0), [-1.0, -0.6, 1.0]));
        assert!(near(pixel(8, 63 - 20 + 3), [1.0, -1.0, -0.2]));
    }
}
