//! [`Engine`]: where the build line ends and the run line takes over. An engine runs one graph, by names.

mod account;
#[cfg(feature = "vulkan")]
mod choose;
mod compare;
mod cpu;
mod profile;
pub mod reference;
mod threads;
#[cfg(feature = "vulkan")]
mod vulkan;

pub use crate::cache::Cache;
pub use account::Account;
#[cfg(feature = "vulkan")]
pub use choose::{answer_probe, probe_with};
pub use compare::{Compared, Difference, compare};
pub use profile::{Family, Profile};
pub use threads::Threads;
#[cfg(feature = "vulkan")]
pub use vulkan::{
    DeviceInfo, DispatchInfo, Identity, Limits, PipelineInfo, VulkanPlanned, choose_device, devices, plan_vulkan,
    vulkan_limits,
};

pub use crate::cancel::CancelToken;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::model::{Graph, Port};
use crate::value::Tensor;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Runs one graph.
pub trait Engine: Send {
    /// A short name for reports: `tract`.
    fn name(&self) -> &'static str;

    /// What must be given, in the file's order.
    fn inputs(&self) -> &[Port];

    /// What is computed, in the file's order.
    fn outputs(&self) -> &[Port];

    /// Plans for inputs of these shapes, by name, and says what running will take; `None` where the engine cannot tell. Nothing large is allocated.
    ///
    /// # Errors
    /// Those of [`Engine::prepare`].
    fn plan(&mut self, shapes: &[(&str, &[usize])]) -> Result<Option<Footprint>>;

    /// Gets ready for inputs of these shapes, by name; [`Engine::run`] does it by itself where it was not done. Costs nothing when the engine
    /// is ready for them already.
    ///
    /// # Errors
    /// `Mismatch` when an input is missing, unknown or of another shape than declared, `Engine` when the graph cannot be prepared.
    fn prepare(&mut self, shapes: &[(&str, &[usize])]) -> Result<()>;

    /// Whether packed weights stay in the file that they are kept in, to be read anew by every run: as little memory as can be, for a little
    /// time. Nothing changes where they are kept in none.
    fn stream(&mut self, _streamed: bool) {}

    /// From now on runs end early, with `Cancelled`, when `cancel` says so; an engine that cannot stop inside of a graph goes on to its end.
    fn heed(&mut self, _cancel: &CancelToken) {}

    /// What runs the graph, or would run it, on what, and why.
    fn account(&self) -> Account;

    /// Computes all outputs from `inputs`, which are converted to the declared float or integer type where they differ.
    ///
    /// # Errors
    /// Those of [`Engine::prepare`], `Mismatch` when a float is given for an integer or the other way round.
    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Outputs>;
}

/// What a run computed, by name, in the graph's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs(Vec<(String, Tensor)>);

impl Outputs {
    /// Outputs in the graph's order.
    pub fn new(outputs: Vec<(String, Tensor)>) -> Outputs {
        Outputs(outputs)
    }

    /// Takes the output called `name`.
    ///
    /// # Errors
    /// `Mismatch` that lists the outputs there are.
    pub fn take(&mut self, name: &str) -> Result<Tensor> {
        match self.0.iter().position(|(output, _)| output == name) {
            Some(index) => Ok(self.0.swap_remove(index).1),
            None => fail!(Mismatch, "the graph has no output \"{name}\"; it gives {}", self.names()),
        }
    }

    /// The output called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(output, _)| output == name).map(|(_, tensor)| tensor)
    }

    /// Names and values in the graph's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    fn names(&self) -> String {
        self.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Which engine is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Whichever was measured fastest here, and right.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The whole graph in tract, as it is: what the others are compared with.
    Tract,
    /// A Vulkan device: the one that `UNDIFFUSE_DEVICE` names, else the first GPU.
    Vulkan,
}

impl Backend {
    /// Every backend there is.
    pub const ALL: [Backend; 4] = [Backend::Auto, Backend::Cpu, Backend::Tract, Backend::Vulkan];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Cpu => "cpu",
            Backend::Tract => "tract",
            Backend::Vulkan => "vulkan",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Backend> {
        Backend::ALL.into_iter().find(|backend| backend.name() == name).ok_or_else(|| {
            let known = Backend::ALL.map(Backend::name).join(", ");
            Error::new(ErrorKind::Invalid, format!("unknown backend \"{name}\"")).advise(format!("use one of {known}"))
        })
    }
}

/// How the weights of products and convolutions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Weights {
    /// As wide as in the file.
    #[default]
    Stored,
    /// In eight bits, with a scale an output channel; small ones as stored. Half the memory of f16, and a little of the picture.
    Int8,
}

impl Weights {
    /// Every way there is.
    pub const ALL: [Weights; 2] = [Weights::Stored, Weights::Int8];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Weights::Stored => "stored",
            Weights::Int8 => "int8",
        }
    }
}

impl FromStr for Weights {
    type Err = Error;

