//! The Vulkan engine: plays the same plan as the CPU engine, with compute shaders.

mod dispatch;
mod limits;
mod program;
mod shader;
