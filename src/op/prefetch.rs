//! Memory that is asked for before it is read.

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Asks for `bytes` to come to the second-level cache; where there is no stable way to ask, they come when they are read.
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: nothing is read by the program; every machine of this architecture has the instruction.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}
