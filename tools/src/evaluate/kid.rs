//! Kernel Inception distance (Binkowski et al. 2018, "Demystifying MMD GANs"), on EfficientNet-Lite0's features: made pictures
//! against the real drawings of the same concepts in the shipped style. It is 0 in the mean for pictures of the same distribution, and
//! can be negative by chance.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::cells::Row;
use super::lab::{Lab, asked};
use super::maker::{How, With};
use super::report::{Section, Table};
use crate::dataset::style::SHIPPED;
use crate::draws::{Draws, mix};
use crate::record::files::hashes;

/// Subsets, and pictures in each, at most half of all.
const SUBSETS: usize = 100;
const SUBSET: usize = 200;

/// A distance, times 1000.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Kid {
    /// Of all pictures.
    all: f64,
    /// Mean over the subsets.
    mean: f64,
    /// Standard deviation over the subsets.
    deviation: f64,
}

/// Pictures of one model, and how far they are from the real ones.
struct Measured {
    what: &'static str,
    with: With,
    kid: Kid,
}

/// The model at `--kid-steps`, and the reference model where one is given.
///
/// # Errors
/// If the data has too few drawings in the shipped style, or a picture cannot be made.
pub fn measure(lab: &mut Lab) -> Result<Section> {
    let count = lab.args.kid_count.get();
    let [rows, others] = drawings(lab, count)?;
    let prompts: Vec<String> = rows.iter().map(|row| lab.caption(row)).collect();
    let real = lab.features_of(&rows)?;
    let subsets = subsets(rows.len(), lab.args.cells_seed);
    let mut table = Table::new(["pictures", "steps", "guidance", "n", "KID x 1000", "subsets"]);
    let control = Kernels::of(&lab.features_of(&others)?, &real).kid(&subsets);
    let measured = all(lab, &prompts, &real, &subsets)?;
    for m in &measured {
        let how = [m.with.steps.to_string(), m.with.guidance.to_string(), rows.len().to_string()];
        table.push([m.what.to_owned()].iter().chain(&how).chain(&m.kid.row()));
    }
    let blank = ["(other real drawings)".to_owned(), String::new(), String::new(), others.len().to_string()];
    table.push(blank.iter().chain(&control.row()));
    let ratios = ratios(&measured);
    let found: Vec<_> = measured.iter().map(|m| json!({ "what": m.what, "made_with": m.with, "kid": m.kid })).collect();
    let reference = lab.reference.as_ref().map(|maker| hashes(maker.folder())).transpose()?;
    let figures = json!({ "measured": found, "other_real": control, "ratios": ratios, "prompts": prompts.len(),
        "subsets": SUBSETS, "subset": subsets[0][0].len(), "reference": reference });
    let title =
        "KID on EfficientNet-Lite0's features, against the real drawings of the same concepts in the shipped style";
    let trained = rows.iter().filter(|row| !row.held_out).count();
    let section = Section::new("kid", title, table, figures).note(format!(
        "{trained} of the {} real drawings were trained on, so that repeating them is rewarded: see the nearest training pictures.",
        rows.len()
    ));
    Ok(ratios.iter().fold(section, |s, (steps, ratio)| s.note(format!("{steps} steps / reference: {ratio:.2}"))))
}

/// `count` drawings in the shipped style, a concept each, and as many of other concepts, or what there are.
fn drawings(lab: &Lab, count: usize) -> Result<[Vec<Row>; 2]> {
    let shipped = lab.style(SHIPPED)?;
    let mut seen = BTreeSet::new();
    let rows: Vec<Row> = lab.rows().into_iter().filter(|r| r.style == shipped && seen.insert(r.concept)).collect();
    let mut order =
        Draws::new(mix(lab.args.cells_seed, "kid")).some(rows.len(), rows.len()).into_iter().map(|i| rows[i]);
    let chosen: Vec<Row> = order.by_ref().take(count.min(rows.len() / 2)).collect();
    let others: Vec<Row> = order.take(chosen.len()).collect();
    ensure!(chosen.len() >= 4, "{} has {} drawings in the shipped style, too few", lab.args.data.display(), rows.len());
    Ok([chosen, others])
}

fn all(lab: &mut Lab, prompts: &[String], real: &[Vec<f32>], subsets: &[[Vec<usize>; 2]]) -> Result<Vec<Measured>> {
    let asked = asked(prompts, &lab.args.seeds[..1]);
    let own = lab.model.how.steps;
    let steps: Vec<Option<usize>> = match &lab.args.kid_steps[..] {
        [] => vec![own],
        given => given.iter().map(|steps| Some(*steps)).collect(),
    };
    let mut measured = vec![];
    for steps in steps {
        let how = How { steps, ..lab.model.how };
        let made = lab.model.make_as(&asked, how)?;
        let kid = Kernels::of(&lab.net.of(&made.pictures)?, real).kid(subsets);
        measured.push(Measured { what: MODEL, with: made.with, kid });
    }
    if let Some(reference) = &mut lab.reference {
        let made = reference.make(&asked)?;
        let kid = Kernels::of(&lab.net.of(&made.pictures)?, real).kid(subsets);
        measured.push(Measured { what: REFERENCE, with: made.with, kid });
    }
    Ok(measured)
}

const MODEL: &str = "model";
const REFERENCE: &str = "reference";

