//! Decoding in tiles whose seams are blended: the decoder's memory is that of one tile.

use crate::error::{Result, fail};
use crate::value::Tensor;

/// Share of a tile, on each side, that its neighbour covers too.
const OVERLAP: usize = 4;
/// Share of the overlap, on each side, in which a tile does not count: what a convolution makes there of the missing neighbours is wrong.
const MARGIN: f32 = 0.25;

/// Where tiles begin along one axis, in latents: all of one length, spread evenly, a [`OVERLAP`]th shared at least.
pub(super) fn starts(length: usize, tile: usize) -> Vec<usize> {
    if length <= tile {
        return vec![0];
    }
    let stride = (tile - overlap(tile)).max(1);
    let count = (length - tile).div_ceil(stride) + 1;
    (0..count).map(|index| (index * (length - tile) + (count - 1) / 2) / (count - 1)).collect()
}

fn overlap(tile: usize) -> usize {
    (tile / OVERLAP).max(1).min(tile.saturating_sub(1))
}

/// The window of `(1, C, H, W)` that begins at `top`, `left`.
pub(super) fn cut(whole: &Tensor, [top, left]: [usize; 2], [height, width]: [usize; 2]) -> Result<Tensor> {
    let (Some(values), &[_, channels, h, w]) = (whole.as_f32(), whole.shape()) else {
        return fail!(Engine, "latents are (1, C, H, W) in f32");
    };
    let mut window = Vec::with_capacity(channels * height * width);
    for channel in 0..channels {
        for y in top..top + height {
            let row = (channel * h + y) * w;
            window.extend_from_slice(&values[row + left..row + left + width]);
        }
    }
    Tensor::new(&[1, channels, height, width], window)
}

/// A picture `(1, C, H, W)` under construction.
pub(super) struct Canvas {
    size: [usize; 2],
    values: Vec<f32>,
    weights: Vec<f32>,
}

impl Canvas {
    pub(super) fn new(channels: usize, size: [usize; 2]) -> Canvas {
        let area = size[0] * size[1];
        Canvas { size, values: vec![0.0; channels * area], weights: vec![0.0; area] }
    }

    /// Adds a tile that begins at `top`, `left`; `shared` are the pixels, vertically and horizontally, in which it fades towards a neighbour.
    pub(super) fn add(&mut self, tile: &Tensor, [top, left]: [usize; 2], shared: [usize; 2]) -> Result<()> {
        let (Some(values), &[1, channels, height, width]) = (tile.as_f32(), tile.shape()) else {
            return fail!(Engine, "a tile is (1, C, H, W) in f32");
        };
        let area = self.size[0] * self.size[1];
        if top + height > self.size[0] || left + width > self.size[1] || channels * area != self.values.len() {
            return fail!(
                Mismatch,
                "the decoder made a tile of {height}x{width} at {top}, {left} for a picture of {:?}",
                self.size
            );
        }
        let down = fades(top, height, self.size[0], shared[0]);
        let across = fades(left, width, self.size[1], shared[1]);
        for (y, down) in down.iter().enumerate() {
            let row = (top + y) * self.size[1] + left;
            for (x, across) in across.iter().enumerate() {
                let weight = down * across;
                self.weights[row + x] += weight;
                for channel in 0..channels {
                    self.values[channel * area + row + x] += weight * values[(channel * height + y) * width + x];
                }
            }
        }
        Ok(())
    }

    /// The picture, once every pixel was covered.
    pub(super) fn finish(mut self) -> Result<Tensor> {
        let area = self.weights.len();
        for plane in self.values.chunks_mut(area.max(1)) {
            plane.iter_mut().zip(&self.weights).for_each(|(value, weight)| *value /= weight);
        }
        Tensor::new(&[1, self.values.len() / area.max(1), self.size[0], self.size[1]], self.values)
    }
}

/// How much each line of a tile counts: 1 inside and at the picture's edges, falling to 0 over the lines shared with a neighbour.
fn fades(start: usize, length: usize, whole: usize, shared: usize) -> Vec<f32> {
    let margin = shared as f32 * MARGIN;
    let ramp = |distance: usize| {
        let inside = (distance as f32 + 0.5 - margin) / (shared as f32 - 2.0 * margin).max(1.0);
        // Never nothing, so that a pixel in two margins has its mean.
        inside.clamp(1e-4, 1.0)
    };
    let fade = |line: usize| {
        let before = if start == 0 || shared == 0 { 1.0 } else { ramp(line) };
        let after = if start + length >= whole || shared == 0 { 1.0 } else { ramp(length - 1 - line) };
        f32::min(before, after)
    };
    (0..length).map(fade).collect()
}

/// The pixels along one axis in which tiles overlap at least.
pub(super) fn shared(starts: &[usize], tile: usize, factor: usize) -> usize {
    let least = starts.windows(2).map(|pair| (pair[0] + tile).saturating_sub(pair[1])).min();
    least.unwrap_or(0) * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_a_line_and_overlap() {
        for (length, tile) in [(16, 16), (8, 16), (17, 16), (64, 16), (64, 48), (97, 24), (5, 2), (3, 1)] {
            let starts = starts(length, tile);
            let tile = tile.min(length);
            assert_eq!((starts[0], starts.last().unwrap() + tile), (0, length), "{length} {tile}");
            let gaps = starts.windows(2).map(|pair| pair[1] - pair[0]);
            let most = gaps.max().unwrap_or(0);
            assert!(most <= tile - overlap(tile) || starts.len() == 1, "{length} {tile}: {starts:?}");
        }
    }

    #[test]
    fn tiles_of_one_picture_give_it_back() {
        let (height, width) = (13, 20);
        let values: Vec<f32> = (0..2 * height * width).map(|i| (i as f32 * 0.37).sin()).collect();
        let whole = Tensor::new(&[1, 2, height, width], values.clone()).unwrap();
        let (rows, columns) = (starts(height, 6), starts(width, 8));
        let mut canvas = Canvas::new(2, [height, width]);
        for &top in &rows {
            for &left in &columns {
                let tile = cut(&whole, [top, left], [6, 8]).unwrap();
                canvas.add(&tile, [top, left], [shared(&rows, 6, 1), shared(&columns, 8, 1)]).unwrap();
            }
        }
        let back = canvas.finish().unwrap();
        assert_eq!(back.shape(), whole.shape());
        assert!(back.as_f32().unwrap().iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn seams_fade() {
        // Two flat tiles of 0 and 1: from one to the other in steps.
        let mut canvas = Canvas::new(1, [1, 12]);
        let flat = |value: f32| Tensor::new(&[1, 1, 1, 8], vec![value; 8]).unwrap();
        canvas.add(&flat(0.0), [0, 0], [0, 4]).unwrap();
        canvas.add(&flat(1.0), [0, 4], [0, 4]).unwrap();
        let line = canvas.finish().unwrap().into_f32();
        assert!(line.windows(2).all(|pair| pair[0] <= pair[1]) && line[3] == 0.0 && line[8] == 1.0, "{line:?}");
        let inside = line[4..8].iter().filter(|x| (0.05..=0.95).contains(*x)).count();
        assert!(inside >= 2, "{line:?}");
    }
}
