//! The training loop that every network shares.

use super::adamw::{AdamW, Moving};
use super::flat::Layout;
use super::log::Log;
use super::progress::{Progress, Report};
use crate::draws::{Draws, mix};
use crate::net::params::{self, Params};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Options of every training run.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Options {
    /// Folder of the run: checkpoint, weights, log, plot and sheets.
    #[arg(long)]
    pub out: PathBuf,
    /// Steps in all, those of an earlier part included.
    #[arg(long, default_value_t = 10_000)]
    pub steps: u64,
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Learning rate after the warm-up.
    #[arg(long, default_value_t = 1.5e-3)]
    pub rate: f64,
    #[arg(long, default_value_t = 150)]
    pub warmup: u64,
    /// From this step the rate falls, by a half cosine, to 2 % at the last; unless told, from the end of the warm-up.
    #[arg(long)]
    pub decay_from: Option<u64>,
    /// Seed of the start and of every draw.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads of libtorch on the CPU; unless told, its own choice.
    #[arg(long)]
    pub threads: Option<i32>,
    /// What the network computes in; weights, moments and averages are f32.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// The running average of the weights keeps this share of itself a step (less in the first steps).
    #[arg(long, default_value_t = 0.999)]
    pub average: f64,
    /// End after so many seconds, if --steps has not ended it; the rate falls by the clock, from the start to the end.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Pause after so many seconds, with a checkpoint: the same command goes on from it.
    #[arg(long, conflicts_with = "seconds")]
    pub slice: Option<f64>,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 500)]
    pub checkpoint_every: u64,
    /// Steps between contact sheets and other reports.
    #[arg(long, default_value_t = 1000)]
    pub report_every: u64,
}

impl Options {
    pub fn device(&self) -> Result<Device> {
        if let Some(threads) = self.threads {
            tch::set_num_threads(threads);
        }
        match self.device.as_str() {
            "cpu" => Ok(Device::Cpu),
            "cuda" if tch::Cuda::is_available() => {
                // The shapes of a run are always the same.
                tch::Cuda::cudnn_set_benchmark(true);
                Ok(Device::Cuda(0))
            }
            "cuda" => anyhow::bail!("--device cuda: this libtorch sees no CUDA device"),
            other => anyhow::bail!("--device {other}: must be cpu or cuda"),
        }
    }

    /// The learning rate of `step`, which counts from 0. With a share of `--seconds` that has gone it falls by that.
    fn rate_at(&self, step: u64, gone: Option<f64>) -> f64 {
        let warm = ((step + 1) as f64 / self.warmup.max(1) as f64).min(1.0);
        let from = self.decay_from.unwrap_or(self.warmup).min(self.steps);
        let done = gone.unwrap_or(step.saturating_sub(from) as f64 / self.steps.saturating_sub(from).max(1) as f64);
        let fall = 0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
        self.rate * warm * fall
    }
}

/// What a network computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    F32,
    Bf16,
}

/// One network's part in the loop.
pub trait Task {
    /// Names of the figures that [`Task::loss`] gives beside the loss.
    fn figures(&self) -> &'static [&'static str];
    /// The loss of the batch of `step`, which counts from 0, drawn from `draws` and libtorch's generator (both seeded from seed and
    /// step), and the figures: single numbers, on any device.
    fn loss(&mut self, params: &Params, step: u64, draws: &mut Draws) -> Result<(Tensor, Vec<Tensor>)>;
    /// Looks at the averaged weights: contact sheets, figures on held-out data. What it returns is printed and recorded.
    fn report(&mut self, averaged: &Params, step: u64, folder: &Path) -> Result<Report>;
}

/// Everything that goes on from step to step.
pub struct State {
    /// What the network computes with: the weights themselves, or their copies in another precision.
    pub params: Params,
    layout: Layout,
    /// In f32, as are the moments and the averages.
    weights: Tensor,
    first: Tensor,
    second: Tensor,
    averaged: Tensor,
    decayed: Tensor,
    /// The copies, where there are any.
    copies: Option<Tensor>,
    pub step: u64,
}

impl State {
    /// `params` must be complete (see [`Params::close`]).
    pub fn new(params: Params) -> Self {
        Self::in_precision(params, Precision::F32)
    }

