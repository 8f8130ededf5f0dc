//! Noise to pictures, by the samplers of the runtime: the step tables of [`StepTable`] and [`annealed_langevin`].

use super::density::Mixture;
use super::distance::points;
use crate::draws::mix;
use crate::train::run::interrupted;
use anyhow::{Result, ensure};
use rayon::prelude::*;
use undiffuse::sampler::{
    Langevin, Noise, SamplerKind, SamplerOptions, Schedule, ScheduleConfig, SigmaCurve, Spacing, StepTable, TorchNoise,
    annealed_langevin, geometric_levels,
};

/// Something that guesses the noise in noisy pictures.
pub trait Denoiser {
    /// Writes the guess for `x = √ᾱ x0 + √(1 - ᾱ) eps`, flat `(B, 2)`, at a timestep of 0 to 999, fractions allowed.
    fn guess(&self, x: &[f32], timestep: f32, out: &mut [f32]);
}

/// The best possible denoiser: `eps = -√(1 - ᾱ) ∇ log p`, by formula.
pub struct Exact<'a> {
    pub mixture: &'a Mixture,
    pub schedule: &'a Schedule,
}

impl Denoiser for Exact<'_> {
    fn guess(&self, x: &[f32], timestep: f32, out: &mut [f32]) {
        let sigma = self.schedule.sigma_at(f64::from(timestep));
        let signal = 1.0 / 1f64.hypot(sigma);
        let mixture = self.mixture.diffused(signal, sigma * signal);
        x.par_chunks(256).zip(out.par_chunks_mut(256)).for_each(|(x, out)| {
            for (x, out) in points(x).zip(out.chunks_exact_mut(2)) {
                out.copy_from_slice(&mixture.score(x).map(|s| (-sigma * signal * s) as f32));
            }
        });
    }
}

/// The forward process of the lesson, that of Ho et al. 2020, and how `kind` walks it back.
pub fn config(kind: SamplerKind) -> ScheduleConfig {
    ScheduleConfig {
        spacing: Spacing::Trailing,
        // Few steps are spent best where log σ changes evenly.
        sigma_curve: if kind == SamplerKind::DpmPp2m { SigmaCurve::Lu } else { SigmaCurve::Training },
        clip_sample: false,
        ..ScheduleConfig::of_class(kind)
    }
}

/// A way from noise to pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Walk {
    /// A sampler of the runtime's step table, and its steps.
    Table(SamplerKind, usize),
    /// Annealed Langevin dynamics.
    Langevin { levels: usize, steps_per_level: usize },
}

/// Where a walk stands before an evaluation of the network.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Evaluations so far.
    pub done: usize,
    /// The timestep, fractions allowed, which the network is told.
    pub timestep: f32,
}

impl Walk {
    /// Evaluations of the network.
    pub fn evaluations(self) -> usize {
        match self {
            Walk::Table(_, steps) => steps,
            Walk::Langevin { levels, steps_per_level } => levels * steps_per_level,
        }
    }

    /// Its name in tables and titles.
    pub fn name(self) -> String {
        match self {
            Walk::Table(SamplerKind::Ddpm, steps) => format!("ancestral DDPM, {steps} steps"),
            Walk::Table(SamplerKind::DpmPp2m, steps) => format!("DPM-Solver++ 2M, {steps} steps"),
            Walk::Table(kind, steps) => format!("{kind}, {steps} steps"),
            Walk::Langevin { levels, steps_per_level } => format!("annealed Langevin, {levels} x {steps_per_level}"),
        }
    }

