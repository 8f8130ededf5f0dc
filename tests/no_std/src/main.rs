//! Proves by linking that the sampler core needs neither the standard library nor a heap: this program has a panic handler of its
//! own and no allocator, so a crate in its tree that uses either is a compile or link error. It runs every sampler on a closed-form
//! model and exits with 0 if all latents stay finite.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use undiffuse::sampler::{
    AnyNoise, Langevin, Noise, NoiseKind, SamplerError, SamplerKind, SamplerOptions, Schedule, ScheduleConfig,
    StepTable, annealed_langevin, geometric_levels, guidance_embedding, guide, multistep_consistency,
};

const SIZE: usize = 64;
const STEPS: usize = 8;

// The C library's start-up code calls main; nothing else of it is used.
#[link(name = "c")]
unsafe extern "C" {}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    loop {}
}

/// The shipped `core` is built to unwind and names this function of `std`; with `panic = "abort"` nothing calls it. Were `std` in
/// the tree, it would be defined twice.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    match every_sampler().and_then(|()| lineage()) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn every_sampler() -> Result<(), SamplerError> {
    for &kind in SamplerKind::ALL {
        for &noise in NoiseKind::ALL {
            let x = run(kind, &mut AnyNoise::new(noise, 42))?;
            finite(&x)?;
        }
    }
    Ok(())
}

fn run(kind: SamplerKind, noise: &mut AnyNoise) -> Result<[f32; SIZE], SamplerError> {
    let config = ScheduleConfig::of_class(kind);
    let schedule = Schedule::<1000>::new(&config)?;
    let table = StepTable::<STEPS>::with_schedule(&schedule, &config, &SamplerOptions::new(kind, STEPS))?;
    let mut x = [0.0; SIZE];
    noise.fill(&mut x);
    table.scale_initial_noise(&mut x);
    let (mut input, mut output, mut z, mut x0) = ([0.0; SIZE], [0.0; SIZE], [0.0; SIZE], [0.0; SIZE]);
    for i in 0..table.steps() {
        table.scale_input(i, &x, &mut input)?;
        output.iter_mut().zip(&input).for_each(|(m, x)| *m = 0.5 * x);
        guide(&input, &mut output, 1.5)?;
        let drawn = table.needs_noise(i).then(|| noise.fill(&mut z)).map(|()| &z[..]);
        table.advance(i, &mut x, &output, drawn, &mut x0)?;
    }
    Ok(x)
}

fn lineage() -> Result<(), SamplerError> {
    let mut noise = AnyNoise::new(NoiseKind::Torch, 1);
    let (mut x, mut score, mut z) = ([1.0; SIZE], [0.0; SIZE], [0.0; SIZE]);
    let mut levels = [0.0; 4];
    geometric_levels(2.0, 0.1, &mut levels)?;
    let pull = |x: &[f32], _: f32, out: &mut [f32]| out.iter_mut().zip(x).for_each(|(s, x)| *s = -x);
    let options = Langevin { step_size: 0.01, steps_per_level: 10 };
    annealed_langevin(&mut x, &levels, options, pull, &mut noise, &mut score, &mut z)?;
    finite(&x)?;
    let shrink = |x: &mut [f32], _: f32| x.iter_mut().for_each(|x| *x *= 0.1);
    multistep_consistency(&mut x, &[80.0, 1.0], 0.002, shrink, &mut noise, &mut z)?;
    guidance_embedding(7.5, &mut z);
    finite(&x)?;
    finite(&z)
}

fn finite(x: &[f32]) -> Result<(), SamplerError> {
    if x.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(SamplerError::NotFinite { step: 0 }) }
}
