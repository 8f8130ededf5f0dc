//! Finding a device and opening it.

use super::limits::Limits;
use crate::error::{Error, ErrorKind, Result, fail};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vulkano::device::physical::{PhysicalDevice, PhysicalDeviceType};
use vulkano::device::{Device, DeviceCreateInfo, Queue, QueueCreateInfo, QueueFlags};
use vulkano::instance::debug::{
    DebugUtilsMessageSeverity, DebugUtilsMessageType, DebugUtilsMessenger, DebugUtilsMessengerCallback,
    DebugUtilsMessengerCreateInfo,
};
use vulkano::instance::{Instance, InstanceCreateFlags, InstanceCreateInfo, InstanceExtensions};
use vulkano::{Version, VulkanLibrary};

/// The variable that turns on Khronos' validation layer.
const VALIDATION: &str = "UNDIFFUSE_VULKAN_VALIDATION";
const LAYER: &str = "VK_LAYER_KHRONOS_validation";

/// What the validation layer said since the start of the process.
static MESSAGES: AtomicUsize = AtomicUsize::new(0);

/// Messages of the validation layer, errors and warnings.
#[cfg(test)]
pub(super) fn messages() -> usize {
    MESSAGES.load(Ordering::SeqCst)
}

/// The loader, and what it found.
#[derive(Clone)]
pub(super) struct Machine {
    instance: Arc<Instance>,
    _messenger: Option<Arc<DebugUtilsMessenger>>,
}

/// What tells a device from others, and its driver from other versions of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// `deviceName`.
    pub name: String,
    /// `vendorID`.
    pub vendor: u32,
    /// `deviceID`.
    pub device: u32,
    /// `driverVersion`.
    pub version: u32,
    /// `pipelineCacheUUID`.
    pub cache: [u8; 16],
    /// Whether it is of type CPU.
    pub is_cpu: bool,
}

/// A device that can be opened.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) kind: PhysicalDeviceType,
    pub(super) driver: String,
    pub(super) identity: Identity,
    pub(super) limits: Limits,
    physical: Arc<PhysicalDevice>,
    family: u32,
}

/// An open device.
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) limits: Limits,
    pub(super) device: Arc<Device>,
    pub(super) queue: Arc<Queue>,
}

impl Machine {
    /// The machine, found once and kept as long as the process: each instance loads the drivers anew, and NVIDIA's (580.159) refuses to be
    /// loaded again after it was unloaded a number of times.
    ///
    /// # Errors
    /// `Unsupported` when there is no Vulkan loader, or it gives no instance; the next call tries again.
    pub(super) fn find() -> Result<Machine> {
        static FOUND: Mutex<Option<Machine>> = Mutex::new(None);
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(machine) = &*found {
            return Ok(machine.clone());
        }
        Ok(found.insert(Machine::new()?).clone())
    }

    fn new() -> Result<Machine> {
        let library = VulkanLibrary::new().map_err(|error| {
            Error::new(ErrorKind::Unsupported, "there is no Vulkan loader (libvulkan) on this machine").caused_by(error)
        })?;
        let validates = std::env::var_os(VALIDATION).is_some();
        if validates && !library.layer_properties().is_ok_and(|mut layers| layers.any(|layer| layer.name() == LAYER)) {
            return fail!(Unsupported, "{VALIDATION} is set, and there is no {LAYER}");
        }
        let create = InstanceCreateInfo {
            flags: InstanceCreateFlags::ENUMERATE_PORTABILITY,
            application_name: Some("undiffuse".into()),
            max_api_version: Some(Version::V1_1),
            enabled_layers: if validates { vec![LAYER.into()] } else { Vec::new() },
            enabled_extensions: InstanceExtensions { ext_debug_utils: validates, ..InstanceExtensions::empty() },
            ..InstanceCreateInfo::default()
        };
        let instance = Instance::new(library, create)
            .map_err(|error| Error::new(ErrorKind::Unsupported, failed("make a Vulkan instance", error).to_string()))?;
        let messenger = if validates { Some(Arc::new(listen(&instance)?)) } else { None };
        Ok(Machine { instance, _messenger: messenger })
    }

