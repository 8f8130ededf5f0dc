//! Panels over the plane of all pictures: heat, dots, arrows, paths, and two-pixel pictures themselves.

use crate::lesson::density::Mixture;
use crate::plot::Area;
use anyhow::Result;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Figures are drawn this many times too large and averaged down.
pub const FINE: u32 = 2;
/// Pixels of the figure, on the larger drawing.
pub const fn px(pixels: i32) -> i32 {
    pixels * FINE as i32
}

/// Colours that a reader can tell apart on the blue heat.
pub const ORANGE: RGBColor = RGBColor(0xd9, 0x48, 0x0f);
pub const GREEN: RGBColor = RGBColor(0x2b, 0x8a, 0x3e);
pub const VIOLET: RGBColor = RGBColor(0x86, 0x2e, 0x9c);
pub const INK: RGBColor = RGBColor(0x21, 0x25, 0x29);
pub const PALE: RGBColor = RGBColor(0xb4, 0xba, 0xc0);

type Chart<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A square panel of the plane, left pixel to the right, right pixel upwards, from `-reach` to `reach`.
pub struct Plane<'a, 'b> {
    chart: Chart<'a, 'b>,
    reach: f64,
    side: i32,
}

/// The heights and widths around a panel's square.
const MARGIN: i32 = px(5);
const LABELS: i32 = px(34);

impl<'a, 'b> Plane<'a, 'b> {
    /// The largest square that fits into `area`; with `axes` the pixels are named at its sides.
    pub fn new(area: &'a Area<'b>, reach: f64, axes: bool) -> Result<Self> {
        let (width, height) = area.dim_in_pixel();
        let labels = if axes { LABELS } else { 0 };
        let side = (width.min(height) as i32 - labels - 2 * MARGIN).max(1);
        let [spare_x, spare_y] = [width, height].map(|size| (size as i32 - side - labels - 2 * MARGIN).max(0));
        let mut chart = ChartBuilder::on(area)
            .margin_left(MARGIN + spare_x / 2)
            .margin_right(MARGIN + spare_x - spare_x / 2)
            .margin_top(MARGIN)
            .margin_bottom(MARGIN + spare_y)
            .x_label_area_size(labels)
            .y_label_area_size(labels)
            .build_cartesian_2d(-reach..reach, -reach..reach)?;
        if axes {
            chart
                .configure_mesh()
                .disable_mesh()
                .x_labels(5)
                .y_labels(5)
                .x_label_formatter(&|v| format!("{v:.1}"))
                .y_label_formatter(&|v| format!("{v:.1}"))
                .label_style(font(11))
                .axis_desc_style(font(12))
                .x_desc("left pixel")
                .y_desc("right pixel")
                .draw()?;
        }
        Ok(Self { chart, reach, side })
    }

    /// Draws the frame last, over what reaches beyond it.
    pub fn close(mut self) -> Result<()> {
        let r = self.reach;
        self.chart.draw_series([Rectangle::new([(-r, r), (r, -r)], PALE.stroke_width(FINE))])?;
        Ok(())
    }

    /// The density as blue heat; the colour goes with its square root, so that faint parts are seen.
    pub fn heat(&mut self, mixture: &Mixture) -> Result<()> {
        let cells = self.side / px(2);
        let cell = 2.0 * self.reach / f64::from(cells);
        let middle = |i: i32| (f64::from(i) + 0.5) * cell - self.reach;
        let values: Vec<([f64; 2], f64)> = (0..cells)
            .flat_map(|i| (0..cells).map(move |j| [middle(i), middle(j)]))
            .map(|x| (x, mixture.density(x).sqrt()))
            .collect();
        let most = values.iter().map(|v| v.1).fold(f64::MIN_POSITIVE, f64::max);
        let square = |(x, value): ([f64; 2], f64)| {
            let corners = [(x[0] - cell / 2.0, x[1] + cell / 2.0), (x[0] + cell / 2.0, x[1] - cell / 2.0)];
            Rectangle::new(corners, blue(value / most).filled())
        };
        self.chart.draw_series(values.into_iter().map(square))?;
        Ok(())
    }

    /// Pictures `(N, 2)` as dots; those outside the panel are left out.
    pub fn dots(&mut self, pictures: &[f32], radius: f64, style: impl Into<ShapeStyle>) -> Result<()> {
        let style: ShapeStyle = style.into();
        let radius = (radius * f64::from(FINE)) as i32;
        let inside = self.inside(pictures);
        self.chart.draw_series(inside.into_iter().map(|at| Circle::new(at, radius, style)))?;
        Ok(())
    }

    fn inside(&self, pictures: &[f32]) -> Vec<(f64, f64)> {
        let all = pictures.chunks_exact(2).map(|p| (f64::from(p[0]), f64::from(p[1])));
        all.filter(|p| p.0.abs() < self.reach && p.1.abs() < self.reach).collect()
    }

