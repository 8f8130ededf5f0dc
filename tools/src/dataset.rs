//! The pictures that the models are trained on: emoji in nine drawing styles, 64x64 with alpha, captioned from CLDR.
//!
//! `collect` (packages to drawings) → `render` → `cells` (what is held out) → `balance` (on demand) → `pack`. The trainer reads the packed file with
//! [`pack::Stickers`], makes captions with [`caption`] and lays pictures on a [`background`].

pub mod background;
mod balance;
pub mod caption;
pub mod cells;
pub mod collect;
pub mod iconify;
pub mod names;
pub mod pack;
pub mod packages;
pub mod people;
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
use balance::{Row, Wanted};
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
    /// Let a concept that names no gender and no skin tone show all of them equally, by the drawings of its variants.
    #[arg(long)]
    balance: bool,
    /// Not equally, but more of what a model drew too rarely that learned from data of `--balance`: the `evaluate.json` of its bias audit.
    #[arg(long, value_name = "FILE", requires = "balance")]
    audit: Option<PathBuf>,
}

/// Fetches, renders and packs; prints a table of what was packed.
///
/// # Errors
/// If a package cannot be fetched or read, or a file not be written. A broken drawing is no error: it is reported and left out.
pub fn run(args: &Args) -> Result<()> {
    let wanted = wanted(args)?;
    fs::create_dir_all(&args.cache).with_context(|| format!("cannot make the folder {}", args.cache.display()))?;
    let Collection { drawings, unknown } = collect::collect(&args.cache, args.skin_tones || args.balance)?;
    let Rendered { drawings, pixels, broken } = render_all(drawings);
    report_left_out("no CLDR name known", &unknown);
    report_left_out("cannot be rendered", &broken);

    let plain = plain(&drawings, args.skin_tones);
    let concepts = concepts(&plain);
    let stickers = stickers(&drawings, plain, &pixels, &concepts, args.seed, wanted.as_ref());
    let counts = counts(&stickers);
    let mut notes = vec![
        ("seed", args.seed.to_string()),
        ("packages", serde_json::to_string(&packages::ALL)?),
        ("counts", serde_json::to_string(&counts)?),
        ("made", serde_json::to_string(&Record::new("dataset"))?),
    ];
    if let Some(wanted) = &wanted {
        notes.push(("balance", serde_json::to_string(wanted)?));
    }
    pack::write(&args.out, &Style::ALL.map(Style::word), &concepts, &stickers, &notes)?;
    let packed = Stickers::open(&args.out)?;
    if let Some(path) = &args.sheet {
        sheet::write(path, &packed)?;
    }
    print!("{}", table(&counts));
    println!("{} concepts, {} pictures in {}", packed.concepts().len(), packed.len(), args.out.display());
    record::of(&args.out, &packed)?.write(&args.out.with_extension("record.json"))
}

fn wanted(args: &Args) -> Result<Option<Wanted>> {
    match &args.audit {
        Some(audit) => Wanted::after(audit).map(Some),
        None => Ok(args.balance.then(Wanted::equal)),
    }
}

/// What could be rendered, in the order of the drawings that were given.
#[derive(Default)]
struct Rendered {
    drawings: Vec<Drawing>,
    /// Of each drawing.
    pixels: Vec<Vec<u8>>,
    /// Style, name and why.
    broken: Vec<(Style, String)>,
}

/// Renders on all cores.
fn render_all(drawings: Vec<Drawing>) -> Rendered {
    let bar = ProgressBar::new(drawings.len() as u64).with_style(bar_style());
    let all: Vec<_> = drawings.par_iter().map(|drawing| drawing.source.render()).inspect(|_| bar.inc(1)).collect();
    bar.finish_and_clear();
    let mut rendered = Rendered::default();
    for (drawing, pixels) in drawings.into_iter().zip(all) {
        match pixels {
            Ok(pixels) => {
                rendered.drawings.push(drawing);
                rendered.pixels.push(pixels);
            }
            Err(error) => rendered.broken.push((drawing.style, format!("{} ({error:#})", drawing.id))),
        }
    }
    rendered
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("rendering {bar:40} {pos}/{len} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn report_left_out(why: &str, left_out: &[(Style, String)]) {
    let mut by_style: BTreeMap<Style, Vec<&str>> = BTreeMap::new();
    left_out.iter().for_each(|(style, id)| by_style.entry(*style).or_default().push(id));
    for (style, ids) in by_style {
        eprintln!("{}: {} left out, {why}: {}", style.word(), ids.len(), ids.join(", "));
    }
}

/// Every drawing under its own name; those with a skin tone only on demand.
fn plain(drawings: &[Drawing], skin_tones: bool) -> Vec<Row<'_>> {
    let taken = drawings.iter().enumerate().filter(|(_, drawing)| skin_tones || !names::is_toned(&drawing.code));
    taken
        .map(|(index, drawing)| {
            let weight = weight::weight(drawing.style, &drawing.concept, &drawing.code);
            Row { drawing, index, concept: &drawing.concept.name, weight }
        })
        .collect()
}

