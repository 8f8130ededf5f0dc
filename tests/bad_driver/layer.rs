//! A Vulkan layer that fails on demand, for `tests/bad_driver.rs`, which compiles it with plain `rustc`: it uses nothing but `std`.
//!
//! `FAULTY="WHAT N"` makes the N-th call of its kind, counted from 1, go wrong:
//! * `allocate`: `vkAllocateMemory` finds no memory on the device, and so does every later one, as vulkano asks for less then;
//! * `submit`: `vkQueueSubmit` finds the device lost, and so does every later one;
//! * `shader`: `vkCreateShaderModule` subtracts wherever that module adds; only modules that add are counted;
//! * `pipeline`: `vkCreateComputePipelines` fails;
//! * `abort`: it ends the process, as a driver may.
//!
//! `FAULTY_CALLS` names a file that gets a line of WHAT a call, where `pipeline` stands for both of the last two.
//!
//! Structures and numbers are those of `vulkan_core.h`, `vk_layer.h` and the loader's "Layer Interface to the Loader"; only what is needed is spelled out.

use std::ffi::{CStr, c_char, c_void};
use std::io::Write as _;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

type Handle = *mut c_void;
type Function = unsafe extern "system" fn();
type Lookup = unsafe extern "system" fn(Handle, *const c_char) -> Option<Function>;
type Create = unsafe extern "system" fn(Handle, *const c_void, *const c_void, *mut Handle) -> i32;
type CreateInstance = unsafe extern "system" fn(*const c_void, *const c_void, *mut Handle) -> i32;
type CreatePipelines = unsafe extern "system" fn(Handle, u64, u32, *const c_void, *const c_void, *mut u64) -> i32;
type CreateModule = unsafe extern "system" fn(Handle, *const Module, *const c_void, *mut u64) -> i32;
type Allocate = unsafe extern "system" fn(Handle, *const c_void, *const c_void, *mut u64) -> i32;
type Submit = unsafe extern "system" fn(Handle, u32, *const c_void, u64) -> i32;

const ERROR_INITIALIZATION_FAILED: i32 = -3;
const ERROR_OUT_OF_DEVICE_MEMORY: i32 = -2;
const ERROR_DEVICE_LOST: i32 = -4;
const ERROR_UNKNOWN: i32 = -13;
const LOADER_INSTANCE_CREATE_INFO: i32 = 47;
const LOADER_DEVICE_CREATE_INFO: i32 = 48;
const LAYER_LINK_INFO: i32 = 0;

/// How every structure begins.
#[repr(C)]
struct Head {
    kind: i32,
    next: *mut Head,
}

/// `VkLayerInstanceCreateInfo` and `VkLayerDeviceCreateInfo`.
#[repr(C)]
struct LayerInfo {
    head: Head,
    function: i32,
    link: *mut Link,
}

/// `VkLayerInstanceLink`, whose third member is not needed, and `VkLayerDeviceLink`.
#[repr(C)]
struct Link {
    next: *mut Link,
    of_instance: Lookup,
    of_device: Lookup,
}

/// `VkNegotiateLayerInterface`.
#[repr(C)]
pub struct Interface {
    head: Head,
    version: u32,
    of_instance: Option<Lookup>,
    of_device: Option<Lookup>,
    of_physical_device: Option<Lookup>,
}

/// `VkShaderModuleCreateInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Module {
    kind: i32,
    next: *const c_void,
    flags: u32,
    bytes: usize,
    code: *const u32,
}

/// A function of the next layer or of the driver.
struct Below(AtomicPtr<c_void>);

impl Below {
    const fn new() -> Below {
        Below(AtomicPtr::new(std::ptr::null_mut()))
    }

    fn set(&self, function: *mut c_void) {
        self.0.store(function, Ordering::SeqCst);
    }

    /// # Safety
    /// `F` is the type of the function that was set.
    unsafe fn get<F: Copy>(&self) -> Option<F> {
        let function = self.0.load(Ordering::SeqCst);
        // SAFETY: pointers to functions are as large as others, and the caller knows the type.
        (!function.is_null()).then(|| unsafe { std::mem::transmute_copy::<*mut c_void, F>(&function) })
    }
}

static INSTANCE: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static OF_INSTANCE: Below = Below::new();
static OF_DEVICE: Below = Below::new();
static ALLOCATE: Below = Below::new();
static SUBMIT: Below = Below::new();
static MODULE: Below = Below::new();
static PIPELINES: Below = Below::new();

