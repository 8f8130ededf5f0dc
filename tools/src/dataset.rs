//! The pictures that the models are trained on: emoji in nine drawing styles, 64x64 with alpha, captioned from CLDR.
//!
//! `collect` (packages to drawings) → `render` → `cells` (what is held out) → `pack`. The trainer reads the packed file with
//! [`pack::Stickers`], makes captions with [`caption`] and lays pictures on a [`background`].

pub mod background;
pub mod caption;
pub mod cells;
pub mod collect;
pub mod iconify;
pub mod names;
pub mod pack;
pub mod packages;
pub mod record;
pub mod render;
pub mod said;
pub mod scene;
pub mod sheet;
pub mod style;
mod weight;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::record::Record;
use collect::{Collection, Drawing};
use pack::{Concept, Sticker, Stickers};
use style::Style;

/// Arguments of `undiffuse-tools dataset`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The packed file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where fetched packages are kept.
    #[arg(long, value_name = "DIR", default_value = "target/packages")]
    cache: PathBuf,
    /// Chooses the held-out cells.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also write a contact sheet, a PNG.
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Also pack the skin-tone variants, as concepts of their own.
    #[arg(long)]
    skin_tones: bool,
}

/// Fetches, renders and packs; prints a table of what was packed.
///
/// # Errors
/// If a package cannot be fetched or read, or a file not be written. A broken drawing is no error: it is reported and left out.
pub fn run(args: &Args) -> Result<()> {
    fs::create_dir_all(&args.cache).with_context(|| format!("cannot make the folder {}", args.cache.display()))?;
    let Collection { drawings, unknown } = collect::collect(&args.cache, args.skin_tones)?;
    let (rendered, broken) = render_all(drawings);
    report_left_out("no CLDR name known", &unknown);
    report_left_out("cannot be rendered", &broken);

    let concepts = concepts(&rendered);
    let stickers = stickers(&rendered, &concepts, args.seed);
    let counts = counts(&stickers);
    let notes = [
        ("seed", args.seed.to_string()),
        ("packages", serde_json::to_string(&packages::ALL)?),
        ("counts", serde_json::to_string(&counts)?),
        ("made", serde_json::to_string(&Record::new("dataset"))?),
    ];
    pack::write(&args.out, &Style::ALL.map(Style::word), &concepts, &stickers, &notes)?;
    let packed = Stickers::open(&args.out)?;
    if let Some(path) = &args.sheet {
        sheet::write(path, &packed)?;
    }
    print!("{}", table(&counts));
    println!("{} concepts, {} pictures in {}", packed.concepts().len(), packed.len(), args.out.display());
    record::of(&args.out, &packed)?.write(&args.out.with_extension("record.json"))
}

/// A drawing and its pixels.
struct Rendered {
    drawing: Drawing,
    rgba: Vec<u8>,
}

/// Renders on all cores; also gives what could not be rendered. Both in the order of `drawings`.
fn render_all(drawings: Vec<Drawing>) -> (Vec<Rendered>, Vec<(Style, String)>) {
    let bar = ProgressBar::new(drawings.len() as u64).with_style(bar_style());
    let rendered: Vec<_> = drawings.into_par_iter().map(render).inspect(|_| bar.inc(1)).collect();
    bar.finish_and_clear();
    let (good, broken): (Vec<_>, Vec<_>) = rendered.into_iter().partition(Result::is_ok);
    (good.into_iter().filter_map(Result::ok).collect(), broken.into_iter().filter_map(Result::err).collect())
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("rendering {bar:40} {pos}/{len} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn render(drawing: Drawing) -> Result<Rendered, (Style, String)> {
    match drawing.source.render() {
        Ok(rgba) => Ok(Rendered { drawing, rgba }),
        Err(error) => Err((drawing.style, format!("{} ({error:#})", drawing.id))),
    }
}

fn report_left_out(why: &str, left_out: &[(Style, String)]) {
    let mut by_style: BTreeMap<Style, Vec<&str>> = BTreeMap::new();
    left_out.iter().for_each(|(style, id)| by_style.entry(*style).or_default().push(id));
    for (style, ids) in by_style {
        eprintln!("{}: {} left out, {why}: {}", style.word(), ids.len(), ids.join(", "));
    }
}

/// The concepts that have a picture, by name, each once.
fn concepts(rendered: &[Rendered]) -> Vec<Concept> {
    let mut by_name: BTreeMap<&str, &Concept> = BTreeMap::new();
    for one in rendered {
        by_name.entry(&one.drawing.concept.name).or_insert(&one.drawing.concept);
    }
    by_name.into_values().cloned().collect()
}

/// The rows of the packed file, by concept, style and name in the package.
fn stickers(rendered: &[Rendered], concepts: &[Concept], seed: u64) -> Vec<Sticker> {
    let index: BTreeMap<&str, u32> = (0u32..).zip(concepts).map(|(i, c)| (c.name.as_str(), i)).collect();
    let mut order: Vec<&Rendered> = rendered.iter().collect();
    order.sort_by_key(|r| (&r.drawing.concept.name, r.drawing.style, &r.drawing.id));
    let held_out = cells::held_out(order.iter().map(|r| cell(&r.drawing)), seed);
    let sticker = |r: &&Rendered| Sticker {
        rgba: r.rgba.clone(),
        style: r.drawing.style.index(),
        concept: index[r.drawing.concept.name.as_str()],
        held_out: held_out.contains(&cell(&r.drawing)),
        weight: weight::weight(r.drawing.style, &r.drawing.concept, &r.drawing.code),
    };
    order.iter().map(sticker).collect()
}

fn cell(drawing: &Drawing) -> (&str, &str) {
    (&drawing.concept.name, drawing.style.word())
}

/// What was packed of one style.
#[derive(Debug, Default, PartialEq, serde::Serialize)]
struct Count {
    style: &'static str,
    pictures: usize,
    concepts: usize,
    held_out: usize,
    weight: f32,
}

fn counts(stickers: &[Sticker]) -> Vec<Count> {
    let count = |style: Style| {
        let of: Vec<_> = stickers.iter().filter(|s| s.style == style.index()).collect();
        Count {
            style: style.word(),
            pictures: of.len(),
            concepts: of.iter().map(|s| s.concept).collect::<BTreeSet<_>>().len(),
            held_out: of.iter().filter(|s| s.held_out).count(),
            weight: of.iter().map(|s| s.weight).sum(),
        }
    };
    Style::ALL.map(count).into()
}

fn table(counts: &[Count]) -> String {
    let mut text = format!("{:<12}{:>9}{:>10}{:>10}{:>10}\n", "style", "pictures", "concepts", "held out", "weight");
    let mut sum = Count { style: "all", ..Count::default() };
    for c in counts {
        sum.pictures += c.pictures;
        sum.held_out += c.held_out;
        sum.weight += c.weight;
        let _ =
            writeln!(text, "{:<12}{:>9}{:>10}{:>10}{:>10.1}", c.style, c.pictures, c.concepts, c.held_out, c.weight);
    }
    let _ = writeln!(text, "{:<12}{:>9}{:>10}{:>10}{:>10.1}", sum.style, sum.pictures, "", sum.held_out, sum.weight);
    text
}
