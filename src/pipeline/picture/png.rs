//! PNG with the settings that made it.

use std::fmt;

use png::{BitDepth, ColorType, Encoder};

use super::Picture;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::Size;

const KEYWORD: &str = "parameters";

/// What made a picture, displayed as stable-diffusion-webui writes it into its PNG files (`create_infotext` in
/// `modules/processing.py`): prompt, negative prompt, one line of settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    pub prompt: String,
    /// Left out where empty.
    pub negative: String,
    pub steps: usize,
    pub sampler: String,
    pub guidance: f64,
    pub seed: u64,
    /// As decoded.
    pub size: Size,
    pub model: String,
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.prompt)?;
        if !self.negative.is_empty() {
            writeln!(f, "Negative prompt: {}", self.negative)?;
        }
        write!(f, "Steps: {}, Sampler: {}, CFG scale: {}, ", self.steps, self.sampler, self.guidance)?;
        write!(f, "Seed: {}, Size: {}, Model: {}, ", self.seed, self.size, quoted(&self.model))?;
        write!(f, "Version: undiffuse {}", env!("CARGO_PKG_VERSION"))
    }
}

/// A value with a separator inside stands in quotes.
fn quoted(value: &str) -> String {
    if value.contains([',', ':', '\n']) { format!("{value:?}") } else { value.to_owned() }
}

pub(super) fn encode(picture: &Picture, parameters: &Parameters) -> Result<Vec<u8>> {
    write(picture, &parameters.to_string())
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot encode the PNG: {e}")).caused_by(e))
}

fn write(picture: &Picture, text: &str) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    match is_latin1(text) {
        true => encoder.add_text_chunk(KEYWORD.into(), text.into())?,
        false => encoder.add_itxt_chunk(KEYWORD.into(), text.into())?,
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.rgb())?;
    writer.finish()?;
    Ok(bytes)
}

/// `tEXt` is ISO 8859-1 by the standard, `iTXt` is UTF-8.
fn is_latin1(text: &str) -> bool {
    text.chars().all(|c| u32::from(c) < 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(prompt: &str) -> Parameters {
        Parameters {
            prompt: prompt.into(),
            negative: "blurry".into(),
            steps: 4,
            sampler: "euler".into(),
            guidance: 7.5,
            seed: 42,
            size: Size { width: 2, height: 1 },
            model: "tiny, one".into(),
        }
    }

    fn chunks(prompt: &str) -> (Vec<String>, Vec<String>) {
        let picture = Picture { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6] };
        let bytes = picture.to_png(&parameters(prompt)).unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let info = reader.info();
        let latin = info.uncompressed_latin1_text.iter().map(|c| c.text.clone()).collect();
        (latin, info.utf8_text.iter().map(|c| c.get_text().unwrap()).collect())
    }

    #[test]
    fn settings_stand_as_webui_writes_them() {
        let text = parameters("a cat").to_string();
        let expected = concat!(
            "a cat\nNegative prompt: blurry\nSteps: 4, Sampler: euler, CFG scale: 7.5, Seed: 42, Size: 2x1, ",
            "Model: \"tiny, one\", Version: undiffuse ",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn latin_text_goes_into_text_and_the_rest_into_itxt() {
        let (latin, utf8) = chunks("un café");
        assert!(latin[0].starts_with("un café\n") && utf8.is_empty());
        let (latin, utf8) = chunks("ein 🍎");
        assert!(latin.is_empty() && utf8[0].starts_with("ein 🍎\n"));
    }
}