/// Whether this call of `what` is to fail: it is the one that is named (`false`) or a later one (`true`).
fn fails(what: &str, calls: &AtomicUsize) -> Option<bool> {
    let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
    let wanted = std::env::var("FAULTY").ok()?;
    let (named, from) = wanted.split_once(' ')?;
    let from: usize = from.parse().ok()?;
    (named == what && number >= from).then_some(number > from)
}

fn tell(what: &str) {
    if let Some(file) = std::env::var_os("FAULTY_CALLS")
        && let Ok(mut file) = std::fs::File::options().append(true).create(true).open(file)
    {
        let _ = writeln!(file, "{what}");
    }
}

unsafe extern "system" fn allocate(device: Handle, info: *const c_void, host: *const c_void, out: *mut u64) -> i32 {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    tell("allocate");
    if fails("allocate", &CALLS).is_some() {
        return ERROR_OUT_OF_DEVICE_MEMORY;
    }
    // SAFETY: the function below, with what the caller gave.
    unsafe { ALLOCATE.get::<Allocate>().map_or(ERROR_UNKNOWN, |below| below(device, info, host, out)) }
}

unsafe extern "system" fn submit(queue: Handle, count: u32, infos: *const c_void, fence: u64) -> i32 {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    tell("submit");
    if fails("submit", &CALLS).is_some() {
        return ERROR_DEVICE_LOST;
    }
    // SAFETY: the function below, with what the caller gave.
    unsafe { SUBMIT.get::<Submit>().map_or(ERROR_UNKNOWN, |below| below(queue, count, infos, fence)) }
}

unsafe extern "system" fn create_pipelines(
    device: Handle,
    cache: u64,
    count: u32,
    infos: *const c_void,
    host: *const c_void,
    out: *mut u64,
) -> i32 {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static ABORTS: AtomicUsize = AtomicUsize::new(0);
    tell("pipeline");
    if fails("abort", &ABORTS) == Some(false) {
        std::process::abort();
    }
    if fails("pipeline", &CALLS) == Some(false) {
        return ERROR_UNKNOWN;
    }
    // SAFETY: the function below, with what the caller gave.
    unsafe {
        let below = PIPELINES.get::<CreatePipelines>();
        below.map_or(ERROR_UNKNOWN, |below| below(device, cache, count, infos, host, out))
    }
}

unsafe extern "system" fn create_module(
    device: Handle,
    info: *const Module,
    host: *const c_void,
    out: *mut u64,
) -> i32 {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: the caller keeps Vulkan's rules: `info` is a `VkShaderModuleCreateInfo` with `bytes` bytes of code; then the function below.
    unsafe {
        let Some(below) = MODULE.get::<CreateModule>() else { return ERROR_UNKNOWN };
        let mut module = *info;
        let wrong = subtracting(std::slice::from_raw_parts(module.code, module.bytes / 4));
        if let Some(wrong) = &wrong {
            tell("shader");
            if fails("shader", &CALLS) == Some(false) {
                module.code = wrong.as_ptr();
            }
        }
        below(device, &raw const module, host, out)
    }
}

/// The module with every `OpFAdd` an `OpFSub`, which has the same operands; `None` where it has none.
fn subtracting(code: &[u32]) -> Option<Vec<u32>> {
    const ADD: u32 = 129;
    const SUB: u32 = 131;
    let mut wrong = code.to_vec();
    let (mut at, mut adds) = (5, false);
    while let Some(word) = wrong.get_mut(at) {
        let length = (*word >> 16) as usize;
        if *word & 0xffff == ADD {
            *word = *word & 0xffff_0000 | SUB;
            adds = true;
        }
        at += length.max(1);
    }
    adds.then_some(wrong)
}

/// The link to the next layer in a chain of structures, which is moved on to the one after it.
///
/// # Safety
/// `info` is what the loader gave to `vkCreateInstance` or `vkCreateDevice`.
unsafe fn link(info: *const c_void, kind: i32) -> Option<*mut Link> {
    // SAFETY: every structure of the chain begins with a head, and one of this kind is a `LayerInfo`.
    unsafe {
        let mut head = (*info.cast::<Head>()).next;
        while !head.is_null() {
            let layer = head.cast::<LayerInfo>();
            if (*head).kind == kind && (*layer).function == LAYER_LINK_INFO {
                let link = (*layer).link;
                (*layer).link = (*link).next;
                return Some(link);
            }
            head = (*head).next;
        }
        None
    }
}