    /// A line through pictures; parts that leave the panel are left out. Every part is drawn by itself: a polyline's joints
    /// make spikes where it turns back sharply.
    pub fn path(&mut self, points: &[[f32; 2]], style: impl Into<ShapeStyle>) -> Result<()> {
        let style: ShapeStyle = style.into();
        let reach = self.reach as f32;
        let inside = |p: &[f32; 2]| p.iter().all(|v| v.abs() < reach);
        let parts = points.windows(2).filter(|part| part.iter().all(inside));
        let line = |part: &[[f32; 2]]| part.iter().map(|p| (f64::from(p[0]), f64::from(p[1]))).collect::<Vec<_>>();
        self.chart.draw_series(parts.map(|part| PathElement::new(line(part), style)))?;
        Ok(())
    }

    /// An arrow of `length`, both in the plane's units.
    pub fn arrow(&mut self, from: [f64; 2], length: [f64; 2], colour: RGBColor) -> Result<()> {
        let to = [from[0] + length[0], from[1] + length[1]];
        let size = length[0].hypot(length[1]);
        let head = (0.45 * size).min(0.045 * self.reach);
        let along = length.map(|v| v / size.max(1e-9) * head);
        let barb = |side: f64| (to[0] - along[0] + side * along[1] * 0.6, to[1] - along[1] - side * along[0] * 0.6);
        let shaft = vec![(from[0], from[1]), (to[0] - along[0] * 0.5, to[1] - along[1] * 0.5)];
        self.chart.draw_series([PathElement::new(shaft, colour.stroke_width(FINE))])?;
        self.chart.draw_series([Polygon::new(vec![(to[0], to[1]), barb(1.0), barb(-1.0)], colour.filled())])?;
        Ok(())
    }

    /// A two-pixel picture at its own place in the plane.
    pub fn photo_at(&mut self, picture: [f64; 2], side: f64) -> Result<()> {
        let (x, y) = (picture[0], picture[1]);
        let half = |i: usize| {
            let left = x + (i as f64 - 1.0) * side;
            Rectangle::new([(left, y + side / 2.0), (left + side, y - side / 2.0)], grey(picture[i]).filled())
        };
        self.chart.draw_series([half(0), half(1)])?;
        let frame = [(x - side, y + side / 2.0), (x + side, y - side / 2.0)];
        self.chart.draw_series([Rectangle::new(frame, PALE.stroke_width(1))])?;
        Ok(())
    }
}

/// A grid of arrows of the score at this level of noise; pale where noisy pictures hardly ever are. `score` is that of
/// `mixture`'s pictures times their noise's deviation.
pub fn arrows(plane: &mut Plane, mixture: &Mixture, score: &[[f64; 2]], grid: &[[f64; 2]], cell: f64) -> Result<()> {
    for (at, score) in grid.iter().zip(score) {
        let size = score[0].hypot(score[1]);
        let length = score.map(|v| v / size.max(1e-9) * cell * 0.95 * (size / 1.2).tanh());
        let colour = if mixture.density(*at) > RARE { INK } else { PALE };
        plane.arrow(*at, length, colour)?;
    }
    Ok(())
}

/// A density under which arrows are pale: of 1,000 noisy pictures about one has less.
const RARE: f64 = 2e-3;

/// A two-pixel picture, its upper left corner at `at`, with a frame.
pub fn photo(area: &Area, at: (i32, i32), side: i32, picture: [f32; 2], frame: RGBColor) -> Result<()> {
    for (i, value) in picture.iter().enumerate() {
        let left = at.0 + i as i32 * side;
        let corners = [(left, at.1), (left + side, at.1 + side)];
        area.draw(&Rectangle::new(corners, grey(f64::from(*value)).filled()))?;
    }
    let corners = [at, (at.0 + 2 * side, at.1 + side)];
    Ok(area.draw(&Rectangle::new(corners, frame.stroke_width(FINE)))?)
}

/// Splits a band off the top of `area` and writes `text` into its middle.
pub fn title<'b>(area: &Area<'b>, text: &str, size: i32) -> Result<Area<'b>> {
    let band = px(size + 8);
    let (top, rest) = area.split_vertically(band);
    let middle = (top.dim_in_pixel().0 as i32 / 2, band / 2 + px(1));
    write(&top, text, middle, size, HPos::Center)?;
    Ok(rest)
}

/// Writes `text` at `at`, which is half its height.
pub fn write(area: &Area, text: &str, at: (i32, i32), size: i32, side: HPos) -> Result<()> {
    let style = TextStyle::from(font(size)).color(&INK).pos(Pos::new(side, VPos::Center));
    Ok(area.draw(&Text::new(text.to_owned(), at, style))?)
}

/// The figure's font in pixels of the figure.
pub fn font(size: i32) -> FontDesc<'static> {
    ("sans-serif", f64::from(px(size))).into_font()
}

/// The grey of a pixel, -1 black, 1 white.
fn grey(value: f64) -> RGBColor {
    let level = ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8;
    RGBColor(level, level, level)
}

/// White at 0, dark blue at 1.
fn blue(value: f64) -> RGBColor {
    let stops = [[255.0, 255.0, 255.0], [140.0, 190.0, 235.0], [20.0, 70.0, 150.0]];
    let at = value.clamp(0.0, 1.0) * 2.0;
    let low = (at as usize).min(1);
    let mix = |c: usize| (stops[low][c] + (at - low as f64) * (stops[low + 1][c] - stops[low][c])).round() as u8;
    RGBColor(mix(0), mix(1), mix(2))
}
