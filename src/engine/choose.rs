//! [`Auto`]: a graph on the engine that was measured faster here and gave right numbers.
//!
//! The first run of a graph, for shapes that no verdict is known of, is the CPU's; its inputs, outputs and time are what a child process then
//! holds the device to. Later runs, and later starts by the cache, go where the verdict says. A run that fails on the device, or gives no
//! numbers, is the CPU's, from the same inputs.

mod child;
mod probe;
mod proved;
mod survey;
mod trial;
mod verdict;

pub use child::answer_probe;
pub use probe::probe_with;
pub(super) use proved::Proved;
pub(crate) use verdict::{About, Verdict, all, deaths};

use super::cpu::Cpu;
use super::vulkan::{Identity, Vulkan};
use super::{Account, Cache, CancelToken, Engine, Footprint, Outputs, Precision, Threads, Weights};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::model::{Graph, Port};
use crate::value::Tensor;
use child::{Array, Request, Stage};
use probe::{ask, found, patience};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use trial::sound;
use verdict::Finding;

/// Why the device is not used any more by this process.
static FELL: Mutex<Option<String>> = Mutex::new(None);

/// A graph on the CPU, or on a device.
pub(super) struct Auto {
    graph: Graph,
    /// Where none is asked for: that which was measured faster.
    precision: Option<Precision>,
    threads: Threads,
    cache: Option<Cache>,
    cpu: Cpu,
    vulkan: Option<Box<Vulkan>>,
    decided: Option<(Vec<Vec<usize>>, Choice)>,
    fell: Option<String>,
    cancel: CancelToken,
}

/// Where a graph runs.
#[derive(Debug, Clone)]
enum Choice {
    Cpu(String),
    Vulkan(String),
    /// On the CPU, beside which this device is to be measured.
    Open(Box<About>),
}

impl Auto {
    pub(super) fn new(graph: Graph, precision: Option<Precision>, threads: &Threads, cache: Option<&Cache>) -> Auto {
        let cpu = Cpu::new(graph.clone(), Weights::Stored, threads, cache);
        let (threads, cache) = (threads.clone(), cache.cloned());
        Auto {
            graph,
            precision,
            threads,
            cache,
            cpu,
            vulkan: None,
            decided: None,
            fell: None,
            cancel: CancelToken::new(),
        }
    }

    /// Chooses for `shapes`, unless that was done.
    fn decide(&mut self, shapes: &[(&str, &[usize])]) -> Result<()> {
        let shapes = crate::model::complete(self.cpu.inputs(), shapes).map_err(|error| self.in_file(error))?;
        // Another stage may have lost the device since.
        if let Some(why) = &*FELL.lock().unwrap_or_else(PoisonError::into_inner)
            && let Some((_, choice @ Choice::Vulkan(_))) = &mut self.decided
        {
            *choice = Choice::Cpu(why.clone());
            self.vulkan = None;
        }
        if self.decided.as_ref().is_some_and(|(decided, _)| *decided == shapes) {
            return Ok(());
        }
        let choice = self.choice(&shapes);
        log::debug!("{}: {choice:?}", self.graph.file().display());
        self.decided = Some((shapes, choice));
        Ok(())
    }

