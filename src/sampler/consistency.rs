//! Consistency models in σ space.

use super::{Noise, SamplerError};

/// Multistep consistency sampling (Song et al. 2023, arXiv 2303.01469, algorithm 1): `x = f(x, σ₁)`, then for each further level
/// `x = f(x + √(σ² − σ_min²)·z, σ)`.
///
/// `x` holds noise of standard deviation `sigmas[0]` and gets the sample; `consistency(x, σ)` replaces `x` by the model's clean
/// sample for it; `noise_buffer` is scratch of the length of `x`. A level below `sigma_min` counts as `sigma_min`, as in
/// `scheduling_consistency_models.py`.
pub fn multistep_consistency(
    x: &mut [f32],
    sigmas: &[f32],
    sigma_min: f32,
    mut consistency: impl FnMut(&mut [f32], f32),
    noise: &mut impl Noise,
    noise_buffer: &mut [f32],
) -> Result<(), SamplerError> {
    let Some((&first, rest)) = sigmas.split_first() else { return Err(SamplerError::NoSteps) };
    if noise_buffer.len() != x.len() {
        let (expected, given) = (x.len(), noise_buffer.len());
        return Err(SamplerError::Length { what: "the noise buffer", expected, given });
    }
    consistency(x, first);
    for &sigma in rest {
        noise.fill(noise_buffer);
        let sigma = sigma.max(sigma_min);
        let added = libm::sqrtf((sigma * sigma - sigma_min * sigma_min).max(0.0));
        x.iter_mut().zip(noise_buffer.iter()).for_each(|(x, z)| *x += added * z);
        consistency(x, sigma);
    }
    Ok(())
}
