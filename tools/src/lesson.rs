//! `lesson`: the whole idea of diffusion on pictures of two grey pixels, where everything can be drawn and is known exactly.
//!
//! [`density`] is the truth, [`net`] learns from pictures drawn from it, [`samples`] turns noise into pictures with the samplers of
//! the runtime, [`distance`] says how good those are; [`study`] runs it all, [`figures`] and [`report`] tell it.

pub mod density;
pub mod distance;
pub mod figures;
pub mod folder;
pub mod net;
pub mod report;
pub mod samples;
pub mod study;

use crate::train::run::{Options, Precision, State, interrupted, train};
use anyhow::{Result, ensure};
use clap::{Subcommand, value_parser};
use net::GuessNoise;
use std::path::PathBuf;
use std::time::Instant;
use study::{Study, World};

/// Which lesson.
#[derive(Debug, Subcommand)]
pub enum Lesson {
    /// Diffusion on pictures of two grey pixels: trains a network, samples in three ways, and writes REPORT.md with its figures.
    TwoPixels(Args),
}

/// Options of `lesson two-pixels`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder for REPORT.md, results.json, the figures and training/.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace the files of an earlier lesson in DIR; others stay.
    #[arg(long)]
    pub overwrite: bool,
    /// Steps of training.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub steps: u64,
    /// Pictures a step of training.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = value_parser!(u32).range(1..=65_536))]
    pub batch: u32,
    /// Pictures that each sampler makes.
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = value_parser!(u32).range(100..=50_000))]
    pub samples: u32,
    /// Seed of everything that is drawn.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,
    /// cpu or cuda.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = ["cpu", "cuda"])]
    pub device: String,
    /// Threads of libtorch; more than one makes a network this small slower.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(i32).range(1..=1024))]
    pub threads: i32,
}

impl Lesson {
    pub fn run(self) -> Result<()> {
        match self {
            Self::TwoPixels(args) => two_pixels(&args),
        }
    }
}

/// Runs the lesson.
///
/// # Errors
/// If the folder cannot be used (see [`folder::prepare`]), the device is not there, or the run is interrupted.
pub fn two_pixels(args: &Args) -> Result<()> {
    let started = Instant::now();
    let options = options(args);
    let device = options.device()?;
    folder::prepare(&args.out, args.overwrite)?;
    let world = World::new(args.samples as usize, args.seed)?;
    let mut state = State::new(net::fresh(args.seed, device)?);
    println!("training a network of {} parameters for {} steps", state.params.count(), args.steps);
    let mut task = GuessNoise { mixture: &world.mixture, schedule: &world.schedule, batch: options.batch };
    train(&options, &mut state, &mut task)?;
    ensure!(!interrupted(), "interrupted before the end: start again with --overwrite");
    let study = Study::new(&world, &state, &options.out)?;
    figures::draw(&args.out, &world, &study)?;
    report::write(args, &world, &study, started.elapsed())?;
    println!("{}", report::table(&world, &study));
    println!("wrote {} in {:.0} s", args.out.join(folder::REPORT).display(), started.elapsed().as_secs_f64());
    Ok(())
}

/// The training run's: the rate rises for 100 steps, then falls by a half cosine.
pub(crate) fn options(args: &Args) -> Options {
    Options {
        out: args.out.join(folder::TRAINING),
        steps: args.steps,
        batch: args.batch as usize,
        rate: 2e-3,
        warmup: 100,
        decay_from: None,
        seed: args.seed,
        device: args.device.clone(),
        precision: Precision::F32,
        average: 0.999,
        seconds: None,
        slice: None,
        threads: Some(args.threads),
        checkpoint_every: args.steps,
        report_every: args.steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::params::generator_lock;
    use clap::Parser;
    use serde_json::Value;
    use std::fs;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        lesson: Lesson,
    }

    fn parse(words: &[&str]) -> Result<Args, String> {
        let line = Line::try_parse_from(["t", "two-pixels", "--out", "o"].iter().chain(words));
        line.map(|Line { lesson: Lesson::TwoPixels(args) }| args).map_err(|e| e.to_string())
    }

    /// A short lesson, whole: the report is complete, its figures are there, and what was learned in so few steps already
    /// brings noise most of the way to the truth.
    #[test]
    fn a_short_lesson_teaches() {
        let _lock = generator_lock();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("lesson");
        two_pixels(&Args {
            out: out.clone(),
            ..parse(&["--steps", "400", "--batch", "256", "--samples", "200"]).unwrap()
        })
        .unwrap();
        let report = fs::read_to_string(out.join(folder::REPORT)).unwrap();
        assert!(!report.contains("{{"), "a number is missing");
        for figure in folder::FIGURES {
            assert!(report.contains(&format!("({figure})")), "{figure} is not in the report");
            let picture = image::open(out.join(figure)).unwrap().to_rgb8();
            assert!(picture.pixels().filter(|p| p.0 != [255; 3]).count() > 5000, "{figure} is nearly blank");
        }
        let results: Value = serde_json::from_slice(&fs::read(out.join(folder::RESULTS)).unwrap()).unwrap();
        let distance = |quality: &Value| quality["distance"].as_f64().unwrap();
        let noise = distance(&results["noise"]);
        for name in ["ancestral DDPM, 1000 steps", "annealed Langevin, 10 x 100", "DPM-Solver++ 2M, 16 steps"] {
            let sampler = results["samplers"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap();
            let learned = distance(&sampler["learned"]);
            assert!(learned < 0.6 * noise, "{name}: {learned}, noise {noise}");
        }
    }

    #[test]
    fn bad_options_are_named() {
        assert!(parse(&["--steps", "1", "--device", "cuda"]).is_ok());
        for (words, says) in [
            (["--steps", "0"], "--steps"),
            (["--batch", "0"], "--batch"),
            (["--samples", "5"], "100..=50000"),
            (["--threads", "0"], "--threads"),
            (["--device", "gpu"], "[possible values: cpu, cuda]"),
        ] {
            let error = parse(&words).unwrap_err();
            assert!(error.contains(says), "{words:?}: {error}");
        }
    }
}
