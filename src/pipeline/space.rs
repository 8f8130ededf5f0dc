//! The latent space of a model: shape, scale, and which pictures it stands for.

use super::request::{Size, invalid};
use crate::error::{Error, Result, fail};
use crate::model::{DecoderPorts, DenoiserPorts, Fields, Model, Port, Role, Stage};

/// Stable Diffusion's, where neither config nor graph says.
const CHANNELS: usize = 4;
const FACTOR: usize = 8;
const SIDE: usize = 64;
/// LCM_Dreamshaper_v7's.
const EMBEDDING: usize = 256;

/// What denoiser and decoder agree on. Lengths are in latents unless they say pixels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LatentSpace {
    pub channels: usize,
    /// Pixels a latent is wide and high.
    pub factor: usize,
    /// Height and width are multiples of this: the denoiser halves them again and again.
    pub multiple: usize,
    /// Height and width that the model was trained at.
    pub own: (usize, usize),
    /// Height and width, where the graphs take no others.
    pub fixed: (Option<usize>, Option<usize>),
    /// What is decoded is `latents / scaling + shift`.
    pub scaling: f64,
    pub shift: f64,
    /// Width of the guidance embedding that the denoiser takes.
    pub guidance_embedding: Option<usize>,
}

impl LatentSpace {
    /// Reads it from the configs, and from the latent inputs of the two graphs where those do not say.
    ///
    /// # Errors
    /// `Mismatch` when denoiser and decoder disagree about the channels.
    pub fn of(model: &Model, denoiser: &DenoiserPorts, decoder: &DecoderPorts) -> Result<Self> {
        let (unet, vae) = (model.stage(Role::Denoiser)?, model.stage(Role::Decoder)?);
        let fixed = |axis| denoiser.sample.fixed(axis).or(decoder.latents.fixed(axis));
        let fixed = (fixed(2), fixed(3));
        let own = unet.config.sample_size.unwrap_or((SIDE, SIDE));
        let embedding = denoiser
            .guidance
            .as_ref()
            .map(|port| port.fixed(1).or(unet.config.time_cond_proj_dim).unwrap_or(EMBEDDING));
        Ok(Self {
            channels: channels(unet, vae, &denoiser.sample, &decoder.latents)?,
            factor: vae.config.spatial_factor.or_else(|| ratio(&decoder.latents, &decoder.picture)).unwrap_or(FACTOR),
            multiple: multiple(unet)?,
            own: (fixed.0.unwrap_or(own.0), fixed.1.unwrap_or(own.1)),
            fixed,
            scaling: vae.config.scaling_factor.unwrap_or(1.0),
            shift: vae.config.shift_factor.unwrap_or(0.0),
            guidance_embedding: embedding,
        })
    }

    /// # Errors
    /// `Invalid` when the configs describe pictures beyond what is allowed.
    pub fn default_size(&self) -> Result<Size> {
        Size::new(self.own.1.saturating_mul(self.factor), self.own.0.saturating_mul(self.factor))
    }

    /// Shape of the latents of a decoded picture.
    ///
    /// # Errors
    /// `Invalid` for a size that the model cannot make; says which it can.
    pub fn latents_for(&self, size: Size) -> Result<[usize; 4]> {
        let (height, width) = (size.height / self.factor, size.width / self.factor);
        let possible = |side: usize, length: usize, fixed: Option<usize>| match fixed {
            Some(only) => length == only && side == only * self.factor,
            None => side.is_multiple_of(self.factor * self.multiple),
        };
        if possible(size.height, height, self.fixed.0) && possible(size.width, width, self.fixed.1) {
            return Ok([1, self.channels, height, width]);
        }
        Err(invalid(format!("the model cannot make a picture of {size}")).advise(self.advice(size)))
    }

    fn advice(&self, size: Size) -> String {
        if let (Some(height), Some(width)) = self.fixed {
            return format!("its graphs are fixed at {}x{}", width * self.factor, height * self.factor);
        }
        let step = self.factor * self.multiple;
        let near = |side: usize, fixed: Option<usize>| {
            fixed.map_or((side + step / 2) / step.max(1) * step, |n| n * self.factor).max(step)
        };
        let nearest = (near(size.width, self.fixed.1), near(size.height, self.fixed.0));
        format!("width and height must be multiples of {step}, {}x{} for instance", nearest.0, nearest.1)
    }
}

fn channels(unet: &Stage, vae: &Stage, denoiser: &Port, decoder: &Port) -> Result<usize> {
    let taken = denoiser.fixed(1).or(unet.config.latent_channels);
    let decoded = decoder.fixed(1).or(vae.config.latent_channels);
    match (taken, decoded) {
        (Some(taken), Some(decoded)) if taken != decoded => fail!(
            Mismatch,
            "the denoiser takes {taken} channels, the decoder {decoded}; only plain text-to-image models run"
        )
        .map_err(|error: Error| error.in_file(&unet.file)),
        (taken, decoded) => Ok(taken.or(decoded).unwrap_or(CHANNELS)),
    }
}

fn ratio(latents: &Port, picture: &Port) -> Option<usize> {
    let (small, large) = (latents.fixed(2)?, picture.fixed(2)?);
    (small > 0 && large.is_multiple_of(small)).then(|| large / small)
}

/// A diffusers UNet halves its input between its blocks, and an exported one cannot join the halves of odd lengths.
fn multiple(unet: &Stage) -> Result<usize> {
    let Some(folder) = unet.file.parent() else { return Ok(1) };
    let fields = Fields::read_optional(&folder.join("config.json"))?;
    let blocks = fields.sizes("block_out_channels")?.map_or(1, |list| list.len());
    match blocks {
        1..=8 => Ok(1 << (blocks - 1)),
        _ => fail!(Malformed, "{blocks} blocks; 1 to 8 make sense")
            .map_err(|error: Error| error.in_field("block_out_channels").in_file(fields.file())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn space(fixed: (Option<usize>, Option<usize>)) -> LatentSpace {
        LatentSpace {
            channels: 4,
            factor: 8,
            multiple: 4,
            own: (64, 96),
            fixed,
            scaling: 1.0,
            shift: 0.0,
            guidance_embedding: None,
        }
    }

    fn size(width: usize, height: usize) -> Size {
        Size { width, height }
    }

    #[test]
    fn sizes_that_can_be_made() {
        let free = space((None, None));
        assert_eq!(free.default_size().unwrap(), size(768, 512));
        assert_eq!(free.latents_for(size(64, 32)).unwrap(), [1, 4, 4, 8]);
        let fixed = space((Some(5), Some(6)));
        assert_eq!(fixed.latents_for(size(48, 40)).unwrap(), [1, 4, 5, 6]);
    }

    #[test]
    fn sizes_that_cannot_are_refused_with_those_that_can() {
        for (fixed, width, height, advice) in [
            ((None, None), 100, 64, "width and height must be multiples of 32, 96x64 for instance"),
            ((None, None), 4, 7, "width and height must be multiples of 32, 32x32 for instance"),
            ((Some(5), None), 32, 32, "width and height must be multiples of 32, 32x40 for instance"),
            ((Some(5), Some(6)), 40, 48, "its graphs are fixed at 48x40"),
            ((Some(5), Some(6)), 49, 40, "its graphs are fixed at 48x40"),
        ] {
            let error = space(fixed).latents_for(size(width, height)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(error.to_string(), format!("the model cannot make a picture of {width}x{height}; {advice}"));
        }
    }
}
