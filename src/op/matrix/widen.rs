//! Packed f16 and int8 weights to f32.
//!
//! pulp has no conversion of 16-bit floats, and `half` calls a function for every eight of them, four times slower than memory: so these two
//! loops are compiled for AVX2 and F16C by hand, beside the portable ones that give the same bits.

use super::pack::PANEL;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// `to[i] = from[i]`.
pub(crate) fn widen(from: &[f16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "as many floats");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") && is_x86_feature_detected!("avx") {
        // SAFETY: the features are there.
        return unsafe { x86::widen(from, to) };
    }
    from.convert_to_f32_slice(to);
}

/// `to[k][n] = codes[k][n] * scales[n]`.
pub(crate) fn dequantize(codes: &[i8], scales: &[f32; PANEL], to: &mut [f32]) {
    assert_eq!(codes.len(), to.len(), "as many floats");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the feature is there.
        return unsafe { x86::dequantize(codes, scales, to) };
    }
    dequantize_rows(codes, scales, to);
}

#[inline(always)]
fn dequantize_rows(codes: &[i8], scales: &[f32; PANEL], to: &mut [f32]) {
    for (row, codes) in to.as_chunks_mut::<PANEL>().0.iter_mut().zip(codes.as_chunks::<PANEL>().0) {
        for n in 0..PANEL {
            row[n] = f32::from(codes[n]) * scales[n];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{PANEL, dequantize_rows, f16};
    use half::slice::HalfFloatSliceExt;
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};

    #[target_feature(enable = "avx,f16c")]
    pub(super) fn widen(from: &[f16], to: &mut [f32]) {
        let (eights, rest) = from.as_chunks::<8>();
        let (wide, wide_rest) = to.as_chunks_mut::<8>();
        for (from, to) in eights.iter().zip(wide) {
            // SAFETY: eight halves are read, eight floats written, alignment is not asked for.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) };
        }
        rest.convert_to_f32_slice(wide_rest);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn dequantize(codes: &[i8], scales: &[f32; PANEL], to: &mut [f32]) {
        dequantize_rows(codes, scales, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_as_half_does_it() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).chain([f16::ONE; 3]).collect();
        let mut wide = vec![0f32; all.len()];
        widen(&all, &mut wide);
        for (half, float) in all.iter().zip(&wide) {
            assert!(half.to_f32().to_bits() == float.to_bits() || half.is_nan() && float.is_nan(), "{half:?} {float}");
        }
    }

    #[test]
    fn codes_are_multiplied_by_their_column() {
        let codes: Vec<i8> = (0..PANEL * 16).map(|i| (i as u8) as i8).collect();
        let scales = std::array::from_fn(|n| n as f32 * 0.25);
        let mut wide = vec![0f32; codes.len()];
        dequantize(&codes, &scales, &mut wide);
        assert!(wide.iter().enumerate().all(|(i, w)| *w == f32::from(codes[i]) * scales[i % PANEL]));
    }
}
