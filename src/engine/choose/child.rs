//! The child's side of a probe: it opens the device, plays the stage's own plan on the inputs it was given, and says what it saw, a line of
//! JSON each.

use super::trial::{Trial, tolerance};
use crate::cache::{self, Cache};
use crate::engine::vulkan::{Identity, Vulkan, identities};
use crate::engine::{Engine, Precision};
use crate::error::{Error, Result, fail};
use crate::model::Graph;
use crate::value::{Data, Tensor};
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Write as _};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Runs whose bits must be the same: at least, and at most while they take no longer than one of the CPU's in all.
const RUNS: RangeInclusive<usize> = 8..=100;

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
        let trial = Trial {
            expected: expected.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect(),
            tolerance: tolerance(self.precision),
            cpu_ms: self.cpu_ms,
            runs: RUNS,
            hurries: true,
        };
        let found = trial.play(|| vulkan.run(&given), |ms| say(&Said::Ran(ms)))?;
        Ok(found.map_or_else(Said::Wrong, |right| Said::Right(right.distance)))
    }
}
