//! The true distribution: the pictures of an imaginary camera with two pixels.
//!
//! It is a mixture of Gaussians, so that everything which a network has to learn is also known exactly: noise added to a
//! mixture makes another mixture, and the score of a mixture is a formula.

use std::f64::consts::TAU;
use undiffuse::sampler::Noise;

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One surface on both pixels: nearly the same grey twice.
    Surface,
    /// An edge, dark on the left and light on the right.
    LightRight,
    /// An edge, light on the left and dark on the right.
    LightLeft,
}

impl Subject {
    /// All of them, in the order of tables and legends.
    pub const ALL: [Subject; 3] = [Subject::Surface, Subject::LightRight, Subject::LightLeft];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Surface => "surface",
            Subject::LightRight => "edge, light right",
            Subject::LightLeft => "edge, light left",
        }
    }

    /// How often the camera takes it.
    pub fn share(self) -> f64 {
        match self {
            Subject::Surface => 0.65,
            Subject::LightRight => 0.25,
            Subject::LightLeft => 0.10,
        }
    }
}

/// Gaussians along the ridge of the surfaces, close enough to look like one.
const RIDGE: usize = 24;

#[derive(Clone, Copy, Debug)]
struct Blob {
    subject: Subject,
    weight: f64,
    mean: [f64; 2],
    deviation: f64,
}

impl Blob {
    /// The logarithm of its weighted density at its mean.
    fn peak(&self) -> f64 {
        (self.weight / (TAU * self.deviation * self.deviation)).ln()
    }
}

/// A mixture of round Gaussians in the plane; a point is a picture `[left, right]`, -1 black, 1 white.
#[derive(Clone, Debug)]
pub struct Mixture {
    blobs: Vec<Blob>,
    /// [`Blob::peak`] of each.
    peaks: Vec<f64>,
}

impl Mixture {
    /// The camera. Surfaces make a curved ridge along the diagonal, because the right pixel loses some light in the mid greys;
    /// the two kinds of edges make one spot each. Less than one picture in 10,000 leaves [-1, 1].
    pub fn camera() -> Self {
        let edge = |subject: Subject, mean, deviation| Blob { subject, weight: subject.share(), mean, deviation };
        let mut blobs: Vec<Blob> = (0..RIDGE).map(ridge).collect();
        blobs.push(edge(Subject::LightRight, [-0.55, 0.6], 0.09));
        blobs.push(edge(Subject::LightLeft, [0.68, -0.62], 0.06));
        Self::of(blobs)
    }

    /// How many Gaussians.
    #[allow(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.blobs.len()
    }

    /// The distribution of `signal·x + noise·eps` for x of this one and standard normal eps.
    pub fn diffused(&self, signal: f64, noise: f64) -> Self {
        let diffuse =
            |b: &Blob| Blob { mean: b.mean.map(|m| m * signal), deviation: (signal * b.deviation).hypot(noise), ..*b };
        Self::of(self.blobs.iter().map(diffuse).collect())
    }

    fn of(blobs: Vec<Blob>) -> Self {
        let peaks = blobs.iter().map(Blob::peak).collect();
        Self { blobs, peaks }
    }

    /// The density at `x`, over the plane's unit of area.
    pub fn density(&self, x: [f64; 2]) -> f64 {
        self.logs(x).map(f64::exp).sum()
    }

    /// ∇ log p at `x`: the pull of each Gaussian, weighted by the chance that `x` is its.
    pub fn score(&self, x: [f64; 2]) -> [f64; 2] {
        let most = self.logs(x).fold(f64::MIN, f64::max);
        let (mut sum, mut pull) = (0.0, [0.0; 2]);
        for (blob, log) in self.blobs.iter().zip(self.logs(x)) {
            // Relative to the likeliest, so that nothing underflows far away.
            let chance = (log - most).exp();
            sum += chance;
            for i in 0..2 {
                pull[i] += chance * (blob.mean[i] - x[i]) / (blob.deviation * blob.deviation);
            }
        }
        pull.map(|p| p / sum)
    }

    /// What the picture `x` most likely shows.
    pub fn subject(&self, x: [f64; 2]) -> Subject {
        let likeliest = self.blobs.iter().zip(self.logs(x)).max_by(|a, b| a.1.total_cmp(&b.1));
        likeliest.map_or(Subject::Surface, |(blob, _)| blob.subject)
    }

    /// `count` pictures, `(count, 2)`: which Gaussian from `unit`, uniform in [0, 1), where in it from `noise`.
    pub fn draw(&self, count: usize, mut unit: impl FnMut() -> f64, noise: &mut impl Noise) -> Vec<f32> {
        let mut pictures = vec![0.0; 2 * count];
        noise.fill(&mut pictures);
        for picture in pictures.chunks_exact_mut(2) {
            let blob = self.pick(unit());
            for (value, mean) in picture.iter_mut().zip(blob.mean) {
                *value = (mean + blob.deviation * f64::from(*value)) as f32;
            }
        }
        pictures
    }

    fn pick(&self, mut at: f64) -> &Blob {
        let found = self.blobs.iter().find(|blob| {
            at -= blob.weight;
            at < 0.0
        });
        found.unwrap_or(&self.blobs[self.blobs.len() - 1])
    }

    /// The logarithm of each Gaussian's weighted density.
    fn logs(&self, x: [f64; 2]) -> impl Iterator<Item = f64> + '_ {
        self.blobs.iter().zip(&self.peaks).map(move |(b, peak)| {
            let squared = (x[0] - b.mean[0]).powi(2) + (x[1] - b.mean[1]).powi(2);
            peak - squared / (2.0 * b.deviation * b.deviation)
        })
    }
}

