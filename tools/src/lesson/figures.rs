//! The figures of the lesson as PNG.

mod curves;
mod plane;

use super::density::{Mixture, Subject};
use super::distance::points;
use super::folder::FIGURES;
use super::samples::{Denoiser, Walk};
use super::study::{SHOWN, Study, Trip, World};
use crate::plot::{Area, save};
use anyhow::Result;
use plane::{FINE, GREEN, INK, ORANGE, PALE, Plane, VIOLET, photo, px, title, write};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::path::Path;

/// Half the width of the plane that is shown: for pictures, and where there is noise.
const NEAR: f64 = 1.2;
const FAR: f64 = 2.6;
/// Timesteps of the forward figure, and of the score's.
pub const FORWARD: [usize; 6] = [0, 50, 150, 300, 500, 999];
pub const SCORE: [usize; 4] = [20, 100, 250, 500];
/// Pictures shown as dots.
const DOTS: usize = 1000;

/// Draws all figures into `out`, named as in [`FIGURES`].
///
/// # Errors
/// If a picture cannot be written.
pub fn draw(out: &Path, world: &World, study: &Study) -> Result<()> {
    let path = |i: usize| out.join(FIGURES[i]);
    save(&path(0), (1140, 460), FINE, |root| data(root, world))?;
    save(&path(1), (1200, 300), FINE, |root| forward(root, world))?;
    save(&path(2), (1200, 660), FINE, |root| score(root, world, study))?;
    save(&path(3), (1140, 400), FINE, |root| curves::training(root, study))?;
    save(&path(4), (1200, 700), FINE, |root| reverse(root, world, study))?;
    save(&path(5), (1140, 410), FINE, |root| paths(root, world, study))?;
    save(&path(6), (1200, 640), FINE, |root| samples(root, world, study))?;
    save(&path(7), (900, 520), FINE, |root| curves::steps(root, world, study))
}

/// The first `count` of pictures `(N, 2)`.
fn some(pictures: &[f32], count: usize) -> &[f32] {
    &pictures[..(2 * count).min(pictures.len())]
}

fn data(root: &Area, world: &World) -> Result<()> {
    let (top, strip) = root.split_vertically(px(410));
    let panels = top.split_evenly((1, 3));
    let area = title(&panels[0], "every point of the plane is a picture", 16)?;
    let mut plane = Plane::new(&area, NEAR, true)?;
    let lattice = |i: i32| f64::from(i) * 0.25;
    for x in (-4..=4).flat_map(|i| (-4..=4).map(move |j| [lattice(i), lattice(j)])) {
        plane.photo_at(x, 0.085)?;
    }
    plane.close()?;
    let area = title(&panels[1], "how often the camera takes each", 16)?;
    let mut plane = Plane::new(&area, NEAR, true)?;
    plane.heat(&world.mixture)?;
    plane.close()?;
    let area = title(&panels[2], "some that it took", 16)?;
    let mut plane = Plane::new(&area, NEAR, true)?;
    for (subject, colour) in Subject::ALL.into_iter().zip([INK, ORANGE, GREEN]) {
        plane.dots(&of_subject(world, some(&world.truth, DOTS), subject), 1.5, colour.mix(0.6).filled())?;
    }
    plane.close()?;
    taken(&strip, world)
}

fn of_subject(world: &World, pictures: &[f32], subject: Subject) -> Vec<f32> {
    let is = |p: &&[f32]| world.mixture.subject([f64::from(p[0]), f64::from(p[1])]) == subject;
    pictures.chunks_exact(2).filter(is).flatten().copied().collect()
}

/// A row of pictures a subject, with its name.
fn taken(strip: &Area, world: &World) -> Result<()> {
    let parts = strip.split_evenly((1, 3));
    for ((subject, colour), part) in Subject::ALL.into_iter().zip([INK, ORANGE, GREEN]).zip(parts) {
        write(&part, subject.name(), (px(14), px(20)), 14, HPos::Left)?;
        let pictures = of_subject(world, &world.truth, subject);
        for (i, p) in pictures.chunks_exact(2).take(5).enumerate() {
            photo(&part, (px(140 + 46 * i as i32), px(10)), px(19), [p[0], p[1]], colour)?;
        }
    }
    Ok(())
}

