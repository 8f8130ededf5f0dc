use core::f64::consts::TAU;

use super::Noise;

const STATE: usize = 624;
const SHIFT: usize = 397;

/// Values that torch's vectorised path makes at a time: eight pairs of the Box-Muller transform.
const BLOCK: usize = 16;

/// `torch.randn` of f32 with a CPU generator: the 32-bit Mersenne Twister (Matsumoto & Nishimura 1998) and torch's Box-Muller
/// transforms (`aten/src/ATen/native/cpu/DistributionTemplates.h`, `ATen/core/DistributionsHelper.h`).
///
/// A draw of 16 values or more is made in blocks of 16 from 24-bit uniforms; a smaller one value by value from 53-bit uniforms,
/// keeping the second value of a pair for the next small draw. Agrees with torch to 2e-6·max(1, |x|).
#[derive(Clone, Debug)]
pub struct TorchNoise {
    state: [u32; STATE],
    next: usize,
    kept: Option<f64>,
}

impl TorchNoise {
    /// The generator after `torch.Generator("cpu").manual_seed(seed)`, which uses the low 32 bits.
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; STATE];
        state[0] = seed as u32;
        for i in 1..STATE {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        TorchNoise { state, next: STATE, kept: None }
    }

    fn word(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..STATE {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + SHIFT) % STATE] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// Uniform on [0, 1), 24 bits.
    fn uniform_f32(&mut self) -> f32 {
        (self.word() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// Uniform on [0, 1), 53 bits of a high and a low word.
    fn uniform_f64(&mut self) -> f64 {
        let word = (u64::from(self.word()) << 32) | u64::from(self.word());
        (word & ((1 << 53) - 1)) as f64 / 9_007_199_254_740_992.0
    }

    /// One value of a small draw: `normal_distribution<double>`.
    fn single(&mut self) -> f32 {
        if let Some(kept) = self.kept.take() {
            return kept as f32;
        }
        let angle = TAU * self.uniform_f64();
        let radius = libm::sqrt(-2.0 * libm::log1p(-self.uniform_f64()));
        self.kept = Some(radius * libm::sin(angle));
        (radius * libm::cos(angle)) as f32
    }

    fn block(&mut self, out: &mut [f32]) {
        out.iter_mut().for_each(|u| *u = self.uniform_f32());
        transform(out);
    }
}

/// `normal_fill_16`: value j and value j + 8 of uniforms become a pair of normals. The angle is rounded to f32 as in torch,
/// where the rounding is worth up to 1.4e-6 in the result.
fn transform(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (u, v) in first.iter_mut().zip(second) {
        let radius = libm::sqrt(-2.0 * libm::log(f64::from(1.0 - *u)));
        let angle = f64::from(core::f32::consts::TAU * *v);
        (*u, *v) = ((radius * libm::cos(angle)) as f32, (radius * libm::sin(angle)) as f32);
    }
}

impl Noise for TorchNoise {
    fn fill(&mut self, out: &mut [f32]) {
        if out.len() < BLOCK {
            out.iter_mut().for_each(|z| *z = self.single());
            return;
        }
        // All uniforms are drawn before the odd end is drawn anew over the last 16 values.
        let whole = out.len() / BLOCK * BLOCK;
        out.chunks_exact_mut(BLOCK).for_each(|block| self.block(block));
        let rest = out.len() - whole;
        if rest > 0 {
            for _ in 0..rest {
                self.word();
            }
            let from = out.len() - BLOCK;
            self.block(&mut out[from..]);
        }
    }
}
