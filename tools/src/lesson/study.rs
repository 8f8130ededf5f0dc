//! Everything that the lesson measures.

use super::density::Mixture;
use super::distance::{Judge, Quality};
use super::net::Learned;
use super::samples::{Denoiser, Exact, Moment, Walk, config, diffuse, score_error};
use crate::draws::{Draws, mix};
use crate::train::run::State;
use anyhow::{Context, Result};
use indicatif::{ParallelProgressIterator, ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::Serialize;
use std::path::Path;
use undiffuse::sampler::{Noise, SamplerKind, Schedule, TorchNoise};

/// The walks that the report shows in full.
pub const SHOWN: [Walk; 5] = [
    Walk::Table(SamplerKind::Ddpm, 1000),
    Walk::Langevin { levels: LEVELS, steps_per_level: STEPS_PER_LEVEL },
    Walk::Table(SamplerKind::DpmPp2m, 16),
    Walk::Table(SamplerKind::DpmPp2m, 8),
    Walk::Table(SamplerKind::DpmPp2m, 4),
];
/// Levels of annealed Langevin dynamics, and steps at each.
pub const LEVELS: usize = 10;
pub const STEPS_PER_LEVEL: usize = 100;
/// Steps of the other walks, for the curves of distance over steps.
const DDPM: [usize; 4] = [10, 30, 100, 300];
const LANGEVIN: [usize; 4] = [1, 3, 10, 30];
const DPM: [usize; 3] = [2, 32, 64];
const DDIM: [usize; 6] = [2, 4, 8, 16, 32, 64];

/// Timesteps at which the score's error is measured.
const TIMESTEPS: [usize; 12] = [1, 3, 10, 20, 50, 100, 200, 300, 400, 500, 700, 999];
/// Frames of a walk before its end, and pictures whose whole path is kept.
pub const FRAMES: usize = 5;
pub const PATHS: usize = 24;
/// True sets whose distances make the floor.
pub const FLOORS: usize = 24;

/// What is known before anything is learned.
pub struct World {
    pub mixture: Mixture,
    pub schedule: Schedule,
    pub seed: u64,
    /// True pictures and as much standard normal noise, flat `(N, 2)`.
    pub truth: Vec<f32>,
    pub noise: Vec<f32>,
    pub judge: Judge,
    /// Of true sets of the same size: mean and largest distance.
    pub floor: f64,
    pub floor_most: f64,
    /// Of the first true set, and of noise.
    pub true_quality: Quality,
    pub ceiling: Quality,
}

impl World {
    /// The lesson's, with sets of `count` pictures.
    pub fn new(count: usize, seed: u64) -> Result<Self> {
        let mixture = Mixture::camera();
        let set = |count: usize, name: &str| {
            let seed = mix(seed, name);
            let mut draws = Draws::new(seed);
            mixture.draw(count, || draws.unit(), &mut TorchNoise::new(seed))
        };
        let judge = Judge::new(&mixture, set(2 * count, "judge"));
        let truth = set(count, "truth 0");
        let others = (1..FLOORS).map(|i| set(count, &format!("truth {i}")));
        let floors: Vec<f64> = others.chain([truth.clone()]).map(|set| judge.quality(&set).distance).collect();
        let mut noise = vec![0.0; 2 * count];
        TorchNoise::new(mix(seed, "ball")).fill(&mut noise);
        Ok(Self {
            schedule: Schedule::new(&config(SamplerKind::Ddpm))?,
            seed,
            floor: floors.iter().sum::<f64>() / FLOORS as f64,
            floor_most: floors.iter().copied().fold(0.0, f64::max),
            true_quality: judge.quality(&truth),
            ceiling: judge.quality(&noise),
            mixture,
            truth,
            noise,
            judge,
        })
    }

    /// The denoiser that needs no learning.
    pub fn exact(&self) -> Exact<'_> {
        Exact { mixture: &self.mixture, schedule: &self.schedule }
    }

    /// Its distribution at timestep `t` of the forward process.
    pub fn at(&self, t: usize) -> Mixture {
        let alpha_bar = self.schedule.alpha_bar(t);
        self.mixture.diffused(alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())
    }

    /// The first pictures of `truth` at timestep `t`.
    pub fn diffused(&self, count: usize, t: usize) -> Vec<f32> {
        diffuse(&self.truth[..(2 * count).min(self.truth.len())], &self.schedule, t, self.seed)
    }
}

/// The pictures of a walk at one moment.
pub struct Frame {
    pub timestep: f32,
    pub pictures: Vec<f32>,
}

/// A walk that was taken with the learned network, and again with the exact score.
pub struct Trip {
    pub walk: Walk,
    pub learned: Quality,
    pub exact: Quality,
    pub samples: Vec<f32>,
    pub frames: Vec<Frame>,
    /// `paths[i]` is the way of picture i.
    pub paths: Vec<Vec<[f32; 2]>>,
}

/// A row of `log.csv`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Loss {
    pub step: f64,
    pub loss: f64,
    pub least: f64,
}

