//! Do other seeds give other pictures? Mean distance between the pictures of a prompt, beside that of real drawings of one concept in
//! different styles, and of pictures of different prompts.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::cells::Row;
use super::lab::{Lab, asked};
use super::prompts::PROMPTS;
use super::report::{Section, Table};
use super::retrieval::cosine;

/// Pictures of each prompt.
const SEEDS: usize = 8;

/// Mean and standard deviation over groups of the mean distance within each.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
struct Spread {
    groups: usize,
    mean: f64,
    deviation: f64,
}

/// Eight pictures of each of the plain prompts.
///
/// # Errors
/// If a picture cannot be made.
pub fn measure(lab: &mut Lab) -> Result<Section> {
    let prompts = PROMPTS.map(String::from);
    let first = lab.args.seeds[0];
    let seeds: Vec<u64> = (0..SEEDS as u64).map(|i| first.wrapping_add(1000 * i)).collect();
    let made = lab.model.make(&asked(&prompts, &seeds))?;
    let features = lab.net.of(&made.pictures)?;
    let of_prompt = |i: usize| features.iter().skip(i).step_by(prompts.len()).cloned().collect::<Vec<_>>();
    let of_seed = |i: usize| features[i * prompts.len()..(i + 1) * prompts.len()].to_vec();
    let within = spread((0..prompts.len()).map(of_prompt));
    let between = spread((0..SEEDS).map(of_seed));
    let mut drawn = vec![];
    for rows in same_concept(lab) {
        drawn.push(lab.features_of(&rows)?);
    }
    let real = spread(drawn.into_iter());
    let mut table = Table::new(["pictures", "groups", "mean distance"]);
    for (what, spread) in [
        ("of one prompt, eight seeds", within),
        ("of all prompts, one seed", between),
        ("(real drawings of one concept, a style each)", real),
    ] {
        table.push([what, &spread.groups.to_string(), &format!("{:.3} ± {:.3}", spread.mean, spread.deviation)]);
    }
    let figures = json!({ "within": within, "between": between, "real": real, "seeds": seeds, "prompts": prompts.to_vec(), "made_with": made.with });
    Ok(Section::new("diversity", "Diversity: 1 - cosine of EfficientNet-Lite0's features", table, figures))
}

/// The real drawings of each plain prompt that is a concept's name, the first of each style.
fn same_concept(lab: &Lab) -> Vec<Vec<Row>> {
    let mut rows: BTreeMap<&str, BTreeMap<usize, Row>> = BTreeMap::new();
    for row in lab.rows() {
        rows.entry(lab.name(row.concept)).or_default().entry(row.style).or_insert(row);
    }
    PROMPTS.iter().filter_map(|prompt| Some(rows.get(prompt)?.values().copied().collect())).collect()
}

/// Of groups with at least two vectors.
fn spread(groups: impl Iterator<Item = Vec<Vec<f32>>>) -> Spread {
    let means: Vec<f64> = groups.filter(|group| group.len() > 1).map(|group| mean_distance(&group)).collect();
    let groups = means.len();
    let mean = means.iter().sum::<f64>() / groups as f64;
    let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / groups as f64;
    Spread { groups, mean, deviation: variance.sqrt() }
}

fn mean_distance(vectors: &[Vec<f32>]) -> f64 {
    let pairs = || (0..vectors.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    pairs().map(|(i, j)| 1.0 - cosine(&vectors[i], &vectors[j])).sum::<f64>() / pairs().count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances: 0, 1 and 1 between the three of the first group; 2 between the two of the second; a single one does not count.
    #[test]
    fn spread_by_hand() {
        let groups = [
            vec![vec![1.0, 0.0], vec![2.0, 0.0], vec![0.0, 1.0]],
            vec![vec![1.0, 0.0], vec![-1.0, 0.0]],
            vec![vec![1.0, 0.0]],
        ];
        let found = spread(groups.into_iter());
        assert_eq!(found.groups, 2);
        assert!((found.mean - 4.0 / 3.0).abs() < 1e-12 && (found.deviation - 2.0 / 3.0).abs() < 1e-12, "{found:?}");
    }
}
