//! [`Verdict`]: what a probe found of one graph on one device, kept in memory and in the cache's folder.

use super::trial::Right;
use crate::cache::{self, Cache, number};
use crate::engine::Precision;
use crate::engine::account::ASKED;
use crate::engine::vulkan::Identity;
use crate::model::Graph;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// How much faster than the CPU a device must be to be taken.
const MARGIN: f64 = 1.1;
/// Probes that died by a signal before a device is not tried again.
const MOST_DEATHS: u32 = 3;

/// What a verdict is about.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) device: Identity,
    pub(crate) graph: PathBuf,
    /// Another one for other weights.
    pub(crate) stamp: u128,
    /// Of the inputs, in the graph's order.
    pub(crate) shapes: Vec<Vec<usize>>,
    /// Of the CPU that the device's time was compared with; `None` where only its numbers were.
    pub(crate) threads: Option<usize>,
    pub(crate) precision: Precision,
}

impl About {
    pub(super) fn new(
        graph: &Graph,
        device: &Identity,
        shapes: &[Vec<usize>],
        threads: Option<usize>,
        precision: Precision,
    ) -> About {
        let file = graph.file();
        About {
            device: device.clone(),
            graph: file.canonicalize().unwrap_or_else(|_| file.to_path_buf()),
            stamp: graph.stamp(),
            shapes: shapes.to_vec(),
            threads,
            precision,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Milliseconds of a run on the CPU.
    pub(crate) cpu_ms: f64,
    pub(crate) finding: Finding,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Finding {
    /// Every run gave the same bits, `distance` (max |d| / std) from the CPU's, the fastest in so many milliseconds.
    Right { distance: f64, runs: usize, device_ms: f64 },
    /// A run was not done after so many milliseconds.
    Slow { after_ms: f64 },
    /// Wrong or changing numbers.
    Wrong(String),
    /// It could not be run.
    Failed(String),
}

impl From<&Right> for Finding {
    fn from(right: &Right) -> Finding {
        Finding::Right { distance: right.distance, runs: right.runs, device_ms: right.ms }
    }
}

impl Verdict {
    /// Whether the device is taken.
    pub(crate) fn is_for_device(&self) -> bool {
        matches!(self.finding, Finding::Right { device_ms, .. } if device_ms * MARGIN < self.cpu_ms)
    }

    /// The same where it is compared with a CPU of so many threads, or with the CPU's numbers alone.
    pub(crate) fn is_for_device_of(&self, threads: Option<usize>) -> bool {
        self.is_for_device() || (threads.is_none() && matches!(self.finding, Finding::Right { .. }))
    }

    /// Milliseconds of a run on a device that is taken.
    pub(super) fn device_ms(&self) -> Option<f64> {
        match self.finding {
            Finding::Right { device_ms, .. } if self.is_for_device() => Some(device_ms),
            _ => None,
        }
    }

    /// Whether it may yet be taken if it has half as much to move.
    pub(super) fn is_near(&self) -> bool {
        matches!(self.finding, Finding::Right { device_ms, .. } if device_ms * MARGIN < 2.0 * self.cpu_ms)
    }

    /// Why the numbers are right, or what is wrong with them; `None` where that was not found.
    pub(crate) fn numbers(&self) -> Option<Result<String, String>> {
        match &self.finding {
            Finding::Right { distance, runs, .. } => {
                Some(Ok(format!("{ASKED}; {runs} runs gave the same bits, {distance:.1e} from the CPU's")))
            }
            Finding::Wrong(what) => Some(Err(what.clone())),
            Finding::Slow { .. } | Finding::Failed(_) => None,
        }
    }

    /// In a clause.
    pub(crate) fn why(&self) -> String {
        let cpu = self.cpu_ms;
        match &self.finding {
            Finding::Right { distance, runs, device_ms } => format!(
                "measured: {device_ms:.2} ms on the device, {cpu:.2} ms on the CPU; {runs} runs of the same bits, {distance:.1e} from the CPU's"
            ),
            Finding::Slow { after_ms } => {
                format!("measured: not done on the device after {after_ms:.2} ms, {cpu:.2} ms on the CPU")
            }
            Finding::Wrong(what) => format!("wrong numbers on the device: {what}"),
            Finding::Failed(what) => format!("it failed on the device: {what}"),
        }
    }
}

static KNOWN: Mutex<Option<HashMap<u128, Verdict>>> = Mutex::new(None);

/// The verdict about `about`, of this process or in `cache`.
pub(super) fn find(about: &About, cache: Option<&Cache>) -> Option<Verdict> {
    let key = number(about);
    let known =
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|known| known.get(&key).cloned());
    known.or_else(|| {
        let (kept, verdict): (About, Verdict) = read(cache?, key, "verdict")?;
        (kept == *about).then_some(verdict)
    })
}

/// Keeps a verdict; that it cannot be written is only logged.
pub(super) fn keep(about: &About, verdict: &Verdict, cache: Option<&Cache>) {
    let key = number(about);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().insert(key, verdict.clone());
    if let Some(cache) = cache {
        write(cache, key, "verdict", &(about, verdict));
    }
}

/// All verdicts in a folder.
pub(crate) fn all(cache: &Cache) -> Vec<(About, Verdict)> {
    let names = cache.names("verdict");
    names.iter().filter_map(|name| Some(cache::open(cache.find(name)?.bytes())?.0)).collect()
}

/// Counts a probe that a signal ended, and says how many there were.
pub(super) fn count_death(device: &Identity, cache: Option<&Cache>) -> u32 {
    let deaths = deaths(device, cache) + 1;
    if let Some(cache) = cache {
        write(cache, number(device), "deaths", &(device, deaths));
    }
    deaths
}

/// Probes on this device, with this driver, that died by a signal.
pub(crate) fn deaths(device: &Identity, cache: Option<&Cache>) -> u32 {
    let kept = cache.and_then(|cache| read::<(Identity, u32)>(cache, number(device), "deaths"));
    kept.filter(|(kept, _)| kept == device).map_or(0, |(_, deaths)| deaths)
}

/// Why a device is not tried, where it is not.
pub(crate) fn disabled(device: &Identity, cache: Option<&Cache>) -> Option<String> {
    let deaths = deaths(device, cache);
    (deaths >= MOST_DEATHS)
        .then(|| format!("{}: {deaths} probes died; it is not tried again until its driver changes", device.name))
}

pub(super) fn read<T: DeserializeOwned>(cache: &Cache, number: u128, ending: &'static str) -> Option<T> {
    Some(cache::open(cache.find(&cache::name(number, ending))?.bytes())?.0)
}

pub(super) fn write(cache: &Cache, number: u128, ending: &'static str, head: &impl Serialize) {
    let sealed = cache::seal(head, 0).map_err(io::Error::other);
    let written = sealed.and_then(|bytes| cache.write(&cache::name(number, ending), &bytes));
    written.unwrap_or_else(|error| cache::not_kept(&error));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(version: u32) -> About {
        let device = Identity { version, ..Identity::default() };
        About {
            device,
            graph: "m.onnx".into(),
            stamp: 7,
            shapes: vec![vec![1, 4]],
            threads: Some(2),
            precision: Precision::F32,
        }
    }

    fn right(device_ms: f64) -> Verdict {
        Verdict { cpu_ms: 10.0, finding: Finding::Right { distance: 1e-6, runs: 9, device_ms } }
    }

    #[test]
    fn a_device_is_taken_where_it_is_clearly_faster() {
        assert!(right(9.0).is_for_device() && !right(9.5).is_for_device());
        assert!(!Verdict { cpu_ms: 10.0, finding: Finding::Wrong("x".into()) }.is_for_device());
    }

    #[test]
    fn halves_are_tried_on_a_device_that_they_may_bring_before_the_cpu() {
        assert!(right(17.0).is_near() && !right(19.0).is_near());
        assert_eq!((right(3.0).device_ms(), right(17.0).device_ms()), (Some(3.0), None));
    }

    #[test]
    fn numbers_are_right_however_slow_the_device_is() {
        let numbers = |finding| Verdict { cpu_ms: 10.0, finding }.numbers();
        assert!(right(1e6).numbers().unwrap().unwrap().contains("9 runs gave the same bits, 1.0e-6 from"));
        assert_eq!(numbers(Finding::Wrong("x".into())), Some(Err("x".into())));
        assert_eq!((numbers(Finding::Failed("x".into())), numbers(Finding::Slow { after_ms: 1.0 })), (None, None));
        assert!(right(1e6).is_for_device_of(None) && !right(1e6).is_for_device_of(Some(2)));
    }

    #[test]
    fn verdicts_are_read_from_the_folder_as_written_and_only_so() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        write(&cache, number(&about(1)), "verdict", &(about(1), right(3.0)));
        assert_eq!(find(&about(1), Some(&cache)), Some(right(3.0)));
        assert_eq!(find(&about(2), Some(&cache)), None, "another driver");
        assert_eq!(all(&cache), [(about(1), right(3.0))]);
        let file = folder.path().join(cache::name(number(&about(1)), "verdict"));
        let bytes = std::fs::read(&file).unwrap();
        for broken in [&bytes[..bytes.len() - 1], &bytes[1..], &[]] {
            std::fs::write(&file, broken).unwrap();
            assert_eq!(find(&about(1), Some(&cache)), None);
        }
    }

    #[test]
    fn three_deaths_disable_a_device_until_its_driver_changes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Some(Cache::new(folder.path()));
        let (old, new) = (about(1).device, about(2).device);
        for deaths in 1..=3 {
            assert_eq!(disabled(&old, cache.as_ref()), None);
            assert_eq!(count_death(&old, cache.as_ref()), deaths);
        }
        assert!(disabled(&old, cache.as_ref()).unwrap().contains("3 probes died"));
        assert_eq!(disabled(&new, cache.as_ref()), None);
    }
}
