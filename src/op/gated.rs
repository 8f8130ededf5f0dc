//! Gated activations: GEGLU and SwiGLU (Shazeer 2020), one half of a row times the activation of the other.

use super::activation::Activation;
use super::matrix::Cpu;
use super::tasks;
use pulp::{Simd, WithSimd};

/// Floats of the output of one task.
const TASK: usize = 16 * 1024;

/// `(M, 2N)` to `(M, N)`: `hidden * activation(gate)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gated {
    /// M.
    pub(crate) rows: usize,
    /// N.
    pub(crate) width: usize,
    pub(crate) activation: Activation,
    /// Whether the gate is the second half, as in diffusers' GEGLU; otherwise the first.
    pub(crate) gate_last: bool,
}

impl Gated {
    /// Writes all of `output`.
    ///
    /// # Panics
    /// When the sizes do not fit each other.
    pub(crate) fn run(&self, cpu: Cpu, input: &[f32], output: &mut [f32]) {
        assert_eq!(input.len(), self.rows * 2 * self.width, "input of {self:?}");
        assert_eq!(output.len(), self.rows * self.width, "output of {self:?}");
        if output.is_empty() {
            return;
        }
        tasks::runs(cpu.threads, output, (TASK / self.width).max(1) * self.width, |start, output| {
            cpu.arch.dispatch(Task { gated: self, input: &input[2 * start..][..2 * output.len()], output });
        });
    }
}

struct Task<'a> {
    gated: &'a Gated,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Gated { width, activation, gate_last, .. } = *self.gated;
        for (row, out) in self.input.chunks_exact(2 * width).zip(self.output.chunks_exact_mut(width)) {
            let (first, second) = row.split_at(width);
            let (hidden, gate) = if gate_last { (first, second) } else { (second, first) };
            let ((hs, h_tail), (gs, g_tail)) = (S::as_simd_f32s(hidden), S::as_simd_f32s(gate));
            let (to, to_tail) = S::as_mut_simd_f32s(out);
            for (to, (&h, &g)) in to.iter_mut().zip(hs.iter().zip(gs)) {
                *to = simd.mul_f32s(h, activation.apply(simd, g));
            }
            if !to_tail.is_empty() {
                let (h, g) = (simd.partial_load_f32s(h_tail), simd.partial_load_f32s(g_tail));
                simd.partial_store_f32s(to_tail, simd.mul_f32s(h, activation.apply(simd, g)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::simd::tests::paths;
    use crate::op::testing::{close, noise, threads};

    #[test]
    fn halves_are_multiplied() {
        for (rows, width, activation, gate_last) in [
            (1, 1, Activation::Gelu, true),
            (7, 37, Activation::Silu, false),
            (90, 640, Activation::GeluTanh, true),
            (3, 20_000, Activation::Sigmoid, false),
        ] {
            let gated = Gated { rows, width, activation, gate_last };
            let input = noise(rows * 2 * width, 9);
            let expected: Vec<f64> = input
                .chunks(2 * width)
                .flat_map(|row| {
                    (0..width).map(move |i| {
                        let (first, second) = (f64::from(row[i]), f64::from(row[width + i]));
                        let (hidden, gate) = if gate_last { (first, second) } else { (second, first) };
                        hidden * activation.real(gate)
                    })
                })
                .collect();
            for (arch, count) in paths().into_iter().flat_map(|arch| [(arch, 1), (arch, 2)]) {
                let mut output = vec![7.0; rows * width];
                gated.run(Cpu { arch, threads: &threads(count) }, &input, &mut output);
                close(&output, &expected, 1e-12, &format!("{gated:?}"));
            }
        }
    }
}
