//! The model that the repository ships, through the command that a newcomer runs first.

use std::path::Path;
use std::process::{Command, Output};

fn generate(prompt: &str, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    command.env_remove("UNDIFFUSE_MODEL").args(["generate", prompt, "-o"]).arg(out).args(more);
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

#[test]
fn prompts_and_seeds_matter() {
    let apple = made("a red apple", &["--seed", "1"]).1;
    for (prompt, seed) in [("a green tree", "1"), ("a red apple", "2")] {
        let other = made(prompt, &["--seed", seed]).1;
        let apart = apple.as_raw().iter().zip(other.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
        assert!(apart / apple.as_raw().len() as f64 > 4.0, "{prompt}, seed {seed}: the same picture");
    }
}
