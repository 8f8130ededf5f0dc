//! [`Proved`]: a graph on the Vulkan device that was asked for, once its numbers were held to the CPU's.
//!
//! The first run of a graph and set of shapes that nothing is known of is played on the device a few times, and once on the CPU: these are
//! the inputs that the stage really meets, and the device's outputs are those of the run. What was found is kept with `auto`'s verdicts.

use super::trial::{Right, Trial, tolerance};
use super::verdict::{self, About, Finding, Verdict};
use crate::engine::account::ASKED;
use crate::engine::cpu::Cpu;
use crate::engine::vulkan::Vulkan;
use crate::engine::{Account, Cache, CancelToken, Engine, Footprint, Memory, Outputs, Precision, Threads, Weights};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Graph, Port};
use crate::value::Tensor;
use std::ops::RangeInclusive;
use std::time::Instant;

/// Runs whose bits must be the same: at least, and at most while they take no longer than one of the CPU's in all.
const RUNS: RangeInclusive<usize> = 2..=8;

/// A graph on a device that is right, or an error.
pub(in crate::engine) struct Proved {
    graph: Graph,
    /// Where none is asked for: halves and, if they are wrong, f32.
    precision: Option<Precision>,
    threads: Threads,
    cache: Option<Cache>,
    vulkan: Vulkan,
    /// What the device is held to, as long as something is to be tested.
    cpu: Option<Box<Cpu>>,
    streamed: bool,
    cancel: CancelToken,
    decided: Option<(Vec<Vec<usize>>, Choice)>,
}

#[derive(Debug, Clone)]
enum Choice {
    /// In this precision, for this reason.
    Sure(Precision, String),
    /// These are to be tested, the first that is right counts; what is wrong with those before.
    Open(&'static [Precision], Vec<String>),
}

/// What is tried, one after the other.
fn candidates(asked: Option<Precision>) -> &'static [Precision] {
    match asked {
        None => &[Precision::F16, Precision::F32],
        Some(Precision::F16) => &[Precision::F16],
        Some(Precision::F32) => &[Precision::F32],
    }
}

impl Proved {
    /// # Errors
    /// `Unsupported` when there is no device.
    pub(in crate::engine) fn new(
        graph: Graph,
        precision: Option<Precision>,
        threads: &Threads,
        cache: Option<&Cache>,
    ) -> Result<Proved> {
        let vulkan = Vulkan::new(graph.clone(), candidates(precision)[0], cache)?;
        let (threads, cache) = (threads.clone(), cache.cloned());
        let cancel = CancelToken::new();
        Ok(Proved { graph, precision, threads, cache, vulkan, cpu: None, streamed: false, cancel, decided: None })
    }

    /// Looks up what is known of `shapes`, unless that was done, and opens what it says.
    fn decide(&mut self, shapes: &[(&str, &[usize])]) -> Result<()> {
        let shapes = crate::model::complete(self.graph.inputs(), shapes).map_err(|error| self.in_file(error))?;
        if self.decided.as_ref().is_none_or(|(decided, _)| *decided != shapes) {
            let choice = self.choice(&shapes)?;
            log::debug!("{}: {choice:?}", self.graph.file().display());
            self.decided = Some((shapes, choice));
        }
        match &self.decided {
            Some((_, Choice::Sure(precision, _))) => {
                self.cpu = None;
                self.open(*precision)
            }
            Some((_, Choice::Open(precisions, _))) => {
                let first = precisions[0];
                let cpu = || Cpu::new(self.graph.clone(), Weights::Stored, &self.threads, self.cache.as_ref());
                let cpu = self.cpu.get_or_insert_with(|| Box::new(cpu()));
                cpu.stream(self.streamed);
                cpu.heed(&self.cancel);
                self.open(first)
            }
            None => Ok(()),
        }
    }

    /// # Errors
    /// `Engine` where all that is asked for is known to be wrong.
    fn choice(&self, shapes: &[Vec<usize>]) -> Result<Choice> {
        if !self.graph.watched().is_empty() {
            // Whoever looks inside looks for what is wrong there.
            return Ok(Choice::Sure(self.precision.unwrap_or_default(), ASKED.into()));
        }
        let mut wrong = Vec::new();
        let candidates = candidates(self.precision);
        for (index, &precision) in candidates.iter().enumerate() {
            match self.known(shapes, precision) {
                Some(Ok(why)) => return Ok(Choice::Sure(precision, why)),
                Some(Err(what)) => wrong.push(told(precision, &what)),
                None => return Ok(Choice::Open(&candidates[index..], wrong)),
            }
        }
        Err(self.failed(&wrong))
    }

    /// Why the numbers are right, or what is wrong with them, where either is known.
    fn known(&self, shapes: &[Vec<usize>], precision: Precision) -> Option<Result<String, String>> {
        let own = self.about(shapes, precision);
        let measured = About { threads: Some(self.threads.count()), ..own.clone() };
        [own, measured].iter().find_map(|about| verdict::find(about, self.kept_in())?.numbers())
    }

