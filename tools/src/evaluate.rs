//! `evaluate`: are a model's pictures found among real drawings of the same concepts, and a contact sheet to look at.
//!
//! The gallery is the real Noto drawings of 400 concepts; each query is a picture that the runtime makes for a (concept, style) cell
//! in another style. The real drawings of the same cells are the ceiling.

pub mod cells;
pub mod features;
pub mod prompts;
pub mod retrieval;

use std::fs;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::{Rgb, RgbImage, imageops};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use undiffuse::engine::Threads;
use undiffuse::pipeline::{Options, Picture, Pipeline, Prompt, Request, Size};
use undiffuse::value::Tensor;

use crate::dataset::pack::{SIDE, Stickers};
use crate::dataset::style::{SHIPPED, Style};
use crate::picture::{Placement, place};
use cells::Row;
use features::Features;
use prompts::PROMPTS;
use retrieval::{Share, rank};

/// Concepts of the gallery.
const CONCEPTS: usize = 400;
/// Pictures a row of the contact sheet, and the side of each in pixels.
const COLUMNS: usize = 8;
const SHOWN: usize = 128;

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
    /// Cells of each kind, trained and held out.
    #[arg(long, value_name = "N", default_value = "200")]
    count: NonZeroUsize,
    /// Each cell is drawn once for each; cell i begins its noise at seed + i.
    #[arg(long, value_name = "K", value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Chooses concepts and cells.
    #[arg(long, value_name = "K", default_value_t = 0)]
    cells_seed: u64,
    /// Steps [default: the model's].
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Guidance [default: the model's].
    #[arg(long, value_name = "G")]
    guidance: Option<f64>,
    /// Threads [default: the machine's cores].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Gets evaluate.json and sheet.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Measures, prints a table and writes the report.
///
/// # Errors
/// If a file cannot be read or written, a graph not be run, or the data has no Noto drawings.
pub fn run(args: &Args) -> Result<()> {
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let data = Stickers::open(&args.data)?;
    let noto = data.styles().iter().position(|style| style == Style::Noto.word());
    let noto = noto.with_context(|| format!("{} has no style \"noto\"", args.data.display()))?;
    let names: Vec<String> = data.concepts().iter().map(|concept| concept.name.clone()).collect();
    let count = args.count.get();
    let cells = cells::choose(&cells::rows(&data), &names, noto, CONCEPTS, count, args.cells_seed);
    ensure!(!cells.trained.is_empty(), "{} has no trained cell to ask for", args.data.display());
    let mut net = Features::open(&args.features, &Threads::new(args.threads)?)?;
    let mut pipeline = Pipeline::open(&args.model, Options { threads: args.threads, ..Options::default() })?;
    let gallery = Gallery {
        concepts: cells.gallery.iter().map(|row| row.concept).collect(),
        features: net.of(&drawings(&data, &cells.gallery)?)?,
    };
    let (mut kinds, mut made_with) = (serde_json::Map::new(), Value::Null);
    for (kind, rows) in [("trained", &cells.trained), ("held_out", &cells.held_out)] {
        if rows.len() < count {
            eprintln!("{kind}: only {} of {count} cells exist", rows.len());
        }
        if rows.is_empty() {
            continue;
        }
        let real = gallery.score(&net.of(&drawings(&data, rows)?)?, rows);
        let (pictures, with) = pictures(args, &mut pipeline, &data, rows)?;
        made_with = with;
        let asked: Vec<Row> = args.seeds.iter().flat_map(|_| rows).copied().collect();
        let made = gallery.score(&net.of(&pictures)?, &asked);
        print_row(kind, "made", &made);
        print_row(kind, "real", &real);
        let cells: Vec<Value> = rows.iter().map(|row| json!(caption(&data, row))).collect();
        kinds.insert(kind.into(), json!({ "made": made.json(), "real": real.json(), "cells": cells }));
    }
    sheet(args, &mut pipeline)?;
    let concepts: Vec<&String> = gallery.concepts.iter().map(|concept| &names[*concept]).collect();
    let report = json!({
        "seeds": args.seeds, "cells_seed": args.cells_seed, "count": count, "made_with": made_with, "results": kinds,
        "gallery": concepts, "model": hashes(&args.model)?, "features_sha256": sha256(&args.features)?,
        "data_sha256": sha256(&args.data)?,
    });
    let path = args.out.join("evaluate.json");
    fs::write(&path, serde_json::to_string_pretty(&report)?).with_context(|| format!("cannot write {}", path.display()))
}

struct Gallery {
    concepts: Vec<usize>,
    features: Vec<Vec<f32>>,
}

struct Score {
    top1: Share,
    top5: Share,
    ranks: Vec<usize>,
}

impl Gallery {
    /// One feature vector a row.
    fn score(&self, features: &[Vec<f32>], rows: &[Row]) -> Score {
        let own = |row: &Row| self.concepts.iter().position(|concept| *concept == row.concept);
        let ranked = features.iter().zip(rows).filter_map(|(query, row)| Some(rank(query, &self.features, own(row)?)));
        let ranks: Vec<usize> = ranked.collect();
        let within = |most: usize| Share::new(ranks.iter().filter(|rank| **rank < most).count(), ranks.len());
        Score { top1: within(1), top5: within(5), ranks }
    }
}

impl Score {
    fn json(&self) -> Value {
        json!({ "top1": self.top1, "top5": self.top5, "ranks": self.ranks })
    }
}

fn print_row(kind: &str, what: &str, score: &Score) {
    let share = |s: &Share| format!("{:5.1} % ({:.1} to {:.1})", s.percent, s.low, s.high);
    let (top1, top5) = (share(&score.top1), share(&score.top5));
    println!("{kind:<9} {what}  n {:<5} top-1 {top1:<24} top-5 {top5}", score.ranks.len());
}

/// The real drawings, on white.
fn drawings(data: &Stickers, rows: &[Row]) -> Result<Vec<Picture>> {
    let drawing = |row: &Row| {
        let planes = place(data.rgba(row.picture), &Placement::plain());
        Ok(Picture::from_decoded(Tensor::new(&[1, 3, SIDE, SIDE], planes)?)?)
    };
    rows.iter().map(drawing).collect()
}

/// "red apple" for the shipped style, "red apple, flat style" for another.
fn caption(data: &Stickers, row: &Row) -> String {
    let (name, style) = (&data.concepts()[row.concept].name, &data.styles()[row.style]);
    if style == SHIPPED { name.clone() } else { format!("{name}, {style} style") }
}

/// A picture for each cell, seed after seed; and how they were made.
fn pictures(args: &Args, pipeline: &mut Pipeline, data: &Stickers, rows: &[Row]) -> Result<(Vec<Picture>, Value)> {
    let bar = ProgressBar::new((rows.len() * args.seeds.len()) as u64);
    let (mut pictures, mut with) = (vec![], Value::Null);
    for (seed, (i, row)) in args.seeds.iter().flat_map(|seed| (0u64..).zip(rows).map(move |row| (seed, row))) {
        let mut request = request(args, &caption(data, row), seed.wrapping_add(i))?;
        request.native = true;
        let made = pipeline.generate(&request, |_| ControlFlow::Continue(()))?;
        with = json!({ "sampler": made.report.sampler, "steps": made.report.steps, "guidance": made.report.guidance });
        pictures.push(made.picture);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((pictures, with))
}

fn request(args: &Args, prompt: &str, seed: u64) -> Result<Request> {
    let mut request = Request::new(Prompt::new(prompt)?);
    (request.seed, request.steps, request.guidance) = (seed, args.steps, args.guidance);
    Ok(request)
}

/// The plain prompts, each with the first seed.
fn sheet(args: &Args, pipeline: &mut Pipeline) -> Result<()> {
    let side = SHOWN as u32;
    let rows = PROMPTS.len().div_ceil(COLUMNS) as u32;
    let mut sheet = RgbImage::from_pixel(COLUMNS as u32 * side, rows * side, Rgb([255; 3]));
    for (i, prompt) in PROMPTS.iter().enumerate() {
        let request = request(args, prompt, args.seeds.first().copied().unwrap_or(0))?;
        let made = pipeline.generate(&request, |_| ControlFlow::Continue(()))?;
        let small = made.picture.resampled(Size::new(SHOWN, SHOWN)?)?;
        let tile = RgbImage::from_raw(side, side, small.rgb().to_vec()).context("a tile has the wrong size")?;
        let (column, row) = ((i % COLUMNS) as i64, (i / COLUMNS) as i64);
        imageops::replace(&mut sheet, &tile, column * i64::from(side), row * i64::from(side));
    }
    let path = args.out.join("sheet.png");
    sheet.save(&path).with_context(|| format!("cannot write {}", path.display()))
}

/// The checksum of every file of a folder, by path.
fn hashes(folder: &Path) -> Result<serde_json::Map<String, Value>> {
    let mut all = serde_json::Map::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            all.extend(hashes(&entry.path())?.into_iter().map(|(inner, hash)| (format!("{name}/{inner}"), hash)));
        } else {
            all.insert(name, json!(sha256(&entry.path())?));
        }
    }
    Ok(all)
}

fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}
