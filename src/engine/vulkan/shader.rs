//! Shaders from WGSL to SPIR-V, when a plan is built: no file of it can go stale.

use super::dispatch::Shader;
use crate::error::{Result, fail};
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Functions that all shaders may use.
const MATH: &str = include_str!("../../../shaders/math.wgsl");

impl Shader {
    /// The whole text.
    pub(super) fn text(&self) -> String {
        format!("{}{MATH}{}", self.head.text(), self.source.text)
    }

    /// SPIR-V 1.3 without bounds checks: indices are proved by tests, and those that come from data are clamped by the shader.
    ///
    /// # Errors
    /// `Engine` with the compiler's words; none can come from a file, only from an error in this library.
    pub(super) fn compile(&self) -> Result<Vec<u32>> {
        let text = self.text();
        let said = |problem: String| fail!(Engine, "the shader {} does not compile: {problem}", self.source.name);
        let mut module = match naga::front::wgsl::parse_str(&text) {
            Ok(module) => module,
            Err(error) => return said(error.emit_to_string(&text)),
        };
        naga::compact::compact(&mut module, naga::compact::KeepUnused::No);
        let info = match Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES).validate(&module) {
            Ok(info) => info,
            Err(error) => return said(error.emit_to_string(&text)),
        };
        let entry =
            spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: ENTRY_POINT.to_owned() };
        spv::write_vec(&module, &info, &options(), Some(&entry)).or_else(|error| said(error.to_string()))
    }
}

/// The name of every shader's entry point.
pub(super) const ENTRY_POINT: &str = "main";

fn options() -> spv::Options<'static> {
    spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::empty(),
        fake_missing_bindings: false,
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Unchecked,
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..spv::Options::default()
    }
}
