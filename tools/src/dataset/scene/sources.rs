//! Which pictures scenes are made of, and how often.

use anyhow::{Result, ensure};

use super::super::pack::Stickers;
use super::super::style::SHIPPED;
use super::{pair, tint};

/// Share of scenes in the style [`SHIPPED`]; the others share the rest by weight.
const SHIPPED_SHARE: f64 = 0.5;

/// The pictures that may be trained on, by style and weight; those of them that may be tinted, and those that may be paired.
pub struct Sources {
    any: Vec<Pool>,
    tintable: Vec<Pool>,
    pairable: Vec<Pool>,
}

impl Sources {
    /// # Errors
    /// If all pictures are held out or have no weight.
    pub fn new(data: &Stickers) -> Result<Self> {
        let any = pools(data, &vec![true; data.concepts().len()]);
        ensure!(!any.is_empty(), "no picture of the data may be trained on: each is held out or has the weight 0");
        let tintable: Vec<bool> = data.concepts().iter().map(tint::tintable).collect();
        let pairable: Vec<bool> = data.concepts().iter().map(|c| pair::pairable(&c.name)).collect();
        let mut pairs = pools(data, &pairable);
        pairs.retain(|pool| data.concept(pool.pictures[0]) != data.concept(*pool.pictures.last().unwrap_or(&0)));
        Ok(Self { any, tintable: pools(data, &tintable), pairable: pairs })
    }

    /// The first picture of a concept in a style that may be trained on.
    pub fn picture(&self, data: &Stickers, concept: usize, style: usize) -> Option<usize> {
        let pool = self.any.iter().find(|pool| pool.style == style)?;
        pool.pictures.iter().copied().find(|picture| data.concept(*picture) == concept)
    }

    pub(super) fn any(&self, unit: &mut impl FnMut() -> f64) -> usize {
        let pool = style(&self.any, unit);
        pool.pictures[pool.draw(unit)]
    }

    pub(super) fn tintable(&self, unit: &mut impl FnMut() -> f64) -> Option<usize> {
        if self.tintable.is_empty() {
            return None;
        }
        let pool = style(&self.tintable, unit);
        Some(pool.pictures[pool.draw(unit)])
    }

    /// Two pictures of one style and different concepts.
    pub(super) fn pair(&self, data: &Stickers, unit: &mut impl FnMut() -> f64) -> Option<[usize; 2]> {
        if self.pairable.is_empty() {
            return None;
        }
        let pool = style(&self.pairable, unit);
        let first = pool.draw(unit);
        Some([first, pool.draw_other(data, first, unit)].map(|i| pool.pictures[i]))
    }
}

/// Pictures of one style.
struct Pool {
    style: usize,
    shipped: bool,
    /// By concept.
    pictures: Vec<usize>,
    /// The weights of the pictures, summed up to and with each.
    sums: Vec<f64>,
}

/// The pools that are not empty, of pictures that may be trained on and whose concept is `wanted`.
fn pools(data: &Stickers, wanted: &[bool]) -> Vec<Pool> {
    let usable = |i: &usize| !data.held_out(*i) && data.weight(*i) > 0.0 && wanted[data.concept(*i)];
    let pool = |style: usize| {
        let mut pictures: Vec<usize> = (0..data.len()).filter(|i| data.style(*i) == style).filter(usable).collect();
        pictures.sort_by_key(|i| data.concept(*i));
        let add = |sum: &mut f64, i: &usize| {
            *sum += f64::from(data.weight(*i));
            Some(*sum)
        };
        let sums = pictures.iter().scan(0.0, add).collect();
        Pool { style, shipped: data.styles()[style] == SHIPPED, pictures, sums }
    };
    (0..data.styles().len()).map(pool).filter(|pool| !pool.pictures.is_empty()).collect()
}

/// The pool of a style.
fn style<'a>(pools: &'a [Pool], unit: &mut impl FnMut() -> f64) -> &'a Pool {
    let others: f64 = pools.iter().filter(|p| !p.shipped).map(Pool::total).sum();
    let shipped = pools.iter().find(|p| p.shipped);
    let draw = unit();
    let mut left = match shipped {
        Some(pool) if draw < SHIPPED_SHARE || others == 0.0 => return pool,
        Some(_) => (draw - SHIPPED_SHARE) / (1.0 - SHIPPED_SHARE) * others,
        None => draw * others,
    };
    let reached = |pool: &&Pool| {
        left -= if pool.shipped { 0.0 } else { pool.total() };
        left < 0.0
    };
    // Rounding may leave a little, and then it is the last one.
    pools.iter().find(reached).unwrap_or(&pools[pools.len() - 1])
}

impl Pool {
    fn total(&self) -> f64 {
        self.before(self.sums.len())
    }

    /// The weight of the pictures before position `i`.
    fn before(&self, i: usize) -> f64 {
        if i == 0 { 0.0 } else { self.sums[i - 1] }
    }

    /// The position at which the summed weight exceeds `weight`.
    fn position(&self, weight: f64) -> usize {
        self.sums.partition_point(|sum| *sum <= weight).min(self.sums.len() - 1)
    }

    /// A position.
    fn draw(&self, unit: &mut impl FnMut() -> f64) -> usize {
        self.position(unit() * self.total())
    }

    /// A position of another concept than that of `first`; the pool must have one.
    fn draw_other(&self, data: &Stickers, first: usize, unit: &mut impl FnMut() -> f64) -> usize {
        let concept = |i: usize| data.concept(self.pictures[i]);
        let start = self.pictures.partition_point(|i| data.concept(*i) < concept(first));
        let end = self.pictures.partition_point(|i| data.concept(*i) <= concept(first));
        let gap = self.before(end) - self.before(start);
        let weight = unit() * (self.total() - gap);
        let position = self.position(if weight < self.before(start) { weight } else { weight + gap });
        // Rounding may end in the gap.
        if (start..end).contains(&position) { end % self.pictures.len() } else { position }
    }
}