    /// As [`State::new`]; the network computes in `precision`.
    pub fn in_precision(params: Params, precision: Precision) -> Self {
        let (layout, weights) = Layout::of(&params);
        let copies = (precision == Precision::Bf16).then(|| weights.to_kind(Kind::BFloat16));
        params.rebind(layout.split(copies.as_ref().unwrap_or(&weights)));
        Self {
            averaged: weights.copy(),
            first: layout.zeros(),
            second: layout.zeros(),
            decayed: layout.matrices(),
            params,
            layout,
            weights,
            copies,
            step: 0,
        }
    }

    /// The averaged weights as a frozen set.
    pub fn averaged(&self) -> Params {
        Params::frozen(self.layout.split(&self.averaged.copy()), self.params.device())
    }

    /// No weight decays.
    pub fn undecayed(mut self) -> Self {
        let _ = self.decayed.zero_();
        self
    }

    /// Starts again from given weights: parameters and averages, not the moments.
    pub fn start_from(&mut self, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        let row = self.layout.join(weights)?;
        self.assign(&row);
        self.averaged = row;
        Ok(())
    }

    fn assign(&mut self, row: &Tensor) {
        let _guard = tch::no_grad_guard();
        self.weights.copy_(row);
        self.refresh();
    }

    /// Brings the copies up to date.
    fn refresh(&mut self) {
        if let Some(copies) = &mut self.copies {
            copies.copy_(&self.weights);
        }
    }

    /// One update; the gradient's norm.
    fn advance(&mut self, rate: f64, decay: f64, loss: &Tensor) -> Tensor {
        let decayed = &self.decayed;
        // What the loss does not see stays as it is.
        let stay = |start, count| _ = decayed.narrow(0, start, count).fill_(0.0);
        let gradient = self.layout.gradients(loss, &self.params.map(), stay);
        self.step += 1;
        let moving = Moving { weights: &mut self.weights, first: &mut self.first, second: &mut self.second };
        let norm = AdamW::default().step(moving, gradient, &self.decayed, self.step, rate);
        let _guard = tch::no_grad_guard();
        // Running average with decay min(decay, (1 + n) / (10 + n)).
        let n = self.step as f64;
        let _ = self.averaged.lerp_(&self.weights, 1.0 - decay.min((1.0 + n) / (10.0 + n)));
        self.refresh();
        norm
    }

    /// Writes `checkpoint.safetensors` (all) and `weights.safetensors` (the averages).
    pub fn save(&self, folder: &Path, seed: u64) -> Result<()> {
        let mut all = BTreeMap::new();
        let groups =
            [("param", &self.weights), ("first", &self.first), ("second", &self.second), ("average", &self.averaged)];
        for (group, row) in groups {
            all.extend(self.layout.split(row).into_iter().map(|(k, v)| (format!("{group}/{k}"), v)));
        }
        all.insert("step".into(), Tensor::from_slice(&[self.step as i64]));
        all.insert("seed".into(), Tensor::from_slice(&[seed as i64]));
        params::write_safetensors(&folder.join("checkpoint.safetensors"), &all)?;
        params::write_safetensors(&folder.join("weights.safetensors"), &self.layout.split(&self.averaged))
    }

    /// Goes on from a checkpoint of the same run.
    pub fn load(&mut self, path: &Path, seed: u64) -> Result<()> {
        let all = params::read_safetensors(path)?;
        let number = |name: &str| -> Result<i64> {
            let tensor = all.get(name).with_context(|| format!("{}: has no `{name}`", path.display()))?;
            Ok(tensor.int64_value(&[0]))
        };
        let (step, saved) = (number("step")? as u64, number("seed")? as u64);
        ensure!(saved == seed, "{}: was made with --seed {saved}, this run has --seed {seed}", path.display());
        let row = |group: &str| -> Result<Tensor> {
            let of = |(k, v): (&String, &Tensor)| {
                Some((k.strip_prefix(group)?.strip_prefix('/')?.to_owned(), v.shallow_clone()))
            };
            let tensors: BTreeMap<String, Tensor> = all.iter().filter_map(of).collect();
            self.layout.join(&tensors).with_context(|| format!("{}: {group}", path.display()))
        };
        let (weights, first, second, averaged) = (row("param")?, row("first")?, row("second")?, row("average")?);
        self.assign(&weights);
        (self.first, self.second, self.averaged, self.step) = (first, second, averaged, step);
        Ok(())
    }
}

