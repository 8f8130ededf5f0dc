//! How far samples are from the true distribution.

use super::density::{Mixture, Subject};
use rayon::prelude::*;
use serde::Serialize;

/// The energy distance of two sets of pictures, `(N, 2)` each: the root of `2 E|X - Y| - E|X - X'| - E|Y - Y'|` (Székely &
/// Rizzo 2013; in one dimension scipy's `energy_distance`), every mean taken over all pairs. It vanishes only for equal
/// distributions; two sets drawn from the same one are a little apart by chance.
pub fn energy_distance(a: &[f32], b: &[f32]) -> f64 {
    root(mean_gap(a, b), mean_gap(a, a), mean_gap(b, b))
}

fn root(between: f64, within_a: f64, within_b: f64) -> f64 {
    (2.0 * between - within_a - within_b).max(0.0).sqrt()
}

/// The mean distance of a point of `a` from a point of `b`.
fn mean_gap(a: &[f32], b: &[f32]) -> f64 {
    let from = |p: &[f32]| b.chunks_exact(2).map(|q| gap(p, q)).sum::<f32>();
    // One sum a point, added in their order, so that the number of threads does not change the last digit.
    let sums: Vec<f32> = a.par_chunks_exact(2).map(from).collect();
    let sum: f64 = sums.into_iter().map(f64::from).sum();
    sum / (a.len() / 2 * (b.len() / 2)) as f64
}

fn gap(p: &[f32], q: &[f32]) -> f32 {
    let (dx, dy) = (p[0] - q[0], p[1] - q[1]);
    (dx * dx + dy * dy).sqrt()
}

/// What a set of samples is worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// [`energy_distance`] from true pictures.
    pub distance: f64,
    /// Share of pictures that the camera hardly takes: less likely than all but one in a hundred true ones.
    pub odd: f64,
    /// Share of each subject, in the order of [`Subject::ALL`].
    pub shares: [f64; 3],
}

/// The measure of samples: a set of true pictures and what follows from it.
pub struct Judge {
    mixture: Mixture,
    truth: Vec<f32>,
    /// The mean gap within `truth`.
    within: f64,
    unlikely: f64,
}

impl Judge {
    /// `truth` are pictures drawn from `mixture`, `(N, 2)`.
    pub fn new(mixture: &Mixture, truth: Vec<f32>) -> Self {
        let mut densities: Vec<f64> = points(&truth).map(|x| mixture.density(x)).collect();
        densities.sort_by(f64::total_cmp);
        let unlikely = densities.get(densities.len() / 100).copied().unwrap_or(0.0);
        Self { mixture: mixture.clone(), within: mean_gap(&truth, &truth), truth, unlikely }
    }

    /// Judges samples `(N, 2)`.
    pub fn quality(&self, samples: &[f32]) -> Quality {
        let count = (samples.len() / 2).max(1) as f64;
        let share = |is: &dyn Fn([f64; 2]) -> bool| points(samples).filter(|x| is(*x)).count() as f64 / count;
        Quality {
            distance: root(mean_gap(&self.truth, samples), self.within, mean_gap(samples, samples)),
            odd: share(&|x| self.mixture.density(x) < self.unlikely),
            shares: Subject::ALL.map(|s| share(&|x| self.mixture.subject(x) == s)),
        }
    }
}

/// The pictures of a flat `(N, 2)`.
pub fn points(flat: &[f32]) -> impl Iterator<Item = [f64; 2]> + '_ {
    flat.chunks_exact(2).map(|p| [f64::from(p[0]), f64::from(p[1])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_distance_of_two_points_is_the_root_of_twice_their_gap() {
        assert!((energy_distance(&[0.0, 0.0], &[3.0, 4.0]) - 10f64.sqrt()).abs() < 1e-6);
        assert_eq!(energy_distance(&[0.3, 0.1, 0.2, 0.5], &[0.2, 0.5, 0.3, 0.1]), 0.0);
    }

    /// Worked out by hand: E|X - Y| = 5, E|X - X'| = E|Y - Y'| = 4/3.
    #[test]
    fn energy_distance_on_a_line() {
        let line = |values: [f32; 3]| values.map(|v| [v, 0.0]).concat();
        let got = energy_distance(&line([0.0, 1.0, 3.0]), &line([5.0, 6.0, 8.0]));
        assert!((got - (2.0 * 5.0 - 8.0 / 3.0f64).sqrt()).abs() < 1e-6, "{got}");
    }

    #[test]
    fn distance_is_zero_for_equal_sets_and_grows_with_a_shift() {
        let mixture = Mixture::camera();
        let mut draws = crate::draws::Draws::new(4);
        let set = mixture.draw(500, || draws.unit(), &mut undiffuse::sampler::TorchNoise::new(4));
        let shifted = |by: f32| set.iter().map(|v| v + by).collect::<Vec<f32>>();
        let distances = [0.0, 0.05, 0.1, 0.2, 0.5].map(|by| energy_distance(&set, &shifted(by)));
        assert_eq!(distances[0], 0.0);
        assert!(distances.windows(2).all(|d| d[1] > d[0] + 0.01), "{distances:?}");
    }

    #[test]
    fn noise_is_odd_and_truth_is_not() {
        let mixture = Mixture::camera();
        let draw = |seed| {
            let mut draws = crate::draws::Draws::new(seed);
            mixture.draw(2000, || draws.unit(), &mut undiffuse::sampler::TorchNoise::new(seed))
        };
        let judge = Judge::new(&mixture, draw(1));
        let truth = judge.quality(&draw(2));
        let mut noise = vec![0.0; 4000];
        undiffuse::sampler::Noise::fill(&mut undiffuse::sampler::TorchNoise::new(9), &mut noise);
        let noise = judge.quality(&noise);
        assert!(truth.odd < 0.02 && noise.odd > 0.6, "{truth:?} {noise:?}");
        assert!(noise.distance > 6.0 * truth.distance, "{truth:?} {noise:?}");
    }
}