    fn choice(&mut self, shapes: &[Vec<usize>]) -> Choice {
        let device = match self.device() {
            Ok(device) => device,
            Err(why) => return Choice::Cpu(why),
        };
        // Halves are tried where f32 is near the CPU: they move half as much.
        let precisions = self.precision.map_or(&Precision::ALL[..], |asked| match asked {
            Precision::F32 => &[Precision::F32],
            Precision::F16 => &[Precision::F16],
        });
        let (mut best, mut why): (Option<(f64, Precision)>, _) = (None, String::new());
        for &precision in precisions {
            let about = About::new(&self.graph, &device, shapes, Some(self.threads.count()), precision);
            let Some(verdict) = verdict::find(&about, self.cache.as_ref()) else {
                if probe::program().is_some() {
                    return Choice::Open(Box::new(about));
                }
                if why.is_empty() {
                    why = format!("{} is not measured: no program to probe with is known", device.name);
                }
                break;
            };
            match verdict.device_ms() {
                Some(ms) if best.is_none_or(|(least, _)| ms < least) => {
                    best = Some((ms, precision));
                    why = verdict.why();
                }
                _ if why.is_empty() => why = verdict.why(),
                _ => {}
            }
            if !verdict.is_near() {
                break;
            }
        }
        let Some((_, precision)) = best else { return Choice::Cpu(why) };
        match self.open(&device, precision) {
            Ok(()) => Choice::Vulkan(why),
            Err(error) => {
                self.fall(&error);
                Choice::Cpu(error.to_string())
            }
        }
    }

    /// # Errors
    /// Why no device is used, in a clause.
    fn device(&self) -> Result<Identity, String> {
        if let Some(why) = &*FELL.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(why.clone());
        }
        if !self.graph.watched().is_empty() {
            return Err("values inside of the graph are asked for".into());
        }
        if crate::board::chosen().is_some() {
            return Err("nothing is measured within a board's limits".into());
        }
        let device = survey::device(self.cache.as_ref())?;
        verdict::disabled(&device, self.cache.as_ref()).map_or(Ok(device), Err)
    }

    fn open(&mut self, device: &Identity, precision: Precision) -> Result<()> {
        if self.vulkan.as_ref().is_none_or(|vulkan| vulkan.precision() != precision) {
            let mut vulkan = Vulkan::new(self.graph.clone(), precision, self.cache.as_ref())?;
            vulkan.heed(&self.cancel);
            if vulkan.identity() != device {
                return fail!(Engine, "{} is not the device that was measured, or has another driver", device.name);
            }
            self.vulkan = Some(Box::new(vulkan));
        }
        Ok(())
    }

    /// From now on this process computes on the CPU.
    fn fall(&mut self, error: &Error) {
        let why = format!("Vulkan failed, the CPU goes on: {error}");
        let mut fell = FELL.lock().unwrap_or_else(PoisonError::into_inner);
        if fell.is_none() {
            log::warn!("{why}");
            *fell = Some(why.clone());
            self.fell = Some(why.clone());
        }
        self.vulkan = None;
        if let Some((_, choice)) = &mut self.decided {
            *choice = Choice::Cpu(why);
        }
    }

    /// Asks the device, where it is the choice; `None` where the CPU is, or where the device fails.
    ///
    /// # Errors
    /// `Cancelled`.
    fn on_device<T>(&mut self, work: impl FnOnce(&mut Vulkan) -> Result<T>) -> Result<Option<T>> {
        let (Some((_, Choice::Vulkan(_))), Some(vulkan)) = (&self.decided, &mut self.vulkan) else { return Ok(None) };
        match work(vulkan) {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
            Err(error) => {
                self.fall(&error);
                Ok(None)
            }
        }
    }

    /// Holds the device to what the CPU made of `inputs` in `ms` milliseconds, in one precision after the other, and chooses.
    fn probe(&mut self, mut about: About, inputs: &[(&str, &Tensor)], outputs: &Outputs, mut ms: f64) -> Result<()> {
        loop {
            let finding = match self.measured(&about, inputs, outputs, ms) {
                Ok(finding) => finding,
                Err(why) => {
                    let deaths = verdict::count_death(&about.device, self.cache.as_ref());
                    let why = format!("the probe of {} died ({why}; {deaths} so far)", about.device.name);
                    self.decided = Some((about.shapes, Choice::Cpu(why)));
                    return Ok(());
                }
            };
            let mut verdict = Verdict { cpu_ms: ms, finding };
            if verdict.is_for_device() {
                // The first run read weights from the disk.
                ms = ms.min(self.timed(inputs)?.1);
                verdict.cpu_ms = ms;
            }
            verdict::keep(&about, &verdict, self.cache.as_ref());
            // Opens the device, if it is the choice.
            match self.choice(&about.shapes) {
                Choice::Open(next) => about = *next,
                choice => {
                    self.decided = Some((about.shapes, choice));
                    break;
                }
            }
        }
        if self.vulkan.is_some() {
            self.cpu = Cpu::new(self.graph.clone(), Weights::Stored, &self.threads, self.cache.as_ref());
        }
        Ok(())
    }

    /// What a child finds.
    ///
    /// # Errors
    /// How it died.
    fn measured(
        &self,
        about: &About,
        inputs: &[(&str, &Tensor)],
        outputs: &Outputs,
        ms: f64,
    ) -> Result<Finding, String> {
        let arrays = |all: &mut dyn Iterator<Item = (&str, &Tensor)>| {
            all.map(|(name, tensor)| Array::new(name, tensor)).collect::<Vec<_>>()
        };
        let request = Request::Stage(Stage {
            graph: about.graph.clone(),
            device: about.device.clone(),
            inputs: arrays(&mut inputs.iter().copied()),
            outputs: arrays(&mut outputs.iter()),
            cpu_ms: ms,
            precision: about.precision,
            cache: self.cache.clone(),
        });
        let (said, end) = ask(&request, |last| patience(last, ms));
        found(&said, end)
    }

    fn timed(&mut self, inputs: &[(&str, &Tensor)]) -> Result<(Outputs, f64)> {
        let begun = Instant::now();
        let outputs = self.cpu.run(inputs)?;
        Ok((outputs, begun.elapsed().as_secs_f64() * 1e3))
    }

    fn in_file(&self, error: Error) -> Error {
        error.in_file(self.graph.file())
    }
}

