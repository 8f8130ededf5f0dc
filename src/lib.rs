//! Text-to-image diffusion on small machines.
