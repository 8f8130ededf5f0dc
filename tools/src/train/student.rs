//! `train student`: a denoiser that needs one to four steps and no guidance, from a teacher that needs many and guidance.
//!
//! The teacher's guided flow (Ho & Salimans 2022) is solved from noise to a clean sample, and the student learns to say that sample
//! from every point of the way: trajectories are straightened as in rectified flow's second round (Liu et al. 2022, "reflow"),
//! but every point on them is learned from, not the chord alone, as in consistency models (Song et al. 2023, definition 1), and the
//! target is the solved end, not the student's own guess. Points that the student meets between its steps are made too: a solved sample
//! is noised again and solved from there.

use super::course::Course;
use super::denoiser::{describe, fresh};
use super::examples::{Examples, Sourced};
use super::progress::Report;
use super::run::{Options, Precision, Task, no_grad, train as train_loop};
use super::sampling::{Sampling, sampled};
use super::sheet;
use crate::draws::{Draws, mix};
use crate::evaluate::prompts::PROMPTS;
use crate::net::denoiser::{Denoiser, SHIFT, few_steps};
use crate::net::params::{Params, read_trained};
use crate::net::torch::Torch;
use crate::record::records;
use crate::trained::{self, DENOISER};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Options of `train student`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    sourced: Sourced,
    /// The denoiser to learn from: a run of `train denoiser`, or an exported model directory. The student starts as its copy.
    #[arg(long)]
    teacher: PathBuf,
    #[command(flatten)]
    distilled: Distilled,
    #[command(flatten)]
    options: Options,
}

/// How the teacher is asked; written down beside the student's weights.
#[derive(clap::Args, Clone, Debug, Serialize)]
struct Distilled {
    /// Guidance of the teacher, which the student takes into its weights.
    #[arg(long, default_value_t = 2.5)]
    guidance: f64,
    /// Steps that the teacher takes from noise to a picture.
    #[arg(long, default_value_t = 10)]
    solver_steps: usize,
    /// Points of a trajectory that are learned from, its beginning among them.
    #[arg(long, default_value_t = 4)]
    points: usize,
}

impl Args {
    pub(super) fn course(&self) -> Course {
        let mut settings = self.sourced.settings();
        if let (Some(all), Ok(serde_json::Value::Object(own))) =
            (settings.as_object_mut(), serde_json::to_value(&self.distilled))
        {
            all.extend(own);
        }
        Course {
            stage: "train student",
            options: self.options.clone(),
            data: self.sourced.data.clone(),
            from: Some((self.teacher.clone(), &DENOISER, &records::DENOISER)),
            with: self.sourced.nets(),
            settings,
        }
    }
}

/// Runs `train student`.
pub fn train(args: Args) -> Result<()> {
    let device = args.options.device()?;
    let asked = &args.distilled;
    ensure!(asked.solver_steps >= 2, "--solver-steps must be at least 2");
    ensure!((2..=asked.solver_steps).contains(&asked.points), "--points must be from 2 to --solver-steps");
    ensure!(args.options.batch > asked.points, "--batch must be above --points");
    ensure!(
        !trained::is_student(&args.teacher)?,
        "{}: is a student itself, which guidance would spoil: give a denoiser of `train denoiser`",
        args.teacher.display()
    );
    let net = Denoiser::default();
    let out = &args.options.out;
    std::fs::create_dir_all(out)?;
    let examples = Examples::of_prompts(&args.sourced, args.options.seed, device)?;
    describe(&net, &examples.coder.scale, out)?;
    std::fs::write(out.join(trained::STUDENT_FILE), serde_json::to_string_pretty(asked)?)?;
    let weights = read_trained(&args.teacher, &DENOISER)?;
    let mut state = fresh(&net, args.options.seed, device, args.options.precision)?;
    state.start_from(&weights).with_context(|| format!("{}", args.teacher.display()))?;
    let kind = if args.options.precision == Precision::Bf16 { Kind::BFloat16 } else { Kind::Float };
    let weights = weights.into_iter().map(|(name, t)| (name, t.to_kind(kind))).collect();
    let teacher = Teacher { net: net.clone(), params: Params::frozen(weights, device), guidance: asked.guidance };
    let (batch, seed) = (args.options.batch, args.options.seed);
    let mut task = Distil { net, teacher, examples, asked: asked.clone(), batch, seed, group: None, device };
    train_loop(&args.options, &mut state, &mut task)
}

/// Steps whose trajectories are solved together: the teacher's passes are better the larger they are.
const TOGETHER: u64 = 4;

struct Teacher {
    net: Denoiser,
    params: Params,
    guidance: f64,
}

/// A solved trajectory: the points `(time, x)` on it, and where it ends.
struct Solved {
    points: Vec<(f64, Tensor)>,
    end: Tensor,
}