/// The model's distances over the reference's, by steps.
fn ratios(measured: &[Measured]) -> Vec<(usize, f64)> {
    let reference = measured.iter().find(|m| m.what == REFERENCE).map(|m| m.kid.mean);
    let of = |m: &Measured| Some((m.with.steps, m.kid.mean / reference?));
    measured.iter().filter(|m| m.what == MODEL).filter_map(of).collect()
}

/// Pairs of subsets of `n` made and `n` real pictures, the same for all models.
fn subsets(n: usize, seed: u64) -> Vec<[Vec<usize>; 2]> {
    let mut draws = Draws::new(mix(seed, "subsets"));
    let size = SUBSET.min(n / 2);
    (0..SUBSETS).map(|_| [draws.some(size, n), draws.some(size, n)]).collect()
}

impl Kid {
    fn row(&self) -> [String; 2] {
        [format!("{:.2}", self.all), format!("{:.2} ± {:.2}", self.mean, self.deviation)]
    }
}

/// The kernel between all pictures of two sets `x` and `y`, and within each.
struct Kernels {
    xx: Vec<Vec<f64>>,
    yy: Vec<Vec<f64>>,
    xy: Vec<Vec<f64>>,
}

impl Kernels {
    fn of(x: &[Vec<f32>], y: &[Vec<f32>]) -> Self {
        Self { xx: between(x, x), yy: between(y, y), xy: between(x, y) }
    }

    /// The unbiased estimate of the squared maximum mean discrepancy of some of the pictures (Gretton et al. 2012, equation 3).
    fn mmd(&self, x: &[usize], y: &[usize]) -> f64 {
        let within = |k: &[Vec<f64>], of: &[usize]| {
            let off = |i: usize| of.iter().filter(move |j| **j != i).map(move |j| k[i][*j]).sum::<f64>();
            of.iter().map(|i| off(*i)).sum::<f64>() / (of.len() * (of.len() - 1)) as f64
        };
        let across = x.iter().map(|i| y.iter().map(|j| self.xy[*i][*j]).sum::<f64>()).sum::<f64>();
        within(&self.xx, x) + within(&self.yy, y) - 2.0 * across / (x.len() * y.len()) as f64
    }

    fn kid(&self, subsets: &[[Vec<usize>; 2]]) -> Kid {
        let all: [Vec<usize>; 2] = [self.xx.len(), self.yy.len()].map(|n| (0..n).collect());
        let of: Vec<f64> = subsets.iter().map(|[x, y]| 1000.0 * self.mmd(x, y)).collect();
        let mean = of.iter().sum::<f64>() / of.len() as f64;
        let variance = of.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / of.len() as f64;
        Kid { all: 1000.0 * self.mmd(&all[0], &all[1]), mean, deviation: variance.sqrt() }
    }
}

fn between(x: &[Vec<f32>], y: &[Vec<f32>]) -> Vec<Vec<f64>> {
    x.par_iter().map(|one| y.iter().map(|other| kernel(one, other)).collect()).collect()
}

/// `(x · y / d + 1)³`.
fn kernel(x: &[f32], y: &[f32]) -> f64 {
    let dot: f64 = x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    (dot / x.len() as f64 + 1.0).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_by_hand() {
        // (1 * 3 + 2 * 4) / 2 + 1 = 6.5
        assert_eq!(kernel(&[1.0, 2.0], &[3.0, 4.0]), 6.5f64.powi(3));
    }

    /// One number a picture: x = {0, 1}, y = {1, 2}. Within x: (0 + 1)³ = 1; within y: (2 + 1)³ = 27; across: (1 + 1 + 8 + 27) / 4.
    #[test]
    fn the_estimate_by_hand() {
        let kernels = Kernels::of(&[vec![0.0], vec![1.0]], &[vec![1.0], vec![2.0]]);
        assert_eq!(kernels.mmd(&[0, 1], &[0, 1]), 1.0 + 27.0 - 2.0 * 37.0 / 4.0);
    }

    #[test]
    fn the_same_distribution_is_at_zero_and_another_is_not() {
        let mut draws = Draws::new(1);
        let mut set = |middle: f64| -> Vec<Vec<f32>> {
            (0..80).map(|_| (0..4).map(|_| (middle + draws.unit() - 0.5) as f32).collect()).collect()
        };
        let (x, y, z) = (set(0.0), set(0.0), set(1.0));
        let subsets = subsets(80, 5);
        assert_eq!((subsets.len(), subsets[0][1].len()), (SUBSETS, 40));
        let near = Kernels::of(&x, &y).kid(&subsets);
        let far = Kernels::of(&z, &y).kid(&subsets);
        assert!(near.mean.abs() < 2.0 * near.deviation && far.mean > 10.0 * far.deviation, "{near:?} {far:?}");
        assert!((near.mean - near.all).abs() < near.deviation, "{near:?}");
    }

    #[test]
    fn ratios_are_over_the_reference() {
        let of = |what, steps, mean| {
            let kid = Kid { all: 0.0, mean, deviation: 0.0 };
            Measured { what, with: With { steps, ..With::default() }, kid }
        };
        assert_eq!(ratios(&[of(MODEL, 4, 3.0), of(MODEL, 1, 8.0), of(REFERENCE, 50, 2.0)]), [(4, 1.5), (1, 4.0)]);
        assert_eq!(ratios(&[of(MODEL, 4, 3.0)]), []);
    }
}
