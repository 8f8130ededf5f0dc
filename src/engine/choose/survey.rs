//! Which device there is, told without loading Vulkan where it was listed before or where there can be no GPU.

use super::child::{Request, Said};
use super::probe::{End, ask};
use super::verdict::{read, write};
use crate::cache::{Cache, number};
use crate::engine::vulkan::{Identity, pick, wanted};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// After so long a list of devices does not come any more.
const PATIENCE: Duration = Duration::from_secs(20);
/// Files of `/dev` by which Linux offers GPUs: begins of their names.
const NODES: [&str; 9] = ["dri", "nvidia", "nvhost", "nvgpu", "mali", "kgsl", "pvr", "dxg", "galcore"];
/// Where loaders look for drivers.
const DRIVERS: [&str; 4] =
    ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/etc/vulkan/icd.d"];

/// Devices, or why they cannot be listed.
type Listed = Result<Vec<Identity>, String>;

/// What was listed last, for which drivers.
static LISTED: Mutex<Option<(u128, Listed)>> = Mutex::new(None);

/// The device that `auto` may use.
///
/// # Errors
/// Why there is none, in a clause.
pub(super) fn device(cache: Option<&Cache>) -> Result<Identity, String> {
    let wanted = wanted();
    if wanted.is_none() && !has_node(Path::new("/dev")) {
        return Err("this machine has no GPU, and no device is named".into());
    }
    let devices = listed(cache)?;
    match pick(&devices, wanted.as_deref(), |device| &device.name, |device| device.is_cpu) {
        Some(device) => Ok(device.clone()),
        None => Err(format!("no Vulkan device to use among {}", devices.len())),
    }
}

/// Whether `folder`, `/dev`, has a file of a GPU; where it is none of Linux's, there may be one.
fn has_node(folder: &Path) -> bool {
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        return true;
    }
    let Ok(entries) = folder.read_dir() else { return true };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.into_iter().any(|name| NODES.iter().any(|node| name.starts_with(node)))
}

fn listed(cache: Option<&Cache>) -> Listed {
    let key = number(&Drivers::of_this_machine());
    let mut listed = LISTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, found)) = listed.as_ref().filter(|(of, _)| *of == key) {
        return found.clone();
    }
    let kept = cache.and_then(|cache| read::<Vec<Identity>>(cache, key, "devices"));
    let found = kept.map_or_else(|| list(key, cache), Ok);
    *listed = Some((key, found.clone()));
    found
}

fn list(key: u128, cache: Option<&Cache>) -> Listed {
    if super::probe::program().is_none() {
        return Err("devices are not measured: no program to probe with is known".into());
    }
    let (mut said, end) = ask(&Request::List, |_| PATIENCE);
    let found = match (said.pop(), end) {
        (Some(Said::Devices(devices)), End::Exited) => devices,
        (Some(Said::Failed(why)), _) => {
            log::debug!("Vulkan's devices: {why}");
            Vec::new()
        }
        (_, end) => return Err(format!("Vulkan's devices cannot be listed: {end:?}")),
    };
    if let Some(cache) = cache {
        write(cache, key, "devices", &found);
    }
    Ok(found)
}

/// What changes when a driver is installed, updated or chosen.
#[derive(Debug, PartialEq, Hash)]
struct Drivers {
    /// Manifests, with size and date.
    manifests: Vec<(PathBuf, u64, Option<std::time::SystemTime>)>,
    /// Variables that loaders and Mesa read.
    variables: Vec<(String, String)>,
    /// GPUs' files, and the kernel's and NVIDIA's version.
    nodes: Vec<PathBuf>,
    versions: [Option<String>; 2],
}

impl Drivers {
    fn of_this_machine() -> Drivers {
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share/vulkan/icd.d"));
        let folders = DRIVERS.iter().map(PathBuf::from).chain(home);
        let file = |path: PathBuf| {
            let facts = path.metadata().ok();
            (path, facts.as_ref().map_or(0, std::fs::Metadata::len), facts.and_then(|facts| facts.modified().ok()))
        };
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.to_string_lossy().into_owned());
            (name.starts_with("VK_") || name.starts_with("MESA_")).then_some((name, value))
        });
        let mut drivers = Drivers {
            manifests: folders.flat_map(|folder| inside(&folder)).map(file).collect(),
            variables: variables.collect(),
            nodes: inside(Path::new("/dev/dri")),
            versions: ["/proc/sys/kernel/osrelease", "/proc/driver/nvidia/version"]
                .map(|file| std::fs::read_to_string(file).ok()),
        };
        drivers.manifests.sort();
        drivers.variables.sort();
        drivers
    }
}

fn inside(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn gpus_are_seen_by_their_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("null"), "").unwrap();
        assert!(!has_node(folder.path()));
        std::fs::write(folder.path().join("mali0"), "").unwrap();
        assert!(has_node(folder.path()));
    }

    #[test]
    fn the_same_machine_is_known_again() {
        assert_eq!(Drivers::of_this_machine(), Drivers::of_this_machine());
    }
}
