//! The parameters of a network by name, with their moments and running averages: everything that a checkpoint holds.

use super::Init;
use crate::draws::mix;
use crate::trained;
use anyhow::{Context, Result, bail};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Named tensors. A network asks for what it needs; while the set is `open`, what is missing is drawn, afterwards it is
/// recorded as a problem (see [`Params::close`]).
pub struct Params {
    tensors: RefCell<BTreeMap<String, Tensor>>,
    problems: RefCell<Vec<String>>,
    open: RefCell<bool>,
    seed: u64,
    device: Device,
    train: bool,
}

impl Params {
    /// An empty set whose tensors are drawn from `seed`, each by its name, and are trained.
    pub fn fresh(seed: u64, device: Device) -> Self {
        Self::new(BTreeMap::new(), seed, device, true, true)
    }

    /// Given tensors, frozen.
    pub fn frozen(tensors: BTreeMap<String, Tensor>, device: Device) -> Self {
        let tensors = tensors.into_iter().map(|(k, v)| (k, v.to_device(device).set_requires_grad(false))).collect();
        Self::new(tensors, 0, device, false, false)
    }

    /// A single tensor, which is trained.
    pub fn of_one(name: &str, tensor: Tensor) -> Self {
        let device = tensor.device();
        Self::new(BTreeMap::from([(name.to_owned(), tensor)]), 0, device, false, true)
    }

    fn new(tensors: BTreeMap<String, Tensor>, seed: u64, device: Device, open: bool, train: bool) -> Self {
        Self {
            tensors: RefCell::new(tensors),
            problems: RefCell::default(),
            open: RefCell::new(open),
            seed,
            device,
            train,
        }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// The parameter `name` of this shape, drawn if it is missing and the set is open.
    pub fn get(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        if let Some(found) = self.tensors.borrow().get(name) {
            if found.size() == shape {
                return found.shallow_clone();
            }
            let problem = format!("{name}: has shape {:?}, the network wants {shape:?}", found.size());
            self.problems.borrow_mut().push(problem);
        } else if *self.open.borrow() {
            let made = self.draw(name, shape, init);
            self.tensors.borrow_mut().insert(name.to_owned(), made.shallow_clone());
            return made;
        } else {
            self.problems.borrow_mut().push(format!("{name}: missing"));
        }
        Tensor::zeros(shape, (Kind::Float, self.device))
    }

    fn draw(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        tch::manual_seed(mix(self.seed, name) as i64);
        // Drawn on the CPU, so that the device does not change the start.
        let blank = || Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let made = match init {
            Init::Zero => blank(),
            Init::One => blank().fill_(1.0),
            Init::Normal(deviation) => Tensor::randn(shape, (Kind::Float, Device::Cpu)) * deviation,
            Init::FanIn => {
                let fan_in: i64 = shape.iter().skip(1).product();
                let bound = 1.0 / (fan_in as f64).sqrt();
                blank().uniform_(-bound, bound)
            }
        };
        made.to_device(self.device).set_requires_grad(self.train)
    }

    /// Ends the drawing of new parameters and reports every one that was missing or had another shape.
    pub fn close(&self, what: &str) -> Result<()> {
        *self.open.borrow_mut() = false;
        let problems = self.problems.borrow();
        if problems.is_empty() {
            return Ok(());
        }
        bail!("{what} does not fit this network: {}", problems.join("; "))
    }

    /// Name and tensor of every parameter, sorted by name.
    pub fn all(&self) -> Vec<(String, Tensor)> {
        self.tensors.borrow().iter().map(|(k, v)| (k.clone(), v.shallow_clone())).collect()
    }

    /// The tensors by name.
    pub fn map(&self) -> BTreeMap<String, Tensor> {
        self.all().into_iter().collect()
    }

    /// The same tensors, but for `name`, in whose place stands `tensor`; gradients go through it.
    pub fn with(&self, name: &str, tensor: Tensor) -> Self {
        let mut tensors = self.map();
        tensors.insert(name.to_owned(), tensor);
        Self::new(tensors, 0, self.device, false, false)
    }

    /// Puts other tensors in the place of the parameters, by name.
    pub fn rebind(&self, tensors: BTreeMap<String, Tensor>) {
        let leaf = |(k, v): (String, Tensor)| (k, v.detach().set_requires_grad(self.train));
        *self.tensors.borrow_mut() = tensors.into_iter().map(leaf).collect();
    }

    /// How many numbers.
    pub fn count(&self) -> usize {
        self.tensors.borrow().values().map(Tensor::numel).sum()
    }
}

/// Reads a safetensors file.
pub fn read_safetensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let named = Tensor::read_safetensors(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(named.into_iter().collect())
}

/// The weights of a trained network (see [`trained::weights`]).
pub fn read_trained(path: &Path, stages: &[&str]) -> Result<BTreeMap<String, Tensor>> {
    let weights = trained::weights(path, stages)?;
    Ok(weights.into_iter().map(|(name, (shape, values))| (name, Tensor::from_slice(&values).reshape(shape))).collect())
}

/// Writes a safetensors file under a temporary name, then renames it.
pub fn write_safetensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let temporary = path.with_extension("partial");
    let _guard = tch::no_grad_guard();
    let named: Vec<(&str, Tensor)> =
        tensors.iter().map(|(k, v)| (k.as_str(), v.detach().to_device(Device::Cpu).contiguous())).collect();
    Tensor::write_safetensors(&named, &temporary).with_context(|| format!("cannot write {}", temporary.display()))?;
    std::fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

/// libtorch's generator is one for the process: a test that draws from it holds this lock.
#[cfg(test)]
pub(crate) fn generator_lock() -> std::sync::MutexGuard<'static, ()> {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
