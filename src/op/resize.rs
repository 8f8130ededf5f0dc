//! Resizing of `(N, H, W, C)` by nearest or linear samples, as ONNX Resize-19 defines it.

use super::tasks;
use crate::engine::Threads;
use serde::{Deserialize, Serialize};

/// How a place in the output becomes one in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Coordinates {
    Asymmetric,
    HalfPixel,
    PytorchHalfPixel,
    AlignCorners,
}

/// What is taken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ResizeMode {
    Linear,
    NearestFloor,
    NearestCeil,
    NearestRoundPreferFloor,
    NearestRoundPreferCeil,
}

/// By whole or broken factors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resize {
    pub(crate) mode: ResizeMode,
    pub(crate) coordinates: Coordinates,
    /// Output length over input length, height and width, as the file says it or as the lengths give it.
    pub(crate) scales: [f32; 2],
}

/// The two input places of one output place, and the weight of the second.
pub(crate) type Sample = (usize, usize, f32);

impl Resize {
    /// Pictures of `from` (height, width) to pictures of `to`, all dense.
    ///
    /// # Panics
    /// When the sizes do not fit each other, or something is made of nothing.
    pub(crate) fn run(
        &self,
        threads: &Threads,
        channels: usize,
        (input, from): (&[f32], [usize; 2]),
        (output, to): (&mut [f32], [usize; 2]),
    ) {
        if output.is_empty() {
            return;
        }
        let (picture, resized) = (from[0] * from[1] * channels, to[0] * to[1] * channels);
        assert!(picture > 0 && input.len().is_multiple_of(picture), "input of {self:?} from {from:?}");
        assert_eq!(output.len(), input.len() / picture * resized, "output of {self:?} to {to:?}");
        let [rows, columns] = [0, 1].map(|axis| self.samples(axis, from[axis], to[axis]));
        tasks::runs(threads, output, columns.len() * channels, |start, output| {
            let row = start / (columns.len() * channels);
            let picture = &input[row / rows.len() * picture..][..picture];
            let (above, below, down) = rows[row % rows.len()];
            let line = |y: usize| &picture[y * from[1] * channels..][..from[1] * channels];
            match self.mode {
                ResizeMode::Linear => mixed([line(above), line(below)], down, &columns, channels, output),
                _ => picked(line(above), &columns, channels, output),
            }
        });
    }

    /// For every place of the output along `axis` (0 down, 1 across), from `from` places to `to`.
    pub(crate) fn samples(&self, axis: usize, from: usize, to: usize) -> Vec<Sample> {
        let last = from - 1;
        let sample = |index| {
            let place = self.place(axis, index, [from, to]);
            let held = |place: f64| (place.max(0.0) as usize).min(last);
            let nearest = |place: f64| (held(place), held(place), 0.0);
            match self.mode {
                ResizeMode::Linear => {
                    let place = place.clamp(0.0, last as f64);
                    (held(place), held(place + 1.0), (place - place.floor()) as f32)
                }
                ResizeMode::NearestFloor => nearest(place.floor()),
                ResizeMode::NearestCeil => nearest(place.ceil()),
                ResizeMode::NearestRoundPreferFloor => nearest((place - 0.5).ceil()),
                ResizeMode::NearestRoundPreferCeil => nearest((place + 0.5).floor()),
            }
        };
        (0..to).map(sample).collect()
    }

    fn place(&self, axis: usize, index: usize, lengths: [usize; 2]) -> f64 {
        let (index, scale) = (index as f64, f64::from(self.scales[axis]));
        let [from, to] = lengths.map(|length| length as f64);
        match self.coordinates {
            Coordinates::Asymmetric => index / scale,
            Coordinates::AlignCorners if to > 1.0 => index * (from - 1.0) / (to - 1.0),
            Coordinates::PytorchHalfPixel if to <= 1.0 => 0.0,
            Coordinates::AlignCorners => 0.0,
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => (index + 0.5) / scale - 0.5,
        }
    }
}

