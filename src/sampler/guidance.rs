//! Steering the model towards the prompt.

use super::SamplerError;

/// Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598; `StableDiffusionPipeline`): `cond` becomes
/// `uncond + scale·(cond − uncond)`. Both are the model's outputs, of the same length, for the empty or negative prompt and for
/// the prompt.
pub fn guide(uncond: &[f32], cond: &mut [f32], scale: f32) -> Result<(), SamplerError> {
    if uncond.len() != cond.len() {
        return Err(SamplerError::Length {
            what: "the unconditional output",
            expected: cond.len(),
            given: uncond.len(),
        });
    }
    for (cond, uncond) in cond.iter_mut().zip(uncond) {
        *cond = uncond + scale * (*cond - uncond);
    }
    Ok(())
}

/// The guidance scale as an input of the model (`timestep_cond` of LCM): sines, then cosines, of `1000·(scale − 1)` at
/// `out.len() / 2` frequencies from 1 down to 1/10000 (`get_guidance_scale_embedding` of
/// `pipeline_latent_consistency_text2img.py`). An odd last value is 0. `out` has the length `time_cond_proj_dim` of the model's
/// configuration.
///
/// The frequencies and the arguments are f32 as there: at arguments in the thousands the rounding shows in the fourth digit.
pub fn guidance_embedding(scale: f32, out: &mut [f32]) {
    let half = out.len() / 2;
    let w = (scale - 1.0) * 1000.0;
    let rate = libm::logf(10000.0) / (half.max(2) - 1) as f32;
    for i in 0..half {
        let argument = f64::from(w * libm::expf(i as f32 * -rate));
        out[i] = libm::sin(argument) as f32;
        out[half + i] = libm::cos(argument) as f32;
    }
    out[2 * half..].fill(0.0);
}
