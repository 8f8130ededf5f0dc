//! Noise against torch 2.11's CPU generator (`tools/python/goldens_noise.py`) and against published numbers of Philox and of
//! torch's CUDA generator.
#![cfg(feature = "std")]

use std::path::Path;

use serde_json::Value;
use undiffuse::sampler::{AnyNoise, Noise, NoiseKind, PhiloxNoise, TorchNoise, philox4x32_10};

/// Of max(1, |x|).
const TOLERANCE: f64 = 2e-6;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sampler/noise_torch.json");
    serde_json::from_str(&std::fs::read_to_string(&path).expect("the golden file")).expect("JSON")
}

/// Which values of a draw of `n` the golden file keeps.
fn kept(n: usize) -> Vec<usize> {
    (0..n).filter(|&i| n <= 100 || i < 20 || i % 97 == 0 || i >= n - 20).collect()
}

/// The largest difference over `max(1, |want|)`.
fn worst(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let off = |(g, w): (&f32, &f64)| (f64::from(*g) - w).abs() / w.abs().max(1.0);
    got.iter().zip(want).map(off).fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) })
}

#[test]
fn torch_noise_matches_torch() {
    let golden = golden();
    let runs = golden["runs"].as_array().expect("runs");
    let mut failures = Vec::new();
    let mut overall = 0.0f64;
    for run in runs {
        let seed = run["seed"].as_u64().expect("a seed");
        let mut noise = TorchNoise::new(seed);
        for (i, (size, draw)) in
            run["sizes"].as_array().unwrap().iter().zip(run["draws"].as_array().unwrap()).enumerate()
        {
            let mut all = vec![f32::NAN; size.as_u64().unwrap() as usize];
            noise.fill(&mut all);
            let got: Vec<f32> = kept(all.len()).into_iter().map(|i| all[i]).collect();
            let want: Vec<f64> = draw.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let d = worst(&got, &want);
            overall = overall.max(d);
            if d > TOLERANCE {
                failures.push(format!("seed {seed}, sizes {}, draw {i}: {d:.1e} off", run["sizes"]));
            }
        }
    }
    println!("{} runs, worst {overall:.1e} of max(1, |x|)", runs.len());
    assert!(runs.len() >= 60, "only {} runs", runs.len());
    assert!(failures.is_empty(), "failed:\n{}", failures.join("\n"));
}

#[test]
fn an_empty_draw_changes_nothing() {
    let (mut a, mut b) = (TorchNoise::new(5), TorchNoise::new(5));
    let (mut x, mut y) = ([0.0; 20], [0.0; 20]);
    a.fill(&mut []);
    a.fill(&mut x);
    b.fill(&mut y);
    assert_eq!(x, y);
}

#[test]
fn philox_matches_the_known_answers_of_random123() {
    // kat_vectors of Random123 (Salmon et al. 2011): counter, key, result.
    let vectors = [
        ([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
        (
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
            [0xa4093822, 0x299f31d0],
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
        ),
    ];
    let wrong: Vec<_> = vectors.iter().filter(|(counter, key, want)| philox4x32_10(*counter, *key) != *want).collect();
    assert!(wrong.is_empty(), "{wrong:x?}");
}

#[test]
fn philox_noise_matches_published_cuda_draws() {
    // `torch.manual_seed(0); torch.randn(3, 4, device="cuda")`, as A1111's rng_philox.py documents it to eight digits.
    let want = [
        -0.92466259,
        -0.42534415,
        -2.6438457,
        0.14518388,
        -0.12086647,
        -0.57972564,
        -0.62285122,
        -0.32838709,
        -1.07454231,
        -0.36314407,
        -1.67105067,
        2.26550497,
    ];
    let mut got = [0.0; 12];
    PhiloxNoise::new(0).fill(&mut got);
    let d = worst(&got, &want);
    assert!(d <= TOLERANCE, "{d:.1e} off: {got:?}");
}

#[test]
fn philox_draws_are_independent_of_their_size_and_of_each_other() {
    let (mut long, mut short) = ([0.0; 64], [0.0; 8]);
    let mut noise = PhiloxNoise::new(1 << 40);
    noise.fill(&mut long);
    PhiloxNoise::new(1 << 40).fill(&mut short);
    assert_eq!(long[..8], short, "a value depends on its position alone");
    noise.fill(&mut short);
    assert!(long[..8].iter().zip(&short).all(|(a, b)| a != b), "the second draw repeats the first");
    let mut other = [0.0; 8];
    PhiloxNoise::new(0).fill(&mut other);
    assert!(long[..8].iter().zip(&other).all(|(a, b)| a != b), "the high half of the seed is ignored");
}

#[test]
fn both_kinds_are_standard_normal() {
    for &kind in NoiseKind::ALL {
        let mut x = vec![0.0f32; 40_000];
        AnyNoise::new(kind, 11).fill(&mut x);
        let n = x.len() as f64;
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let variance = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n - mean * mean;
        // Five standard errors: 1/√n and √(2/n).
        assert!(mean.abs() < 0.025 && (variance - 1.0).abs() < 0.036, "{kind}: mean {mean}, variance {variance}");
    }
}
