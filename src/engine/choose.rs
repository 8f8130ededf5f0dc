//! [`Auto`]: a graph on the engine that was measured faster here and gave right numbers.
//!
//! The first run of a graph, for shapes that no verdict is known of, is the CPU's; its inputs, outputs and time are what a child process then
//! holds the device to. Later runs, and later starts by the cache, go where the verdict says. A run that fails on the device, or gives no
//! numbers, is the CPU's, from the same inputs.

mod child;
mod probe;
mod survey;
mod verdict;

pub use child::answer_probe;
pub use probe::probe_with;
pub(crate) use verdict::{About, Verdict, all, deaths};

use super::cpu::Cpu;
use super::vulkan::{Identity, Vulkan};
use super::{Account, Cache, Engine, Footprint, Outputs, Precision, Threads, Weights};
use crate::error::{Error, Result, fail};
use crate::model::{Graph, Port};
use crate::value::Tensor;
use child::{Array, Request, Said, Stage};
use probe::{End, ask};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use verdict::Finding;

/// No latent, text state or picture has a number larger than an f16 holds.
const LARGEST: f32 = 65_504.0;

/// Why the device is not used any more by this process.
static FELL: Mutex<Option<String>> = Mutex::new(None);

/// A graph on the CPU, or on a device.
pub(super) struct Auto {
    graph: Graph,
    precision: Precision,
    threads: Threads,
    cache: Option<Cache>,
    cpu: Cpu,
    vulkan: Option<Box<Vulkan>>,
    decided: Option<(Vec<Vec<usize>>, Choice)>,
    fell: Option<String>,
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
    pub(super) fn new(graph: Graph, precision: Precision, threads: &Threads, cache: Option<&Cache>) -> Auto {
        let cpu = Cpu::new(graph.clone(), Weights::Stored, threads, cache);
        let (threads, cache) = (threads.clone(), cache.cloned());
        Auto { graph, precision, threads, cache, cpu, vulkan: None, decided: None, fell: None }
    }

    /// Chooses for `shapes`, unless that was done.
    fn decide(&mut self, shapes: &[(&str, &[usize])]) -> Result<()> {
        let shapes = crate::model::complete(self.cpu.inputs(), shapes).map_err(|error| self.in_file(error))?;
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
        let file = self.graph.file();
        let about = About {
            device,
            graph: file.canonicalize().unwrap_or_else(|_| file.to_path_buf()),
            stamp: self.graph.stamp(),
            shapes: shapes.to_vec(),
            threads: self.threads.count(),
            precision: self.precision,
        };
        match verdict::find(&about, self.cache.as_ref()) {
            Some(verdict) if verdict.is_for_device() => match self.open(&about.device) {
                Ok(()) => Choice::Vulkan(verdict.why()),
                Err(error) => {
                    self.fall(&error);
                    Choice::Cpu(error.to_string())
                }
            },
            Some(verdict) => Choice::Cpu(verdict.why()),
            None if probe::program().is_some() => Choice::Open(Box::new(about)),
            None => Choice::Cpu(format!("{} is not measured: no program to probe with is known", about.device.name)),
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

    fn open(&mut self, device: &Identity) -> Result<()> {
        if self.vulkan.is_none() {
            let vulkan = Vulkan::new(self.graph.clone(), self.precision, self.cache.as_ref())?;
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
    fn on_device<T>(&mut self, work: impl FnOnce(&mut Vulkan) -> Result<T>) -> Option<T> {
        let (Some((_, Choice::Vulkan(_))), Some(vulkan)) = (&self.decided, &mut self.vulkan) else { return None };
        match work(vulkan) {
            Ok(done) => Some(done),
            Err(error) => {
                self.fall(&error);
                None
            }
        }
    }

    /// Holds the device to what the CPU made of `inputs`, and chooses.
    fn probe(&mut self, about: &About, inputs: &[(&str, &Tensor)], outputs: &Outputs, ms: f64) -> Result<()> {
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
        let finding = match found(&said, end) {
            Ok(finding) => finding,
            Err(why) => {
                let deaths = verdict::count_death(&about.device, self.cache.as_ref());
                let why = format!("the probe of {} died ({why}; {deaths} so far)", about.device.name);
                self.decided = Some((about.shapes.clone(), Choice::Cpu(why)));
                return Ok(());
            }
        };
        let mut verdict = Verdict { cpu_ms: ms, finding };
        if verdict.is_for_device() {
            // The first run read weights from the disk.
            verdict.cpu_ms = ms.min(self.timed(inputs)?.1);
        }
        verdict::keep(about, &verdict, self.cache.as_ref());
        // Opens the device, if it is the choice.
        let choice = self.choice(&about.shapes);
        self.decided = Some((about.shapes.clone(), choice));
        if self.vulkan.is_some() {
            self.cpu = Cpu::new(self.graph.clone(), Weights::Stored, &self.threads, self.cache.as_ref());
        }
        Ok(())
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

/// How long a child may be silent after what it said last, beside a CPU that takes `ms` a run.
fn patience(last: Option<&Said>, ms: f64) -> Duration {
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
fn found(said: &[Said], end: End) -> Result<Finding, String> {
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

/// # Errors
/// `NotFinite` when an output is no number, or larger than any may be.
fn sound(outputs: Outputs) -> Result<Outputs> {
    for (name, tensor) in outputs.iter() {
        tensor.check_finite(name)?;
        if let Some(large) = tensor.as_f32().into_iter().flatten().find(|x| x.abs() > LARGEST) {
            return fail!(NotFinite, "{name} reaches {large:e}");
        }
    }
    Ok(outputs)
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
        match self.on_device(|vulkan| vulkan.plan(shapes)) {
            Some(planned) => Ok(planned),
            None => self.cpu.plan(shapes),
        }
    }

    fn prepare(&mut self, shapes: &[(&str, &[usize])]) -> Result<()> {
        self.decide(shapes)?;
        match self.on_device(|vulkan| vulkan.prepare(shapes)) {
            Some(()) => Ok(()),
            None => self.cpu.prepare(shapes),
        }
    }

    fn stream(&mut self, streamed: bool) {
        self.cpu.stream(streamed);
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
        if let Some(outputs) = self.on_device(|vulkan| vulkan.run(inputs).and_then(sound)) {
            return Ok(outputs);
        }
        let (outputs, ms) = self.timed(inputs)?;
        if let Some((_, Choice::Open(about))) = &self.decided {
            let about = about.clone();
            self.probe(&about, inputs, &outputs, ms)?;
        }
        Ok(outputs)
    }
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

    #[test]
    fn what_no_network_gives_is_not_sound() {
        let outputs = |x: f32| Outputs::new(vec![("y".into(), Tensor::scalar(x))]);
        assert!(sound(outputs(-65_000.0)).is_ok());
        for wrong in [f32::NAN, f32::INFINITY, -1e9] {
            assert!(sound(outputs(wrong)).is_err(), "{wrong}");
        }
    }
}
