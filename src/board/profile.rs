//! A board's TOML file.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A machine: what stands in its file, every value from a public source that is named there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// What people call it.
    pub name: String,
    /// Its processor.
    pub cpu: Option<Processor>,
    /// Its Vulkan device at best.
    pub gpu: Option<Peak>,
    /// What another engine measured on it.
    pub measured: Option<Measured>,
    /// Limits of its Vulkan device.
    #[serde(default)]
    pub vulkan: Given,
}

/// A CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// Where the numbers come from.
    pub source: String,
    /// Cores that the engine computes on: the large ones.
    pub cores: Option<usize>,
    /// Additions and multiplications in f32, 10⁹ a second, all cores together.
    pub gflops: Option<f64>,
    /// Memory, 10⁹ bytes a second.
    pub gigabytes_per_second: Option<f64>,
}

/// What a device does at best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peak {
    /// Where the numbers come from.
    pub source: String,
    /// Additions and multiplications in f32, 10⁹ a second.
    pub gflops: Option<f64>,
    /// Memory, 10⁹ bytes a second.
    pub gigabytes_per_second: Option<f64>,
}

/// Another engine's time of one network on both processors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Whose, and of what.
    pub source: String,
    /// Milliseconds on the CPU.
    pub cpu_ms: f64,
    /// Milliseconds by Vulkan.
    pub gpu_ms: f64,
}

/// Limits of a Vulkan device under their names in Vulkan; what is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Given {
    /// Where the numbers come from.
    #[serde(default)]
    pub source: String,
    /// Bytes.
    pub max_compute_shared_memory_size: Option<u32>,
    /// Of a workgroup.
    pub max_compute_work_group_invocations: Option<u32>,
    /// Invocations along each axis.
    pub max_compute_work_group_size: Option<[u32; 3]>,
    /// Workgroups along each axis.
    pub max_compute_work_group_count: Option<[u32; 3]>,
    /// Bytes.
    pub max_storage_buffer_range: Option<u64>,
    /// Bytes.
    pub min_storage_buffer_offset_alignment: Option<u32>,
    /// Bytes.
    pub max_push_constants_size: Option<u32>,
    /// Storage buffers.
    pub max_per_stage_descriptor_storage_buffers: Option<u32>,
}

impl Board {
    /// Reads the text of a board's file.
    ///
    /// # Errors
    /// `Malformed`, with line and column or the field, for what is no TOML or no board; `Invalid` for a number that no machine has, and for a
    /// limit under what Vulkan promises of every device.
    pub fn parse(text: &str, file: &Path) -> Result<Board> {
        let malformed = |message: String| Error::new(ErrorKind::Malformed, message).in_file(file);
        let table: toml::Table =
            toml::from_str(text).map_err(|error| malformed(format!("is not TOML: {}", error.to_string().trim())))?;
        let board: Board = serde_path_to_error::deserialize(table).map_err(|error| {
            let field = error.path().to_string();
            let error = malformed(error.inner().to_string().trim().to_owned());
            if field == "." { error } else { error.in_field(field) }
        })?;
        board.check().map_err(|error| error.in_file(file))?;
        Ok(board)
    }

    fn check(&self) -> Result<()> {
        if self.name.trim().is_empty() {
            return Err(invalid("name", "is empty".into()));
        }
        if let Some(cpu) = &self.cpu {
            sourced("cpu", &cpu.source)?;
            if cpu.cores == Some(0) {
                return Err(invalid("cpu.cores", "is 0".into()));
            }
            positive("cpu.gflops", cpu.gflops)?;
            positive("cpu.gigabytes_per_second", cpu.gigabytes_per_second)?;
        }
        if let Some(gpu) = &self.gpu {
            sourced("gpu", &gpu.source)?;
            positive("gpu.gflops", gpu.gflops)?;
            positive("gpu.gigabytes_per_second", gpu.gigabytes_per_second)?;
        }
        if let Some(measured) = &self.measured {
            sourced("measured", &measured.source)?;
            positive("measured.cpu_ms", Some(measured.cpu_ms))?;
            positive("measured.gpu_ms", Some(measured.gpu_ms))?;
        }
        if self.vulkan != Given::default() {
            sourced("vulkan", &self.vulkan.source)?;
        }
        #[cfg(feature = "vulkan")]
        self.vulkan.check()?;
        Ok(())
    }
}

fn invalid(field: &str, message: String) -> Error {
    Error::new(ErrorKind::Invalid, message).in_field(field)
}

fn sourced(table: &str, source: &str) -> Result<()> {
    if source.trim().is_empty() {
        return Err(invalid(&format!("{table}.source"), "is missing: say where the numbers come from".into()));
    }
    Ok(())
}

fn positive(field: &str, value: Option<f64>) -> Result<()> {
    match value {
        Some(value) if !(value.is_finite() && value > 0.0) => {
            Err(invalid(field, format!("is {value}, not a positive number")))
        }
        _ => Ok(()),
    }
}

#[cfg(feature = "vulkan")]
mod limits {
    use super::{Given, Result, invalid};
    use crate::engine::Limits;
    use crate::error::Error;

    impl Given {
        /// What plans for this device alone keep within: where nothing is known, what Vulkan promises.
        pub fn limits(&self) -> Limits {
            self.over(Limits::PROMISED)
        }

        /// What plans for `device` keep within, clamped by what is known here.
        pub fn clamp(&self, device: Limits) -> Limits {
            self.over(device).both(device)
        }

