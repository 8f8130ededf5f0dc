//! What every measure needs: the data, the features network, and the model that makes pictures.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use undiffuse::engine::Threads;
use undiffuse::pipeline::Picture;
use undiffuse::value::Tensor;

use super::Args;
use super::cells::{Row, rows};
use super::features::Features;
use super::maker::{Asked, How, Made, Maker};
use crate::dataset::pack::{SIDE, Stickers};
use crate::dataset::style::{SHIPPED, Style};
use crate::picture::{Placement, place};

/// The data, the features network and the model.
pub struct Lab<'a> {
    pub args: &'a Args,
    pub data: Stickers,
    pub net: Features,
    /// Of the real drawings that were looked at, by picture.
    known: BTreeMap<usize, Vec<f32>>,
    pub model: Maker,
    /// What the model is compared with: the teacher.
    pub reference: Option<Maker>,
}

impl<'a> Lab<'a> {
    /// # Errors
    /// If one of the files that `args` names is missing or is not what it should be.
    pub fn open(args: &'a Args) -> Result<Self> {
        let threads = Threads::new(args.threads)?;
        let how = How { steps: Some(args.reference_steps), guidance: args.reference_guidance, shown: false };
        let reference = args.reference.as_ref().map(|folder| Maker::open(folder, how, threads.count()));
        Ok(Self {
            args,
            data: Stickers::open(&args.data)?,
            net: Features::open(&args.features, &threads)?,
            known: BTreeMap::new(),
            model: Maker::open(
                &args.model,
                How { steps: args.steps, guidance: args.guidance, shown: false },
                threads.count(),
            )?,
            reference: reference.transpose()?,
        })
    }

    /// Index of a style.
    ///
    /// # Errors
    /// If the data has none with this word.
    pub fn style(&self, word: &str) -> Result<usize> {
        let found = self.data.styles().iter().position(|style| style == word);
        found.with_context(|| format!("{} has no style {word:?}", self.args.data.display()))
    }

    /// Index of the style whose drawings galleries show: Noto, which no prompt asks for.
    ///
    /// # Errors
    /// If the data has no Noto drawings.
    pub fn gallery_style(&self) -> Result<usize> {
        self.style(Style::Noto.word())
    }

    pub fn name(&self, concept: usize) -> &str {
        &self.data.concepts()[concept].name
    }

    pub fn names(&self) -> Vec<String> {
        self.data.concepts().iter().map(|concept| concept.name.clone()).collect()
    }

    pub fn rows(&self) -> Vec<Row> {
        rows(&self.data)
    }

    /// "red apple" for the shipped style, "red apple, flat style" for another.
    pub fn caption(&self, row: &Row) -> String {
        let (name, style) = (self.name(row.concept), &self.data.styles()[row.style]);
        if style == SHIPPED { name.to_owned() } else { format!("{name}, {style} style") }
    }

    /// The real drawings, on white.
    ///
    /// # Errors
    /// None but those of making a picture.
    pub fn drawings(&self, rows: &[Row]) -> Result<Vec<Picture>> {
        let planes = |row: &Row| picture(place(self.data.rgba(row.picture), &Placement::plain()));
        rows.iter().map(planes).collect()
    }

    /// Features of the real drawings, on white, each computed once.
    ///
    /// # Errors
    /// If the features network fails.
    pub fn features_of(&mut self, rows: &[Row]) -> Result<Vec<Vec<f32>>> {
        let mut missing: Vec<Row> = rows.iter().filter(|row| !self.known.contains_key(&row.picture)).copied().collect();
        missing.sort_by_key(|row| row.picture);
        missing.dedup_by_key(|row| row.picture);
        let drawings = self.drawings(&missing)?;
        self.known.extend(missing.iter().map(|row| row.picture).zip(self.net.of(&drawings)?));
        Ok(rows.iter().filter_map(|row| self.known.get(&row.picture).cloned()).collect())
    }

    /// A picture for each prompt, seed after seed: prompt i begins its noise at seed + i.
    ///
    /// # Errors
    /// If one cannot be made.
    pub fn make(&mut self, prompts: &[String]) -> Result<Made> {
        self.model.make(&asked(prompts, &self.args.seeds))
    }
}

/// Each prompt once for each seed, seed after seed.
pub fn asked(prompts: &[String], seeds: &[u64]) -> Vec<Asked> {
    let with = |seed: u64| {
        let one = move |(i, prompt): (u64, &String)| Asked { prompt: prompt.clone(), seed: seed.wrapping_add(i) };
        (0u64..).zip(prompts).map(one)
    };
    seeds.iter().flat_map(|seed| with(*seed)).collect()
}

/// From planar RGB in [-1, 1], 64x64.
///
/// # Errors
/// If there are not so many values, or one is not finite.
pub fn picture(planes: Vec<f32>) -> Result<Picture> {
    Ok(Picture::from_decoded(Tensor::new(&[1, 3, SIDE, SIDE], planes)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_go_through_once_a_seed() {
        let prompts = ["a", "b"].map(String::from);
        let all: Vec<(String, u64)> = asked(&prompts, &[5, 9]).into_iter().map(|a| (a.prompt, a.seed)).collect();
        assert_eq!(all, [("a", 5), ("b", 6), ("a", 9), ("b", 10)].map(|(p, s)| (p.to_owned(), s)));
    }
}