impl Engine for Auto {
    fn name(&self) -> &'static str {
        match &self.vulkan {
            Some(vulkan) => vulkan.name(),
            None => self.cpu.name(),
        }
    }

    fn inputs(&self) -> &[Port] {
        self.cpu.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.cpu.outputs()
    }

    fn plan(&mut self, shapes: &[(&str, &[usize])]) -> Result<Option<Footprint>> {
        self.decide(shapes)?;
        match self.on_device(|vulkan| vulkan.plan(shapes))? {
            Some(planned) => Ok(planned),
            None => self.cpu.plan(shapes),
        }
    }

    fn prepare(&mut self, shapes: &[(&str, &[usize])]) -> Result<()> {
        self.decide(shapes)?;
        match self.on_device(|vulkan| vulkan.prepare(shapes))? {
            Some(()) => Ok(()),
            None => self.cpu.prepare(shapes),
        }
    }

    fn stream(&mut self, streamed: bool) {
        self.cpu.stream(streamed);
    }

    fn heed(&mut self, cancel: &CancelToken) {
        self.cpu.heed(cancel);
        self.cancel = cancel.clone();
        if let Some(vulkan) = &mut self.vulkan {
            vulkan.heed(cancel);
        }
    }

    fn account(&self) -> Account {
        let fell = self.fell.clone();
        match (&self.decided, &self.vulkan) {
            (Some((_, Choice::Vulkan(why))), Some(vulkan)) => Account { why: why.clone(), fell, ..vulkan.account() },
            (Some((_, Choice::Cpu(why))), _) => {
                let account = self.cpu.account();
                let why = if account.engine == "tract" { account.why.clone() } else { why.clone() };
                Account { why, fell, ..account }
            }
            _ => Account { why: "no device is measured yet".into(), fell, ..self.cpu.account() },
        }
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Outputs> {
        let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        self.prepare(&shapes)?;
        if let Some(outputs) = self.on_device(|vulkan| vulkan.run(inputs).and_then(sound))? {
            return Ok(outputs);
        }
        let (outputs, ms) = self.timed(inputs)?;
        if let Some((_, Choice::Open(about))) = &self.decided {
            let about = (**about).clone();
            self.probe(about, inputs, &outputs, ms)?;
        }
        Ok(outputs)
    }
}