    /// Takes `count` pictures from noise to the end. `watch` sees them before every evaluation, as `√ᾱ x0 + √(1 - ᾱ) eps`.
    ///
    /// # Errors
    /// If the sampler refuses its settings, or the run was interrupted.
    pub fn run(
        self,
        denoiser: &dyn Denoiser,
        schedule: &Schedule,
        count: usize,
        seed: u64,
        watch: &mut dyn FnMut(Moment, &[f32]),
    ) -> Result<Vec<f32>> {
        match self {
            Walk::Table(kind, steps) => reverse(denoiser, &SamplerOptions::new(kind, steps), count, seed, watch),
            Walk::Langevin { levels, steps_per_level } => {
                let ladder = ladder(levels)?;
                langevin(denoiser, schedule, &ladder, steps_per_level, count, seed, watch)
            }
        }
    }
}

fn reverse(
    denoiser: &dyn Denoiser,
    options: &SamplerOptions,
    count: usize,
    seed: u64,
    watch: &mut dyn FnMut(Moment, &[f32]),
) -> Result<Vec<f32>> {
    let table: StepTable = StepTable::new(&config(options.kind), options)?;
    let mut noise = TorchNoise::new(mix(seed, "reverse"));
    let [mut x, mut z, mut input, mut output, mut x0] = [(); 5].map(|()| vec![0.0; 2 * count]);
    noise.fill(&mut x);
    table.scale_initial_noise(&mut x);
    for i in 0..table.steps() {
        ensure!(!interrupted(), "interrupted");
        let timestep = table.timestep(i)?;
        table.scale_input(i, &x, &mut input)?;
        watch(Moment { done: i, timestep }, &input);
        denoiser.guess(&input, timestep, &mut output);
        let drawn = table.needs_noise(i).then(|| noise.fill(&mut z)).map(|()| &z[..]);
        table.advance(i, &mut x, &output, drawn, &mut x0)?;
    }
    Ok(x)
}

/// Noise levels of annealed Langevin dynamics: about the width of the data down to less than its finest detail.
pub const HIGHEST: f64 = 2.0;
pub const LOWEST: f64 = 0.02;
/// Its step at noise level σ is this times σ² (Song & Ermon 2019, section 5: ε = 2e-5 at σ = 0.01).
pub const LANGEVIN_STEP: f64 = 0.2;

/// The ladder of noise levels, highest first.
fn ladder(levels: usize) -> Result<Vec<f32>> {
    let mut ladder = vec![0.0; levels];
    geometric_levels(HIGHEST, LOWEST, &mut ladder)?;
    Ok(ladder)
}

/// Annealed Langevin dynamics with the denoiser read as a score net, from noise as wide as the highest level.
///
/// Its authors add noise without fading the picture, `y = x0 + σ eps`. That is the same picture on another scale: with
/// `x = y / √(1 + σ²)` and the timestep whose noise is σ, `∇ log p_σ(y) = -eps(x, t) / σ`.
fn langevin(
    denoiser: &dyn Denoiser,
    schedule: &Schedule,
    levels: &[f32],
    steps_per_level: usize,
    count: usize,
    seed: u64,
    watch: &mut dyn FnMut(Moment, &[f32]),
) -> Result<Vec<f32>> {
    let mut noise = TorchNoise::new(mix(seed, "langevin"));
    let [mut y, mut x, mut score, mut z] = [(); 4].map(|()| vec![0.0; 2 * count]);
    noise.fill(&mut y);
    y.iter_mut().for_each(|v| *v *= HIGHEST as f32);
    let options = Langevin { step_size: (LANGEVIN_STEP * LOWEST * LOWEST) as f32, steps_per_level };
    let mut done = 0;
    let read_as_score = |y: &[f32], sigma: f32, out: &mut [f32]| {
        if interrupted() {
            return;
        }
        let scale = 1.0 / 1f32.hypot(sigma);
        x.iter_mut().zip(y).for_each(|(x, y)| *x = y * scale);
        let timestep = timestep_of(schedule, f64::from(sigma)) as f32;
        watch(Moment { done, timestep }, &x);
        denoiser.guess(&x, timestep, out);
        out.iter_mut().for_each(|eps| *eps /= -sigma);
        done += 1;
    };
    annealed_langevin(&mut y, levels, options, read_as_score, &mut noise, &mut score, &mut z)?;
    ensure!(!interrupted(), "interrupted");
    Ok(y)
}