/// A picture of each subject, a dark surface and a light one, to be followed.
fn followed(world: &World) -> [(usize, RGBColor); 4] {
    let find = |is: &dyn Fn([f64; 2]) -> bool| points(&world.truth).position(is).unwrap_or(0);
    let subject = |x, subject| world.mixture.subject(x) == subject;
    [
        (find(&|x| subject(x, Subject::Surface) && x[0] < -0.6), INK),
        (find(&|x| subject(x, Subject::Surface) && x[1] > 0.5), VIOLET),
        (find(&|x| subject(x, Subject::LightRight)), ORANGE),
        (find(&|x| subject(x, Subject::LightLeft)), GREEN),
    ]
}

fn forward(root: &Area, world: &World) -> Result<()> {
    let followed = followed(world);
    for (area, t) in root.split_evenly((1, FORWARD.len())).iter().zip(FORWARD) {
        let alpha_bar = world.schedule.alpha_bar(t);
        let area = title(area, &format!("t = {t}"), 16)?;
        let area =
            title(&area, &format!("{:.2} picture + {:.2} noise", alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()), 12)?;
        let (top, bottom) = area.split_vertically(px(200));
        let pictures = world.diffused(world.truth.len() / 2, t);
        let mut plane = Plane::new(&top, FAR, false)?;
        plane.heat(&world.at(t))?;
        plane.dots(some(&pictures, DOTS / 2), 1.0, INK.mix(0.35).filled())?;
        for (i, (index, colour)) in followed.iter().enumerate() {
            let p = [pictures[2 * index], pictures[2 * index + 1]];
            plane.dots(&p, 4.5, WHITE.filled())?;
            plane.dots(&p, 3.5, colour.filled())?;
            photo(&bottom, (px(11 + 46 * i as i32), px(10)), px(20), p, *colour)?;
        }
        plane.close()?;
    }
    Ok(())
}

fn score(root: &Area, world: &World, study: &Study) -> Result<()> {
    let rows = root.split_evenly((2, 1));
    let denoisers: [(&str, &dyn Denoiser); 2] =
        [("the exact score", &world.exact()), ("the learned score", &study.learned)];
    for (row, (name, denoiser)) in rows.iter().zip(denoisers) {
        for (area, t) in row.split_evenly((1, SCORE.len())).iter().zip(SCORE) {
            let area = title(area, &format!("{name}, t = {t}"), 14)?;
            let mixture = world.at(t);
            let reach = if t > 300 {
                FAR
            } else if t > 150 {
                2.0
            } else {
                1.4
            };
            let mut plane = Plane::new(&area, reach, false)?;
            plane.heat(&mixture)?;
            let cell = 2.0 * reach / 15.0;
            let middle = |i: i32| (f64::from(i) + 0.5) * cell - reach;
            let grid: Vec<[f64; 2]> = (0..15).flat_map(|i| (0..15).map(move |j| [middle(i), middle(j)])).collect();
            plane::arrows(&mut plane, &mixture, &push(denoiser, &grid, t), &grid, cell)?;
            plane.close()?;
        }
    }
    Ok(())
}

/// Minus the guessed noise: the score times the noise's deviation.
fn push(denoiser: &dyn Denoiser, grid: &[[f64; 2]], t: usize) -> Vec<[f64; 2]> {
    let flat: Vec<f32> = grid.iter().flatten().map(|v| *v as f32).collect();
    let mut noise = vec![0.0; flat.len()];
    denoiser.guess(&flat, t as f32, &mut noise);
    points(&noise).map(|eps| eps.map(|v| -v)).collect()
}

