//! The `undiffuse` command.

pub mod inspect;
pub mod run;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Text-to-image diffusion on small machines.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// Say more (-v: what is done, -vv: how)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one ONNX graph on arrays
    Run(run::Args),
    /// Say what a model directory or an ONNX file holds, and what of it would not run
    Inspect(inspect::Args),
}

/// Runs the command line; exit code 0 for done, 1 for failed, 2 for a command line that makes no sense.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    let outcome = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Inspect(args) => inspect::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(verbose: u8) {
    let level = ["warn", "info,tract=warn", "debug,tract=info"][usize::from(verbose.min(2))];
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).format_timestamp(None).init();
}