/// All results.
pub struct Study {
    pub learned: Learned,
    pub trips: Vec<Trip>,
    pub losses: Vec<Loss>,
    /// Timestep and relative error of the learned score.
    pub errors: Vec<(usize, f64)>,
}

impl Study {
    /// Samples with the averaged weights of `state`, whose training log lies in `run`.
    ///
    /// # Errors
    /// If a sampler refuses its settings, the log cannot be read, or the run was interrupted.
    pub fn new(world: &World, state: &State, run: &Path) -> Result<Self> {
        let learned = Learned(state.averaged());
        let pictures = &world.truth[..world.truth.len().min(4000)];
        let error =
            |t: &usize| (*t, score_error(&learned, &world.exact(), pictures, *t, mix(world.seed, "score error")));
        let errors = TIMESTEPS.iter().map(error).collect();
        // A set of weights each, so that walks can run side by side.
        let walks: Vec<(Walk, Learned)> = walks().into_iter().map(|w| (w, Learned(state.averaged()))).collect();
        let bar = ProgressBar::new(walks.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} samplers") {
            bar.set_style(style);
        }
        let taken = walks.into_par_iter().progress_with(bar).map(|(walk, learned)| take(world, walk, &learned));
        let trips = taken.collect::<Result<Vec<Trip>>>()?;
        Ok(Self { learned, trips, losses: losses(&run.join("log.csv"))?, errors })
    }

    /// The trip of `walk`, which must be one of those taken.
    pub fn trip(&self, walk: Walk) -> Option<&Trip> {
        self.trips.iter().find(|trip| trip.walk == walk)
    }

    /// Those that the report shows in full.
    pub fn shown(&self) -> impl Iterator<Item = &Trip> {
        SHOWN.iter().filter_map(|walk| self.trip(*walk))
    }

    /// Mean loss of the last steps, and the least that any guess could have had.
    pub fn last_loss(&self) -> (f64, f64) {
        let last = &self.losses[self.losses.len().saturating_sub(200)..];
        let mean = |of: fn(&Loss) -> f64| last.iter().map(of).sum::<f64>() / last.len().max(1) as f64;
        (mean(|l| l.loss), mean(|l| l.least))
    }
}

/// The shown walks, then the others, the long ones first.
fn walks() -> Vec<Walk> {
    let table = |kind, steps: &[usize]| steps.iter().map(|n| Walk::Table(kind, *n)).collect::<Vec<Walk>>();
    let langevin = LANGEVIN.iter().map(|n| Walk::Langevin { levels: LEVELS, steps_per_level: *n });
    let others = [(SamplerKind::Ddpm, &DDPM[..]), (SamplerKind::DpmPp2m, &DPM), (SamplerKind::Ddim, &DDIM)];
    let mut all = SHOWN.to_vec();
    all.extend(others.into_iter().flat_map(|(kind, steps)| table(kind, steps)).chain(langevin));
    all.sort_by_key(|walk| std::cmp::Reverse(walk.evaluations()));
    all
}

fn take(world: &World, walk: Walk, learned: &dyn Denoiser) -> Result<Trip> {
    let count = world.truth.len() / 2;
    let seed = mix(world.seed, "walks");
    let wanted = frame_times(walk);
    let (mut frames, mut paths) = (Vec::new(), vec![Vec::new(); PATHS.min(count)]);
    let step_of = |pictures: &[f32], paths: &mut Vec<Vec<[f32; 2]>>| {
        paths.iter_mut().zip(pictures.chunks_exact(2)).for_each(|(path, p)| path.push([p[0], p[1]]));
    };
    let mut watch = |moment: Moment, pictures: &[f32]| {
        if wanted.contains(&moment.done) {
            frames.push(Frame { timestep: moment.timestep, pictures: pictures.to_vec() });
        }
        step_of(pictures, &mut paths);
    };
    let samples = walk.run(learned, &world.schedule, count, seed, &mut watch)?;
    step_of(&samples, &mut paths);
    let exact = walk.run(&world.exact(), &world.schedule, count, seed, &mut |_, _| ())?;
    let [learned, exact] = [&samples, &exact].map(|set| world.judge.quality(set));
    Ok(Trip { walk, learned, exact, samples, frames, paths })
}

/// Evaluations before which a frame is kept: where the pictures change most.
fn frame_times(walk: Walk) -> [usize; FRAMES] {
    let parts = match walk {
        Walk::Table(SamplerKind::Ddpm, _) => [0.0, 0.5, 0.7, 0.85, 0.95],
        Walk::Table(..) => [0.0, 0.4, 0.5, 0.6, 0.7],
        Walk::Langevin { .. } => [0.0, 0.2, 0.4, 0.6, 0.8],
    };
    parts.map(|part| (part * walk.evaluations() as f64).round() as usize)
}

fn losses(path: &Path) -> Result<Vec<Loss>> {
    #[derive(serde::Deserialize)]
    struct Row {
        step: f64,
        loss: f64,
        least_loss: f64,
    }
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows =
        reader.deserialize::<Row>().map(|row| row.map(|r| Loss { step: r.step, loss: r.loss, least: r.least_loss }));
    rows.collect::<Result<_, _>>().with_context(|| format!("{}: not a log of the lesson", path.display()))
}
