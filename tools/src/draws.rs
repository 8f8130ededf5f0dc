//! Seeded choices.

/// Seeded draws (SplitMix64, Steele et al. 2014).
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n.
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

/// A seed for `name` under `seed`: FNV-1a over both.
pub fn mix(seed: u64, name: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn some_are_different_and_each_is_as_likely() {
        let mut draws = Draws::new(3);
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
    fn seed_and_name_determine_what_is_drawn() {
        let first = |seed, name: &str| Draws::new(mix(seed, name)).unit();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert!(
            first(1, "a") != first(1, "b")
                && first(1, "a") != first(2, "a")
                && first(1, "a") != first(1 | 1 << 40, "a")
        );
    }
}
