//! [`Compiled`]: pipelines as the driver compiled them, kept for the next start in a file a device and driver.
//!
//! A driver trusts what it is given: some crash on bytes that are not theirs. So none of a file reaches it whose head, length, checksum or, inside
//! of the driver's own bytes, `VkPipelineCacheHeaderVersionOne` is not what this very device would have written.

use super::device::{Identity, Opened, failed};
use crate::cache::{self, Cache};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vulkano::pipeline::cache::{PipelineCache, PipelineCacheCreateInfo};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the driver's own head, `headerSize`, and their version, `VK_PIPELINE_CACHE_HEADER_VERSION_ONE`.
const OWN_HEAD: usize = 32;
const OWN_VERSION: u32 = 1;

/// The head of a file, behind the magic, the program and the length that every file of the cache begins with.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// Vendor, device, driver version, `pipelineCacheUUID`.
    device: Identity,
    /// Of the content.
    checksum: u64,
}

/// What the driver keeps of compiled pipelines.
pub(super) struct Compiled {
    /// `None` where the driver makes none; pipelines are compiled without.
    pub(super) pipelines: Option<Arc<PipelineCache>>,
    device: Identity,
    /// Bytes that were read or written last: what is kept only grows.
    kept: AtomicUsize,
}

impl Compiled {
    /// With what lies in `cache` for this device, if it does.
    pub(super) fn open(opened: &Opened, cache: Option<&Cache>) -> Compiled {
        let device = opened.identity.clone();
        let file = cache.and_then(|cache| cache.find(&name(&device)));
        let data = file.as_ref().and_then(|file| content(file.bytes(), &device)).unwrap_or_default();
        let pipelines = made(opened, data).or_else(|error| {
            log::info!("compiled pipelines are not read: {error}");
            made(opened, &[])
        });
        let pipelines = pipelines.inspect_err(|error| log::info!("compiled pipelines are not kept: {error}")).ok();
        log::debug!("{} bytes of compiled pipelines for {}", data.len(), device.name);
        Compiled { pipelines, device, kept: AtomicUsize::new(data.len()) }
    }

    /// Bytes that were read or written last.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.kept.load(Ordering::SeqCst)
    }

    /// Writes what was compiled since the last time, if anything was; that it cannot be written is only logged.
    pub(super) fn keep(&self, cache: Option<&Cache>) {
        let (Some(cache), Some(pipelines)) = (cache, &self.pipelines) else { return };
        let data = match pipelines.get_data() {
            Ok(data) => data,
            Err(error) => return cache::not_kept(&error),
        };
        if self.kept.swap(data.len(), Ordering::SeqCst) != data.len() {
            let sealed = sealed(&data, &self.device).map_err(std::io::Error::other);
            let written = sealed.and_then(|bytes| cache.write(&name(&self.device), &bytes));
            written.unwrap_or_else(|error| cache::not_kept(&error));
        }
    }
}

fn made(opened: &Opened, data: &[u8]) -> Result<Arc<PipelineCache>> {
    let create = PipelineCacheCreateInfo { initial_data: data.to_vec(), ..PipelineCacheCreateInfo::default() };
    // SAFETY: the driver wrote these bytes, or there are none: see `content`.
    #[allow(unsafe_code)]
    let made = unsafe { PipelineCache::new(opened.device.clone(), create) };
    made.map_err(|error| failed("make a pipeline cache", error))
}

fn name(device: &Identity) -> String {
    cache::name(cache::number(device), "pipelines")
}

/// A whole file.
fn sealed(data: &[u8], device: &Identity) -> postcard::Result<Vec<u8>> {
    let head = Head { device: device.clone(), checksum: xxh3_64(data) };
    let mut bytes = cache::seal(&head, data.len())?;
    bytes.extend(data);
    Ok(bytes)
}

/// What `device` wrote, if `file` is whole and is of this program, device and driver.
fn content<'a>(file: &'a [u8], device: &Identity) -> Option<&'a [u8]> {
    let (head, range) = cache::open::<Head>(file)?;
    let data = file.get(range)?;
    (head.device == *device && head.checksum == xxh3_64(data) && is_of(data, device)).then_some(data)
}

/// Whether the driver's own head is of `device`; numbers in it are little-endian, whatever the machine.
fn is_of(data: &[u8], device: &Identity) -> bool {
    let Some(head) = data.get(..OWN_HEAD) else { return false };
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let size = usize::try_from(number(0)).unwrap_or(0);
    (OWN_HEAD..=data.len()).contains(&size)
        && [number(4), number(8), number(12)] == [OWN_VERSION, device.vendor, device.device]
        && head[16..] == device.cache
}

