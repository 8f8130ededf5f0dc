//! The child's side of a probe: it opens the device, plays the stage's own plan on the inputs it was given, and says what it saw, a line of
//! JSON each.

use crate::cache::{self, Cache};
use crate::engine::vulkan::{Identity, Vulkan, identities};
use crate::engine::{Engine, Outputs, Precision};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::model::Graph;
use crate::value::{Data, Tensor};
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

/// How far outputs may be from the CPU's: max |d| / std, as for latents; values between steps that are halves are 2^-11 of themselves off each.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-3,
        Precision::F16 => 5e-2,
    }
}

/// Runs whose bits must be the same: at least, and at most while they take no longer than one of the CPU's in all.
const RUNS: std::ops::Range<usize> = 8..100;
/// After so many runs the fastest of them counts.
const SAMPLES: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// The devices.
    List,
    Stage(Stage),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) graph: PathBuf,
    pub(super) device: Identity,
    pub(super) inputs: Vec<Array>,
    /// What the CPU made of them.
    pub(super) outputs: Vec<Array>,
    pub(super) cpu_ms: f64,
    pub(super) precision: Precision,
    /// Where what the driver compiles is kept.
    pub(super) cache: Option<Cache>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Array {
    name: String,
    shape: Vec<usize>,
    data: Data,
}

impl Array {
    pub(super) fn new(name: &str, tensor: &Tensor) -> Array {
        Array { name: name.into(), shape: tensor.shape().to_vec(), data: tensor.data().clone() }
    }

    fn tensor(self) -> Result<(String, Tensor)> {
        Ok((self.name, Tensor::new(&self.shape, self.data)?))
    }
}

/// What a child says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    Devices(Vec<Identity>),
    /// Weights are on the device, pipelines are compiled.
    Ready,
    /// Milliseconds of a run.
    Ran(f64),
    /// All runs gave the same bits, so far from the CPU's.
    Right(f64),
    Wrong(String),
    Failed(String),
}

/// Answers the request on standard input.
///
/// # Errors
/// When that cannot be read, or is not of this very program; what fails on the device is part of the answer.
pub fn answer_probe() -> Result<()> {
    // Where memory runs out, this process goes and not the one that asked.
    #[cfg(target_os = "linux")]
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(|error| Error::io("read", "standard input".as_ref(), error))?;
    let Some((request, _)) = cache::open::<Request>(&bytes) else {
        return fail!(Malformed, "this is no request of a program of the same build");
    };
    let last = match request {
        Request::List => identities().map(Said::Devices),
        Request::Stage(stage) => stage.play(),
    };
    say(&last.unwrap_or_else(|error| Said::Failed(error.to_string())));
    Ok(())
}

