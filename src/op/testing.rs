//! What tests of kernels share.

use crate::engine::Threads;
use std::num::NonZeroUsize;

/// Numbers near a normal distribution, the same for the same seed.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 1.732 - 3.464).collect()
}

/// Fails unless the sum of squared errors is less than `bound` times the sum of squares.
pub(crate) fn close(got: &[f32], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let error: f64 = got.iter().zip(expected).map(|(&got, expected)| (f64::from(got) - expected).powi(2)).sum();
    let power: f64 = expected.iter().map(|expected| expected.powi(2)).sum();
    assert!(error <= bound * power.max(1e-30), "{what}: NMSE {:.3e}", error / power.max(1e-30));
}

/// `count` threads.
pub(crate) fn threads(count: usize) -> Threads {
    Threads::new(NonZeroUsize::new(count)).unwrap()
}
