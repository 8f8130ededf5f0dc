//! What is asked for: one picture.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::Prompt;
use crate::error::{Error, ErrorKind, Result};
use crate::sampler::{NoiseKind, SamplerKind};
use crate::value::Tensor;

/// Larger pictures are refused before anything is allocated for them.
const LARGEST_SIDE: usize = 8192;

/// Width and height in pixels, written `512x768`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "they are what they say")]
pub struct Size {
    pub width: usize,
    pub height: usize,
}

impl Size {
    /// # Errors
    /// `Invalid` for a side of 0 or above 8192.
    pub fn new(width: usize, height: usize) -> Result<Self> {
        let size = Self { width, height };
        match [width, height].iter().all(|side| (1..=LARGEST_SIDE).contains(side)) {
            true => Ok(size),
            false => Err(invalid(format!("a picture of {size} cannot be made; sides are 1 to {LARGEST_SIDE} pixels"))),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let sides = text.split_once(['x', 'X', '×']).and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        let (width, height) = sides.ok_or_else(|| invalid(format!("{text:?} is no size; write it like 512x512")))?;
        Self::new(width, height)
    }
}

/// One picture to be made. What is `None` is the model's choice: `undiffuse.json`, else by its scheduler.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the picture should show.
    pub prompt: Prompt,
    /// What it should not show; used where the guidance is above 1.
    pub negative: Option<Prompt>,
    /// Start of the random numbers.
    pub seed: u64,
    /// Whose random numbers.
    pub noise: NoiseKind,
    /// Denoising steps, 1 up to the training steps of the model.
    pub steps: Option<usize>,
    /// Classifier-free guidance scale, off at 1 and below; for models with a guidance embedding, what is embedded.
    pub guidance: Option<f64>,
    /// How to go from noise to picture.
    pub sampler: Option<SamplerKind>,
    /// Share of fresh noise a step, 0 to 1 (ddim, tcd).
    pub eta: Option<f64>,
    /// Size of the decoded picture.
    pub size: Option<Size>,
    /// Keep the decoded size where the model asks for another to be shown.
    pub native: bool,
    /// `(1, C, H, W)` of standard normal values instead of those of `seed`; scaled by the sampler's initial sigma.
    pub init_noise: Option<Tensor>,
    /// `(1, C, H, W)` of clean latents to start from, as [`Generated::latents`](super::Generated::latents): noised as far as
    /// `strength` says.
    pub init_latents: Option<Tensor>,
    /// How much of the run is left to do from `init_latents`: above 0, up to 1 for all of it.
    pub strength: f64,
}

impl Request {
    /// A request for `prompt` with seed 0 and everything else as the model has it.
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            negative: None,
            seed: 0,
            noise: NoiseKind::Torch,
            steps: None,
            guidance: None,
            sampler: None,
            eta: None,
            size: None,
            native: false,
            init_noise: None,
            init_latents: None,
            strength: 1.0,
        }
    }

    /// What can be said to be wrong without a model.
    ///
    /// # Errors
    /// `Invalid` for a guidance that is no number, a strength below 1 with nothing to start from; `NotFinite` for latents or noise
    /// with NaN or infinity.
    pub fn validate(&self) -> Result<()> {
        if self.guidance.is_some_and(|guidance| !guidance.is_finite()) {
            return Err(invalid("the guidance must be a number, 7.5 for instance"));
        }
        if self.strength < 1.0 && self.init_latents.is_none() {
            return Err(invalid("a strength below 1 needs init_latents to start from"));
        }
        self.init_noise.as_ref().map_or(Ok(()), |noise| noise.check_finite("the initial noise"))?;
        self.init_latents.as_ref().map_or(Ok(()), |latents| latents.check_finite("the initial latents"))
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        assert_eq!("64x32".parse::<Size>().unwrap(), Size { width: 64, height: 32 });
        assert_eq!(Size::new(64, 32).unwrap().to_string(), "64x32");
        for text in ["", "64", "64x", "x64", "-1x64", "64x64x64"] {
            let message = text.parse::<Size>().unwrap_err().to_string();
            assert_eq!(message, format!("{text:?} is no size; write it like 512x512"));
        }
        let large = "100000x8".parse::<Size>().unwrap_err().to_string();
        assert_eq!(large, "a picture of 100000x8 cannot be made; sides are 1 to 8192 pixels");
    }

    #[test]
    fn requests_that_no_model_could_fulfil() {
        let mut request = Request::new(Prompt::new("a").unwrap());
        assert!(request.validate().is_ok());
        request.strength = 0.5;
        assert_eq!(request.validate().unwrap_err().to_string(), "a strength below 1 needs init_latents to start from");
        request.init_latents = Some(Tensor::new(&[1, 1, 1, 1], vec![f32::INFINITY]).unwrap());
        assert_eq!(request.validate().unwrap_err().kind(), ErrorKind::NotFinite);
        request.guidance = Some(f64::NAN);
        assert!(request.validate().unwrap_err().to_string().starts_with("the guidance must be a number"));
    }
}
