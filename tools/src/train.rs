//! `train`: one subcommand a network. All share the loop in [`run`]: seeded draws, AdamW, running averages, atomic
//! checkpoints, exact resume, a CSV of losses with its plot, contact sheets as it goes, and a record of the run at its end (`course.rs`).

mod adamw;
pub mod autoencoder;
mod course;
pub mod denoiser;
pub mod examples;
mod flat;
pub mod latents;
mod log;
pub mod progress;
mod reader;
pub mod run;
mod sampling;
mod sentences;
pub mod sheet;
mod student;
mod synonyms;
#[cfg(test)]
mod tests;
pub mod text;

use anyhow::Result;
use clap::Subcommand;
use course::Course;

/// What to train.
#[derive(Debug, Subcommand)]
pub enum Train {
    /// Pictures to latents and back.
    Autoencoder(autoencoder::Args),
    /// The text encoder, a student of MiniLM-L6.
    Text(text::Args),
    /// The denoiser, on the latents of the autoencoder and the states of the text encoder.
    Denoiser(denoiser::Args),
    /// Other words for a text encoder that a denoiser was trained on.
    Synonyms(synonyms::Args),
    /// Descriptions, for a text encoder that a denoiser was trained on.
    Reader(reader::Args),
    /// A denoiser of one to four steps without guidance, from a trained one.
    Student(student::Args),
}

impl Train {
    /// Trains, and leaves a record of it in the run's folder.
    ///
    /// # Errors
    /// If a file cannot be read or written, or training fails.
    pub fn run(self) -> Result<()> {
        let course = self.course();
        self.train()?;
        course.record()
    }

    fn course(&self) -> Course {
        match self {
            Self::Autoencoder(args) => args.course(),
            Self::Text(args) => args.course(),
            Self::Denoiser(args) => args.course(),
            Self::Synonyms(args) => args.course(),
            Self::Reader(args) => args.course(),
            Self::Student(args) => args.course(),
        }
    }

    fn train(self) -> Result<()> {
        match self {
            Self::Autoencoder(args) => autoencoder::train(args),
            Self::Text(args) => text::train(args),
            Self::Denoiser(args) => denoiser::train(args),
            Self::Synonyms(args) => synonyms::train(args),
            Self::Reader(args) => reader::train(args),
            Self::Student(args) => student::train(args),
        }
    }
}
