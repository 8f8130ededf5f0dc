//! Memorisation: the training picture nearest to each made one by shift-tolerant LPIPS (Ghildyal and Liu 2022), beside how near
//! drawings that were never trained on come to one, and how near the best copies would: a sheet of the closest pairs is written.

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde_json::json;
use undiffuse::engine::Threads;
use undiffuse::pipeline::{Picture, Size};

use super::cells::Row;
use super::coder;
use super::features::Features;
use super::lab::{Lab, picture};
use super::report::{Section, Table};
use super::sheet::tiled;
use crate::dataset::pack::{SIDE, Stickers};
use crate::dataset::style::SHIPPED;
use crate::draws::{Draws, mix};
use crate::picture::{Placement, place};
use crate::record::files::sha256;

/// Training pictures that are compared, beside those of the same concept: the nearest by their pixels.
const CANDIDATES: usize = 20;
/// Pairs of the sheet.
const PAIRS: usize = 20;
/// Pixels are compared in blocks of 4x4.
const BLOCK: usize = 4;

/// A picture's nearest training picture.
#[derive(Clone, Copy, Debug)]
struct Nearest {
    training: usize,
    distance: f64,
}

/// Asks for trained concepts in the shipped style, which the model saw most, and writes nearest.png.
///
/// # Errors
/// If `--perceptual` is missing, or a picture cannot be made.
pub fn measure(lab: &mut Lab) -> Result<Section> {
    let file = lab.args.perceptual.as_ref();
    let file =
        file.context("nearest training pictures need --perceptual, what tools/python/convert_stlpips.py makes")?;
    let threads = Threads::new(lab.args.threads)?;
    let mut metric = Features::open(file, &threads)?;
    let count = lab.args.count.get();
    let [trained, unseen] = asked(lab, count)?;
    let known = Known::of(&lab.data);
    let made = lab.make(&trained.iter().map(|row| lab.caption(row)).collect::<Vec<_>>())?;
    let concepts = lab.args.seeds.iter().flat_map(|_| &trained).map(|row| row.concept);
    let of_made = known.nearest(&made.pictures, concepts, &lab.data, &mut metric)?;
    let of_unseen = known.nearest(&lab.drawings(&unseen)?, unseen.iter().map(|r| r.concept), &lab.data, &mut metric)?;
    let copied = copied(lab, &trained, &mut metric, &threads)?;

    let sheet = closest(&made.pictures, &of_made, &lab.data)?;
    let path = lab.args.out.join("nearest.png");
    tiled(&sheet, PAIRS / 2, 2 * SIDE)?.save(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let distances = |of: &[Nearest]| of.iter().map(|n| n.distance).collect::<Vec<f64>>();
    let mut table = Table::new(["pictures", "n", "nearest", "5 %", "median", "95 %"]);
    for (what, values) in [
        ("made", distances(&of_made)),
        ("(real drawings that were held out)", distances(&of_unseen)),
        ("(training pictures through the autoencoder, to themselves)", copied.clone()),
    ] {
        let at = |share: f64| format!("{:.3}", quantile(&values, share));
        table.push([what.to_owned(), values.len().to_string(), at(0.0), at(0.05), at(0.5), at(0.95)]);
    }
    let (copy, made_far) = (quantile(&copied, 0.95), distances(&of_made));
    let copies = made_far.iter().filter(|distance| **distance <= copy).count();
    let figures = json!({ "made": made_far, "held_out": distances(&of_unseen), "copied": copied, "copies": copies,
        "training": of_made.iter().map(|n| n.training).collect::<Vec<_>>(), "made_with": made.with,
        "perceptual_sha256": sha256(file)? });
    let section = Section::new("nearest", "Nearest training picture, by ST-LPIPS", table, figures);
    Ok(section.note(format!(
        "{copies} of {} made pictures are as near to a training picture as 95 % of the best copies that the model's autoencoder can make. nearest.png: the {PAIRS} \
         closest pairs, made above trained.",
        made_far.len()
    )))
}

/// Trained cells in the shipped style to ask for, and cells in any style that were held out.
fn asked(lab: &Lab, count: usize) -> Result<[Vec<Row>; 2]> {
    let shipped = lab.style(SHIPPED)?;
    let (held_out, trained): (Vec<Row>, Vec<Row>) = lab.rows().into_iter().partition(|row| row.held_out);
    let trained: Vec<Row> = trained.into_iter().filter(|row| row.style == shipped).collect();
    ensure!(
        !trained.is_empty() && !held_out.is_empty(),
        "{} has no held-out cell or no trained one",
        lab.args.data.display()
    );
    let mut draws = Draws::new(mix(lab.args.cells_seed, "nearest"));
    Ok([trained, held_out].map(|rows| draws.some(count, rows.len()).into_iter().map(|i| rows[i]).collect()))
}

/// The distance of each drawing to what the model's autoencoder makes of it.
fn copied(lab: &Lab, rows: &[Row], metric: &mut Features, threads: &Threads) -> Result<Vec<f64>> {
    let planes: Vec<Vec<f32>> = rows.iter().map(|row| place(lab.data.rgba(row.picture), &Placement::plain())).collect();
    let copies = metric.of(&coder::through(lab.model.folder(), &planes, threads)?)?;
    let own = metric.of(&lab.drawings(rows)?)?;
    Ok(own.iter().zip(&copies).map(|(a, b)| squared(a, b)).collect())
}

/// The training pictures.
struct Known {
    pictures: Vec<usize>,
    concepts: Vec<usize>,
    /// Of each, the mean colours of its blocks.
    blocks: Vec<Vec<f32>>,
}

impl Known {
    fn of(data: &Stickers) -> Self {
        let pictures: Vec<usize> = (0..data.len()).filter(|i| !data.held_out(*i)).collect();
        let blocks = pictures.par_iter().map(|i| blocks(&place(data.rgba(*i), &Placement::plain()))).collect();
        Self { concepts: pictures.iter().map(|i| data.concept(*i)).collect(), blocks, pictures }
    }

    /// Of each picture, by the metric among its candidates.
    fn nearest(
        &self,
        pictures: &[Picture],
        concepts: impl Iterator<Item = usize>,
        data: &Stickers,
        metric: &mut Features,
    ) -> Result<Vec<Nearest>> {
        let bar = indicatif::ProgressBar::new(pictures.len() as u64);
        let own = metric.of(pictures)?;
        let of = |((one, vector), concept): ((&Picture, &Vec<f32>), usize)| {
            bar.inc(1);
            let candidates = self.candidates(&blocks(&planes(one)?), concept);
            let drawn = candidates.iter().map(|i| picture(place(data.rgba(*i), &Placement::plain())));
            let vectors = metric.of(&drawn.collect::<Result<Vec<_>>>()?)?;
            let all =
                candidates.iter().zip(&vectors).map(|(i, v)| Nearest { training: *i, distance: squared(vector, v) });
            all.min_by(|a, b| a.distance.total_cmp(&b.distance)).context("there is no training picture")
        };
        let found = pictures.iter().zip(&own).zip(concepts).map(of).collect();
        bar.finish_and_clear();
        found
    }

    /// Those of the concept, and the nearest others by blocks.
    fn candidates(&self, wanted: &[f32], concept: usize) -> Vec<usize> {
        let far: Vec<f64> = self.blocks.par_iter().map(|blocks| squared(blocks, wanted)).collect();
        let (same, mut others): (Vec<usize>, Vec<usize>) =
            (0..self.pictures.len()).partition(|i| self.concepts[*i] == concept);
        others.sort_by(|a, b| far[*a].total_cmp(&far[*b]));
        same.into_iter().chain(others.into_iter().take(CANDIDATES)).map(|i| self.pictures[i]).collect()
    }
}

/// Planar RGB in [-1, 1] of a picture at 64x64.
fn planes(picture: &Picture) -> Result<Vec<f32>> {
    let small = picture.resampled(Size::new(SIDE, SIDE)?)?;
    Ok((0..3).flat_map(|c| small.rgb().iter().skip(c).step_by(3).map(|v| f32::from(*v) / 127.5 - 1.0)).collect())
}

/// The means of blocks of planar RGB.
fn blocks(planes: &[f32]) -> Vec<f32> {
    let wide = SIDE / BLOCK;
    let mut out = vec![0.0; planes.len() / (BLOCK * BLOCK)];
    for (i, value) in planes.iter().enumerate() {
        let (plane, y, x) = (i / (SIDE * SIDE), i / SIDE % SIDE, i % SIDE);
        out[(plane * wide + y / BLOCK) * wide + x / BLOCK] += value / (BLOCK * BLOCK) as f32;
    }
    out
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// The pairs with the least distance: rows of half of the made ones, each above a row of what they are nearest to.
fn closest(made: &[Picture], nearest: &[Nearest], data: &Stickers) -> Result<Vec<Picture>> {
    let mut order: Vec<usize> = (0..made.len()).collect();
    order.sort_by(|a, b| nearest[*a].distance.total_cmp(&nearest[*b].distance));
    order.truncate(PAIRS);
    let mut sheet = vec![];
    for row in order.chunks(PAIRS / 2) {
        sheet.extend(row.iter().map(|i| made[*i].clone()));
        for i in row {
            sheet.push(picture(place(data.rgba(nearest[*i].training), &Placement::plain()))?);
        }
    }
    Ok(sheet)
}

/// The value below which a share of all lies (nearest rank).
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1).min(sorted.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_hand() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 7.0, 8.0, 9.0, 10.0];
        assert_eq!([0.0, 0.05, 0.5, 0.95, 1.0].map(|s| quantile(&values, s)), [1.0, 1.0, 5.0, 10.0, 10.0]);
    }

    #[test]
    fn blocks_are_means() {
        let mut planes = vec![0.0; 3 * SIDE * SIDE];
        planes[SIDE * SIDE + 5 * SIDE + 9] = 16.0;
        let blocks = blocks(&planes);
        assert_eq!(blocks.len(), 3 * 256);
        let set: Vec<(usize, f32)> = blocks.into_iter().enumerate().filter(|(_, v)| *v != 0.0).collect();
        assert_eq!(set, [(256 + 16 + 2, 1.0)]);
    }

    #[test]
    fn candidates_are_the_concepts_own_and_the_nearest_others() {
        let blocks = (0..60).map(|i| vec![i as f32]).collect();
        let known = Known { pictures: (100..160).collect(), concepts: (0..60).map(|i| i / 2).collect(), blocks };
        let found = known.candidates(&[50.2], 1);
        assert_eq!(found[..4], [102, 103, 150, 151]);
        assert_eq!(found.len(), 2 + CANDIDATES);
    }
}
