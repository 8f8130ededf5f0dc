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
    /// What Vulkan 1.1 promises of every device (table "Required Limits" of its specification).
    pub const PROMISED: Limits = Limits {
        shared: 16_384,
        invocations: 128,
        size: [128, 128, 64],
        groups: [65_535; 3],
        range: 1 << 27,
        alignment: 256,
        push: 128,
        buffers: 4,
    };

    /// The same with 256 invocations and 8 buffers a stage, which every driver that is known here has.
    pub const LEAST: Limits = Limits { invocations: 256, size: [256, 256, 64], buffers: 8, ..Limits::PROMISED };

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

    /// The largest power of two of invocations that a workgroup holds in a row.
    pub(crate) fn line(&self) -> u32 {
        1 << self.invocations.min(self.size[0]).max(1).ilog2()
    }

    /// A limit that is under what every shader here relies on and Vulkan promises: its name in Vulkan, its value, the least.
    pub(crate) fn lacking(&self) -> Option<(&'static str, u32, u32)> {
        let least = Limits::PROMISED;
        let axes = (0..3).map(|axis| ("maxComputeWorkGroupSize", self.size[axis], least.size[axis]));
        let all = [
            ("maxComputeSharedMemorySize", self.shared, least.shared),
            ("maxComputeWorkGroupInvocations", self.invocations, least.invocations),
        ];
        all.into_iter().chain(axes).find(|(_, own, least)| own < least)
    }
}
