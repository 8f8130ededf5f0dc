//! Backgrounds: pictures are packed with alpha and composited when they are used.

use super::pack::{PICTURE_BYTES, SIDE};

/// Values of one composited picture: three planes (red, green, blue) of [`SIDE`] x [`SIDE`].
pub const PLANES: usize = 3 * SIDE * SIDE;

/// The background of a picture whose caption names none.
pub const WHITE: [u8; 3] = [255, 255, 255];

/// Colours that captions may name as a background.
pub const PALETTE: [(&str, [u8; 3]); 16] = [
    ("white", WHITE),
    ("black", [0, 0, 0]),
    ("gray", [128, 128, 128]),
    ("red", [220, 40, 40]),
    ("orange", [250, 140, 30]),
    ("yellow", [252, 220, 50]),
    ("green", [50, 165, 75]),
    ("teal", [0, 140, 140]),
    ("blue", [45, 100, 220]),
    ("purple", [130, 65, 180]),
    ("pink", [250, 150, 190]),
    ("brown", [125, 80, 45]),
    ("light blue", [165, 210, 250]),
    ("light green", [175, 230, 175]),
    ("dark blue", [20, 35, 100]),
    ("beige", [240, 225, 195]),
];

/// Lays a straight-alpha picture on a plain colour.
///
/// `rgba` is a picture of a packed file, row by row; the result is planar, `-1` is black and `1` is full intensity.
///
/// # Panics
/// If `rgba` is not [`PICTURE_BYTES`] long.
pub fn composite(rgba: &[u8], background: [u8; 3]) -> [f32; PLANES] {
    let mut planes = [0.0; PLANES];
    composite_into(rgba, background, &mut planes);
    planes
}

/// As [`composite`], into a part of a batch.
///
/// # Panics
/// If `rgba` is not [`PICTURE_BYTES`] or `planes` not [`PLANES`] long.
pub fn composite_into(rgba: &[u8], background: [u8; 3], planes: &mut [f32]) {
    assert_eq!((rgba.len(), planes.len()), (PICTURE_BYTES, PLANES));
    for (channel, plane) in planes.chunks_exact_mut(SIDE * SIDE).enumerate() {
        let under = f32::from(background[channel]);
        for (value, pixel) in plane.iter_mut().zip(rgba.chunks_exact(4)) {
            let alpha = f32::from(pixel[3]) / 255.0;
            *value = (under + (f32::from(pixel[channel]) - under) * alpha) / 127.5 - 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_planar_and_mixed_by_alpha() {
        let mut rgba = vec![0; PICTURE_BYTES];
        rgba[..4].copy_from_slice(&[255, 0, 51, 255]);
        rgba[4..8].copy_from_slice(&[255, 0, 51, 51]);
        let planes = composite(&rgba, [0, 255, 255]);
        let pixel = |i: usize| [0, 1, 2].map(|c| planes[c * SIDE * SIDE + i]);
        assert_eq!(pixel(0), [1.0, -1.0, 51.0 / 127.5 - 1.0]);
        // 255 * 0.2; 255 * 0.8; 255 * 0.8 + 51 * 0.2
        for (found, wanted) in pixel(1).into_iter().zip([51.0, 204.0, 214.2]) {
            assert!((found - (wanted / 127.5 - 1.0)).abs() < 1e-6, "{found} {wanted}");
        }
        assert_eq!(pixel(2), [-1.0, 1.0, 1.0]);
    }

    #[test]
    #[should_panic(expected = "assertion `left == right` failed")]
    fn another_size_is_refused() {
        composite(&[0; 16], WHITE);
    }

    #[test]
    fn colours_of_the_palette_differ() {
        for (i, (name, colour)) in PALETTE.iter().enumerate() {
            assert!(PALETTE[..i].iter().all(|(n, c)| n != name && c != colour), "{name}");
        }
    }
}