/// Trains until `options.steps`, or until an interrupt, from the checkpoint in the run's folder if there is one.
pub fn train(options: &Options, state: &mut State, task: &mut dyn Task) -> Result<()> {
    let folder = &options.out;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let checkpoint = folder.join("checkpoint.safetensors");
    if checkpoint.exists() {
        state.load(&checkpoint, options.seed)?;
        println!("going on from step {} of {}", state.step, checkpoint.display());
    }
    catch_interrupts()?;
    let clock = Clock::start(options);
    let mut journal = Journal {
        bar: bar(options.steps, state.step),
        log: Log::open(folder, task.figures(), state.step)?,
        pending: Vec::new(),
        progress: Progress::open(folder, state.step)?,
    };
    while state.step < options.steps && !interrupted() && !clock.over() {
        let seed = mix(options.seed, &format!("step {}", state.step));
        tch::manual_seed(seed as i64);
        let (loss, figures) = task.loss(&state.params, state.step, &mut Draws::new(seed))?;
        let rate = options.rate_at(state.step, clock.done());
        let norm = state.advance(rate, options.average, &loss);
        journal.add(state.step, &loss, &norm, &figures, rate);
        let last = state.step == options.steps;
        if journal.pending.len() >= KEPT_BACK {
            journal.write()?;
        }
        if last || state.step.is_multiple_of(options.checkpoint_every) {
            journal.save(state, &clock, options)?;
        }
        if last || state.step.is_multiple_of(options.report_every) {
            journal.report(state, task, folder)?;
        }
    }
    journal.save(state, &clock, options)?;
    if clock.over() && options.seconds.is_some() {
        journal.report(state, task, folder)?;
    }
    journal.note(state, &clock, folder)?;
    journal.bar.finish();
    Ok(())
}

/// Steps whose numbers stay on the device before they are read: reading waits for it.
const KEPT_BACK: usize = 20;

/// Where the numbers of steps go: the log and the bar.
struct Journal {
    bar: ProgressBar,
    log: Log,
    /// Step, rate, and `(3 or more)`: loss, norm, figures.
    pending: Vec<(u64, f64, Tensor)>,
    progress: Progress,
}

impl Journal {
    /// Writes the checkpoint, and down to where the run is.
    fn save(&mut self, state: &State, clock: &Clock, options: &Options) -> Result<()> {
        self.write()?;
        state.save(&options.out, options.seed)?;
        self.note(state, clock, &options.out)
    }

    /// Keeps how far the run came.
    fn note(&mut self, state: &State, clock: &Clock, folder: &Path) -> Result<()> {
        let now = Progress {
            steps: state.step,
            seconds: self.progress.seconds + clock.from.elapsed().as_secs_f64(),
            loss: self.log.recent(),
            ..self.progress.clone()
        };
        now.write(folder)
    }

    fn add(&mut self, step: u64, loss: &Tensor, norm: &Tensor, figures: &[Tensor], rate: f64) {
        let device = loss.device();
        let number = |t: &Tensor| t.detach().to_kind(Kind::Double).to_device(device).reshape([1]);
        let numbers: Vec<Tensor> = [loss, norm].into_iter().chain(figures).map(number).collect();
        self.pending.push((step, rate, Tensor::cat(&numbers, 0)));
    }

    /// Writes what is pending down, and refuses a loss that is no number.
    fn write(&mut self) -> Result<()> {
        for (step, rate, numbers) in self.pending.drain(..) {
            let numbers: Vec<f64> = Vec::try_from(numbers.to_device(Device::Cpu))?;
            ensure!(numbers[0].is_finite(), "the loss of step {step} is {}: lower --rate", numbers[0]);
            self.log.add(step, numbers[0], numbers[1], rate, &numbers[2..])?;
            self.bar.set_position(step);
        }
        self.bar.set_message(format!("loss {:.4}", self.log.recent().unwrap_or_default()));
        self.log.flush()
    }

