//! The training loop that every network shares.

use super::adamw::{AdamW, Moments};
use super::log::Log;
use crate::net::params::{self, Params, mix};
use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
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
            "cuda" if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
            "cuda" => anyhow::bail!("--device cuda: this libtorch sees no CUDA device"),
            other => anyhow::bail!("--device {other}: must be cpu or cuda"),
        }
    }

    /// The learning rate of `step`, which counts from 0.
    fn rate_at(&self, step: u64) -> f64 {
        let warm = ((step + 1) as f64 / self.warmup.max(1) as f64).min(1.0);
        let from = self.decay_from.unwrap_or(self.warmup).min(self.steps);
        let done = step.saturating_sub(from) as f64 / self.steps.saturating_sub(from).max(1) as f64;
        let fall = 0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
        self.rate * warm * fall
    }
}

/// One network's part in the loop.
pub trait Task {
    /// Names of the figures that [`Task::loss`] gives beside the loss.
    fn figures(&self) -> &'static [&'static str];
    /// The loss of one batch, drawn from `draws` and libtorch's generator (both seeded from seed and step).
    fn loss(&mut self, params: &Params, draws: &mut Draws) -> Result<(Tensor, Vec<f64>)>;
    /// Looks at the averaged weights: contact sheets, figures on held-out data. What it returns is printed.
    fn report(&mut self, averaged: &Params, step: u64, folder: &Path) -> Result<String>;
}

/// Seeded draws (SplitMix64, Steele et al. 2014).
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n.saturating_sub(1))
    }
}

/// Everything that goes on from step to step.
pub struct State {
    pub params: Params,
    moments: Moments,
    averaged: BTreeMap<String, Tensor>,
    pub step: u64,
}

impl State {
    /// `params` must be complete (see [`Params::close`]).
    pub fn new(params: Params) -> Self {
        let averaged = copy(&params);
        Self { params, moments: Moments::default(), averaged, step: 0 }
    }

    /// The averaged weights as a frozen set.
    pub fn averaged(&self) -> Params {
        let tensors = self.averaged.iter().map(|(k, v)| (k.clone(), v.copy())).collect();
        Params::frozen(tensors, self.params.device())
    }

    /// Starts again from given weights: parameters and averages, not the moments.
    pub fn start_from(&mut self, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        self.params.assign(weights)?;
        self.averaged = copy(&self.params);
        Ok(())
    }

    fn advance(&mut self, options: &Options, loss: &Tensor) -> f64 {
        let params = self.params.all();
        for (_, p) in &params {
            let mut grad = p.grad();
            if grad.defined() {
                let _ = grad.zero_();
            }
        }
        loss.backward();
        let rate = options.rate_at(self.step);
        self.step += 1;
        let norm = AdamW::default().step(&params, &mut self.moments, self.step, rate);
        self.average(&params);
        norm
    }

    /// Running average with decay min(0.999, (1 + n) / (10 + n)).
    fn average(&mut self, params: &[(String, Tensor)]) {
        let _guard = tch::no_grad_guard();
        let n = self.step as f64;
        let decay = 0.999f64.min((1.0 + n) / (10.0 + n));
        for (name, p) in params {
            if let Some(average) = self.averaged.get_mut(name) {
                let _ = average.lerp_(p, 1.0 - decay);
            }
        }
    }