fn say(said: &Said) {
    if let Ok(line) = serde_json::to_string(said) {
        let mut out = std::io::stdout().lock();
        // Nobody hears it where this fails.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

impl Stage {
    fn play(self) -> Result<Said> {
        let mut vulkan = Vulkan::new(Graph::open(&self.graph)?, self.precision, self.cache.as_ref())?;
        if vulkan.identity() != &self.device {
            return fail!(Engine, "the device is {}, not {}", vulkan.identity().name, self.device.name);
        }
        let inputs = self.inputs.into_iter().map(Array::tensor).collect::<Result<Vec<_>>>()?;
        let expected = self.outputs.into_iter().map(Array::tensor).collect::<Result<Vec<_>>>()?;
        let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let shapes: Vec<_> = given.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        vulkan.prepare(&shapes)?;
        say(&Said::Ready);
        played(|| vulkan.run(&given), (&expected, tolerance(self.precision)), self.cpu_ms)
    }
}

/// The CPU's outputs, and how far others may be from them.
type Expected<'a> = (&'a [(String, Tensor)], f64);

/// Runs until the numbers are proved, wrong, or clearly slower than the CPU's.
fn played(mut run: impl FnMut() -> Result<Outputs>, expected: Expected, cpu_ms: f64) -> Result<Said> {
    let (mut first, mut distance) = (None, 0.0);
    let (mut all, mut best) = (0.0, f64::INFINITY);
    for runs in 1.. {
        let begun = Instant::now();
        let outputs = run()?;
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        (all, best) = (all + ms, ms.min(best));
        match &first {
            None => match agreement(&outputs, expected) {
                Ok(found) => distance = found,
                Err(error) => return Ok(Said::Wrong(error.to_string())),
            },
            Some(first) if !same_bits(first, &outputs) => {
                return Ok(Said::Wrong(format!("run {runs} gave other bits than the first")));
            }
            Some(_) => {}
        }
        first.get_or_insert(outputs);
        say(&Said::Ran(ms));
        let enough = runs >= RUNS.end || (runs >= RUNS.start && all > cpu_ms);
        if enough || (runs >= SAMPLES && best > cpu_ms) {
            break;
        }
    }
    Ok(Said::Right(distance))
}

/// The greatest distance of an output from what is expected of it.
///
/// # Errors
/// `NotFinite` or `Engine` that lists the outputs which are too far away.
fn agreement(outputs: &Outputs, (expected, tolerance): Expected) -> Result<f64> {
    let (mut most, mut wrong) = (0.0f64, Vec::new());
    for (name, expected) in expected {
        let distance = outputs.get(name).map_or(f64::INFINITY, |got| distance(got, expected));
        if distance > tolerance {
            wrong.push(format!("{name} is {distance:.1e} from the CPU's (max |d| / std)"));
        }
        most = most.max(distance);
    }
    if wrong.is_empty() { Ok(most) } else { Err(Error::new(ErrorKind::Engine, wrong.join(", "))) }
}

fn distance(got: &Tensor, expected: &Tensor) -> f64 {
    match (got.as_f32(), expected.as_f32()) {
        (Some(got), Some(expected)) if got.len() == expected.len() => crate::engine::compare::error(got, expected),
        _ if got == expected => 0.0,
        _ => f64::INFINITY,
    }
}

/// NaN is the same as itself here.
pub(super) fn same_bits(a: &Outputs, b: &Outputs) -> bool {
    let bits = |tensor: &Tensor| tensor.as_f32().map(|values| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    a.iter().zip(b.iter()).all(|((_, a), (_, b))| match (bits(a), bits(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(values: &[f32]) -> Outputs {
        Outputs::new(vec![("y".into(), Tensor::new(&[values.len()], values.to_vec()).unwrap())])
    }

    fn expected() -> Vec<(String, Tensor)> {
        vec![("y".into(), Tensor::new(&[2], vec![1f32, 3.0]).unwrap())]
    }

    #[test]
    fn right_numbers_are_played_many_times() {
        let mut runs = 0;
        let run = || {
            runs += 1;
            Ok(outputs(&[1.0, 3.0005]))
        };
        let Said::Right(distance) = played(run, (&expected(), 1e-3), 1e6).unwrap() else { panic!("not right") };
        assert!((4e-4..6e-4).contains(&distance) && runs == RUNS.end, "{distance} {runs}");
    }

    #[test]
    fn a_slow_device_is_not_played_for_long() {
        let mut runs = 0;
        let run = || {
            runs += 1;
            Ok(outputs(&[1.0, 3.0]))
        };
        assert_eq!(played(run, (&expected(), 1e-3), 0.0).unwrap(), Said::Right(0.0));
        assert_eq!(runs, SAMPLES);
    }

    #[test]
    fn wrong_and_changing_numbers_are_told() {
        for wrong in [[1.0, 3.1], [1.0, f32::NAN]] {
            let said = played(|| Ok(outputs(&wrong)), (&expected(), 1e-3), 1e6).unwrap();
            assert!(matches!(&said, Said::Wrong(what) if what.contains("y is")), "{said:?}");
        }
        let mut runs = 0;
        let run = || {
            runs += 1;
            Ok(outputs(&[1.0, if runs == 7 { 3.0000002 } else { 3.0 }]))
        };
        assert_eq!(
            played(run, (&expected(), 1e-3), 1e6).unwrap(),
            Said::Wrong("run 7 gave other bits than the first".into())
        );
    }

    #[test]
    fn a_run_that_fails_is_an_error() {
        let lost = || fail!(Engine, "the device was lost");
        assert_eq!(played(lost, (&expected(), 1e-3), 1e6).unwrap_err().to_string(), "the device was lost");
    }
}