    fn report(&mut self, state: &State, task: &mut dyn Task, folder: &Path) -> Result<()> {
        self.write()?;
        let from = Instant::now();
        let report = task.report(&state.averaged(), state.step, folder)?;
        self.log.plot()?;
        println!("step {}: loss {:.4}, {}", state.step, self.log.recent().unwrap_or_default(), report.line);
        self.progress.report(&report, state.step, from.elapsed().as_secs_f64());
        Ok(())
    }
}

/// The time of a run, where it is limited.
struct Clock {
    from: Instant,
    seconds: Option<f64>,
    slice: Option<f64>,
}

impl Clock {
    fn start(options: &Options) -> Self {
        Self { from: Instant::now(), seconds: options.seconds, slice: options.slice }
    }

    /// The share of `--seconds` that has gone.
    fn done(&self) -> Option<f64> {
        Some(self.from.elapsed().as_secs_f64() / self.seconds?)
    }

    fn over(&self) -> bool {
        let gone = self.from.elapsed().as_secs_f64();
        [self.seconds, self.slice].into_iter().flatten().any(|limit| gone >= limit)
    }
}

fn bar(steps: u64, from: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec} eta {eta} {msg}") {
        bar.set_style(style);
    }
    bar.set_position(from);
    bar.reset_eta();
    bar
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether SIGINT, SIGTERM or SIGHUP came after [`train`] was called: it finishes the step and writes a checkpoint.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

