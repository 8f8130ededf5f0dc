//! Which drawing of the gallery is nearest by cosine, and how sure a share is.

use std::fmt;

use serde::Serialize;

/// A share of `of`, with its 95 % Wilson score interval (Wilson 1927).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    pub hits: usize,
    pub of: usize,
    pub percent: f64,
    pub low: f64,
    pub high: f64,
}

impl Share {
    /// `of` must not be 0 for the percentages to be numbers.
    pub fn new(hits: usize, of: usize) -> Self {
        let (z, n) = (1.959_963_984_540_054_f64, of as f64);
        let (p, z2) = (hits as f64 / n, z * z);
        let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        Self { hits, of, percent: 100.0 * p, low: 100.0 * (middle - half), high: 100.0 * (middle + half) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % ({:.1} to {:.1})", self.percent, self.low, self.high)
    }
}

/// From 0: how many of the gallery are at least as near to `query` as its own, `gallery[own]`. Ties count against it.
pub fn rank(query: &[f32], gallery: &[Vec<f32>], own: usize) -> usize {
    let wanted = cosine(query, &gallery[own]);
    gallery.iter().enumerate().filter(|(i, other)| *i != own && cosine(query, other) >= wanted).count()
}

/// 1 for the same direction, 0 for a right angle.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_by_angle_not_length() {
        let gallery = vec![vec![1.0, 0.0], vec![10.0, 10.0], vec![0.0, 0.1]];
        assert_eq!([0, 1, 2].map(|own| rank(&[0.2, 1.0], &gallery, own)), [2, 1, 0]);
        let twins = vec![vec![1.0, 0.0], vec![2.0, 0.0]];
        assert_eq!(rank(&[1.0, 0.0], &twins, 0), 1, "a tie is no hit");
    }

    /// n = 10, 5 hits: centre 0.5, half width 1.95996 / 1.384146 * sqrt(0.025 + 0.0096036).
    #[test]
    fn wilson_by_hand() {
        let half = Share::new(5, 10);
        assert!((half.low - 23.659).abs() < 0.01 && (half.high - 76.341).abs() < 0.01, "{half:?}");
        let none = Share::new(0, 10);
        assert!(none.low.abs() < 1e-9 && (none.high - 27.754).abs() < 0.01, "{none:?}");
    }
}