impl Teacher {
    /// The guided flow at `x` `(B, 4, 16, 16)`; `both` are the token states of B empty prompts, then those of the prompts.
    fn flow(&self, x: &Tensor, time: f64, both: &Tensor) -> Tensor {
        let twice = Tensor::cat(&[x, x], 0);
        let t = Tensor::full([twice.size()[0]], 1000.0 * time, (Kind::Float, x.device()));
        let flow = self.net.forward(&Torch(&self.params), &twice, &t, both).to_kind(Kind::Float);
        let parts = flow.chunk(2, 0);
        &parts[0] + (&parts[1] - &parts[0]) * self.guidance
    }
}

/// From `x` at the first of `times` down to a clean sample at 0 along `flow`, by the two-step method of Adams and Bashforth.
fn solve(x: &Tensor, times: &[f64], flow: impl Fn(&Tensor, f64) -> Tensor) -> Solved {
    let _guard = tch::no_grad_guard();
    let mut x = x.shallow_clone();
    let mut points = Vec::with_capacity(times.len());
    let mut before: Option<(Tensor, f64)> = None;
    for (i, time) in times.iter().enumerate() {
        points.push((*time, x.shallow_clone()));
        let flow = flow(&x, *time);
        let step = times.get(i + 1).copied().unwrap_or(0.0) - time;
        let slope = match &before {
            None => flow.shallow_clone(),
            Some((last, width)) => &flow + (&flow - last) * (0.5 * step / width),
        };
        x = &x + slope * step;
        before = Some((flow, step));
    }
    Solved { points, end: x }
}

/// What several steps in a row learn from: trajectories that were solved together, a share of them for each step.
struct Group {
    number: u64,
    steps: Vec<Lesson>,
}

/// What one step learns: points `(time, x, end)`, all of the same prompts, whose token states are `states`.
struct Lesson {
    points: Vec<(f64, Tensor, Tensor)>,
    states: Tensor,
}

struct Distil {
    net: Denoiser,
    teacher: Teacher,
    examples: Examples,
    asked: Distilled,
    batch: usize,
    seed: u64,
    group: Option<Group>,
    device: Device,
}

impl Distil {
    /// The lesson of `step`; its group is solved if it is not the last one. A group is drawn from its number alone, so that a resumed
    /// run meets the same ones.
    fn lesson(&mut self, step: u64) -> Lesson {
        let (number, at) = (step / TOGETHER, (step % TOGETHER) as usize);
        let group = match self.group.take() {
            Some(group) if group.number == number => group,
            _ => Group { number, steps: self.solve(number) },
        };
        let lesson = group.steps[at].shallow_clone();
        self.group = Some(group);
        lesson
    }

    fn solve(&self, number: u64) -> Vec<Lesson> {
        let seed = mix(self.seed, &format!("group {number}"));
        tch::manual_seed(seed as i64);
        let draws = &mut Draws::new(seed);
        // Of every trajectory one more point is learned, which is met between steps.
        let each = (self.batch / (self.asked.points + 1)).max(1);
        let count = each as i64 * TOGETHER as i64;
        let (with, without) = self.examples.prompts(count as usize, draws);
        let both = Tensor::cat(&[&without, &with], 0);
        let noise =
            || Tensor::randn([count, self.net.latent, self.net.size, self.net.size], (Kind::Float, self.device));
        // A first step much shorter than the next would magnify its rounding in the two-step method.
        let times = times(self.asked.solver_steps, 0.7 * draws.unit());
        let flow = |x: &Tensor, time: f64| self.teacher.flow(x, time, &both);
        let solved = solve(&noise(), &times, flow);
        let from = 1 + draws.below(times.len() - 1);
        let again = &solved.end * (1.0 - times[from]) + noise() * times[from];
        let end = solve(&again, &times[from..], flow).end;
        let between = (times[from], again, end);
        (0..TOGETHER as i64)
            .map(|i| {
                let part = |t: &Tensor| t.narrow(0, i * each as i64, each as i64);
                let on_the_way = |(time, x): &(f64, Tensor)| (*time, part(x), part(&solved.end));
                let mut points: Vec<_> =
                    learned(self.asked.points, times.len(), draws).map(|i| on_the_way(&solved.points[i])).collect();
                points.push((between.0, part(&between.1), part(&between.2)));
                Lesson { points, states: part(&with) }
            })
            .collect()
    }

    /// Squared distance, a number a sample, of what the network says at the points of a lesson from their ends; and the times.
    fn distance(&self, params: &Params, lesson: &Lesson) -> (Tensor, Tensor) {
        let points = &lesson.points;
        let count = points[0].1.size()[0];
        let column = |time: f64| Tensor::full([count], time, (Kind::Float, self.device));
        let t = Tensor::cat(&points.iter().map(|p| column(p.0)).collect::<Vec<_>>(), 0);
        let x = Tensor::cat(&points.iter().map(|p| &p.1).collect::<Vec<_>>(), 0);
        let end = Tensor::cat(&points.iter().map(|p| &p.2).collect::<Vec<_>>(), 0);
        let states = lesson.states.repeat([points.len() as i64, 1, 1]);
        let flow = self.net.forward(&Torch(params), &x, &(&t * 1000.0), &states);
        let said = &x - flow * t.reshape([-1, 1, 1, 1]);
        ((said - end).square().mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float), t)
    }
}

