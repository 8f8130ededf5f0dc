//! The command `undiffuse-tools`: one subcommand a stage.

use clap::{Parser, Subcommand};
use undiffuse_tools::{card, dataset, evaluate, export, quantise};
#[cfg(feature = "train")]
use undiffuse_tools::{lesson, train};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch the pinned emoji packages, render them and pack them into one file.
    Dataset(dataset::Args),
    /// The whole idea, taught and proved on a case where everything is known.
    #[cfg(feature = "train")]
    #[command(subcommand)]
    Lesson(lesson::Lesson),
    /// Train a network.
    #[cfg(feature = "train")]
    #[command(subcommand)]
    Train(train::Train),
    /// Measure a model: concept retrieval on its pictures, and a contact sheet.
    Evaluate(evaluate::Args),
    /// Write trained weights as a model directory in the diffusers ONNX layout.
    Export(export::Args),
    /// Put an exported model's large weights into eight bits, and say what that costs.
    Quantise(quantise::Args),
    /// Write a model's card, README.md, from the records in its directory, its files and the sentences of its card.md.
    Card(card::Args),
}

fn main() -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match Cli::parse().command {
        Command::Dataset(args) => dataset::run(&args),
        #[cfg(feature = "train")]
        Command::Lesson(lesson) => lesson.run(),
        #[cfg(feature = "train")]
        Command::Train(train) => train.run(),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Quantise(args) => quantise::run(&args),
        Command::Card(args) => card::run(&args),
    }
}
