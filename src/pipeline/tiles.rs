//! A stage from picture to picture in tiles whose seams are blended: its memory is that of one tile.

use crate::cancel::CancelToken;
use crate::error::{Result, fail};
use crate::value::Tensor;

/// Share of the overlap, on each side, in which a tile does not count: what a convolution makes there of the missing neighbours is wrong.
const MARGIN: f32 = 0.25;

/// How what goes into a stage, `(1, C, H, W)`, is cut; lengths are in its pixels, height before width.
pub(super) struct Grid {
    size: [usize; 2],
    window: [usize; 2],
    starts: [Vec<usize>; 2],
    /// How many times as high and wide the stage's output is.
    factor: [usize; 2],
}

impl Grid {
    /// Tiles of `window` over `size`, which is as large at least; neighbours share `overlap` or more.
    pub(super) fn new(size: [usize; 2], window: [usize; 2], overlap: [usize; 2], factor: [usize; 2]) -> Grid {
        let starts = [0, 1].map(|axis| starts(size[axis], window[axis], overlap[axis]));
        Grid { size, window, starts, factor }
    }

    /// What `play` makes of all tiles of `whole`, joined: `(1, 3, H, W)`.
    ///
    /// # Errors
    /// `Cancelled` between tiles, when `cancel` says so, `Mismatch` when a tile has another size than it should, and those of `play`.
    pub(super) fn play(
        &self,
        whole: &Tensor,
        cancel: &CancelToken,
        mut play: impl FnMut(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let [rows, columns] = &self.starts;
        let shared = [0, 1].map(|axis| shared(&self.starts[axis], self.window[axis], self.factor[axis]));
        let mut canvas = Canvas::new(3, [0, 1].map(|axis| self.size[axis] * self.factor[axis]));
        for (top, left) in rows.iter().flat_map(|top| columns.iter().map(move |left| (*top, *left))) {
            if cancel.is_cancelled() {
                return fail!(Cancelled, "stopped between two tiles of the picture");
            }
            let made = play(cut(whole, [top, left], self.window)?)?;
            canvas.add(&made, [top * self.factor[0], left * self.factor[1]], shared)?;
        }
        canvas.finish()
    }
}

/// The shortest tiles that cover `length` with as few as tiles of `most` do, `overlap` shared at least.
pub(super) fn fitted(length: usize, most: usize, overlap: usize) -> usize {
    if length <= most {
        return length;
    }
    let count = (length - overlap).div_ceil((most - overlap).max(1)).max(1);
    (length + (count - 1) * overlap).div_ceil(count).min(most)
}

/// Where tiles begin along one axis: all of one length, spread evenly, `overlap` shared at least.
fn starts(length: usize, tile: usize, overlap: usize) -> Vec<usize> {
    if length <= tile {
        return vec![0];
    }
    let stride = tile.saturating_sub(overlap).max(1);
    let count = (length - tile).div_ceil(stride) + 1;
    (0..count).map(|index| (index * (length - tile) + (count - 1) / 2) / (count - 1)).collect()
}

/// The window of `(1, C, H, W)` that begins at `top`, `left`.
fn cut(whole: &Tensor, [top, left]: [usize; 2], [height, width]: [usize; 2]) -> Result<Tensor> {
    let (Some(values), &[_, channels, h, w]) = (whole.as_f32(), whole.shape()) else {
        return fail!(Engine, "what is cut in tiles is (1, C, H, W) in f32");
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
struct Canvas {
    size: [usize; 2],
    values: Vec<f32>,
    weights: Vec<f32>,
}

impl Canvas {
    fn new(channels: usize, size: [usize; 2]) -> Canvas {
        let area = size[0] * size[1];
        Canvas { size, values: vec![0.0; channels * area], weights: vec![0.0; area] }
    }

    /// Adds a tile that begins at `top`, `left`; `shared` are the pixels, vertically and horizontally, in which it fades towards a neighbour.
    fn add(&mut self, tile: &Tensor, [top, left]: [usize; 2], shared: [usize; 2]) -> Result<()> {
        let (Some(values), &[1, channels, height, width]) = (tile.as_f32(), tile.shape()) else {
            return fail!(Engine, "a tile is (1, C, H, W) in f32");
        };
        let area = self.size[0] * self.size[1];
        if top + height > self.size[0] || left + width > self.size[1] || channels * area != self.values.len() {
            return fail!(
                Mismatch,
                "the stage made a tile of {height}x{width} at {top}, {left} for a picture of {:?}",
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
    fn finish(mut self) -> Result<Tensor> {
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
fn shared(starts: &[usize], tile: usize, factor: usize) -> usize {
    let least = starts.windows(2).map(|pair| (pair[0] + tile).saturating_sub(pair[1])).min();
    least.unwrap_or(0) * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_a_line_and_overlap() {
        for (length, tile) in [(16, 16), (8, 16), (17, 16), (64, 16), (64, 48), (97, 24), (5, 2), (3, 1)] {
            let overlap = (tile / 4).max(1).min(tile - 1);
            let starts = starts(length, tile, overlap);
            let tile = tile.min(length);
            assert_eq!((starts[0], starts.last().unwrap() + tile), (0, length), "{length} {tile}");
            let gaps = starts.windows(2).map(|pair| pair[1] - pair[0]);
            let most = gaps.max().unwrap_or(0);
            assert!(most <= tile - overlap || starts.len() == 1, "{length} {tile}: {starts:?}");
        }
    }

    #[test]
    fn tiles_of_one_picture_give_it_back() {
        let (height, width) = (13, 20);
        let values: Vec<f32> = (0..2 * height * width).map(|i| (i as f32 * 0.37).sin()).collect();
        let whole = Tensor::new(&[1, 2, height, width], values.clone()).unwrap();
        let (rows, columns) = (starts(height, 6, 1), starts(width, 8, 2));
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
    fn tiles_are_no_longer_than_they_need_be() {
        for (length, most, overlap) in
            [(512, 320, 32), (1024, 320, 32), (321, 320, 32), (65, 64, 32), (64, 64, 32), (7, 4, 3)]
        {
            let tile = fitted(length, most, overlap);
            let needed = |tile: usize| starts(length, tile, overlap).len();
            assert!(tile <= most && needed(tile) == needed(most.min(length)), "{length} {most}: {tile}");
            assert!(length <= most || needed(tile - 1) > needed(tile), "{length} {most}: {tile}");
        }
    }

    #[test]
    fn a_grid_plays_every_tile_and_joins_them() {
        let whole = Tensor::new(&[1, 3, 9, 7], (0..189).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
        let (mut played, cancel) = (0, CancelToken::new());
        let grid = Grid::new([9, 7], [4, 7], [1, 0], [1, 1]);
        let back = grid.play(&whole, &cancel, |tile| {
            played += 1;
            assert_eq!(tile.shape(), [1, 3, 4, 7]);
            Ok(tile)
        });
        assert!(back.unwrap().as_f32().unwrap().iter().zip(whole.as_f32().unwrap()).all(|(a, b)| (a - b).abs() < 1e-3));
        assert_eq!(played, 3);
        cancel.cancel();
        let stopped = grid.play(&whole, &cancel, |_| panic!("it was stopped")).unwrap_err();
        assert_eq!(stopped.kind(), crate::error::ErrorKind::Cancelled);
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