/// The concepts that have a picture, by name, each once.
fn concepts(plain: &[Row<'_>]) -> Vec<Concept> {
    let mut by_name: BTreeMap<&str, &Concept> = BTreeMap::new();
    for row in plain {
        by_name.entry(row.concept).or_insert(&row.drawing.concept);
    }
    by_name.into_values().cloned().collect()
}

/// The rows of the packed file, by concept, style and name in the package.
fn stickers<'a>(
    drawings: &'a [Drawing],
    plain: Vec<Row<'a>>,
    pixels: &[Vec<u8>],
    concepts: &[Concept],
    seed: u64,
    wanted: Option<&Wanted>,
) -> Vec<Sticker> {
    let index: BTreeMap<&str, u32> = (0u32..).zip(concepts).map(|(i, c)| (c.name.as_str(), i)).collect();
    let held_out = cells::held_out(plain.iter().map(cell).collect::<Vec<_>>(), seed);
    let mut rows = match wanted {
        Some(wanted) => balance::balanced(drawings, plain, &held_out, wanted),
        None => plain,
    };
    rows.sort_by_key(|row| (row.concept, row.drawing.style, &row.drawing.id));
    let sticker = |row: &Row<'_>| Sticker {
        rgba: pixels[row.index].clone(),
        style: row.drawing.style.index(),
        concept: index[row.concept],
        held_out: held_out.contains(&cell(row)),
        weight: row.weight,
    };
    rows.iter().map(sticker).collect()
}

fn cell<'a>(row: &Row<'a>) -> (&'a str, &'static str) {
    (row.concept, row.drawing.style.word())
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

#[cfg(test)]
mod tests {
    use super::*;
    use pack::PICTURE_BYTES;
    use render::Source;

    fn drawing(name: &str, code: &str) -> Drawing {
        let concept = Concept { name: name.into(), group: "people-body".into(), ..Concept::default() };
        Drawing { style: Style::Noto, id: name.into(), concept, code: code.into(), source: Source::Svg(String::new()) }
    }

    /// Concept, first byte of the picture and weight of each row.
    fn packed(drawings: &[Drawing], skin_tones: bool, wanted: Option<&Wanted>) -> Vec<(String, u8, f32)> {
        let pixels: Vec<Vec<u8>> = (0..drawings.len()).map(|i| vec![i as u8; PICTURE_BYTES]).collect();
        let plain = plain(drawings, skin_tones);
        let concepts = concepts(&plain);
        let row = |s: Sticker| (concepts[s.concept as usize].name.clone(), s.rgba[0], s.weight);
        stickers(drawings, plain, &pixels, &concepts, 0, wanted).into_iter().map(row).collect()
    }

    #[test]
    fn rows_have_the_pixels_of_their_drawings_balanced_or_not() {
        let drawings = [
            drawing("woman judge", "1f469-200d-2696"),
            drawing("judge: dark skin tone", "1f9d1-1f3ff-200d-2696"),
            drawing("man judge", "1f468-200d-2696"),
            drawing("judge", "1f9d1-200d-2696"),
        ];
        let row = |name: &str, picture, weight| (name.to_owned(), picture, weight);
        let [judge, man, woman] = [row("judge", 3, 1.0), row("man judge", 2, 0.25), row("woman judge", 0, 0.25)];
        assert_eq!(packed(&drawings, false, None), [judge.clone(), man.clone(), woman.clone()]);
        let toned = row("judge: dark skin tone", 1, 0.25);
        assert_eq!(packed(&drawings, true, None), [judge, toned, man.clone(), woman.clone()]);
        let (third, sixth) = (1.0 / 3.0, 1.0 / 6.0);
        let of_judge = [row("judge", 3, sixth), row("judge", 1, sixth), row("judge", 2, third), row("judge", 0, third)];
        let balanced: Vec<_> = of_judge.into_iter().chain([man, woman]).collect();
        assert_eq!(packed(&drawings, false, Some(&Wanted::equal())), balanced);
    }
}
