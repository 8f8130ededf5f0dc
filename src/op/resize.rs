//! Resizing of `(N, H, W, C)` by nearest or linear samples, as ONNX Resize-19 defines it.

use super::tasks;
use crate::engine::Threads;

/// How a place in the output becomes one in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coordinates {
    Asymmetric,
    HalfPixel,
    PytorchHalfPixel,
    AlignCorners,
}

/// What is taken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Linear,
    NearestFloor,
    NearestCeil,
    NearestRoundPreferFloor,
    NearestRoundPreferCeil,
}

/// Sizes and options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resize {
    pub(crate) batches: usize,
    pub(crate) channels: usize,
    /// Height and width.
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    /// Output length over input length, as the file says it or as the lengths give it.
    pub(crate) scales: [f32; 2],
    pub(crate) mode: Mode,
    pub(crate) coordinates: Coordinates,
}

/// The two input places of one output place, and the weight of the second.
type Sample = (usize, usize, f32);

impl Resize {
    /// Writes all of `output`, both dense.
    ///
    /// # Panics
    /// When the sizes do not fit each other, or something is made of nothing.
    pub(crate) fn run(&self, threads: &Threads, input: &[f32], output: &mut [f32]) {
        let Resize { channels, input: [height, width], output: [_, columns], .. } = *self;
        let picture = height * width * channels;
        assert_eq!(input.len(), self.batches * picture, "input of {self:?}");
        assert_eq!(output.len(), self.batches * self.output[0] * columns * channels, "output of {self:?}");
        if output.is_empty() {
            return;
        }
        assert!(!input.is_empty(), "nothing to resize in {self:?}");
        let (rows, columns) = (self.samples(0), self.samples(1));
        tasks::runs(threads, output, columns.len() * channels, |start, output| {
            let row = start / (columns.len() * channels);
            let picture = &input[row / rows.len() * picture..][..picture];
            let (above, below, down) = rows[row % rows.len()];
            let line = |y: usize| &picture[y * width * channels..][..width * channels];
            for (out, &(left, right, across)) in output.chunks_exact_mut(channels).zip(&columns) {
                let pixel = |y, x: usize| &line(y)[x * channels..][..channels];
                if self.mode != Mode::Linear {
                    out.copy_from_slice(pixel(above, left));
                    continue;
                }
                let corners = pixel(above, left)
                    .iter()
                    .zip(pixel(above, right))
                    .zip(pixel(below, left).iter().zip(pixel(below, right)));
                for (out, ((a, b), (c, d))) in out.iter_mut().zip(corners) {
                    let (top, bottom) = (a + (b - a) * across, c + (d - c) * across);
                    *out = top + (bottom - top) * down;
                }
            }
        });
    }

    fn samples(&self, axis: usize) -> Vec<Sample> {
        let last = self.input[axis] - 1;
        let sample = |index| {
            let place = self.place(axis, index);
            let held = |place: f64| (place.max(0.0) as usize).min(last);
            let nearest = |place: f64| (held(place), held(place), 0.0);
            match self.mode {
                Mode::Linear => {
                    let place = place.clamp(0.0, last as f64);
                    (held(place), held(place + 1.0), (place - place.floor()) as f32)
                }
                Mode::NearestFloor => nearest(place.floor()),
                Mode::NearestCeil => nearest(place.ceil()),
                Mode::NearestRoundPreferFloor => nearest((place - 0.5).ceil()),
                Mode::NearestRoundPreferCeil => nearest((place + 0.5).floor()),
            }
        };
        (0..self.output[axis]).map(sample).collect()
    }

    fn place(&self, axis: usize, index: usize) -> f64 {
        let (index, scale) = (index as f64, f64::from(self.scales[axis]));
        let (from, to) = (self.input[axis] as f64, self.output[axis] as f64);
        match self.coordinates {
            Coordinates::Asymmetric => index / scale,
            Coordinates::AlignCorners if to > 1.0 => index * (from - 1.0) / (to - 1.0),
            Coordinates::PytorchHalfPixel if to <= 1.0 => 0.0,
            Coordinates::AlignCorners => 0.0,
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => (index + 0.5) / scale - 0.5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::threads;

    fn row(mode: Mode, coordinates: Coordinates, from: usize, to: usize) -> Vec<f32> {
        let scales = [1.0, to as f32 / from as f32];
        let resize = Resize { batches: 1, channels: 1, input: [1, from], output: [1, to], scales, mode, coordinates };
        let input: Vec<f32> = (0..from).map(|x| x as f32).collect();
        let mut output = vec![9.0; to];
        resize.run(&threads(1), &input, &mut output);
        output
    }

    /// Expected from the formulas of ONNX Resize-19, by hand.
    #[test]
    fn places_and_modes() {
        use {Coordinates::*, Mode::*};
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
        let resize = Resize {
            batches: 2,
            channels: 5,
            input: [2, 3],
            output: [4, 6],
            scales: [2.0; 2],
            mode: Mode::NearestFloor,
            coordinates: Coordinates::Asymmetric,
        };
        for count in [1, 2] {
            let mut output = vec![9.0; 2 * 4 * 6 * 5];
            resize.run(&threads(count), &input, &mut output);
            for (n, y) in output.iter().enumerate() {
                let (c, x, r, b) = (n % 5, n / 5 % 6, n / 30 % 4, n / 120);
                assert_eq!(*y, input[((b * 2 + r / 2) * 3 + x / 2) * 5 + c]);
            }
        }
        let linear = Resize { mode: Mode::Linear, coordinates: Coordinates::HalfPixel, ..resize };
        let mut output = vec![9.0; 2 * 4 * 6 * 5];
        linear.run(&threads(2), &input, &mut output);
        // Row 1, column 2: a quarter of the second row, three quarters of column 1 with one of column 0.
        let mean = |c: usize| {
            0.75 * (0.75 * input[5 + c] + 0.25 * input[c]) + 0.25 * (0.75 * input[20 + c] + 0.25 * input[15 + c])
        };
        (0..5).for_each(|c| assert!((output[(6 + 2) * 5 + c] - mean(c)).abs() < 1e-5));
    }
}
