//! The kernels: one op family a file, its arithmetic of sizes in `op/NAME.rs`, its CPU code in `op/NAME/cpu.rs`.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod binary;
pub(crate) mod cast;
pub(crate) mod conv;
pub(crate) mod gated;
pub(crate) mod gather;
pub(crate) mod matrix;
pub(crate) mod movement;
pub(crate) mod norm;
pub(crate) mod number;
pub(crate) mod pool;
pub(crate) mod prefetch;
pub(crate) mod reduce;
pub(crate) mod resize;
pub(crate) mod simd;
pub(crate) mod softmax;
pub(crate) mod tasks;
pub(crate) mod truth;
pub(crate) mod unary;
pub(crate) mod view;

#[cfg(test)]
pub(crate) mod testing;
