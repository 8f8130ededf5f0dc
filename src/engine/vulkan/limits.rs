//! [`Limits`]: what a device, or a board's file, lets the planner use.

/// Limits of a Vulkan device, in Vulkan's names and units. Everything that is planned keeps within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Limits {
    /// `maxComputeSharedMemorySize`, bytes.
    pub shared: u32,
    /// `maxComputeWorkGroupInvocations`.
    pub invocations: u32,
    /// `maxComputeWorkGroupSize`.
    pub size: [u32; 3],
    /// `maxComputeWorkGroupCount`.
    pub groups: [u32; 3],
    /// `maxStorageBufferRange`, bytes.
    pub range: u64,
    /// `minStorageBufferOffsetAlignment`, bytes.
    pub alignment: u32,
    /// `maxPushConstantsSize`, bytes.
    pub push: u32,
    /// `maxPerStageDescriptorStorageBuffers`.
    pub buffers: u32,
}

impl Limits {
    /// What Vulkan 1.1 promises of every device (table "Required Limits" of its specification), with 256 invocations and 8 buffers a stage,
    /// which every driver that is known here has.
    pub const LEAST: Limits = Limits {
        shared: 16_384,
        invocations: 256,
        size: [256, 256, 64],
        groups: [65_535; 3],
        range: 1 << 27,
        alignment: 256,
        push: 128,
        buffers: 8,
    };

    /// What both allow.
    pub fn both(self, other: Limits) -> Limits {
        let each = |a: [u32; 3], b: [u32; 3]| std::array::from_fn(|axis| a[axis].min(b[axis]));
        Limits {
            shared: self.shared.min(other.shared),
            invocations: self.invocations.min(other.invocations),
            size: each(self.size, other.size),
            groups: each(self.groups, other.groups),
            range: self.range.min(other.range),
            alignment: self.alignment.max(other.alignment),
            push: self.push.min(other.push),
            buffers: self.buffers.min(other.buffers),
        }
    }
}
