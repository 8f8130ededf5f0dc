//! Asking a child process, which a driver may kill without harm to this one.

use super::child::{Request, Said};
use super::verdict::Finding;
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

/// How long a child may be silent after what it said last, beside a CPU that takes `ms` a run.
pub(super) fn patience(last: Option<&Said>, ms: f64) -> Duration {
    let cpu = Duration::from_secs_f64(ms / 1e3);
    match last {
        // It uploads and compiles.
        None => Duration::from_secs(60) + 10 * cpu,
        // Clearly slower than this is slow enough.
        Some(Said::Ready) => Duration::from_millis(50) + 2 * cpu,
        Some(_) => Duration::from_secs(5) + 2 * cpu,
    }
}

/// What a child found.
///
/// # Errors
/// How it died.
pub(super) fn found(said: &[Said], end: End) -> Result<Finding, String> {
    let times = said.iter().filter_map(|said| if let Said::Ran(ms) = said { Some(*ms) } else { None });
    let (runs, device_ms) = times.fold((0, f64::INFINITY), |(runs, best), ms| (runs + 1, best.min(ms)));
    Ok(match (said.last(), end) {
        (_, End::Died(how)) => return Err(how),
        (Some(Said::Right(distance)), End::Exited) if runs > 0 => {
            Finding::Right { distance: *distance, runs, device_ms }
        }
        (Some(Said::Wrong(what)), _) => Finding::Wrong(what.clone()),
        (Some(Said::Failed(what)), _) => Finding::Failed(what.clone()),
        (Some(Said::Ready), End::Late(after)) => Finding::Slow { after_ms: after.as_secs_f64() * 1e3 },
        (_, End::Late(after)) => Finding::Failed(format!("it said nothing for {after:.1?}")),
        (_, End::NotStarted(why)) => Finding::Failed(why),
        (_, End::Exited) => Finding::Failed("the probe ended without an answer".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_a_probe_has_its_finding() {
        let second = || End::Late(Duration::from_secs(1));
        let died = found(&[Said::Ready, Said::Ran(1.0)], End::Died("signal 11".into()));
        assert_eq!(died.unwrap_err(), "signal 11");
        let right = [Said::Ready, Said::Ran(3.0), Said::Ran(2.0), Said::Right(1e-6)];
        let expected = Finding::Right { distance: 1e-6, runs: 2, device_ms: 2.0 };
        assert_eq!(found(&right, End::Exited).unwrap(), expected);
        assert_eq!(found(&[Said::Ready], second()).unwrap(), Finding::Slow { after_ms: 1000.0 });
        assert!(matches!(found(&[], second()).unwrap(), Finding::Failed(_)));
        assert!(matches!(found(&right[..3], second()).unwrap(), Finding::Failed(_)), "it hung");
        assert!(matches!(found(&right[..3], End::Exited).unwrap(), Finding::Failed(_)), "cut short");
        let wrong = Said::Wrong("y".into());
        assert_eq!(found(&[Said::Ready, wrong], End::Exited).unwrap(), Finding::Wrong("y".into()));
    }
}