    /// Writes `checkpoint.safetensors` (all) and `weights.safetensors` (the averages).
    pub fn save(&self, folder: &Path, seed: u64) -> Result<()> {
        let mut all = BTreeMap::new();
        let groups = [
            ("param", self.params.map()),
            ("first", shallow(&self.moments.first)),
            ("second", shallow(&self.moments.second)),
        ];
        for (group, tensors) in groups.iter().map(|(g, t)| (*g, t)).chain([("average", &shallow(&self.averaged))]) {
            all.extend(tensors.iter().map(|(k, v)| (format!("{group}/{k}"), v.shallow_clone())));
        }
        all.insert("step".into(), Tensor::from_slice(&[self.step as i64]));
        all.insert("seed".into(), Tensor::from_slice(&[seed as i64]));
        params::write_safetensors(&folder.join("checkpoint.safetensors"), &all)?;
        params::write_safetensors(&folder.join("weights.safetensors"), &self.averaged)
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
        let device = self.params.device();
        let group = |group: &str| -> BTreeMap<String, Tensor> {
            let of = |(k, v): (&String, &Tensor)| {
                Some((k.strip_prefix(group)?.strip_prefix('/')?.to_owned(), v.to_device(device)))
            };
            all.iter().filter_map(of).collect()
        };
        self.params.assign(&group("param")).with_context(|| format!("{}", path.display()))?;
        self.moments = Moments { first: group("first"), second: group("second") };
        self.averaged = group("average");
        self.step = step;
        Ok(())
    }
}

fn copy(params: &Params) -> BTreeMap<String, Tensor> {
    params.all().into_iter().map(|(k, v)| (k, v.detach().copy())).collect()
}

fn shallow(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    tensors.iter().map(|(k, v)| (k.clone(), v.shallow_clone())).collect()
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
    let bar = bar(options.steps, state.step);
    let mut log = Log::open(folder, task.figures(), state.step)?;
    while state.step < options.steps && !interrupted() {
        let seed = mix(options.seed, &format!("step {}", state.step));
        tch::manual_seed(seed as i64);
        let (loss, figures) = task.loss(&state.params, &mut Draws::new(seed))?;
        let value = loss.double_value(&[]);
        ensure!(value.is_finite(), "the loss of step {} is {value}: lower --rate", state.step);
        let norm = state.advance(options, &loss);
        log.add(state.step, value, norm, options.rate_at(state.step - 1), &figures)?;
        bar.set_position(state.step);
        bar.set_message(format!("loss {:.4}", log.recent()));
        let last = state.step == options.steps;
        if last || state.step.is_multiple_of(options.checkpoint_every) {
            state.save(folder, options.seed)?;
            log.flush()?;
        }
        if last || state.step.is_multiple_of(options.report_every) {
            let line = task.report(&state.averaged(), state.step, folder)?;
            log.plot()?;
            println!("step {}: loss {:.4}, {line}", state.step, log.recent());
        }
    }
    state.save(folder, options.seed)?;
    log.flush()?;
    bar.finish();
    Ok(())
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

        fn loss(&mut self, params: &Params, draws: &mut Draws) -> Result<(Tensor, Vec<f64>)> {
            let x = Tensor::randn([8, 3], (Kind::Float, Device::Cpu));
            let hidden = Torch(params).linear("a", &x, 3, 16, Init::FanIn).silu();
            let y = Torch(params).linear("b", &hidden, 16, 1, Init::FanIn);
            let want = x.sum_dim_intlist([1i64].as_slice(), true, Kind::Float) * 0.5;
            Ok(((y - want).square().mean(Kind::Float), vec![draws.unit()]))
        }

        fn report(&mut self, _: &Params, _: u64, _: &Path) -> Result<String> {
            Ok(String::new())
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
            let _ = Line.loss(&params, &mut Draws::new(0)).unwrap();
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
    fn another_seed_is_refused() {
        let _lock = params::generator_lock();
        let folder = tempfile::tempdir().unwrap();
        let make = || {
            let params = Params::fresh(7, Device::Cpu);
            let _ = Line.loss(&params, &mut Draws::new(0)).unwrap();
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
        let rates: Vec<f64> = [0, 9, 49, 75, 100].iter().map(|s| options.rate_at(*s) / options.rate).collect();
        let want = [0.1, 1.0, 1.0, 0.51, 0.02];
        assert!(rates.iter().zip(want).all(|(r, w)| (r - w).abs() < 1e-9), "{rates:?}");
    }
}
