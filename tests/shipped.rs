//! The model that the repository ships, through the command that a newcomer runs first.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use undiffuse::engine::{self, Backend, Threads};
use undiffuse::model::Graph;
use undiffuse::value::Tensor;

fn generate(prompt: &str, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    command
        .env_remove("UNDIFFUSE_MODEL")
        .env("UNDIFFUSE_CACHE", "")
        .args(["generate", prompt, "-o"])
        .arg(out)
        .args(more);
    command.output().expect("the program starts")
}

fn made(prompt: &str, more: &[&str]) -> (Vec<u8>, image::RgbImage) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("picture.png");
    let output = generate(prompt, &out, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(&out).expect("a picture");
    let picture = image::load_from_memory(&bytes).expect("a PNG").to_rgb8();
    (bytes, picture)
}

/// Standard deviation of all values, of 255.
fn contrast(picture: &image::RgbImage) -> f64 {
    let values: Vec<f64> = picture.as_raw().iter().map(|v| f64::from(*v)).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

#[test]
fn the_first_command_makes_a_picture() {
    let (bytes, picture) = made("a red apple", &["--seed", "1"]);
    assert_eq!(picture.dimensions(), (256, 256));
    assert!(contrast(&picture) > 20.0, "the picture is nearly blank: {}", contrast(&picture));
    assert!(bytes.windows(11).any(|w| w == b"a red apple"), "the PNG carries its prompt");
    let again = made("a red apple", &["--seed", "1", "--threads", "1"]);
    assert!(bytes == again.0, "same seed, other bytes");
}

#[test]
fn native_size_is_what_was_decoded() {
    assert_eq!(made("a blue heart", &["--seed", "1", "--native"]).1.dimensions(), (64, 64));
}

/// Edges are steeper than an interpolation's, and it is the same drawing.
#[test]
fn the_upscaler_sharpens_what_is_shown() {
    let [with, without] = [&["--seed", "1"][..], &["--seed", "1", "--no-upscaler"]].map(|more| made("rocket", more).1);
    let steepest = |picture: &image::RgbImage| {
        let line = picture.as_raw().chunks_exact(3 * 256);
        let mut steps: Vec<u8> = line.flat_map(|line| line.windows(4).map(|w| w[0].abs_diff(w[3]))).collect();
        steps.sort_unstable();
        let hundredth = &steps[steps.len() - steps.len() / 100..];
        hundredth.iter().map(|step| f64::from(*step)).sum::<f64>() / hundredth.len() as f64
    };
    let (sharp, soft) = (steepest(&with), steepest(&without));
    assert!(sharp > 1.2 * soft, "steepest steps {sharp:.1} with it, {soft:.1} without");
    let squares = with.as_raw().iter().zip(without.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    let psnr = 10.0 * (255.0_f64.powi(2) * with.as_raw().len() as f64 / squares.sum::<f64>()).log10();
    assert!(psnr > 20.0, "{psnr:.1} dB from the interpolated picture");
}

#[test]
fn prompts_and_seeds_matter() {
    let apple = made("a red apple", &["--seed", "1"]).1;
    // The model knows its drawings by heart: another seed gives nearly the same one.
    for (prompt, seed, least) in [("a green tree", "1", 4.0), ("a red apple", "2", 1.0)] {
        let other = made(prompt, &["--seed", seed]).1;
        let apart = apple.as_raw().iter().zip(other.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
        assert!(apart / apple.as_raw().len() as f64 > least, "{prompt}, seed {seed}: the same picture");
    }
}

fn played(stage: &str, input: &str, values: Tensor, output: &str) -> Vec<f32> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64").join(stage).join("model.onnx");
    let graph = Graph::open(&file).expect("a graph");
    let mut engine = engine::load(graph, Backend::Auto, &Threads::new(None).expect("threads")).expect("an engine");
    engine.run(&[(input, &values)]).expect("a run").take(output).expect("an output").into_f32()
}

#[test]
fn the_encoder_gives_the_latents_that_the_decoder_takes() {
    let picture = made("a blue heart", &["--seed", "1", "--native"]).1;
    let planes = (0..3).flat_map(|c| picture.pixels().map(move |pixel| f32::from(pixel.0[c]) / 127.5 - 1.0));
    let planes: Vec<f32> = planes.collect();
    let input = Tensor::new(&[1, 3, 64, 64], planes.clone()).expect("a picture");
    let latents = played("vae_encoder", "sample", input, "latent_sample");
    let scale = (latents.iter().map(|z| z * z).sum::<f32>() / latents.len() as f32).sqrt();
    assert!((0.3..3.0).contains(&scale), "latents should be about unit normal, root mean square {scale}");
    let input = Tensor::new(&[1, 4, 16, 16], latents).expect("latents");
    let back = played("vae_decoder", "latent_sample", input, "sample");
    let squares = planes.iter().zip(&back).map(|(a, b)| f64::from(a - b.clamp(-1.0, 1.0)).powi(2));
    let psnr = -10.0 * (squares.sum::<f64>() / planes.len() as f64 / 4.0).log10();
    println!("PSNR {psnr:.1} dB");
    assert!(psnr >= 25.0, "the picture comes back at {psnr:.1} dB");
}
