//! The build line begins: a model directory, its stages and configs, its ONNX graphs.

mod config;
mod dialect;
mod directory;
mod external;
pub(crate) mod mapped;
mod onnx;
mod port;
mod role;
pub(crate) mod scale;
mod scheduler_config;
pub(crate) mod weights;

pub use config::{Fields, Settings, StageConfig};
pub use dialect::{DecoderPorts, DenoiserPorts, TextPorts, UpscalerPorts};
pub use directory::{Model, Stage};
pub use onnx::{Graph, Summary, Unsupported};
pub use port::{Dim, Port};
pub use role::Role;
pub use scheduler_config::SchedulerConfig;

pub(crate) use config::UPSCALES;
pub(crate) use onnx::{Fact, complete, datum_type, foreign};