fn reverse(root: &Area, world: &World, study: &Study) -> Result<()> {
    for (row, trip) in root.split_evenly((3, 1)).iter().zip(study.shown()) {
        let row = title(row, &trip.walk.name(), 16)?;
        let areas = row.split_evenly((1, trip.frames.len() + 1));
        for (area, frame) in areas.iter().zip(&trip.frames) {
            scatter(area, &moment(world, trip, frame.timestep), None, &frame.pictures)?;
        }
        if let Some(area) = areas.last() {
            scatter(area, "the end", Some(&world.mixture), &trip.samples)?;
        }
    }
    Ok(())
}

/// How much noise is left, in the terms of the walk.
fn moment(world: &World, trip: &Trip, timestep: f32) -> String {
    match trip.walk {
        Walk::Langevin { .. } => format!("σ = {:.2}", world.schedule.sigma_at(f64::from(timestep))),
        Walk::Table(..) => format!("t = {timestep:.0}"),
    }
}

fn scatter(area: &Area, name: &str, heat: Option<&Mixture>, pictures: &[f32]) -> Result<()> {
    let area = title(area, name, 13)?;
    let mut plane = Plane::new(&area, 2.0, false)?;
    if let Some(mixture) = heat {
        plane.heat(mixture)?;
    }
    plane.dots(some(pictures, DOTS), 1.0, ORANGE.mix(0.6).filled())?;
    plane.close()
}

fn paths(root: &Area, world: &World, study: &Study) -> Result<()> {
    let colours = [ORANGE, GREEN, VIOLET, INK];
    for (area, trip) in root.split_evenly((1, 3)).iter().zip(study.shown()) {
        let area = title(area, &trip.walk.name(), 16)?;
        let mut plane = Plane::new(&area, FAR, false)?;
        plane.heat(&world.mixture)?;
        // A line of many small steps hides others.
        let (taken, strength) = if trip.walk.evaluations() > 100 { (2, 0.6) } else { (24, 0.9) };
        for (path, colour) in trip.paths.iter().take(taken).zip(colours.iter().cycle()) {
            plane.path(path, colour.mix(strength).stroke_width(FINE))?;
        }
        for (path, colour) in trip.paths.iter().take(taken).zip(colours.iter().cycle()) {
            let ends = [path.first(), path.last()].map(|p| p.copied().unwrap_or_default());
            plane.dots(&ends[0], 3.5, WHITE.filled())?;
            plane.dots(&ends[0], 3.0, colour.stroke_width(FINE))?;
            plane.dots(&ends[1], 3.5, WHITE.filled())?;
            plane.dots(&ends[1], 3.0, colour.filled())?;
        }
        plane.close()?;
    }
    Ok(())
}

fn samples(root: &Area, world: &World, study: &Study) -> Result<()> {
    let areas = root.split_evenly((2, 4));
    let known =
        [("true pictures", world.true_quality.distance, &world.truth), ("noise", world.ceiling.distance, &world.noise)];
    for (area, (name, distance, pictures)) in areas.iter().zip(known) {
        judged(area, world, name, distance, pictures)?;
    }
    let two = Walk::Table(undiffuse::sampler::SamplerKind::DpmPp2m, 2);
    let trips = SHOWN.into_iter().chain([two]).filter_map(|walk| study.trip(walk));
    for (area, trip) in areas.iter().skip(known.len()).zip(trips) {
        judged(area, world, &trip.walk.name(), trip.learned.distance, &trip.samples)?;
    }
    Ok(())
}

/// Samples in the plane, their distance, and the first ten as pictures.
fn judged(area: &Area, world: &World, name: &str, distance: f64, pictures: &[f32]) -> Result<()> {
    let area = title(area, name, 15)?;
    let area = title(&area, &format!("distance {distance:.3}"), 13)?;
    let (top, bottom) = area.split_vertically(px(240));
    let mut plane = Plane::new(&top, NEAR + 0.1, false)?;
    plane.heat(&world.mixture)?;
    plane.dots(some(pictures, DOTS), 1.0, ORANGE.mix(0.6).filled())?;
    plane.close()?;
    for (i, p) in pictures.chunks_exact(2).take(10).enumerate() {
        photo(&bottom, (px(37 + 23 * i as i32), px(4)), px(10), [p[0], p[1]], PALE)?;
    }
    Ok(())
}
