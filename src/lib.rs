//! Text-to-image diffusion on small machines.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod sampler;
