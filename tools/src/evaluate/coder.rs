//! Pictures through a model's own autoencoder: the best copy that it can make.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use undiffuse::engine::{self, Backend, Engine, Threads};
use undiffuse::model::Graph;
use undiffuse::pipeline::Picture;
use undiffuse::value::Tensor;

use crate::dataset::pack::SIDE;

/// The folders of the stages, in the order in which pictures go through them.
const STAGES: [&str; 2] = ["vae_encoder", "vae_decoder"];

/// Pictures of 64x64, planar RGB in [-1, 1] each, encoded and decoded.
///
/// # Errors
/// If the model has no encoder, or a graph cannot be run on pictures of this size.
pub fn through(model: &Path, pictures: &[Vec<f32>], threads: &Threads) -> Result<Vec<Picture>> {
    let mut stages = vec![];
    for stage in STAGES {
        stages.push(engine::load(Graph::open(model.join(stage).join("model.onnx"))?, Backend::Auto, threads)?);
    }
    let one = |planes: &Vec<f32>| {
        let picture = Tensor::new(&[1, 3, SIDE, SIDE], planes.clone())?;
        let decoded = stages.iter_mut().try_fold(picture, |value, stage| run(stage.as_mut(), &value))?;
        Ok(Picture::from_decoded(decoded)?)
    };
    pictures.iter().map(one).collect()
}

/// A graph with one input, and its first output.
fn run(stage: &mut dyn Engine, value: &Tensor) -> Result<Tensor> {
    ensure!(stage.inputs().len() == 1, "a stage of an autoencoder has one input, not {}", stage.inputs().len());
    let input = stage.inputs()[0].name.clone();
    let output = stage.outputs().first().context("a graph without outputs")?.name.clone();
    Ok(stage.run(&[(&input, value)])?.take(&output)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A red disc on white through the model in this repository.
    #[test]
    fn a_picture_comes_back() {
        let inside = |i: usize| (i % SIDE).abs_diff(32).pow(2) + (i / SIDE % SIDE).abs_diff(32).pow(2) < 400;
        let value = |i: usize| if inside(i) && i >= SIDE * SIDE { -1.0 } else { 1.0 };
        let planes: Vec<f32> = (0..3 * SIDE * SIDE).map(value).collect();
        let model = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/sticker-64"));
        let back = through(model, std::slice::from_ref(&planes), &Threads::new(None).unwrap()).unwrap();
        let at = |x: usize, y: usize| [0, 1, 2].map(|c| back[0].rgb()[3 * (y * SIDE + x) + c]);
        let near = |a: [u8; 3], b: [u8; 3]| a.iter().zip(b).all(|(a, b)| a.abs_diff(b) < 30);
        assert!(near(at(32, 32), [255, 0, 0]) && near(at(3, 3), [255; 3]), "{:?} {:?}", at(32, 32), at(3, 3));
    }
}