#[cfg(test)]
mod tests {
    use super::super::context::Context;
    use super::super::tests::{Given, net, noise};
    use super::super::{CancelToken, Precision, Ready, programmed};
    use super::*;
    use crate::graph::op::{Activation, Op};
    use crate::graph::{lower, place};
    use crate::value::DType;

    fn device() -> Identity {
        let (vendor, device, version, cache) = (0x10de, 0x2330, 7, std::array::from_fn(|i| i as u8));
        Identity { name: "a device".into(), vendor, device, version, cache, is_cpu: false }
    }

    /// As a driver would write it.
    fn data(device: &Identity) -> Vec<u8> {
        let numbers = [OWN_HEAD as u32, OWN_VERSION, device.vendor, device.device];
        let head = numbers.into_iter().flat_map(u32::to_le_bytes).chain(device.cache);
        head.chain(0..100).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        let file = sealed(&data(&device()), &device()).unwrap();
        assert_eq!(content(&file, &device()), Some(&data(&device())[..]));
    }

    #[test]
    fn corrupt_and_truncated_files_are_misses() {
        let file = sealed(&data(&device()), &device()).unwrap();
        let begin = file.len() - data(&device()).len();
        for at in begin..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_eq!(content(&changed, &device()), None, "byte {at}");
        }
        for length in 0..file.len() {
            assert_eq!(content(&file[..length], &device()), None, "{length} bytes");
        }
        assert_eq!(content(&[&file[..], &[0]].concat(), &device()), None, "longer");
    }

    #[test]
    fn files_of_other_devices_drivers_and_programs_are_misses() {
        let ours = device();
        let file = sealed(&data(&ours), &ours).unwrap();
        for other in [
            Identity { vendor: 1, ..ours.clone() },
            Identity { device: 1, ..ours.clone() },
            Identity { version: 8, ..ours.clone() },
            Identity { cache: [9; 16], ..ours.clone() },
        ] {
            assert_eq!(content(&file, &other), None, "{other:?}");
            assert_ne!(name(&other), name(&ours), "{other:?}");
        }
        for at in [0, 16] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_eq!(content(&changed, &ours), None, "another magic or program");
        }
    }

    /// Its checksums are right, and the driver would trust it.
    #[test]
    fn bytes_that_no_driver_of_this_device_wrote_are_misses() {
        let right = data(&device());
        for at in 0..OWN_HEAD {
            let mut wrong = right.clone();
            wrong[at] ^= 0x80;
            assert_eq!(content(&sealed(&wrong, &device()).unwrap(), &device()), None, "byte {at}");
        }
        for length in 0..OWN_HEAD {
            let file = sealed(&right[..length], &device()).unwrap();
            assert_eq!(content(&file, &device()), None, "{length} bytes");
        }
    }

    #[test]
    #[ignore = "needs a Vulkan device"]
    fn a_second_start_reads_them_and_gives_the_same_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let start = |cache: Option<&Cache>| {
            let context = Arc::new(Context::open(super::super::wanted().as_deref(), cache).unwrap());
            let read = context.compiled.bytes();
            let given = [Given::Input(noise(1, &[5, 8])), Given::Fixed(noise(2, &[8, 12]))];
            let (net, tensors) = net(Op::Linear(Activation::Silu), &given, &[5, 12], DType::F32);
            let mut plan = lower::lower(&net);
            place::place(&mut plan);
            let (plan, program) = programmed(plan, &context.opened.limits, Precision::F32).unwrap();
            let outputs =
                Ready::new(context.clone(), plan, &program).unwrap().run(&[&tensors[0]], &CancelToken::new()).unwrap();
            context.compiled.keep(cache);
            (read, outputs)
        };
        let (nothing, first) = start(Some(&cache));
        let (read, second) = start(Some(&cache));
        assert!(nothing == 0 && read >= OWN_HEAD, "{nothing} {read}");
        assert!(first == second && start(None) == (0, second));
        let names = cache.names("pipelines");
        let file = folder.path().join(&names[0]);
        std::fs::write(&file, [7; 1000]).unwrap();
        assert_eq!(start(Some(&cache)), (0, first), "a broken file is a miss");
        assert_eq!((start(Some(&cache)).0, cache.names("pipelines")), (read, names), "and was written anew");
    }
}