unsafe extern "system" fn create_instance(info: *const c_void, host: *const c_void, out: *mut Handle) -> i32 {
    // SAFETY: the loader's chain; the function is `vkCreateInstance`.
    unsafe {
        let Some(link) = link(info, LOADER_INSTANCE_CREATE_INFO) else { return ERROR_INITIALIZATION_FAILED };
        let lookup = (*link).of_instance;
        let Some(create) = lookup(std::ptr::null_mut(), c"vkCreateInstance".as_ptr()) else {
            return ERROR_INITIALIZATION_FAILED;
        };
        let create: CreateInstance = std::mem::transmute(create);
        let result = create(info, host, out);
        if result == 0 {
            OF_INSTANCE.set(lookup as *mut c_void);
            INSTANCE.store(*out, Ordering::SeqCst);
        }
        result
    }
}

unsafe extern "system" fn create_device(
    physical: Handle,
    info: *const c_void,
    host: *const c_void,
    out: *mut Handle,
) -> i32 {
    // SAFETY: the loader's chain; the functions are those that are named.
    unsafe {
        let Some(link) = link(info, LOADER_DEVICE_CREATE_INFO) else { return ERROR_INITIALIZATION_FAILED };
        let (of_instance, of_device) = ((*link).of_instance, (*link).of_device);
        let Some(create) = of_instance(INSTANCE.load(Ordering::SeqCst), c"vkCreateDevice".as_ptr()) else {
            return ERROR_INITIALIZATION_FAILED;
        };
        let create: Create = std::mem::transmute(create);
        let result = create(physical, info, host, out);
        if result == 0 {
            OF_DEVICE.set(of_device as *mut c_void);
            for (below, name) in [
                (&ALLOCATE, c"vkAllocateMemory"),
                (&SUBMIT, c"vkQueueSubmit"),
                (&MODULE, c"vkCreateShaderModule"),
                (&PIPELINES, c"vkCreateComputePipelines"),
            ] {
                let function = of_device(*out, name.as_ptr());
                below.set(function.map_or(std::ptr::null_mut(), |function| function as *mut c_void));
            }
        }
        result
    }
}

/// What this layer puts before the one below.
fn own(name: &CStr) -> Option<*const c_void> {
    Some(match name.to_bytes() {
        b"vkGetInstanceProcAddr" => of_instance as *const c_void,
        b"vkGetDeviceProcAddr" => of_device as *const c_void,
        b"vkCreateInstance" => create_instance as *const c_void,
        b"vkCreateDevice" => create_device as *const c_void,
        b"vkAllocateMemory" => allocate as *const c_void,
        b"vkQueueSubmit" => submit as *const c_void,
        b"vkCreateShaderModule" => create_module as *const c_void,
        b"vkCreateComputePipelines" => create_pipelines as *const c_void,
        _ => return None,
    })
}

unsafe fn lookup(below: &Below, of: Handle, name: *const c_char) -> Option<Function> {
    // SAFETY: names are C strings; pointers to functions are what Vulkan hands out, to be cast by whoever asked.
    unsafe {
        if let Some(own) = own(CStr::from_ptr(name)) {
            return Some(std::mem::transmute::<*const c_void, Function>(own));
        }
        below.get::<Lookup>().and_then(|below| below(of, name))
    }
}

unsafe extern "system" fn of_instance(instance: Handle, name: *const c_char) -> Option<Function> {
    // SAFETY: as the caller's.
    unsafe { lookup(&OF_INSTANCE, instance, name) }
}

unsafe extern "system" fn of_device(device: Handle, name: *const c_char) -> Option<Function> {
    // SAFETY: as the caller's.
    unsafe { lookup(&OF_DEVICE, device, name) }
}

/// Where the loader begins.
///
/// # Safety
/// Called by the loader, with a `VkNegotiateLayerInterface`.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "Vulkan's name")]
pub unsafe extern "system" fn vkNegotiateLoaderLayerInterfaceVersion(interface: *mut Interface) -> i32 {
    // SAFETY: as the loader's.
    let interface = unsafe { &mut *interface };
    interface.version = 2;
    interface.of_instance = Some(of_instance);
    interface.of_device = Some(of_device);
    interface.of_physical_device = None;
    0
}