fn ridge(i: usize) -> Blob {
    let u = 2.0 * i as f64 / (RIDGE - 1) as f64 - 1.0;
    let bend = 0.26 * (1.0 - u * u);
    let weight = Subject::Surface.share() / RIDGE as f64;
    Blob { subject: Subject::Surface, weight, mean: [0.78 * u + bend, 0.78 * u - bend], deviation: 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use undiffuse::sampler::TorchNoise;

    #[test]
    fn density_sums_to_one() {
        for mixture in [Mixture::camera(), Mixture::camera().diffused(0.6, 0.8)] {
            let step = 0.02;
            let at = |i: i32| f64::from(i) * step;
            let cells = (-250..250).flat_map(|i| (-250..250).map(move |j| [at(i), at(j)]));
            let sum: f64 = cells.map(|x| mixture.density(x)).sum::<f64>() * step * step;
            assert!((sum - 1.0).abs() < 1e-4, "{sum}");
        }
    }

    #[test]
    fn score_is_the_slope_of_the_log_density() {
        for mixture in [Mixture::camera(), Mixture::camera().diffused(0.6, 0.8)] {
            for x in [[0.1, 0.0], [-0.5, 0.5], [0.9, 0.7], [-0.2, 0.3]] {
                let log = |dx: f64, dy: f64| mixture.density([x[0] + dx, x[1] + dy]).ln();
                let h = 1e-5;
                let want = [(log(h, 0.0) - log(-h, 0.0)) / (2.0 * h), (log(0.0, h) - log(0.0, -h)) / (2.0 * h)];
                let got = mixture.score(x);
                assert!((0..2).all(|i| (got[i] - want[i]).abs() < 1e-5 * want[i].abs().max(1.0)), "{got:?} {want:?}");
            }
        }
    }

    #[test]
    fn score_far_away_is_finite() {
        assert!(Mixture::camera().score([40.0, -40.0]).iter().all(|s| s.is_finite() && s.abs() > 1.0));
    }

    #[test]
    fn shares_and_range_are_as_stated() {
        let mixture = Mixture::camera();
        let mut state = 0u32;
        let unit = || {
            state = state.wrapping_add(0x9e37_79b9);
            f64::from(state) / 2f64.powi(32)
        };
        let pictures = mixture.draw(100_000, unit, &mut TorchNoise::new(3));
        assert!(pictures.iter().filter(|v| v.abs() > 1.0).count() < 20);
        for subject in Subject::ALL {
            let is = |p: &&[f32]| mixture.subject([f64::from(p[0]), f64::from(p[1])]) == subject;
            let share = pictures.chunks_exact(2).filter(is).count() as f64 / 1e5;
            assert!((share - subject.share()).abs() < 0.01, "{subject:?}: {share}");
        }
    }
}
