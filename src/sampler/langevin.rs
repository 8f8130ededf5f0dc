//! Annealed Langevin dynamics on a score model.

use super::schedule::in_range;
use super::{Noise, SamplerError};

/// The two numbers of annealed Langevin dynamics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Langevin {
    /// ε, the step size at the lowest noise level.
    pub step_size: f32,
    /// T, the steps at each level.
    pub steps_per_level: usize,
}

/// Fills `out` with noise levels from `highest` down to `lowest`, each the same fraction of the one before (Song & Ermon 2019,
/// arXiv 1907.05600, section 3.2).
pub fn geometric_levels(highest: f64, lowest: f64, out: &mut [f32]) -> Result<(), SamplerError> {
    in_range("the lowest noise level", lowest, f64::MIN_POSITIVE, f64::MAX, "above 0")?;
    in_range("the highest noise level", highest, lowest, f64::MAX, "at least the lowest")?;
    let last = out.len().max(2) - 1;
    for (i, level) in out.iter_mut().enumerate() {
        *level = (highest * libm::pow(lowest / highest, i as f64 / last as f64)) as f32;
    }
    Ok(())
}

/// Annealed Langevin dynamics (Song & Ermon 2019, algorithm 1): at every noise level σ, highest first,
/// `x += α/2·score(x, σ) + √α·z` with `α = ε·σ²/σ_L²`.
///
/// `x` holds the start and gets the sample; `score(x, σ, out)` writes ∇ log p_σ(x) into `out`; `score_buffer` and `noise_buffer`
/// are scratch of the length of `x`. `levels` are descending and above 0.
pub fn annealed_langevin(
    x: &mut [f32],
    levels: &[f32],
    options: Langevin,
    mut score: impl FnMut(&[f32], f32, &mut [f32]),
    noise: &mut impl Noise,
    score_buffer: &mut [f32],
    noise_buffer: &mut [f32],
) -> Result<(), SamplerError> {
    for (what, given) in [("the score buffer", score_buffer.len()), ("the noise buffer", noise_buffer.len())] {
        if given != x.len() {
            return Err(SamplerError::Length { what, expected: x.len(), given });
        }
    }
    let Some(&lowest) = levels.last() else { return Err(SamplerError::NoSteps) };
    in_range("the lowest noise level", f64::from(lowest), f64::MIN_POSITIVE, f64::MAX, "above 0")?;
    for &level in levels {
        let ratio = level / lowest;
        let alpha = options.step_size * ratio * ratio;
        let root = libm::sqrtf(alpha);
        for _ in 0..options.steps_per_level {
            score(x, level, score_buffer);
            noise.fill(noise_buffer);
            for ((x, score), z) in x.iter_mut().zip(score_buffer.iter()).zip(noise_buffer.iter()) {
                *x += 0.5 * alpha * score + root * z;
            }
        }
    }
    Ok(())
}
