//! From a drawing with alpha to a training picture: shift, mirror and background.

/// Side of a drawing in pixels.
pub const SIDE: usize = 64;

/// How a drawing is put on its background.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Pixels to the right and down.
    pub shift: [i32; 2],
    /// Left and right changed over.
    pub mirror: bool,
    pub background: [u8; 3],
}

impl Placement {
    /// In the middle, on white.
    pub fn plain() -> Self {
        Self { shift: [0, 0], mirror: false, background: [255; 3] }
    }

    /// Shifted by up to four pixels, mirrored half the time, a quarter of the time on any colour.
    pub fn draw(mut unit: impl FnMut() -> f64) -> Self {
        let mut offset = || (unit() * 9.0) as i32 - 4;
        let shift = [offset(), offset()];
        let mirror = unit() < 0.5;
        let coloured = unit() < 0.25;
        let mut byte = || (unit() * 256.0) as u8;
        let background = if coloured { [byte(), byte(), byte()] } else { [255; 3] };
        Self { shift, mirror, background }
    }
}

/// RGBA bytes (64x64, straight alpha) to planar RGB in [-1, 1], `3 * 64 * 64` values.
pub fn place(rgba: &[u8], placement: &Placement) -> Vec<f32> {
    let mut out = vec![0.0; 3 * SIDE * SIDE];
    for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
        let source = source(y, x, placement).map(|i| &rgba[4 * i..4 * i + 4]);
        for channel in 0..3 {
            let behind = f32::from(placement.background[channel]);
            let value = source.map_or(behind, |p| {
                let alpha = f32::from(p[3]) / 255.0;
                f32::from(p[channel]) * alpha + behind * (1.0 - alpha)
            });
            out[(channel * SIDE + y) * SIDE + x] = value / 127.5 - 1.0;
        }
    }
    out
}

/// The pixel of the drawing that lands on `(y, x)`.
fn source(y: usize, x: usize, placement: &Placement) -> Option<usize> {
    let inside = |v: i32| (0..SIDE as i32).contains(&v).then_some(v as usize);
    let y = inside(y as i32 - placement.shift[1])?;
    let x = inside(x as i32 - placement.shift[0])?;
    Some(y * SIDE + if placement.mirror { SIDE - 1 - x } else { x })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shift_mirror_and_background_land_where_they_should() {
        let mut rgba = vec![0u8; 4 * SIDE * SIDE];
        let at = 4 * (10 * SIDE + 20);
        rgba[at..at + 4].copy_from_slice(&[255, 0, 102, 255]);
        let placement = Placement { shift: [3, -2], mirror: true, background: [0, 51, 255] };
        let out = place(&rgba, &placement);
        let pixel = |y: usize, x: usize| [0, 1, 2].map(|c| out[(c * SIDE + y) * SIDE + x]);
        let near = |got: [f32; 3], want: [f32; 3]| got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6);
        assert!(near(pixel(0, 0), [-1.0, -0.6, 1.0]));
        assert!(near(pixel(8, 63 - 20 + 3), [1.0, -1.0, -0.2]));
    }
}
