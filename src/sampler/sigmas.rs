//! Curves of noise levels, and the way back from a noise level to a timestep.

use super::spacing::linspace;
use super::{Schedule, SigmaCurve, TimeShift};

/// Karras et al. 2022, section 5: the exponent that shortens the steps near the end.
const RHO: f64 = 7.0;

/// Noise level `i` of `n`, descending from `max` to `min`, on a curve that does not depend on timesteps: Karras et al. 2022
/// (arXiv 2206.00364), equation 5 (`_convert_to_karras`), or equidistant in log σ (`_convert_to_exponential`,
/// `_convert_to_lu`).
pub(super) fn on_curve(curve: SigmaCurve, max: f64, min: f64, i: usize, n: usize) -> f64 {
    match curve {
        SigmaCurve::Karras => {
            let ramp = linspace(0.0, 1.0, i, n);
            let (low, high) = (libm::pow(min, 1.0 / RHO), libm::pow(max, 1.0 / RHO));
            libm::pow(high + ramp * (low - high), RHO)
        }
        // diffusers lays this one between the f32 logarithms of its table.
        SigmaCurve::Lu => libm::exp(linspace(log_f32(max), log_f32(min), i, n)),
        _ => libm::exp(linspace(libm::log(max), libm::log(min), i, n)),
    }
}

fn log_f32(sigma: f64) -> f64 {
    f64::from(libm::log(sigma) as f32)
}

/// The fractional timestep at which the training schedule has noise level `sigma`, by linear interpolation in log σ
/// (`_sigma_to_t` of `scheduling_euler_discrete.py`).
pub(super) fn sigma_to_t<const M: usize>(schedule: &Schedule<M>, sigma: f64) -> f64 {
    let log_sigma = libm::log(sigma.max(1e-10));
    let low = (first_above(schedule, log_sigma).max(1) - 1).min(schedule.len() - 2);
    let (log_low, log_high) = (table_log(schedule, low), table_log(schedule, low + 1));
    low as f64 + ((log_low - log_sigma) / (log_low - log_high)).clamp(0.0, 1.0)
}

/// log σ of a training timestep, rounded to f32 as in diffusers, which later cuts fractions off: 998.99999 is 998.
fn table_log<const M: usize>(schedule: &Schedule<M>, t: usize) -> f64 {
    log_f32(schedule.sigma(t))
}

/// The first timestep whose log σ exceeds `log_sigma`; it grows with the timestep.
fn first_above<const M: usize>(schedule: &Schedule<M>, log_sigma: f64) -> usize {
    let (mut low, mut high) = (0, schedule.len());
    while low < high {
        let middle = (low + high) / 2;
        if table_log(schedule, middle) <= log_sigma { low = middle + 1 } else { high = middle }
    }
    low
}

/// `shift·σ / (1 + (shift − 1)·σ)`: Esser et al. 2024 (arXiv 2403.03206), equation 23.
pub(super) fn shifted(shift: f64, sigma: f64) -> f64 {
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}

/// The resolution-dependent shift of `scheduling_flow_match_euler_discrete.py` (`time_shift`).
pub(super) fn time_shifted(kind: TimeShift, mu: f64, sigma: f64) -> f64 {
    let m = if kind == TimeShift::Exponential { libm::exp(mu) } else { mu };
    m / (m + (1.0 / sigma - 1.0))
}

/// μ for [`SamplerOptions::mu`](super::SamplerOptions::mu): linear in the number of image tokens through the points
/// (`base_seq_len`, `base_shift`) and (`max_seq_len`, `max_shift`) (`calculate_shift` in
/// `pipeline_stable_diffusion_3.py`).
pub fn dynamic_mu(image_seq_len: f64, base_seq_len: f64, max_seq_len: f64, base_shift: f64, max_shift: f64) -> f64 {
    let slope = (max_shift - base_shift) / (max_seq_len - base_seq_len);
    image_seq_len * slope + (base_shift - slope * base_seq_len)
}
