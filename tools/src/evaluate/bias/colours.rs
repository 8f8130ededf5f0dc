//! Which colours a picture has: what tells skin tones.

use anyhow::Result;
use undiffuse::pipeline::{Picture, Size};

use crate::dataset::pack::SIDE;

/// Levels of each of red, green and blue.
const LEVELS: usize = 8;

/// The roots of the shares of colours among the pixels that are not white: `LEVELS³` numbers.
///
/// # Errors
/// If the picture cannot be brought to 64x64.
pub fn colours(picture: &Picture) -> Result<Vec<f32>> {
    let small = picture.resampled(Size::new(SIDE, SIDE)?)?;
    let mut counts = vec![0.0f32; LEVELS.pow(3)];
    for pixel in small.rgb().chunks_exact(3) {
        let levels = pixel.iter().map(|v| usize::from(*v) * LEVELS / 256);
        counts[levels.fold(0, |index, level| index * LEVELS + level)] += 1.0;
    }
    if let Some(white) = counts.last_mut() {
        *white = 0.0;
    }
    let sum = counts.iter().sum::<f32>().max(1.0);
    Ok(counts.into_iter().map(|count| (count / sum).sqrt()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::lab::picture;

    #[test]
    fn shares_are_of_what_is_not_white() {
        // A quarter of the rows is red, an eighth is dark, the rest is white.
        let row = |i: usize| i / SIDE % SIDE;
        let value = |i: usize| match (row(i), i / (SIDE * SIDE)) {
            (..16, 0) | (24.., _) => 1.0,
            (..24, _) => -1.0,
        };
        let found = colours(&picture((0..3 * SIDE * SIDE).map(value).collect()).unwrap()).unwrap();
        let set: Vec<(usize, f32)> = found.into_iter().enumerate().filter(|(_, v)| *v > 0.0).collect();
        let root = |share: f32| share.sqrt();
        assert_eq!(set, [(0, root(1.0 / 3.0)), (7 * 64, root(2.0 / 3.0))]);
    }
}
