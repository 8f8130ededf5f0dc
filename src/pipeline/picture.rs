//! From the decoder's output to a PNG file.

mod file;
mod png;

use image::RgbImage;
use image::imageops::{self, FilterType};

pub use file::OutputFile;
pub use png::Parameters;

use super::Size;
use crate::error::{Result, fail};
use crate::value::Tensor;

/// A picture: rows from the top, pixels from the left, three bytes each (red, green, blue; sRGB).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// From `(1, 3, H, W)` with values in [-1, 1]; what lies outside is clamped, halves go to even.
    ///
    /// Source: diffusers, `image_processor.py`, `VaeImageProcessor.denormalize` and `numpy_to_pil`.
    ///
    /// # Errors
    /// `NotFinite` for NaN or infinity: there is no black picture. `Mismatch` for another shape.
    pub fn from_decoded(decoded: Tensor) -> Result<Self> {
        decoded.check_finite("the decoded picture")?;
        let &[1, 3, height, width] = decoded.shape() else {
            return fail!(
                Mismatch,
                "the decoder made {:?} where a picture (1, 3, height, width) was expected",
                decoded.shape()
            );
        };
        let planes = decoded.into_f32();
        let plane = height * width;
        let rgb = (0..plane).flat_map(|i| [0, 1, 2].map(|c| to_byte(planes[c * plane + i]))).collect();
        Ok(Self { width: width as u32, height: height as u32, rgb })
    }

    pub fn width(&self) -> u32 {
        self.width
    }

    pub fn height(&self) -> u32 {
        self.height
    }

    /// `3 * width * height` bytes.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The same picture at another size, by Catmull-Rom (bicubic, B = 0, C = 1/2) interpolation.
    ///
    /// # Errors
    /// Those of [`Size::new`].
    pub fn resampled(&self, size: Size) -> Result<Self> {
        let Size { width, height } = Size::new(size.width, size.height)?;
        if (width, height) == (self.width as usize, self.height as usize) {
            return Ok(self.clone());
        }
        let Some(image) = RgbImage::from_raw(self.width, self.height, self.rgb.clone()) else {
            return fail!(Mismatch, "{} bytes are no picture of {}x{}", self.rgb.len(), self.width, self.height);
        };
        // At most 8192.
        let (width, height) = (width as u32, height as u32);
        let rgb = imageops::resize(&image, width, height, FilterType::CatmullRom).into_raw();
        Ok(Self { width, height, rgb })
    }

    /// A PNG file in memory, with `parameters` as a text chunk.
    ///
    /// # Errors
    /// `Io` when the encoder fails.
    pub fn to_png(&self, parameters: &Parameters) -> Result<Vec<u8>> {
        png::encode(self, parameters)
    }
}

fn to_byte(value: f32) -> u8 {
    ((value * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn decoded(values: [f32; 6]) -> Tensor {
        Tensor::new(&[1, 3, 1, 2], values.to_vec()).unwrap()
    }

    #[test]
    fn planes_become_pixels() {
        let picture = Picture::from_decoded(decoded([-1.0, 1.0, 0.0, -2.0, 2.0, 0.5])).unwrap();
        assert_eq!((picture.width(), picture.height()), (2, 1));
        assert_eq!(picture.rgb(), [0, 128, 255, 255, 0, 191]);
    }

    #[test]
    fn not_a_number_is_no_black_picture() {
        let error = Picture::from_decoded(decoded([0.0, f32::NAN, 0.0, 0.0, 0.0, 0.0])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFinite);
    }

    #[test]
    fn resampling_keeps_a_flat_colour() {
        let flat = Picture { width: 3, height: 2, rgb: [10, 20, 30].repeat(6) };
        let large = flat.resampled(Size { width: 12, height: 8 }).unwrap();
        assert_eq!(large.rgb(), [10, 20, 30].repeat(96));
        assert!(flat.resampled(Size { width: 0, height: 8 }).is_err());
    }
}
