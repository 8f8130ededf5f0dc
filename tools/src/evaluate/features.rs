//! Vectors of pictures by a network, EfficientNet-Lite0 or another, run by the runtime itself.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use undiffuse::engine::{self, Backend, Engine, Threads};
use undiffuse::model::Graph;
use undiffuse::pipeline::{Picture, Size};
use undiffuse::value::Tensor;

/// Pictures a run.
const BATCH: usize = 8;

/// A network from pictures `(N, 3, S, S)` in [0, 1] to vectors `(N, D)`, loaded.
pub struct Features {
    engine: Box<dyn Engine>,
    input: String,
    output: String,
    /// Width and height of what it looks at.
    side: usize,
}

impl Features {
    /// # Errors
    /// If the graph cannot be run or has not one input and one output.
    pub fn open(file: &Path, threads: &Threads) -> Result<Self> {
        let engine = engine::load(Graph::open(file)?, Backend::Auto, threads)?;
        let (inputs, outputs) = (engine.inputs(), engine.outputs());
        ensure!(
            inputs.len() == 1 && outputs.len() == 1,
            "{}: a features network has one input and one output; make it with a script of tools/python",
            file.display()
        );
        let (input, output) = (inputs[0].name.clone(), outputs[0].name.clone());
        let side = inputs[0].fixed(2).filter(|side| inputs[0].fixed(3) == Some(*side));
        let side = side.with_context(|| format!("{}: its input {input:?} is not square and fixed", file.display()))?;
        Ok(Self { engine, input, output, side })
    }

    /// A vector a picture.
    ///
    /// # Errors
    /// If the network fails or gives anything but finite `(N, D)`.
    pub fn of(&mut self, pictures: &[Picture]) -> Result<Vec<Vec<f32>>> {
        let side = self.side;
        batched(pictures, |batch| {
            let planes: Vec<f32> =
                batch.par_iter().map(|picture| planes(picture, side)).collect::<Result<Vec<_>>>()?.concat();
            let input = Tensor::new(&[batch.len(), 3, side, side], planes)?;
            let output = self.engine.run(&[(&self.input, &input)])?.take(&self.output)?;
            output.check_finite("the features")?;
            let shape = output.shape().to_vec();
            ensure!(shape.len() == 2 && shape[0] == batch.len() && shape[1] > 0, "the features have shape {shape:?}");
            Ok(output.into_f32().chunks(shape[1]).map(<[f32]>::to_vec).collect())
        })
    }
}

fn batched<T, R>(all: &[T], mut run: impl FnMut(&[T]) -> Result<Vec<R>>) -> Result<Vec<R>> {
    Ok(all.chunks(BATCH).map(&mut run).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Planar RGB in [0, 1], `side` pixels wide and high.
fn planes(picture: &Picture, side: usize) -> Result<Vec<f32>> {
    let large = picture.resampled(Size::new(side, side)?)?;
    Ok((0..3).flat_map(|c| large.rgb().iter().skip(c).step_by(3).map(|v| f32::from(*v) / 255.0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_order_and_the_rest() {
        let (all, mut sizes) = ((0..19).collect::<Vec<i32>>(), vec![]);
        let out = batched(&all, |b| {
            sizes.push(b.len());
            Ok(b.to_vec())
        });
        assert_eq!((out.unwrap(), sizes), (all, vec![8, 8, 3]));
    }

    #[test]
    fn planes_are_by_colour() {
        let values = [1.0f32, -1.0, 0.0].map(|v| [v; 4]).concat();
        let picture = Picture::from_decoded(Tensor::new(&[1, 3, 2, 2], values).unwrap()).unwrap();
        let planes = planes(&picture, 8).unwrap();
        assert_eq!([planes[0], planes[64], planes[128]], [1.0, 0.0, 128.0 / 255.0]);
    }
}