    fn from_str(name: &str) -> Result<Weights> {
        Weights::ALL.into_iter().find(|weights| weights.name() == name).ok_or_else(|| {
            let known = Weights::ALL.map(Weights::name).join(", ");
            Error::new(ErrorKind::Invalid, format!("unknown way to keep weights \"{name}\""))
                .advise(format!("use one of {known}"))
        })
    }
}

/// How floats are stored on a Vulkan device; sums are f32 in any case, and the CPU computes in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Precision {
    /// In 32 bits.
    #[default]
    F32,
    /// Weights and what one step hands to the next in 16 bits where they can lie in pairs: half the memory and half of what is moved.
    F16,
}

impl Precision {
    /// Every one there is.
    pub const ALL: [Precision; 2] = [Precision::F32, Precision::F16];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Precision> {
        Precision::ALL.into_iter().find(|precision| precision.name() == name).ok_or_else(|| {
            let known = Precision::ALL.map(Precision::name).join(", ");
            Error::new(ErrorKind::Invalid, format!("unknown precision \"{name}\""))
                .advise(format!("use one of {known}"))
        })
    }
}

/// An engine for `graph` on `backend`, in f32, with weights as they are stored and nothing kept for the next start.
///
/// # Errors
/// `Unsupported` for Vulkan where there is no device.
pub fn load(graph: Graph, backend: Backend, threads: &Threads) -> Result<Box<dyn Engine>> {
    load_with(graph, backend, Weights::Stored, Some(Precision::F32), threads, None)
}

/// An engine for `graph` on `backend` that keeps its weights as `weights` says, and what it prepares in `cache`, for the next one of the same
/// graph. Where no `precision` is given, a Vulkan device stores halves if they were found right, and, by [`Backend::Auto`], faster.
///
/// # Errors
/// `Invalid` for tract and Vulkan with anything but [`Weights::Stored`], and for the CPU and tract with [`Precision::F16`]; `Unsupported` for Vulkan where there is no device.
pub fn load_with(
    graph: Graph,
    backend: Backend,
    weights: Weights,
    precision: Option<Precision>,
    threads: &Threads,
    cache: Option<&Cache>,
) -> Result<Box<dyn Engine>> {
    match backend {
        Backend::Cpu | Backend::Tract if precision == Some(Precision::F16) => only_f32(backend),
        Backend::Cpu => Ok(Box::new(cpu::Cpu::new(graph, weights, threads, cache))),
        #[cfg(feature = "vulkan")]
        Backend::Auto if weights == Weights::Stored => {
            Ok(Box::new(choose::Auto::new(graph, precision, threads, cache)))
        }
        Backend::Auto => {
            let why = if cfg!(feature = "vulkan") { "only the CPU keeps weights so" } else { "built without Vulkan" };
            Ok(Box::new(cpu::Cpu::new(graph, weights, threads, cache).because(why)))
        }
        Backend::Tract | Backend::Vulkan if weights != Weights::Stored => {
            fail!(Invalid, "{backend} keeps weights as they are stored")
                .map_err(|error: Error| error.advise("use the backend cpu for int8 weights"))
        }
        Backend::Tract => Ok(Box::new(reference::Reference::new(graph, threads))),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => Ok(Box::new(choose::Proved::new(graph, precision, threads, cache)?)),
        #[cfg(not(feature = "vulkan"))]
        Backend::Vulkan => no_vulkan(),
    }
}

/// What `undiffuse devices` tells of a device.
#[cfg(feature = "vulkan")]
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdicts {
    /// Probes on it that a signal ended.
    pub deaths: u32,
    /// What probes found, a graph and set of shapes each.
    pub verdicts: Vec<Measured>,
}

/// What a probe found of a graph on a device.
#[cfg(feature = "vulkan")]
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    pub graph: std::path::PathBuf,
    /// Of its inputs.
    pub shapes: Vec<Vec<usize>>,
    /// Of the CPU whose time it was compared with; `None` where only numbers were.
    pub threads: Option<usize>,
    /// `f32` or `f16`.
    pub precision: &'static str,
    /// `vulkan` or `cpu`.
    pub engine: &'static str,
    pub why: String,
}

/// What is kept in `cache` about `device`, as it is and with the driver that it has.
#[cfg(feature = "vulkan")]
pub fn verdicts(device: &DeviceInfo, cache: &Cache) -> Verdicts {
    let measured = |(about, verdict): (choose::About, choose::Verdict)| Measured {
        graph: about.graph,
        shapes: about.shapes,
        threads: about.threads,
        precision: about.precision.name(),
        engine: if verdict.is_for_device_of(about.threads) { "vulkan" } else { "cpu" },
        why: verdict.why(),
    };
    let own = choose::all(cache).into_iter().filter(|(about, _)| about.device == device.identity);
    Verdicts { deaths: choose::deaths(&device.identity, Some(cache)), verdicts: own.map(measured).collect() }
}

