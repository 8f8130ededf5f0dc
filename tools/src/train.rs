//! `train`: one subcommand a network. All share the loop in [`run`]: seeded draws, AdamW, running averages, atomic
//! checkpoints, exact resume, a CSV of losses with its plot, and contact sheets as it goes.

mod adamw;
pub mod autoencoder;
pub mod denoiser;
pub mod examples;
mod flat;
pub mod latents;
mod log;
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
    pub fn run(self) -> Result<()> {
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