/// The timestep, fractions allowed, at which noise is `sigma` times the signal.
fn timestep_of(schedule: &Schedule, sigma: f64) -> f64 {
    let (mut low, mut high) = (0.0, (schedule.len() - 1) as f64);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if schedule.sigma_at(middle) < sigma { low = middle } else { high = middle }
    }
    high
}

/// Pictures at timestep `t` of the forward process: `√ᾱ x0 + √(1 - ᾱ) eps`, for the same eps at every `t`.
pub fn diffuse(pictures: &[f32], schedule: &Schedule, t: usize, seed: u64) -> Vec<f32> {
    let mut noisy = vec![0.0; pictures.len()];
    TorchNoise::new(mix(seed, "forward")).fill(&mut noisy);
    let alpha_bar = schedule.alpha_bar(t);
    let (signal, deviation) = (alpha_bar.sqrt() as f32, (1.0 - alpha_bar).sqrt() as f32);
    noisy.iter_mut().zip(pictures).for_each(|(n, p)| *n = signal * p + deviation * *n);
    noisy
}

/// How wrong a denoiser's score is at timestep `t`, where noisy pictures are: root mean square of the error over that of the
/// exact score.
pub fn score_error(denoiser: &dyn Denoiser, exact: &Exact, pictures: &[f32], t: usize, seed: u64) -> f64 {
    let noisy = diffuse(pictures, exact.schedule, t, seed);
    let [mut guessed, mut wanted] = [(); 2].map(|()| vec![0.0; noisy.len()]);
    denoiser.guess(&noisy, t as f32, &mut guessed);
    exact.guess(&noisy, t as f32, &mut wanted);
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v * v)).sum::<f64>();
    let error = squares(&mut guessed.iter().zip(&wanted).map(|(g, w)| g - w));
    (error / squares(&mut wanted.iter().copied())).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;
    use crate::lesson::distance::Judge;

    fn draw(mixture: &Mixture, count: usize, seed: u64) -> Vec<f32> {
        let mut draws = Draws::new(seed);
        mixture.draw(count, || draws.unit(), &mut TorchNoise::new(mix(seed, "truth")))
    }

    /// The samplers alone, with the exact score: what they leave is their own error. Two true sets of this size are 0.03 apart,
    /// noise is 0.35 away.
    #[test]
    fn with_the_exact_score_every_sampler_finds_the_distribution() {
        let mixture = Mixture::camera();
        let schedule = Schedule::new(&config(SamplerKind::Ddpm)).unwrap();
        let exact = Exact { mixture: &mixture, schedule: &schedule };
        let count = 1000;
        let judge = Judge::new(&mixture, draw(&mixture, 4000, 1));
        let floor = (2..10).map(|seed| judge.quality(&draw(&mixture, count, seed)).distance).sum::<f64>() / 8.0;
        let walks = [
            Walk::Table(SamplerKind::Ddpm, 1000),
            Walk::Table(SamplerKind::Ddim, 100),
            Walk::Table(SamplerKind::DpmPp2m, 16),
            Walk::Langevin { levels: 10, steps_per_level: 100 },
        ];
        for walk in walks {
            let samples = walk.run(&exact, &schedule, count, 5, &mut |_, _| ()).unwrap();
            let distance = judge.quality(&samples).distance;
            println!("{}: {distance}, floor {floor}", walk.name());
            assert!(distance < 2.0 * floor, "{}: {distance}, floor {floor}", walk.name());
        }
    }

    #[test]
    fn timestep_of_inverts_the_schedule() {
        let schedule = Schedule::new(&config(SamplerKind::Ddpm)).unwrap();
        for sigma in [0.02, 0.5, 2.0, 100.0] {
            let found = schedule.sigma_at(timestep_of(&schedule, sigma));
            assert!((found / sigma - 1.0).abs() < 1e-9, "{sigma}: {found}");
        }
    }
}
