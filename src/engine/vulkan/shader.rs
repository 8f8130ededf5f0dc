//! Shaders from WGSL to SPIR-V, when a plan is built: no file of it can go stale.

use super::dispatch::Shader;
use crate::error::{Result, fail};
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Immediates are Vulkan's push constants; halves are unpacked from words, which takes no capability of SPIR-V.
const CAPABILITIES: Capabilities = Capabilities::IMMEDIATES.union(Capabilities::SHADER_FLOAT16_IN_FLOAT32);

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
        let info = match Validator::new(ValidationFlags::all(), CAPABILITIES).validate(&module) {
            Ok(info) => info,
            Err(error) => return said(error.emit_to_string(&text)),
        };
        let entry =
            spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: ENTRY_POINT.to_owned() };
        spv::write_vec(&module, &info, &options(), Some(&entry)).or_else(|error| said(error.to_string()))
    }
}

#[cfg(test)]
impl Shader {
    /// Bytes of workgroup memory and invocations of a group, read from the compiled module; the SPIR-V asks for no capability but `Shader`.
    pub(super) fn demands(&self) -> Result<(u32, u32)> {
        let words = self.compile()?;
        let capabilities: Vec<u32> =
            instructions(&words).filter(|i| i[0] & 0xffff == 17).map(|instruction| instruction[1]).collect();
        assert_eq!(capabilities, [1], "capabilities of {}", self.source.name);
        let mut module = naga::front::wgsl::parse_str(&self.text()).expect("it was compiled");
        naga::compact::compact(&mut module, naga::compact::KeepUnused::No);
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("it was compiled");
        let workgroup = |variable: &&naga::GlobalVariable| variable.space == naga::AddressSpace::WorkGroup;
        let variables = module.global_variables.iter().map(|(_, variable)| variable).filter(workgroup);
        let shared = variables.map(|variable| layouter[variable.ty].size).sum();
        let invocations = module.entry_points[0].workgroup_size.iter().product();
        Ok((shared, invocations))
    }
}

/// The instructions of a module, behind its head of five words.
#[cfg(test)]
fn instructions(words: &[u32]) -> impl Iterator<Item = &[u32]> {
    let mut at = 5;
    std::iter::from_fn(move || {
        let count = (words.get(at)? >> 16) as usize;
        let instruction = &words[at..at + count];
        at += count;
        Some(instruction)
    })
}

/// The name of every shader's entry point.
pub(super) const ENTRY_POINT: &str = "main";

fn options() -> spv::Options<'static> {
    spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::empty(),
        fake_missing_bindings: true,
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
