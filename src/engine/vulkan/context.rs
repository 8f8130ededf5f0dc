//! An open device with its pipelines, shared by all stages of a process.

use super::compiled::Compiled;
use super::device::{Found, Machine, Opened, failed};
use super::dispatch::{Dispatch, Shader};
use super::limits::Limits;
use super::memory::Allocator;
use super::shader::ENTRY_POINT;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result, fail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use vulkano::descriptor_set::allocator::StandardDescriptorSetAllocator;
use vulkano::descriptor_set::layout::{
    DescriptorSetLayout, DescriptorSetLayoutBinding, DescriptorSetLayoutCreateInfo, DescriptorType,
};
use vulkano::pipeline::compute::ComputePipelineCreateInfo;
use vulkano::pipeline::layout::{PipelineLayoutCreateInfo, PushConstantRange};
use vulkano::pipeline::{ComputePipeline, PipelineLayout, PipelineShaderStageCreateInfo};
use vulkano::shader::{ShaderModule, ShaderModuleCreateInfo, ShaderStages};

/// The variable that chooses a device, by its number in the list or by a part of its name.
pub(super) const DEVICE: &str = "UNDIFFUSE_DEVICE";

static CHOSEN: Mutex<Option<String>> = Mutex::new(None);

/// From now on the engines of this process are on the device of this number in [`devices`](super::devices), or whose name has this in it;
/// without a choice on that which the variable `UNDIFFUSE_DEVICE` names, else on the first that is no CPU.
pub fn choose_device(device: &str) {
    *CHOSEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(device.to_owned());
}

/// The name or number of the device that is wanted, where one is.
pub(in crate::engine) fn wanted() -> Option<String> {
    let chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    chosen.or_else(|| std::env::var(DEVICE).ok())
}

/// That of `devices` which is `wanted`, by its number or a part of its name, else the first that is no CPU.
pub(in crate::engine) fn pick<'a, T>(
    devices: &'a [T],
    wanted: Option<&str>,
    name: impl Fn(&T) -> &str,
    is_cpu: impl Fn(&T) -> bool,
) -> Option<&'a T> {
    match wanted {
        None => devices.iter().find(|device| !is_cpu(device)),
        Some(wanted) => match wanted.parse::<usize>() {
            Ok(index) => devices.get(index),
            Err(_) => devices.iter().find(|device| name(device).contains(wanted)),
        },
    }
}

pub(super) struct Context {
    pub(super) opened: Opened,
    pub(super) allocator: Allocator,
    pub(super) sets: Arc<StandardDescriptorSetAllocator>,
    pub(super) compiled: Compiled,
    pipelines: Mutex<HashMap<String, Arc<ComputePipeline>>>,
}

impl Context {
    /// The device that [`DEVICE`] names, else the first that is no CPU; opened once for all that use it at the same time, with the pipelines
    /// that lie in the first one's `cache`.
    ///
    /// # Errors
    /// `Unsupported` when there is none, or none of that name; `Engine` when it cannot be opened.
    pub(super) fn shared(cache: Option<&Cache>) -> Result<Arc<Context>> {
        static OPEN: Mutex<Weak<Context>> = Mutex::new(Weak::new());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = open.upgrade() {
            return Ok(context);
        }
        let context = Arc::new(Context::open(wanted().as_deref(), cache)?);
        *open = Arc::downgrade(&context);
        Ok(context)
    }

    pub(super) fn open(wanted: Option<&str>, cache: Option<&Cache>) -> Result<Context> {
        let machine = Machine::find()?;
        let devices = machine.devices()?;
        let found = choose(&devices, wanted)?;
        let opened = Machine::open(found)?;
        log::info!("computes on {} ({})", opened.name, found.driver);
        let allocator = Allocator::new(&opened);
        let sets = Arc::new(StandardDescriptorSetAllocator::new(opened.device.clone(), Default::default()));
        let compiled = Compiled::open(&opened, cache);
        Ok(Context { opened, allocator, sets, compiled, pipelines: Mutex::default() })
    }

