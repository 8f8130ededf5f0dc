//! The `undiffuse` command.

pub mod bench;
mod bytes;
mod cache;
#[cfg(feature = "vulkan")]
pub mod devices;
pub mod generate;
pub mod inspect;
pub mod run;
mod search;

use crate::board::{self, Board};
use crate::error::{Error, ErrorKind};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What shells give for a process that Ctrl-C ended: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// Text-to-image diffusion on small machines.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// Say more (-v: what is done, -vv: how)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// Which Vulkan device: its number in `undiffuse devices`, or a part of its name
    #[cfg(feature = "vulkan")]
    #[arg(long, global = true, env = "UNDIFFUSE_DEVICE", value_name = "DEVICE")]
    device: Option<String>,
    /// Keep within what this board has: a name (generic, raspberry-pi-5, …) or a TOML file; together with a device, the least of both
    #[arg(long, global = true, value_name = "NAME|FILE.toml")]
    board: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a picture of what a prompt says
    Generate(Box<generate::Args>),
    /// Run one ONNX graph on arrays
    Run(run::Args),
    /// Say what a model directory or an ONNX file holds, and what of it would not run
    Inspect(inspect::Args),
    /// Measure where the time of a model goes, stage by stage and kernel by kernel
    Bench(bench::Args),
    /// List the Vulkan devices of this machine
    #[cfg(feature = "vulkan")]
    Devices(devices::Args),
    /// Answer another process that asks what a device does
    #[cfg(feature = "vulkan")]
    #[command(hide = true)]
    Probe,
}

/// Runs the command line; exit code 0 for done, 1 for failed, 2 for a command line that makes no sense, 130 for interrupted.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    #[cfg(feature = "vulkan")]
    if let Some(device) = &cli.device {
        crate::engine::choose_device(device);
    }
    #[cfg(feature = "vulkan")]
    if let Ok(program) = std::env::current_exe() {
        crate::engine::probe_with(program);
    }
    match keep_within(cli.board.as_deref()).and_then(|()| run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told_once(&error));
            failure(&error)
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Generate(args) => generate::run(*args),
        Command::Run(args) => run::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Bench(args) => bench::run(args),
        #[cfg(feature = "vulkan")]
        Command::Devices(args) => devices::run(args),
        #[cfg(feature = "vulkan")]
        Command::Probe => crate::engine::answer_probe().map_err(anyhow::Error::from),
    }
}

fn keep_within(board: Option<&str>) -> anyhow::Result<()> {
    if let Some(board) = board {
        board::choose(Board::open(board)?);
    }
    Ok(())
}

/// The error and its causes, without those that a message before them already says.
fn told_once(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told {
        told if told.is_empty() => cause,
        told if told.contains(&cause) => told,
        told => format!("{told}: {cause}"),
    })
}

fn failure(error: &anyhow::Error) -> ExitCode {
    let cancelled = error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::Cancelled);
    if cancelled { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
}

fn log_to_stderr(verbose: u8) {
    let level = ["warn", "info,tract=warn", "debug,tract=info"][usize::from(verbose.min(2))];
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).format_timestamp(None).init();
}

/// Writes to standard output; that whoever reads it has left is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("the disk is full");
        let quoting =
            anyhow::Error::new(Error::new(ErrorKind::Io, "cannot write: the disk is full").caused_by(cause()));
        assert_eq!(told_once(&quoting), "cannot write: the disk is full");
        let adding = anyhow::Error::new(cause()).context("cannot write");
        assert_eq!(told_once(&adding), "cannot write: the disk is full");
    }
}