    fn about(&self, shapes: &[Vec<usize>], precision: Precision) -> About {
        About::new(&self.graph, self.vulkan.identity(), shapes, None, precision)
    }

    /// Within a board's limits other shaders run than those that verdicts are about.
    fn kept_in(&self) -> Option<&Cache> {
        self.cache.as_ref().filter(|_| crate::board::chosen().is_none())
    }

    fn open(&mut self, precision: Precision) -> Result<()> {
        if self.vulkan.precision() != precision {
            self.vulkan = Vulkan::new(self.graph.clone(), precision, self.cache.as_ref())?;
            self.vulkan.heed(&self.cancel);
        }
        Ok(())
    }

    /// Tests one precision after the other, until one is right: its outputs.
    fn test(
        &mut self,
        (precisions, mut wrong): (&[Precision], Vec<String>),
        given: &[(&str, &Tensor)],
    ) -> Result<Outputs> {
        let Some((shapes, _)) = self.decided.clone() else { return Err(self.failed(&wrong)) };
        let Some(cpu) = &mut self.cpu else { return Err(self.failed(&wrong)) };
        let begun = Instant::now();
        let expected = cpu.run(given)?;
        let cpu_ms = begun.elapsed().as_secs_f64() * 1e3;
        for &precision in precisions {
            self.open(precision)?;
            let trial = Trial {
                expected: expected.iter().collect(),
                tolerance: tolerance(precision),
                cpu_ms,
                runs: RUNS,
                hurries: false,
            };
            let found = trial.play(|| self.vulkan.run(given), |_| ())?;
            let verdict = Verdict {
                cpu_ms,
                finding: found.as_ref().map_or_else(|what| Finding::Wrong(what.clone()), Finding::from),
            };
            verdict::keep(&self.about(&shapes, precision), &verdict, self.kept_in());
            match found {
                Ok(Right { outputs, .. }) => {
                    let why = verdict.numbers().and_then(Result::ok).unwrap_or_default();
                    self.decided = Some((shapes, Choice::Sure(precision, why)));
                    self.cpu = None;
                    return Ok(outputs);
                }
                Err(what) => wrong.push(told(precision, &what)),
            }
        }
        Err(self.failed(&wrong))
    }

    fn failed(&self, wrong: &[String]) -> Error {
        let message = format!("{} gives wrong numbers: {}", self.vulkan.identity().name, wrong.join("; "));
        let error = Error::new(ErrorKind::Engine, message);
        self.in_file(error.advise("use the backend auto or cpu, or no cache to have it tested again"))
    }

    fn in_file(&self, error: Error) -> Error {
        error.in_file(self.graph.file())
    }
}

fn told(precision: Precision, what: &str) -> String {
    format!("in {} {what}", precision.name())
}

/// What both take together.
fn both(device: Footprint, cpu: &Footprint) -> Footprint {
    let add = |a: Memory, b: Memory| Memory {
        weights: a.weights + b.weights,
        arena: a.arena + b.arena,
        scratch: a.scratch + b.scratch,
        packing: a.packing + b.packing,
    };
    Footprint {
        memory: add(device.memory, cpu.memory),
        streamed: cpu.streamed.map(|streamed| add(device.memory, streamed)),
        held: device.held + cpu.held,
        outputs: device.outputs,
    }
}

impl Engine for Proved {
    fn name(&self) -> &'static str {
        self.vulkan.name()
    }

    fn inputs(&self) -> &[Port] {
        self.vulkan.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.vulkan.outputs()
    }

    fn plan(&mut self, shapes: &[(&str, &[usize])]) -> Result<Option<Footprint>> {
        self.decide(shapes)?;
        let device = self.vulkan.plan(shapes)?;
        let Some(cpu) = &mut self.cpu else { return Ok(device) };
        Ok(device.zip(cpu.plan(shapes)?).map(|(device, cpu)| both(device, &cpu)))
    }

    fn prepare(&mut self, shapes: &[(&str, &[usize])]) -> Result<()> {
        self.decide(shapes)?;
        self.vulkan.prepare(shapes)?;
        self.cpu.as_mut().map_or(Ok(()), |cpu| cpu.prepare(shapes))
    }

    fn stream(&mut self, streamed: bool) {
        self.streamed = streamed;
        self.cpu.iter_mut().for_each(|cpu| cpu.stream(streamed));
    }

    fn heed(&mut self, cancel: &CancelToken) {
        self.cancel = cancel.clone();
        self.vulkan.heed(cancel);
        self.cpu.iter_mut().for_each(|cpu| cpu.heed(cancel));
    }

    fn account(&self) -> Account {
        let why = match &self.decided {
            Some((_, Choice::Sure(_, why))) => why.clone(),
            _ => ASKED.into(),
        };
        Account { why, ..self.vulkan.account() }
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Outputs> {
        let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
        self.prepare(&shapes)?;
        match &self.decided {
            Some((_, Choice::Open(precisions, wrong))) => {
                let open = (*precisions, wrong.clone());
                self.test(open, inputs)
            }
            _ => self.vulkan.run(inputs),
        }
    }
}
