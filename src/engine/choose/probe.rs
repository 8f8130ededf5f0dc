//! Asking a child process, which a driver may kill without harm to this one.

use super::child::{Request, Said};
use crate::cache;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The variable that names the program to probe with.
const VARIABLE: &str = "UNDIFFUSE_PROBE";

static PROGRAM: Mutex<Option<PathBuf>> = Mutex::new(None);

/// From now on `auto` probes Vulkan devices with this `undiffuse` program, of the same build as this library: a driver that dies then takes
/// the child with it, not the caller. The variable `UNDIFFUSE_PROBE` goes before it. Without either, devices are not measured.
pub fn probe_with(program: impl Into<PathBuf>) {
    *PROGRAM.lock().unwrap_or_else(PoisonError::into_inner) = Some(program.into());
}

/// What probes, where something does.
pub(super) fn program() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()).map(PathBuf::from);
    named.or_else(|| PROGRAM.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// How a child ended.
#[derive(Debug)]
pub(super) enum End {
    Exited,
    /// By a signal that was not ours.
    Died(String),
    /// It said nothing for so long, and was killed.
    Late(Duration),
    NotStarted(String),
}

/// Gives `request` to a child and hears it until it ends, or says nothing for as long as `patience` allows after what it said last.
pub(super) fn ask(request: &Request, patience: impl Fn(Option<&Said>) -> Duration) -> (Vec<Said>, End) {
    let mut heard = Vec::new();
    let Some(program) = program() else { return (heard, End::NotStarted("no program to probe with is known".into())) };
    let started = cache::seal(request, 0)
        .map_err(|error| error.to_string())
        .and_then(|bytes| start(program, bytes).map_err(|error| error.to_string()));
    let (mut child, lines) = match started {
        Ok(started) => started,
        Err(error) => return (heard, End::NotStarted(error)),
    };
    loop {
        let patience = patience(heard.last());
        match lines.recv_timeout(patience) {
            Ok(said) => heard.push(said),
            Err(RecvTimeoutError::Timeout) => {
                // It may have ended by itself in the meantime.
                let _ = child.kill();
                let _ = child.wait();
                return (heard, End::Late(patience));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let end = match child.wait() {
        Ok(status) => death(status).map_or(End::Exited, End::Died),
        Err(error) => End::NotStarted(error.to_string()),
    };
    (heard, end)
}

fn start(program: PathBuf, request: Vec<u8>) -> std::io::Result<(Child, Receiver<Said>)> {
    let mut command = Command::new(program);
    if let Some(device) = crate::engine::vulkan::wanted() {
        command.arg("--device").arg(device);
    }
    command.arg("probe").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that is gone does not read; its end tells.
        std::thread::spawn(move || stdin.write_all(&request));
    }
    let (sender, receiver) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let said = lines.filter_map(|line| serde_json::from_str(&line).ok());
            for said in said {
                if sender.send(said).is_err() {
                    break;
                }
            }
        });
    }
    Ok((child, receiver))
}

#[cfg(unix)]
fn death(status: ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal().map(|signal| format!("signal {signal}"))
}

/// Exceptions that nobody caught are negative exit codes.
#[cfg(not(unix))]
fn death(status: ExitStatus) -> Option<String> {
    status.code().filter(|code| *code < 0).map(|code| format!("exception {code:#x}"))
}
