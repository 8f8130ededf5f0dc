use core::f32::consts::TAU;

use super::Noise;

/// 2⁻³².
const WIDTH: f32 = 1.0 / 4_294_967_296.0;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3): four random words for a
/// counter and a key.
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let left = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let right = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
    }
    counter
}

/// `torch.randn` of f32 on CUDA, as A1111's "GPU" seeds mean it: Philox keyed by the seed, one counter a value, and the first
/// half of cuRAND's Box-Muller pair.
///
/// torch gives each value a thread of its own as long as the GPU holds that many threads at once (43,008 on an RTX 3060, 270,336
/// on an H100); latents of SD and SDXL stay below. Larger draws differ from GPU to GPU and are laid out here as on one that is
/// large enough.
#[derive(Clone, Debug)]
pub struct PhiloxNoise {
    key: [u32; 2],
    draws: u64,
}

impl PhiloxNoise {
    /// The generator after `torch.cuda.manual_seed(seed)`.
    pub fn new(seed: u64) -> Self {
        PhiloxNoise { key: words(seed), draws: 0 }
    }
}

impl Noise for PhiloxNoise {
    fn fill(&mut self, out: &mut [f32]) {
        let draw = words(self.draws);
        for (i, z) in out.iter_mut().enumerate() {
            let thread = words(i as u64);
            let [u, v, ..] = philox4x32_10([draw[0], draw[1], thread[0], thread[1]], self.key);
            *z = normal(u, v);
        }
        self.draws += 1;
    }
}

/// The low and the high half.
fn words(wide: u64) -> [u32; 2] {
    [wide as u32, (wide >> 32) as u32]
}

/// The first value of cuRAND's Box-Muller transform (`_curand_box_muller` of `curand_normal.h`): words become the middles of
/// 2⁻³² wide intervals, in f32 as on the GPU, which matters where `u` is close to 1.
fn normal(u: u32, v: u32) -> f32 {
    let u = libm::fmaf(u as f32, WIDTH, WIDTH / 2.0);
    let v = libm::fmaf(v as f32, WIDTH * TAU, WIDTH * TAU / 2.0);
    let radius = libm::sqrt(-2.0 * libm::log(f64::from(u)));
    (radius * libm::sin(f64::from(v))) as f32
}
