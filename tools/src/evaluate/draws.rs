//! Seeded choices.

use undiffuse::sampler::philox4x32_10;

/// Uniform numbers that a seed and a purpose determine, whatever else was drawn.
pub struct Draws {
    key: [u32; 2],
    counter: u32,
    purpose: u32,
}

impl Draws {
    pub fn new(seed: u64, purpose: u32) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], counter: 0, purpose }
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        let [high, low, ..] = philox4x32_10([self.counter, self.purpose, 0, 0], self.key);
        self.counter = self.counter.wrapping_add(1);
        let bits = u64::from(high) << 32 | u64::from(low);
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n; `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// `count` different numbers below `n`, in random order; all of them if there are fewer (Fisher and Yates).
    pub fn some(&mut self, count: usize, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        let count = count.min(n);
        (0..count).for_each(|i| all.swap(i, i + self.below(n - i)));
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn some_are_different_and_each_is_as_likely() {
        let mut draws = Draws::new(3, 1);
        let mut counts = [0; 5];
        for _ in 0..5000 {
            let some = draws.some(2, 5);
            assert_eq!(some.iter().collect::<BTreeSet<_>>().len(), 2);
            some.iter().for_each(|i| counts[*i] += 1);
        }
        assert!(counts.iter().all(|n| (1850..2150).contains(n)), "{counts:?}");
        assert_eq!(draws.some(9, 3).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn seed_and_purpose_determine_what_is_drawn() {
        let first = |seed, purpose| Draws::new(seed, purpose).unit();
        assert_eq!(first(1, 2), first(1, 2));
        assert!(first(1, 2) != first(1, 3) && first(1, 2) != first(2, 2) && first(1, 2) != first(1 | 1 << 40, 2));
    }
}