/// A line of nearest pixels.
fn picked(line: &[f32], columns: &[Sample], channels: usize, output: &mut [f32]) {
    for (out, &(column, ..)) in output.chunks_exact_mut(channels).zip(columns) {
        out.copy_from_slice(&line[column * channels..][..channels]);
    }
}

/// A line between two lines.
fn mixed(lines: [&[f32]; 2], down: f32, columns: &[Sample], channels: usize, output: &mut [f32]) {
    for (out, &(left, right, across)) in output.chunks_exact_mut(channels).zip(columns) {
        let [[a, b], [c, d]] = lines.map(|line| [left, right].map(|column| &line[column * channels..][..channels]));
        for (out, ((a, b), (c, d))) in out.iter_mut().zip(a.iter().zip(b).zip(c.iter().zip(d))) {
            let (top, bottom) = (a + (b - a) * across, c + (d - c) * across);
            *out = top + (bottom - top) * down;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::threads;

    fn row(mode: ResizeMode, coordinates: Coordinates, from: usize, to: usize) -> Vec<f32> {
        let scales = [1.0, to as f32 / from as f32];
        let resize = Resize { scales, mode, coordinates };
        let input: Vec<f32> = (0..from).map(|x| x as f32).collect();
        let mut output = vec![9.0; to];
        resize.run(&threads(1), 1, (&input, [1, from]), (&mut output, [1, to]));
        output
    }

    /// Expected from the formulas of ONNX Resize-19, by hand.
    #[test]
    fn places_and_modes() {
        use {Coordinates::*, ResizeMode::*};
        assert_eq!(row(NearestFloor, Asymmetric, 3, 6), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
        assert_eq!(row(NearestCeil, Asymmetric, 3, 6), [0.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        assert_eq!(row(NearestRoundPreferFloor, Asymmetric, 3, 6), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
        assert_eq!(row(NearestRoundPreferCeil, Asymmetric, 3, 6), [0.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        assert_eq!(row(NearestRoundPreferFloor, HalfPixel, 4, 2), [0.0, 2.0]);
        assert_eq!(row(Linear, HalfPixel, 2, 4), [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(row(Linear, Asymmetric, 2, 4), [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(row(Linear, AlignCorners, 3, 5), [0.0, 0.5, 1.0, 1.5, 2.0]);
        assert_eq!(row(Linear, PytorchHalfPixel, 3, 1), [0.0]);
        // The scale, a third, is rounded.
        assert!((row(Linear, HalfPixel, 3, 1)[0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn pictures_with_channels() {
        let input: Vec<f32> = (0..2 * 2 * 3 * 5).map(|x| x as f32).collect();
        let resize = Resize { scales: [2.0; 2], mode: ResizeMode::NearestFloor, coordinates: Coordinates::Asymmetric };
        for count in [1, 2] {
            let mut output = vec![9.0; 2 * 4 * 6 * 5];
            resize.run(&threads(count), 5, (&input, [2, 3]), (&mut output, [4, 6]));
            for (n, y) in output.iter().enumerate() {
                let (c, x, r, b) = (n % 5, n / 5 % 6, n / 30 % 4, n / 120);
                assert_eq!(*y, input[((b * 2 + r / 2) * 3 + x / 2) * 5 + c]);
            }
        }
        let linear = Resize { mode: ResizeMode::Linear, coordinates: Coordinates::HalfPixel, ..resize };
        let mut output = vec![9.0; 2 * 4 * 6 * 5];
        linear.run(&threads(2), 5, (&input, [2, 3]), (&mut output, [4, 6]));
        // Row 1, column 2: a quarter of the second row, three quarters of column 1 with one of column 0.
        let mean = |c: usize| {
            0.75 * (0.75 * input[5 + c] + 0.25 * input[c]) + 0.25 * (0.75 * input[20 + c] + 0.25 * input[15 + c])
        };
        (0..5).for_each(|c| assert!((output[(6 + 2) * 5 + c] - mean(c)).abs() < 1e-5));
    }
}
