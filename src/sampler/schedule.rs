use heapless::Vec;

use super::{BetaSchedule, SamplerError, ScheduleConfig};

/// ᾱ of the last timestep in σ space under zero terminal SNR: 2⁻²⁴, so that σ is 4096 and not infinite
/// (`scheduling_euler_discrete.py`, `scheduling_dpmsolver_multistep.py`).
const SMALLEST_SIGNAL: f64 = 1.0 / 16_777_216.0;

/// The training schedule: ᾱ (`alphas_cumprod`), the share of signal left in a sample at each training timestep, in
/// `x_t = √ᾱ·x0 + √(1 − ᾱ)·eps`.
///
/// Holds at most `N` timesteps, without a heap. β and ᾱ are rounded to f32 where diffusers rounds them, because models were
/// trained on the rounded values; everything after is f64.
#[derive(Clone, Debug)]
pub struct Schedule<const N: usize = 1000> {
    alphas_cumprod: Vec<f64, N>,
    zero_snr: bool,
}

impl<const N: usize> Schedule<N> {
    /// The schedule that `config` describes (`__init__` of diffusers' schedulers).
    pub fn new(config: &ScheduleConfig) -> Result<Self, SamplerError> {
        check(config)?;
        let needed = config.num_train_timesteps;
        if needed > N {
            return Err(SamplerError::Capacity { what: "training timesteps", needed, capacity: N });
        }
        let mut alphas = Vec::<f32, N>::new();
        for i in 0..needed {
            // Cannot fail: `needed <= N`.
            let _ = alphas.push(1.0 - beta(config, i));
        }
        if config.rescale_betas_zero_snr {
            rescale_zero_terminal_snr(&mut alphas);
        }
        let alphas_cumprod = cumprod(&alphas).map(f64::from).collect();
        Ok(Schedule { alphas_cumprod, zero_snr: config.rescale_betas_zero_snr })
    }

    /// T, the number of training timesteps.
    pub fn len(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// Whether there is no timestep; never true of a schedule that [`Schedule::new`] made.
    pub fn is_empty(&self) -> bool {
        self.alphas_cumprod.is_empty()
    }

    /// ᾱ of every training timestep; the last is 0 under zero terminal SNR.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// ᾱ of timestep `t`, or of the last timestep if `t` is beyond it.
    pub fn alpha_bar(&self, t: usize) -> f64 {
        let last = self.len() - 1;
        self.alphas_cumprod[t.min(last)]
    }

    /// σ = √((1 − ᾱ)/ᾱ) of timestep `t`, finite also under zero terminal SNR.
    pub fn sigma(&self, t: usize) -> f64 {
        let mut alpha_bar = self.alpha_bar(t);
        if self.zero_snr && t + 1 >= self.len() {
            alpha_bar = SMALLEST_SIGNAL;
        }
        libm::sqrt((1.0 - alpha_bar) / alpha_bar)
    }

    /// σ at a fractional timestep, linear between neighbours and constant beyond the ends (`np.interp`).
    pub fn sigma_at(&self, t: f64) -> f64 {
        let last = self.len() - 1;
        let low = (libm::floor(t).max(0.0) as usize).min(last);
        let high = (low + 1).min(last);
        let w = (t - low as f64).clamp(0.0, 1.0);
        let (a, b) = (self.sigma(low), self.sigma(high));
        a + w * (b - a)
    }
}

fn check(config: &ScheduleConfig) -> Result<(), SamplerError> {
    if config.trained_betas {
        return Err(SamplerError::Unsupported {
            key: "trained_betas",
            instead: "describe the schedule by beta_schedule, beta_start and beta_end",
        });
    }
    in_range("num_train_timesteps", config.num_train_timesteps as f64, 2.0, f64::MAX, "at least 2")?;
    if config.beta_schedule != BetaSchedule::SquaredCosine {
        in_range("beta_start", config.beta_start, f64::MIN_POSITIVE, 0.9999, "above 0 and below 1")?;
        in_range("beta_end", config.beta_end, config.beta_start, 0.9999, "at least beta_start and below 1")?;
    }
    Ok(())
}

/// An error naming `key` unless `low <= given <= high`; not-a-number is out of every range.
pub(super) fn in_range(
    key: &'static str,
    given: f64,
    low: f64,
    high: f64,
    allowed: &'static str,
) -> Result<(), SamplerError> {
    if given >= low && given <= high { Ok(()) } else { Err(SamplerError::OutOfRange { key, allowed, given }) }
}

fn beta(config: &ScheduleConfig, i: usize) -> f32 {
    let n = config.num_train_timesteps;
    match config.beta_schedule {
        BetaSchedule::Linear => linspace(config.beta_start as f32, config.beta_end as f32, i, n),
        BetaSchedule::ScaledLinear => {
            let root = linspace(libm::sqrt(config.beta_start) as f32, libm::sqrt(config.beta_end) as f32, i, n);
            root * root
        }
        BetaSchedule::SquaredCosine => {
            let (t1, t2) = (i as f64 / n as f64, (i + 1) as f64 / n as f64);
            (1.0 - cosine_alpha_bar(t2) / cosine_alpha_bar(t1)).min(0.999) as f32
        }
    }
}

/// Element `i` of `torch.linspace(start, end, n)` in f32, which counts from the nearer end.
fn linspace(start: f32, end: f32, i: usize, n: usize) -> f32 {
    let step = (end - start) / (n - 1) as f32;
    if i < n / 2 { start + step * i as f32 } else { end - step * (n - 1 - i) as f32 }
}

fn cosine_alpha_bar(t: f64) -> f64 {
    let c = libm::cos((t + 0.008) / 1.008 * core::f64::consts::PI / 2.0);
    c * c
}

/// `torch.cumprod` of f32 on the CPU: products in f64, each rounded to f32.
fn cumprod(alphas: &[f32]) -> impl Iterator<Item = f32> + '_ {
    alphas.iter().scan(1.0f64, |product, &alpha| {
        *product *= f64::from(alpha);
        Some(*product as f32)
    })
}

/// Lin et al. 2023 (arXiv 2305.08891), algorithm 1, with the roundings of `rescale_zero_terminal_snr` in
/// `scheduling_ddim.py`. `alphas` are 1 − β before and after.
fn rescale_zero_terminal_snr<const N: usize>(alphas: &mut Vec<f32, N>) {
    let mut root: Vec<f32, N> = cumprod(alphas).map(libm::sqrtf).collect();
    let (Some(&first), Some(&last)) = (root.first(), root.last()) else { return };
    let scale = first / (first - last);
    for r in root.iter_mut() {
        *r = (*r - last) * scale;
    }
    let mut previous = 1.0f32;
    for (alpha, r) in alphas.iter_mut().zip(&root) {
        let bar = r * r;
        let beta = 1.0 - bar / previous;
        *alpha = 1.0 - beta;
        previous = bar;
    }
}