    /// The pipeline of a dispatch, compiled at its first use.
    ///
    /// # Errors
    /// `Engine` when the shader or the driver's compiler fails.
    pub(super) fn pipeline(&self, dispatch: &Dispatch) -> Result<Arc<ComputePipeline>> {
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{}\n{}", dispatch.shader.source.name, dispatch.shader.head.text());
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.compiled(&dispatch.shader, dispatch.bindings.len())?;
        pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compiled(&self, shader: &Shader, bindings: usize) -> Result<Arc<ComputePipeline>> {
        let device = &self.opened.device;
        let words = shader.compile()?;
        let named = |error: Error| error.in_field(shader.source.name);
        // SAFETY: naga validated the module; its indices are checked by tests.
        #[allow(unsafe_code)]
        let module = unsafe { ShaderModule::new(device.clone(), ShaderModuleCreateInfo::new(&words)) }
            .map_err(|error| named(failed("make a shader", error)))?;
        let Some(entry) = module.entry_point(ENTRY_POINT) else {
            return fail!(Engine, "the shader {} has no entry point", shader.source.name);
        };
        let layout = self.layout(bindings).map_err(named)?;
        let create = ComputePipelineCreateInfo::stage_layout(PipelineShaderStageCreateInfo::new(entry), layout);
        let kept = self.compiled.pipelines.clone();
        ComputePipeline::new(device.clone(), kept, create).map_err(|error| named(failed("make a pipeline", error)))
    }

    fn layout(&self, bindings: usize) -> Result<Arc<PipelineLayout>> {
        let device = &self.opened.device;
        let binding = DescriptorSetLayoutBinding {
            stages: ShaderStages::COMPUTE,
            ..DescriptorSetLayoutBinding::descriptor_type(DescriptorType::StorageBuffer)
        };
        let create = DescriptorSetLayoutCreateInfo {
            bindings: (0..bindings as u32).map(|index| (index, binding.clone())).collect(),
            ..DescriptorSetLayoutCreateInfo::default()
        };
        let set =
            DescriptorSetLayout::new(device.clone(), create).map_err(|error| failed("lay out bindings", error))?;
        let create = PipelineLayoutCreateInfo {
            set_layouts: vec![set],
            push_constant_ranges: vec![PushConstantRange { stages: ShaderStages::COMPUTE, offset: 0, size: 128 }],
            ..PipelineLayoutCreateInfo::default()
        };
        PipelineLayout::new(device.clone(), create).map_err(|error| failed("lay out a pipeline", error))
    }
}

/// Name and limits of the device that would be opened, and whether it was named; `None` where none was named and there is none.
///
/// # Errors
/// `Unsupported` when none has the name.
pub(super) fn limits_of_wanted() -> Result<Option<(String, Limits, bool)>> {
    let wanted = wanted();
    let devices = Machine::find().and_then(|machine| machine.devices());
    match devices.and_then(|devices| choose(&devices, wanted.as_deref()).cloned()) {
        Ok(found) => Ok(Some((found.name, found.limits, wanted.is_some()))),
        Err(error) if wanted.is_some() => Err(error),
        Err(_) => Ok(None),
    }
}

/// The device of this number or name, else the first that is no CPU.
fn choose<'a>(devices: &'a [Found], wanted: Option<&str>) -> Result<&'a Found> {
    let names = || devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(", ");
    let chosen = pick(devices, wanted, |device| &device.name, |device| device.identity.is_cpu);
    let Some(found) = chosen else {
        let missing = match wanted {
            Some(wanted) => format!("no Vulkan device \"{wanted}\" among {}: {}", devices.len(), names()),
            None => format!("no Vulkan device that is a GPU among {}: {}", devices.len(), names()),
        };
        return Err(Error::new(ErrorKind::Unsupported, missing)
            .advise(format!("name a device by --device or {DEVICE}, by its number or a part of its name")));
    };
    Ok(found)
}