impl Lesson {
    fn shallow_clone(&self) -> Self {
        let points = self.points.iter().map(|(t, x, end)| (*t, x.shallow_clone(), end.shallow_clone())).collect();
        Self { points, states: self.states.shallow_clone() }
    }
}

/// `points` different ones of `0..of`, the first among them always.
fn learned(points: usize, of: usize, draws: &mut Draws) -> impl Iterator<Item = usize> {
    let mut chosen = vec![0];
    while chosen.len() < points.min(of) {
        let i = 1 + draws.below(of - 1);
        if !chosen.contains(&i) {
            chosen.push(i);
        }
    }
    chosen.into_iter()
}

/// From 1 down, even on the shifted grid; `jitter` in [0, 1) moves all but the first.
fn times(steps: usize, jitter: f64) -> Vec<f64> {
    let even = |i: usize| if i == 0 { 1.0 } else { 1.0 - (i as f64 - jitter) / steps as f64 };
    (0..=steps).map(even).filter(|t| *t > 1e-3).map(|t| SHIFT * t / (1.0 + (SHIFT - 1.0) * t)).collect()
}

impl Task for Distil {
    fn figures(&self) -> &'static [&'static str] {
        &["one_step"]
    }

    fn loss(&mut self, params: &Params, step: u64, _: &mut Draws) -> Result<(Tensor, Vec<Tensor>)> {
        let lesson = self.lesson(step);
        let (squared, t) = self.distance(params, &lesson);
        let one_step = squared.narrow(0, 0, lesson.states.size()[0]).mean(Kind::Float).detach();
        // Late errors are small, and are what is seen.
        Ok(((squared / t.clamp_min(0.1)).mean(Kind::Float), vec![one_step]))
    }

    fn report(&mut self, averaged: &Params, step: u64, folder: &Path) -> Result<Report> {
        for steps in [4, 2, 1] {
            let sampling = Sampling { schedule: few_steps(), steps, guidance: 1.0 };
            let latents = sampled(&sampling, &self.net, averaged, &self.examples, &PROMPTS)?;
            let path = folder.join(format!("sheets/{step:06}-{steps}.png"));
            sheet::write(&path, &self.examples.coder.decode(&latents), 8, 2)?;
        }
        // A group that is not learned from.
        let lesson = no_grad(|| self.solve(u64::MAX)).swap_remove(0);
        let (squared, _) = no_grad(|| self.distance(averaged, &lesson));
        let apart = squared.narrow(0, 0, lesson.states.size()[0]).mean(Kind::Float).double_value(&[]);
        let line = format!("from noise in one step {apart:.4} from the teacher's end, sheets in {}", folder.display());
        Ok(Report { line, figures: vec![("one_step_error", apart)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x' = t has x(0) = x(1) - 1/2; x' = x has x(0) = x(1) / e. The method is of the second order: half the steps, four times the error.
    #[test]
    fn trajectories_end_where_they_should() {
        let start = Tensor::from_slice(&[1.0f64, -2.0]);
        let ends = |steps: usize, flow: fn(&Tensor, f64) -> Tensor| {
            let times: Vec<f64> = (0..steps).map(|i| 1.0 - i as f64 / steps as f64).collect();
            let solved = solve(&start, &times, flow);
            assert_eq!((solved.points.len(), solved.points[0].0), (steps, 1.0));
            assert!(solved.points[0].1.equal(&start));
            Vec::<f64>::try_from(solved.end).unwrap()
        };
        let error = |steps| (ends(steps, |x, _| x.shallow_clone())[1] + 2.0 / std::f64::consts::E).abs();
        assert!(error(80) < 1e-3 && (3.0..5.0).contains(&(error(40) / error(80))), "{} {}", error(40), error(80));
        // Only its first step, of Euler's, is inexact in a slope that is linear in time: by half of its square.
        let linear = ends(10, |x, t| x.ones_like() * t);
        assert!((linear[0] - (1.0 - 0.5 - 0.005)).abs() < 1e-9, "{linear:?}");
    }

    #[test]
    fn learned_points_differ_and_hold_the_first() {
        for seed in 0..50 {
            let found: Vec<usize> = learned(4, 6, &mut Draws::new(seed)).collect();
            let different: std::collections::BTreeSet<_> = found.iter().collect();
            assert!(found[0] == 0 && different.len() == 4 && found.iter().all(|i| *i < 6), "{found:?}");
        }
    }

    #[test]
    fn times_fall_from_one_and_stay_above_zero() {
        for jitter in [0.0, 0.3, 0.999] {
            let times = times(10, jitter);
            assert_eq!(times[0], 1.0);
            assert!(times.windows(2).all(|t| t[0] >= t[1]) && times[times.len() - 1] > 0.0, "{times:?}");
            assert!(times.len() >= 10, "{times:?}");
        }
    }
}
