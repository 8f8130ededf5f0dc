//! Drawings to 64x64 pixels, straight alpha.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, anyhow, ensure};
use image::{ImageFormat, RgbaImage, imageops};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use super::pack::{PICTURE_BYTES, SIDE};

/// A drawing as its package has it.
pub enum Source {
    /// The text of an SVG file.
    Svg(String),
    /// The bytes of a WebP file with a drawing in its middle square, whose side is a multiple of [`SIDE`].
    WebP(Vec<u8>),
}

impl Source {
    /// [`PICTURE_BYTES`] bytes.
    ///
    /// # Errors
    /// If the drawing is broken, makes the renderer panic, or comes out fully transparent.
    pub fn render(&self) -> Result<Vec<u8>> {
        let picture = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Svg(text) => svg(text),
            Self::WebP(bytes) => webp(bytes),
        }));
        let picture = picture.map_err(|_| anyhow!("the renderer panicked"))??;
        ensure!(picture.chunks_exact(4).any(|pixel| pixel[3] > 0), "the picture is blank");
        Ok(picture)
    }
}

/// The drawing scaled to fit, and centred.
fn svg(text: &str) -> Result<Vec<u8>> {
    let tree = Tree::from_str(text, &Options::default())?;
    let side = SIDE as f32;
    let size = tree.size();
    let scale = side / size.width().max(size.height());
    let (left, top) = ((side - scale * size.width()) / 2.0, (side - scale * size.height()) / 2.0);
    let mut pixels = Pixmap::new(SIDE as u32, SIDE as u32).context("no room for a picture")?;
    resvg::render(&tree, Transform::from_scale(scale, scale).post_translate(left, top), &mut pixels.as_mut());
    Ok(pixels.take_demultiplied())
}

fn webp(bytes: &[u8]) -> Result<Vec<u8>> {
    let picture = image::ImageReader::with_format(Cursor::new(bytes), ImageFormat::WebP).decode()?.into_rgba8();
    let square = middle_square(&picture)?;
    let side = square.width() as usize;
    ensure!(side.is_multiple_of(SIDE) && side > 0, "it is {side} pixels wide: no multiple of {SIDE}");
    Ok(shrink(square.as_raw(), side / SIDE))
}

/// Cuts the longer side at both ends alike, as long as nothing but transparent pixels goes.
fn middle_square(picture: &RgbaImage) -> Result<RgbaImage> {
    let (width, height) = picture.dimensions();
    let side = width.min(height);
    let middle = imageops::crop_imm(picture, (width - side) / 2, (height - side) / 2, side, side).to_image();
    let visible = |picture: &RgbaImage| picture.pixels().filter(|pixel| pixel.0[3] > 0).count();
    ensure!(
        visible(picture) == visible(&middle),
        "it is {width}x{height} pixels, and more than its middle square is drawn on"
    );
    Ok(middle)
}

/// Averages squares of `factor` x `factor` pixels, colours in proportion to their alpha, so that what is hidden under a
/// transparent pixel does not bleed.
fn shrink(rgba: &[u8], factor: usize) -> Vec<u8> {
    let stride = SIDE * factor * 4;
    let mut out = Vec::with_capacity(PICTURE_BYTES);
    for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
        let corner = y * factor * stride + x * factor * 4;
        let pixels = (0..factor).flat_map(|row| {
            let start = corner + row * stride;
            rgba[start..start + factor * 4].chunks_exact(4)
        });
        out.extend(average(pixels, factor * factor));
    }
    out
}

