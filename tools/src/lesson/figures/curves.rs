//! The figures with a number on each axis.

use super::plane::{FINE, GREEN, INK, ORANGE, PALE, VIOLET, font, px, title};
use crate::lesson::samples::Walk;
use crate::lesson::study::{Study, World};
use crate::plot::Area;
use anyhow::Result;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use undiffuse::sampler::SamplerKind;

type Points = Vec<(f64, f64)>;
type Context<'a, 'b, X, Y> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<X, Y>>;

/// Steps in the running mean of the loss.
const WINDOW: usize = 50;

/// The loss beside the least possible one, and the error of the learned score over the timesteps.
pub fn training(root: &Area, study: &Study) -> Result<()> {
    let parts = root.split_evenly((1, 2));
    let losses = smooth(study.losses.iter().map(|l| (l.step, l.loss)));
    let least = smooth(study.losses.iter().map(|l| (l.step, l.least)));
    let last = losses.last().map_or(1.0, |p| p.0).max(2.0);
    let area = title(&parts[0], "loss: how badly the noise is guessed", 16)?;
    let mut chart = frame(&area, (1f64..last).log_scale(), 0f64..1.1, ["step of training", "mean squared error"])?;
    line(&mut chart, "the network", losses, ORANGE)?;
    line(&mut chart, "the best possible guess", least, INK)?;
    legend(&mut chart)?;
    let area = title(&parts[1], "error of the learned score, relative to the exact one", 16)?;
    let errors: Points = study.errors.iter().map(|(t, error)| (*t as f64, 100.0 * error)).collect();
    let most = errors.iter().map(|p| p.1).fold(1.0, f64::max) * 1.15;
    let mut chart = frame(&area, (1f64..1000f64).log_scale(), 0f64..most, ["timestep t", "%"])?;
    marks(&mut chart, &errors, ORANGE)?;
    line(&mut chart, "", errors, ORANGE)
}

fn smooth(points: impl Iterator<Item = (f64, f64)>) -> Points {
    let points: Points = points.collect();
    let mean = |end: usize| {
        let window = &points[end.saturating_sub(WINDOW)..end];
        window.iter().map(|p| p.1).sum::<f64>() / window.len() as f64
    };
    (1..=points.len()).map(|end| (points[end - 1].0, mean(end))).collect()
}

/// The distance to the truth over the number of evaluations, a line a sampler.
pub fn steps(root: &Area, world: &World, study: &Study) -> Result<()> {
    let area = title(root, "distance to the truth by evaluations of the network", 16)?;
    let (low, high) = (0.6 * world.floor, 1.3 * world.ceiling.distance.max(most(study)));
    let axes = ["evaluations of the network", "energy distance"];
    let mut chart = frame(&area, (2f64..1100f64).log_scale(), (low..high).log_scale(), axes)?;
    level(&mut chart, "noise", world.ceiling.distance, 70.0)?;
    level(&mut chart, "two true sets", world.floor, 2.1)?;
    for (name, kind, colour) in [
        ("ancestral DDPM", Some(SamplerKind::Ddpm), INK),
        ("annealed Langevin", None, GREEN),
        ("DDIM", Some(SamplerKind::Ddim), VIOLET),
        ("DPM-Solver++ 2M", Some(SamplerKind::DpmPp2m), ORANGE),
    ] {
        let points = curve(study, kind);
        marks(&mut chart, &points, colour)?;
        line(&mut chart, name, points, colour)?;
    }
    legend(&mut chart)
}

fn most(study: &Study) -> f64 {
    study.trips.iter().map(|trip| trip.learned.distance).fold(0.0, f64::max)
}

/// Evaluations and distance of one sampler's trips; `None` stands for Langevin.
fn curve(study: &Study, kind: Option<SamplerKind>) -> Points {
    let is = |walk: Walk| match walk {
        Walk::Table(of, _) => Some(of) == kind,
        Walk::Langevin { .. } => kind.is_none(),
    };
    let trips = study.trips.iter().filter(|trip| is(trip.walk));
    let mut points: Points = trips.map(|trip| (trip.walk.evaluations() as f64, trip.learned.distance)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn frame<'a, 'b, X, Y>(
    area: &'a Area<'b>,
    x: X,
    y: Y,
    names: [&str; 2],
) -> Result<Context<'a, 'b, X::CoordDescType, Y::CoordDescType>>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let mut chart = ChartBuilder::on(area)
        .margin(px(10))
        .margin_right(px(24))
        .x_label_area_size(px(40))
        .y_label_area_size(px(56))
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_label_formatter(&|v| format!("{v}"))
        .y_label_formatter(&|v| if round(*v) { format!("{}", (v * 1e6).round() / 1e6) } else { String::new() })
        .label_style(font(12))
        .axis_desc_style(font(13))
        .x_desc(names[0])
        .y_desc(names[1])
        .draw()?;
    Ok(chart)
}

/// Whether a number names the axis: all but 0.03, 0.04 and such, for which a logarithmic one has no room.
fn round(value: f64) -> bool {
    let hundredths = value * 100.0;
    value >= 0.1
        || hundredths.fract().abs() > 1e-6
        || [0.0, 1.0, 2.0, 5.0].iter().any(|d| (hundredths - d).abs() < 1e-6)
}

fn line<X, Y>(chart: &mut Context<X, Y>, name: &str, points: Points, colour: RGBColor) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let style = colour.stroke_width(2 * FINE);
    let drawn = chart.draw_series(LineSeries::new(points, style))?;
    if !name.is_empty() {
        drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + px(16), y)], style));
    }
    Ok(())
}

fn marks<X, Y>(chart: &mut Context<X, Y>, points: &Points, colour: RGBColor) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart.draw_series(points.iter().map(|p| Circle::new(*p, px(4), colour.filled())))?;
    Ok(())
}

/// A dashed line across the chart, its name at `x`.
fn level<X, Y>(chart: &mut Context<X, Y>, name: &str, at: f64, x: f64) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let style = INK.mix(0.6).stroke_width(FINE);
    chart.draw_series([DashedPathElement::new([(2.0, at), (1100.0, at)], px(6), px(5), style)])?;
    chart.draw_series([Text::new(format!("{name}: {at:.3}"), (x, at * 1.17), font(13).color(&INK))])?;
    Ok(())
}

fn legend<'a, 'b: 'a, X, Y>(chart: &mut Context<'a, 'b, X, Y>) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let labels = &mut chart.configure_series_labels();
    labels.label_font(font(13)).background_style(WHITE.mix(0.9)).border_style(PALE).legend_area_size(px(22));
    Ok(labels.position(SeriesLabelPosition::UpperRight).margin(px(10)).draw()?)
}