        fn over(&self, other: Limits) -> Limits {
            Limits {
                shared: self.max_compute_shared_memory_size.unwrap_or(other.shared),
                invocations: self.max_compute_work_group_invocations.unwrap_or(other.invocations),
                size: self.max_compute_work_group_size.unwrap_or(other.size),
                groups: self.max_compute_work_group_count.unwrap_or(other.groups),
                range: self.max_storage_buffer_range.unwrap_or(other.range),
                alignment: self.min_storage_buffer_offset_alignment.unwrap_or(other.alignment),
                push: self.max_push_constants_size.unwrap_or(other.push),
                buffers: self.max_per_stage_descriptor_storage_buffers.unwrap_or(other.buffers),
            }
        }

        pub(super) fn check(&self) -> Result<()> {
            let (own, least) = (self.limits(), Limits::PROMISED);
            let lacking = own.lacking().map(|(limit, own, least)| (limit, u64::from(own), u64::from(least)));
            let counts =
                (0..3).map(|axis| ("maxComputeWorkGroupCount", own.groups[axis].into(), least.groups[axis].into()));
            let least = [
                ("maxStorageBufferRange", own.range, least.range),
                ("maxPushConstantsSize", own.push.into(), least.push.into()),
                ("maxPerStageDescriptorStorageBuffers", own.buffers.into(), least.buffers.into()),
            ];
            for (field, value, least) in lacking.into_iter().chain(counts).chain(least) {
                if value < least {
                    return Err(under(field, format!("{value} is under {least}")));
                }
            }
            let alignment = own.alignment;
            if !alignment.is_power_of_two() || alignment > Limits::PROMISED.alignment {
                let message = format!("{alignment} is no power of two up to {}", Limits::PROMISED.alignment);
                return Err(under("minStorageBufferOffsetAlignment", message));
            }
            Ok(())
        }
    }

    fn under(field: &str, message: String) -> Error {
        invalid(&format!("vulkan.{field}"), format!("{message}, which Vulkan promises of every device"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Board::parse(text, Path::new("b.toml")).unwrap_err().to_string()
    }

    #[test]
    fn every_shipped_board_is_one() {
        for name in Board::names() {
            let board = Board::open(name).unwrap();
            assert!(board.vulkan.source.len() > 10, "{name}");
        }
        let missing = Board::open("commodore-64").unwrap_err().to_string();
        assert!(missing.contains("raspberry-pi-5, rk3588-mali-g610"), "{missing}");
    }

    #[test]
    fn errors_name_file_and_field() {
        assert!(error("name = ").starts_with("b.toml: is not TOML: "), "{}", error("name = "));
        assert_eq!(error(""), "b.toml: missing field `name`");
        let cores = error("name = \"b\"\n[cpu]\nsource = \"s\"\ncores = \"four\"\n");
        assert!(cores.starts_with("b.toml: `cpu.cores`: invalid type: string \"four\""), "{cores}");
        let unknown = error("name = \"b\"\n[vulkan]\nsource = \"s\"\nmaxComputeSharedMemory = 4\n");
        assert!(unknown.starts_with("b.toml: `vulkan.maxComputeSharedMemory`: unknown field"), "{unknown}");
        let source = "b.toml: `gpu.source`: is missing: say where the numbers come from";
        assert_eq!(error("name = \"b\"\n[gpu]\nsource = \"\"\n"), source);
        let negative = error("name = \"b\"\n[gpu]\nsource = \"s\"\ngflops = -1.0\n");
        assert_eq!(negative, "b.toml: `gpu.gflops`: is -1, not a positive number");
        assert_eq!(error("name = \"b\"\n[cpu]\nsource = \"s\"\ncores = 0\n"), "b.toml: `cpu.cores`: is 0");
    }

    #[test]
    #[cfg(feature = "vulkan")]
    fn limits_that_no_device_has_are_refused() {
        for (line, why) in [
            ("maxComputeSharedMemorySize = 64", "`vulkan.maxComputeSharedMemorySize`: 64 is under 16384"),
            ("maxComputeWorkGroupSize = [128, 1, 64]", "`vulkan.maxComputeWorkGroupSize`: 1 is under 128"),
            ("maxStorageBufferRange = 0", "`vulkan.maxStorageBufferRange`: 0 is under 134217728"),
            ("minStorageBufferOffsetAlignment = 3", "3 is no power of two up to 256"),
            ("minStorageBufferOffsetAlignment = 0", "0 is no power of two up to 256"),
        ] {
            let error = error(&format!("name = \"b\"\n[vulkan]\nsource = \"s\"\n{line}\n"));
            assert!(error.contains(why) && error.ends_with("which Vulkan promises of every device"), "{error}");
        }
    }

    #[test]
    #[cfg(feature = "vulkan")]
    fn what_is_left_out_is_promised_or_the_devices() {
        use crate::engine::Limits;
        assert_eq!(Board::open("generic").unwrap().vulkan.limits(), Limits::PROMISED);
        let given = Given { max_compute_shared_memory_size: Some(32_768), ..Given::default() };
        assert_eq!(given.limits(), Limits { shared: 32_768, ..Limits::PROMISED });
        let device = Limits { shared: 65_536, invocations: 1_024, ..Limits::PROMISED };
        assert_eq!(given.clamp(device), Limits { shared: 32_768, ..device });
        assert_eq!(given.clamp(Limits::PROMISED), Limits::PROMISED);
    }
}
