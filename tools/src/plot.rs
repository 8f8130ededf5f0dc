//! Plots as PNG.

use anyhow::{Context, Result, anyhow};
use image::{RgbImage, imageops};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;
use std::sync::Once;

/// A name and its points.
pub type Series<'a> = (&'a str, &'a [(f64, f64)]);

/// What a plot is drawn on.
pub type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Draws named lines, a colour each, into a PNG of 900x480.
pub fn lines(path: &Path, title: &str, x_name: &str, series: &[Series]) -> Result<()> {
    save(path, SIZE, 1, |root| draw(root, title, x_name, series))
}

/// Writes a PNG of `size` (width and height). `draw` gets a white area of `fine` times that, which is averaged down, so that
/// small shapes have smooth edges.
pub fn save(path: &Path, size: (u32, u32), fine: u32, draw: impl FnOnce(&Area) -> Result<()>) -> Result<()> {
    font()?;
    let (width, height) = (size.0 * fine, size.1 * fine);
    let mut pixels = vec![255; 3 * (width * height) as usize];
    {
        let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        draw(&root)?;
        root.present()?;
    }
    let picture = RgbImage::from_raw(width, height, pixels).context("the plot's buffer has another size")?;
    let picture = if fine == 1 { picture } else { imageops::thumbnail(&picture, size.0, size.1) };
    picture.save(path).with_context(|| format!("cannot write {}", path.display()))
}

/// Width and height of a plot.
const SIZE: (u32, u32) = (900, 480);

fn draw(root: &Area, title: &str, x_name: &str, series: &[Series]) -> Result<()> {
    let (x, y) = ranges(series);
    let mut chart = ChartBuilder::on(root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
    chart.configure_mesh().x_desc(x_name).light_line_style(WHITE).draw()?;
    for (i, (name, points)) in series.iter().enumerate() {
        let colour = Palette99::pick(i).to_rgba();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    if series.len() > 1 {
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    }
    Ok(())
}

fn ranges(series: &[Series]) -> ((f64, f64), (f64, f64)) {
    let points = || series.iter().flat_map(|(_, p)| p.iter()).filter(|p| p.0.is_finite() && p.1.is_finite());
    let span = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return (0.0, 1.0);
        }
        let margin = ((high - low) * 0.05).max(1e-9);
        (low - margin, high + margin)
    };
    (span(&mut points().map(|p| p.0)), span(&mut points().map(|p| p.1)))
}

/// Gives plotters a font of our own, so that no system library is needed.
pub fn font() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut outcome = Ok(());
    ONCE.call_once(|| {
        outcome = plotters::style::register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|_| anyhow!("the built-in font cannot be read"));
    });
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_a_png_that_is_not_blank() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.png");
        lines(&path, "t", "x", &[("a", &[(0.0, 1.0), (1.0, 2.0)]), ("b", &[(0.0, 2.0), (1.0, f64::NAN)])]).unwrap();
        let picture = image::open(&path).unwrap().to_rgb8();
        assert!(picture.pixels().filter(|p| p.0 != [255, 255, 255]).count() > 500);
    }

    #[test]
    fn no_points_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        lines(&folder.path().join("plot.png"), "t", "x", &[("a", &[])]).unwrap();
    }
}
