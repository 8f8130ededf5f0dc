//! [`Head`]: what the planner puts before a shader's text.

use std::fmt::Write;

/// Lines of WGSL; shaders with the same text and equal heads are one pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(in crate::engine::vulkan) struct Head(String);

impl Head {
    pub(in crate::engine::vulkan) fn new() -> Head {
        Head::default()
    }

    /// `const NAME = VALUEu;`
    pub(in crate::engine::vulkan) fn count(self, name: &str, value: impl Into<u64>) -> Head {
        self.line(&format!("const {name} = {}u;", value.into()))
    }

    /// `const NAME = true;` or false.
    pub(in crate::engine::vulkan) fn flag(self, name: &str, value: bool) -> Head {
        self.line(&format!("const {name} = {value};"))
    }

    /// `alias NAME = TYPE;`
    pub(in crate::engine::vulkan) fn alias(self, name: &str, of: &str) -> Head {
        self.line(&format!("alias {name} = {of};"))
    }

    /// Anything else.
    pub(in crate::engine::vulkan) fn line(mut self, text: &str) -> Head {
        let _ = writeln!(self.0, "{text}");
        self
    }

    pub(in crate::engine::vulkan) fn text(&self) -> &str {
        &self.0
    }
}

/// A number as WGSL writes it; WGSL has no infinities, and the greatest float serves.
pub(in crate::engine::vulkan) fn real(value: f32) -> String {
    format!("{:e}f", value.clamp(f32::MIN, f32::MAX))
}
