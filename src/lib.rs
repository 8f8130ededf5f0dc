//! Text-to-image diffusion on small machines.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
pub mod board;
#[cfg(feature = "std")]
mod cache;
#[cfg(feature = "std")]
mod cancel;
#[cfg(feature = "std")]
mod caught;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "std")]
pub mod engine;
#[cfg(feature = "std")]
pub mod error;
#[cfg(feature = "std")]
mod graph;
#[cfg(feature = "std")]
pub mod model;
#[cfg(feature = "std")]
pub mod npy;
#[cfg(feature = "std")]
mod op;
#[cfg(feature = "std")]
pub mod pipeline;
pub mod sampler;
#[cfg(feature = "std")]
pub mod system;
#[cfg(feature = "std")]
pub mod value;

#[cfg(feature = "std")]
pub use error::{Error, ErrorKind, Result};