/// What the CPU engine makes of a graph, before it touches a weight.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Fusion rules, in the order in which they are tried, with how often each matched.
    pub fusions: Vec<(&'static str, usize)>,
    /// Steps of the plan by kernel, with how often each occurs.
    pub steps: std::collections::BTreeMap<String, usize>,
    /// What running it allocates.
    pub memory: Memory,
    /// What it takes where packed weights [stay in their file](Engine::stream).
    pub streamed: Memory,
    /// The plan, a line a step.
    pub listing: String,
}

/// Bytes that a stage takes beside its file, which is mapped and read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Memory {
    /// Packed weights, and what is widened to f32.
    pub weights: usize,
    /// All intermediate values together.
    pub arena: usize,
    /// Work space of the kernels.
    pub scratch: usize,
    /// The largest weight while it is packed, before there is an arena.
    pub packing: usize,
}

impl Memory {
    /// At most at any time.
    pub fn peak(&self) -> usize {
        self.weights + self.scratch + self.arena.max(self.packing)
    }
}

/// What running a planned stage takes and gives.
#[derive(Debug, Clone)]
pub struct Footprint {
    /// What running it takes.
    pub memory: Memory,
    /// The same where packed weights [stay in their file](Engine::stream), if they can.
    pub streamed: Option<Memory>,
    /// Bytes that the process has taken for it already.
    pub held: usize,
    /// The shapes of the outputs, in the graph's order.
    pub outputs: Vec<Vec<usize>>,
}

impl Planned {
    fn of(plan: &crate::graph::plan::Plan, fusions: Vec<(&'static str, usize)>, threads: &Threads) -> Planned {
        let mut steps = std::collections::BTreeMap::new();
        plan.steps.iter().for_each(|step| *steps.entry(step.work.name()).or_default() += 1);
        let [memory, streamed] =
            [cpu::Place::Memory, cpu::Place::Streamed].map(|place| cpu::memory(plan, threads, place, false));
        Planned { fusions, steps, memory, streamed, listing: plan.to_string() }
    }
}

/// Plans `graph` for inputs of these shapes, by name.
///
/// # Errors
/// `Mismatch` when a shape is missing or is not what the graph takes; `Unsupported` that lists every node without a step; those of reading the
/// graph.
pub fn plan(graph: &Graph, shapes: &[(&str, &[usize])], threads: &Threads) -> Result<Planned> {
    let (plan, fusions) =
        crate::graph::build(graph, &graph.shapes(shapes)?).map_err(|error| error.in_file(graph.file()))?;
    Ok(Planned::of(&plan, fusions, threads))
}

/// Runs `graph` `repeat` times, after one run that is not counted, and measures every step: on the CPU engine, or on the Vulkan device that was
/// chosen, in f32 unless told, by its own clock, each launch waiting for the one before.
///
/// # Errors
/// Those of [`plan`] or of planning for the device; `Invalid` for the CPU with [`Precision::F16`]; `Unsupported` for other backends, where there
/// is no device, and where it has no clock; `Engine` when a run fails.
pub fn profile(
    graph: &Graph,
    inputs: &[(&str, &Tensor)],
    repeat: usize,
    (backend, precision): (Backend, Option<Precision>),
    threads: &Threads,
) -> Result<Profile> {
    let profile = match backend {
        Backend::Cpu if precision == Some(Precision::F16) => only_f32(backend),
        Backend::Cpu => cpu::profile(graph, inputs, repeat, threads),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => vulkan::profile(graph, inputs, repeat, precision.unwrap_or_default()),
        #[cfg(not(feature = "vulkan"))]
        Backend::Vulkan => no_vulkan(),
        Backend::Auto | Backend::Tract => fail!(Unsupported, "{backend} is not measured step by step")
            .map_err(|error: Error| error.advise("use the backend cpu or vulkan")),
    };
    profile.map_err(|error| error.in_file(graph.file()))
}

fn only_f32<T>(backend: Backend) -> Result<T> {
    fail!(Invalid, "{backend} computes in f32")
        .map_err(|error: Error| error.advise("leave the precision out, or use the backend vulkan"))
}

#[cfg(not(feature = "vulkan"))]
fn no_vulkan<T>() -> Result<T> {
    fail!(Unsupported, "this program was built without its feature \"vulkan\"")
}

#[cfg(test)]
pub(crate) use cpu::play_once;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_read_as_they_are_shown() {
        for backend in Backend::ALL {
            assert_eq!(backend.to_string().parse::<Backend>().unwrap(), backend);
        }
        let message = "gpu".parse::<Backend>().unwrap_err().to_string();
        assert_eq!(message, "unknown backend \"gpu\"; use one of auto, cpu, tract, vulkan");
    }

    #[test]
    fn outputs_are_taken_by_name() {
        let mut outputs = Outputs::new(vec![("a".into(), Tensor::scalar(1f32))]);
        assert_eq!(outputs.take("b").unwrap_err().to_string(), "the graph has no output \"b\"; it gives a");
        assert_eq!(outputs.take("a").unwrap(), Tensor::scalar(1f32));
    }
}