    /// Devices that compute, GPUs first, those of type CPU last.
    ///
    /// # Errors
    /// `Engine` when the loader cannot list them.
    pub(super) fn devices(&self) -> Result<Vec<Found>> {
        let all = self.instance.enumerate_physical_devices().map_err(|error| failed("list Vulkan devices", error))?;
        let mut found: Vec<Found> = all.filter_map(Found::of).collect();
        found.sort_by_key(|device| match device.kind {
            PhysicalDeviceType::DiscreteGpu => 0,
            PhysicalDeviceType::IntegratedGpu => 1,
            PhysicalDeviceType::VirtualGpu => 2,
            PhysicalDeviceType::Cpu => 4,
            _ => 3,
        });
        Ok(found)
    }

    /// # Errors
    /// `Engine` when the driver does not open it.
    pub(super) fn open(found: &Found) -> Result<Opened> {
        let queue = QueueCreateInfo { queue_family_index: found.family, ..QueueCreateInfo::default() };
        let create = DeviceCreateInfo { queue_create_infos: vec![queue], ..DeviceCreateInfo::default() };
        let (device, mut queues) = Device::new(found.physical.clone(), create)
            .map_err(|error| failed("open the Vulkan device", error).in_field(&found.name))?;
        let Some(queue) = queues.next() else { return fail!(Engine, "{} gives no queue", found.name) };
        let (name, identity, limits) = (found.name.clone(), found.identity.clone(), found.limits);
        Ok(Opened { name, identity, limits, device, queue })
    }
}

impl Found {
    fn of(physical: Arc<PhysicalDevice>) -> Option<Found> {
        let family = physical
            .queue_family_properties()
            .iter()
            .position(|family| family.queue_flags.contains(QueueFlags::COMPUTE))? as u32;
        let p = physical.properties();
        let limits = Limits {
            shared: p.max_compute_shared_memory_size,
            invocations: p.max_compute_work_group_invocations,
            size: p.max_compute_work_group_size,
            groups: p.max_compute_work_group_count,
            range: p.max_storage_buffer_range.into(),
            alignment: p.min_storage_buffer_offset_alignment.as_devicesize() as u32,
            push: p.max_push_constants_size,
            buffers: p.max_per_stage_descriptor_storage_buffers,
        };
        let limits = crate::board::chosen().map_or(limits, |board| board.vulkan.clamp(limits));
        let identity = Identity {
            name: p.device_name.clone(),
            vendor: p.vendor_id,
            device: p.device_id,
            version: p.driver_version,
            cache: p.pipeline_cache_uuid,
            is_cpu: p.device_type == PhysicalDeviceType::Cpu,
        };
        let driver =
            format!("{} {}", p.driver_name.as_deref().unwrap_or("driver"), p.driver_info.as_deref().unwrap_or(""));
        Some(Found {
            name: p.device_name.clone(),
            kind: p.device_type,
            driver: driver.trim().into(),
            identity,
            limits,
            physical,
            family,
        })
    }
}

/// An error of Vulkan's, said in our words: of an error within others the innermost, which is the one that the driver gave.
pub(super) fn failed(doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Error::new(ErrorKind::Engine, format!("cannot {doing}: {cause}"))
}

fn listen(instance: &Arc<Instance>) -> Result<DebugUtilsMessenger> {
    // SAFETY: the callback calls nothing of Vulkan's.
    #[allow(unsafe_code)]
    let callback = unsafe {
        DebugUtilsMessengerCallback::new(|_, _, data| {
            MESSAGES.fetch_add(1, Ordering::SeqCst);
            log::error!("Vulkan: {}", data.message);
        })
    };
    let create = DebugUtilsMessengerCreateInfo {
        message_severity: DebugUtilsMessageSeverity::ERROR | DebugUtilsMessageSeverity::WARNING,
        message_type: DebugUtilsMessageType::GENERAL
            | DebugUtilsMessageType::VALIDATION
            | DebugUtilsMessageType::PERFORMANCE,
        ..DebugUtilsMessengerCreateInfo::user_callback(callback)
    };
    DebugUtilsMessenger::new(instance.clone(), create).map_err(|error| failed("hear the validation layer", error))
}
