//! The command `undiffuse-tools`: one subcommand a stage.

use clap::{Parser, Subcommand};
use undiffuse_tools::dataset;

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
}

fn main() -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match Cli::parse().command {
        Command::Dataset(args) => dataset::run(&args),
    }
}