fn catch_interrupts() -> Result<()> {
    match ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)) {
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Runs `body` without recording gradients.
pub fn no_grad<T>(body: impl FnOnce() -> T) -> T {
    let _guard = tch::no_grad_guard();
    body()
}

/// A float tensor on `device` from values on the CPU.
pub fn tensor(values: &[f32], shape: &[i64], device: Device) -> Tensor {
    Tensor::from_slice(values).reshape(shape).to_kind(Kind::Float).to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Init, Layers, torch::Torch};

    struct Line;

    impl Task for Line {
        fn figures(&self) -> &'static [&'static str] {
            &["draw"]
        }

        fn loss(&mut self, params: &Params, _: u64, draws: &mut Draws) -> Result<(Tensor, Vec<Tensor>)> {
            let x = Tensor::randn([8, 3], (Kind::Float, Device::Cpu));
            let hidden = Torch(params).linear("a", &x, 3, 16, Init::FanIn).silu();
            let y = Torch(params).linear("b", &hidden, 16, 1, Init::FanIn);
            let want = x.sum_dim_intlist([1i64].as_slice(), true, Kind::Float) * 0.5;
            Ok(((y - want).square().mean(Kind::Float), vec![Tensor::from(draws.unit())]))
        }

        fn report(&mut self, _: &Params, _: u64, _: &Path) -> Result<Report> {
            Ok(Report::default())
        }
    }

    fn options(out: &Path, steps: u64) -> Options {
        Options {
            out: out.to_owned(),
            steps,
            batch: 8,
            rate: 1e-2,
            warmup: 3,
            decay_from: Some(4),
            seed: 7,
            device: "cpu".into(),
            threads: None,
            precision: Precision::F32,
            average: 0.999,
            seconds: None,
            slice: None,
            checkpoint_every: 1000,
            report_every: 1000,
        }
    }

    fn trained(parts: &[u64], total: u64) -> (BTreeMap<String, Tensor>, String) {
        let folder = tempfile::tempdir().unwrap();
        let mut last = BTreeMap::new();
        for part in parts {
            // The schedule is the whole run's; the part only ends early.
            let mut options = options(folder.path(), total);
            options.steps = *part;
            options.decay_from = Some(total);
            let params = Params::fresh(options.seed, Device::Cpu);
            let _ = Line.loss(&params, 0, &mut Draws::new(0)).unwrap();
            params.close("test").unwrap();
            let mut state = State::new(params);
            train(&options, &mut state, &mut Line).unwrap();
            last = params::read_safetensors(&folder.path().join("checkpoint.safetensors")).unwrap();
        }
        (last, std::fs::read_to_string(folder.path().join("log.csv")).unwrap())
    }

    #[test]
    fn resumed_run_equals_straight_run() {
        let _lock = params::generator_lock();
        let (straight, log) = trained(&[12], 12);
        let (resumed, resumed_log) = trained(&[6, 12], 12);
        assert_eq!(straight.len(), resumed.len());
        for (name, tensor) in &straight {
            assert!(tensor.equal(&resumed[name]), "{name} differs after a resume");
        }
        assert!(straight.keys().any(|k| k.starts_with("second/")), "the moments are in the checkpoint");
        assert_eq!(log, resumed_log);
        assert_eq!(log.lines().count(), 13);
    }

    #[test]
    fn in_bf16_the_weights_stay_f32_and_small_updates_are_not_lost() {
        let _lock = params::generator_lock();
        let params = Params::fresh(7, Device::Cpu);
        let _ = Line.loss(&params, 0, &mut Draws::new(0)).unwrap();
        let mut state = State::in_precision(params, Precision::Bf16);
        assert!(state.params.all().iter().all(|(_, t)| t.kind() == Kind::BFloat16));
        let before = state.weights.copy();
        let (rate, steps) = (1e-6, 50);
        for step in 0..steps {
            tch::manual_seed(step);
            let (loss, _) = Line.loss(&state.params, 0, &mut Draws::new(0)).unwrap();
            let _ = state.advance(rate, 0.0, &loss);
        }
        // A bf16 number of 0.3 moves in steps of 0.001.
        let moved = (&state.weights - before).abs().max().double_value(&[]);
        assert!(moved > 0.3 * rate * steps as f64 && moved < 3e-4, "{moved}");
        assert!(state.averaged().all().iter().all(|(_, t)| t.kind() == Kind::Float));
        assert!(state.averaged.equal(&state.weights), "with an average that keeps nothing");
    }

    #[test]
    fn what_the_loss_does_not_see_stays() {
        let _lock = params::generator_lock();
        let params = Params::fresh(7, Device::Cpu);
        let _ = Line.loss(&params, 0, &mut Draws::new(0)).unwrap();
        let mut state = State::new(params);
        let before = state.averaged().map();
        let seen = state.params.map()["a.weight"].square().sum(Kind::Float);
        let _ = state.advance(0.1, 0.0, &seen);
        for (name, after) in state.params.map() {
            assert_eq!(after.equal(&before[&name]), name != "a.weight", "{name}");
        }
    }

    #[test]
    fn a_slice_ends_early_and_goes_on() {
        let _lock = params::generator_lock();
        let folder = tempfile::tempdir().unwrap();
        let run = |slice: Option<f64>| {
            let mut options = options(folder.path(), 30);
            options.slice = slice;
            let params = Params::fresh(options.seed, Device::Cpu);
            let _ = Line.loss(&params, 0, &mut Draws::new(0)).unwrap();
            let mut state = State::new(params);
            train(&options, &mut state, &mut Line).unwrap();
            state.step
        };
        assert_eq!(run(Some(0.0)), 0, "no time, no step");
        assert_eq!(run(None), 30);
    }

    #[test]
    fn another_seed_is_refused() {
        let _lock = params::generator_lock();
        let folder = tempfile::tempdir().unwrap();
        let make = || {
            let params = Params::fresh(7, Device::Cpu);
            let _ = Line.loss(&params, 0, &mut Draws::new(0)).unwrap();
            State::new(params)
        };
        make().save(folder.path(), 7).unwrap();
        let error = make().load(&folder.path().join("checkpoint.safetensors"), 8).unwrap_err().to_string();
        assert!(error.contains("--seed 7"), "{error}");
    }

    #[test]
    fn rate_warms_holds_and_falls() {
        let mut options = options(Path::new("."), 100);
        options.warmup = 10;
        options.decay_from = Some(50);
        let rates: Vec<f64> = [0, 9, 49, 75, 100].iter().map(|s| options.rate_at(*s, None) / options.rate).collect();
        let want = [0.1, 1.0, 1.0, 0.51, 0.02];
        assert!(rates.iter().zip(want).all(|(r, w)| (r - w).abs() < 1e-9), "{rates:?}");
        let by_the_clock = options.rate_at(20, Some(0.5)) / options.rate;
        assert!((by_the_clock - 0.51).abs() < 1e-9, "{by_the_clock}");
    }
}