fn average<'a>(pixels: impl Iterator<Item = &'a [u8]>, count: usize) -> [u8; 4] {
    let (mut colour, mut alpha) = ([0u64; 3], 0u64);
    for pixel in pixels {
        let a = u64::from(pixel[3]);
        alpha += a;
        for (sum, c) in colour.iter_mut().zip(pixel) {
            *sum += u64::from(*c) * a;
        }
    }
    if alpha == 0 {
        return [0; 4];
    }
    let count = count as u64;
    let [r, g, b] = colour.map(|sum| ((sum + alpha / 2) / alpha) as u8);
    [r, g, b, ((alpha + count / 2) / count) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(picture: &[u8], x: usize, y: usize) -> [u8; 4] {
        let at = (y * SIDE + x) * 4;
        picture[at..at + 4].try_into().unwrap()
    }

    fn square(view: &str, body: &str) -> Source {
        Source::Svg(format!(r#"<svg xmlns="http://www.w3.org/2000/svg" {view}>{body}</svg>"#))
    }

    #[test]
    fn svg_is_scaled_and_centred() {
        let wide = square(r#"width="32" height="16" viewBox="0 0 32 16""#, r#"<path fill="red" d="M0 0h32v16H0z"/>"#);
        let picture = wide.render().unwrap();
        assert_eq!(picture.len(), PICTURE_BYTES);
        assert_eq!(pixel(&picture, 0, 15), [0; 4]);
        assert_eq!(pixel(&picture, 0, 16), [255, 0, 0, 255]);
        assert_eq!(pixel(&picture, 63, 47), [255, 0, 0, 255]);
        assert_eq!(pixel(&picture, 63, 48), [0; 4]);
    }

    #[test]
    fn alpha_is_straight() {
        let half = square(r#"width="8" height="8""#, r##"<path fill="#c86432" fill-opacity=".5" d="M0 0h8v8H0z"/>"##);
        let [r, g, b, a] = pixel(&half.render().unwrap(), 9, 9);
        assert_eq!(a, 128);
        for (found, wanted) in [(r, 0xc8), (g, 0x64), (b, 0x32u8)] {
            assert!(found.abs_diff(wanted) <= 1, "{found} {wanted}");
        }
    }

    #[test]
    fn broken_and_blank_drawings_are_errors() {
        let message = |source: Source| format!("{:#}", source.render().unwrap_err());
        assert!(message(square(r#"width="8" height="8""#, "<g>")).contains("tag"), "not well-formed");
        assert_eq!(message(square(r#"width="8" height="8""#, "<g/>")), "the picture is blank");
        assert!(!message(Source::WebP(b"RIFF".to_vec())).is_empty());
    }

    #[test]
    fn hidden_colours_do_not_bleed() {
        let mut pixels = vec![0u8; SIDE * 2 * SIDE * 2 * 4];
        pixels[..4].copy_from_slice(&[200, 100, 50, 255]);
        pixels[4..8].copy_from_slice(&[0, 255, 0, 0]);
        let small = shrink(&pixels, 2);
        assert_eq!(small.len(), PICTURE_BYTES);
        assert_eq!(pixel(&small, 0, 0), [200, 100, 50, 64]);
        assert_eq!(pixel(&small, 1, 0), [0; 4]);
    }

    fn encoded(picture: &RgbaImage) -> Source {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::WebP).unwrap();
        Source::WebP(bytes.into_inner())
    }

    #[test]
    fn margins_of_a_webp_are_cut_to_a_square() {
        let (side, margin) = (SIDE as u32, 3);
        let paint = |x: u32, y: u32| image::Rgba([x as u8, y as u8, 7, if x < side / 2 { 255 } else { 0 }]);
        let square = RgbaImage::from_fn(side, side, paint);
        let mut tall = RgbaImage::new(side, side + 2 * margin);
        imageops::replace(&mut tall, &square, 0, i64::from(margin));
        let picture = encoded(&tall).render().unwrap();
        assert!(picture == encoded(&square).render().unwrap());
        assert_eq!(pixel(&picture, 5, 0), [5, 0, 7, 255]);
        tall.put_pixel(4, margin - 1, image::Rgba([0, 0, 0, 1]));
        let error = encoded(&tall).render().unwrap_err().to_string();
        assert_eq!(error, "it is 64x70 pixels, and more than its middle square is drawn on");
    }

    #[test]
    fn webp_of_an_odd_size_is_an_error() {
        let error = encoded(&RgbaImage::from_pixel(60, 60, image::Rgba([1, 2, 3, 255]))).render().unwrap_err();
        assert_eq!(error.to_string(), "it is 60 pixels wide: no multiple of 64");
    }
}
