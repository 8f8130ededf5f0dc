//! `evaluate`: how good a model is, measured on pictures that the runtime makes, each measure beside what real drawings reach.
//!
//! A measure is a file here: a function from the `Lab` to a `Section` of the report. To add one: its file, a variant of `What`,
//! an arm in `What::measure`.

mod bias;
mod cells;
mod coder;
mod compositions;
mod diversity;
mod features;
mod gallery;
mod kid;
mod lab;
mod maker;
mod nearest;
mod paraphrases;
pub mod prompts;
pub(crate) mod report;
mod retrieval;
mod ridge;
mod sheet;

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};

use lab::Lab;
use report::{Report, Section};

/// Options of `evaluate`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The packed data that `dataset` made.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// What tools/python/convert_efficientnet.py made.
    #[arg(long, value_name = "FILE.onnx")]
    features: PathBuf,
    /// WordNet's `data.noun`: paraphrases that are among its nouns are then told apart from the others.
    #[arg(long, value_name = "FILE")]
    wordnet: Option<PathBuf>,
    /// What tools/python/convert_stlpips.py made; only `nearest` needs it.
    #[arg(long, value_name = "FILE.onnx")]
    perceptual: Option<PathBuf>,
    /// What is measured [default: all that the files given suffice for].
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    what: Vec<What>,
    /// Cells of each kind, trained and held out.
    #[arg(long, value_name = "N", default_value = "200")]
    count: NonZeroUsize,
    /// Each cell is drawn once for each; cell i begins its noise at seed + i.
    #[arg(long, value_name = "K", value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Chooses concepts, cells and compositions.
    #[arg(long, value_name = "K", default_value_t = 0)]
    cells_seed: u64,
    /// Steps [default: the model's].
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Guidance [default: the model's].
    #[arg(long, value_name = "G")]
    guidance: Option<f64>,
    /// Pictures of each model for the kernel distance.
    #[arg(long, value_name = "N", default_value = "500")]
    kid_count: NonZeroUsize,
    /// Numbers of steps at which the kernel distance is measured [default: that of --steps].
    #[arg(long, value_name = "N", value_delimiter = ',')]
    kid_steps: Vec<usize>,
    /// A model directory that the kernel distance is compared with: the teacher.
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// Its steps.
    #[arg(long, value_name = "N", default_value_t = 50)]
    reference_steps: usize,
    /// Its guidance [default: its own].
    #[arg(long, value_name = "G")]
    reference_guidance: Option<f64>,
    /// Seeds of each neutral prompt.
    #[arg(long, value_name = "N", default_value = "100")]
    bias_seeds: NonZeroUsize,
    /// Data that `dataset --skin-tones` made; without it skin tones are not told.
    #[arg(long, value_name = "FILE")]
    tones: Option<PathBuf>,
    /// Threads [default: the machine's cores].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Gets evaluate.json, evaluate.md and the sheets.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also puts what was found into the model's records, a file a measure, of which `card` makes its card.
    #[arg(long)]
    record: bool,
}

impl Args {
    fn asked(&self) -> Vec<What> {
        let all = <What as clap::ValueEnum>::value_variants();
        let possible = |what: &&What| **what != What::Nearest || self.perceptual.is_some();
        if self.what.is_empty() { all.iter().filter(possible).copied().collect() } else { self.what.clone() }
    }
}

/// What can be measured.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Are pictures found among real drawings of the same concepts, in trained and in held-out cells?
    Cells,
    /// Are they found when other words than the captions' name the concept?
    Paraphrases,
    /// Kernel distance to the real drawings, at several numbers of steps and beside a reference model.
    Kid,
    /// Are colour, background, two objects and their sides as the prompt says?
    Compositions,
    /// How near made pictures are to training pictures.
    Nearest,
    /// How far pictures of one prompt are from each other.
    Diversity,
    /// Whom neutral prompts show: shares of genders and skin tones.
    Bias,
    /// A contact sheet of plain prompts.
    Sheet,
}

impl What {
    fn measure(self, lab: &mut Lab) -> Result<Section> {
        match self {
            Self::Cells => cells::measure(lab),
            Self::Paraphrases => paraphrases::measure(lab),
            Self::Kid => kid::measure(lab),
            Self::Compositions => compositions::measure(lab),
            Self::Nearest => nearest::measure(lab),
            Self::Diversity => diversity::measure(lab),
            Self::Bias => bias::measure(lab),
            Self::Sheet => sheet::measure(lab),
        }
    }
}

/// Measures, prints tables and writes the report anew after each measure.
///
/// # Errors
/// If a file cannot be read or written, a graph not be run, or the data lacks what a measure needs.
pub fn run(args: &Args) -> Result<()> {
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let mut lab = Lab::open(args)?;
    let mut report = Report::new(&lab)?;
    for what in args.asked() {
        let from = Instant::now();
        let section = what.measure(&mut lab)?;
        println!("{}", section.text());
        if args.record {
            report.record(&section, args, from.elapsed().as_secs_f64())?;
        }
        report.add(section);
        report.write(&args.out)?;
    }
    Ok(())
}
