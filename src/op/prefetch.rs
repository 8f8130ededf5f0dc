//! Memory that is asked for before it is read.

/// Bytes of a cache line.
const LINE: usize = 64;

/// `bytes` in at most `count` parts of whole lines.
pub(crate) fn parts(bytes: &[u8], count: usize) -> std::slice::Chunks<'_, u8> {
    bytes.chunks(bytes.len().div_ceil(count.max(1)).next_multiple_of(LINE).max(LINE))
}

/// Bytes that are asked for little by little, so that the loads of the work meanwhile are not held up behind them.
pub(crate) struct Ahead {
    next: *const u8,
    step: usize,
}

impl Ahead {
    /// `bytes`, all of which have been asked for after `count` times [`Ahead::ask`]; at once where that would be more than a line a time.
    /// Where there are none, `near` is asked for: an address that is no memory would be looked up every time.
    #[inline(always)]
    pub(crate) fn new(bytes: &[u8], count: usize, near: *const f32) -> Ahead {
        if bytes.is_empty() {
            return Ahead { next: near.cast(), step: 0 };
        }
        let step = bytes.len().div_ceil(count.max(1));
        if step <= LINE {
            return Ahead { next: bytes.as_ptr(), step };
        }
        bytes.chunks(LINE).for_each(|line| ask(line.as_ptr()));
        Ahead { next: bytes.as_ptr(), step: 0 }
    }

    #[inline(always)]
    pub(crate) fn ask(&mut self) {
        ask(self.next);
        self.next = self.next.wrapping_add(self.step);
    }
}

/// Asks for a line to come to the second-level cache; where there is no stable way to ask, it comes when it is read.
#[inline(always)]
fn ask(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: nothing is read by the program; every machine of this architecture has the instruction.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_lines_and_leave_nothing_out() {
        for (bytes, count) in [(0, 3), (1, 1), (64, 2), (1000, 3), (24 * 1024, 13), (640, 0)] {
            let memory = vec![0u8; bytes];
            let cut: Vec<_> = parts(&memory, count).collect();
            assert!(cut.len() <= count.max(1), "{bytes} bytes in {count} parts: {}", cut.len());
            assert_eq!(cut.iter().map(|part| part.len()).sum::<usize>(), bytes);
            assert!(cut.iter().rev().skip(1).all(|part| part.len().is_multiple_of(LINE)));
        }
    }

    #[test]
    fn all_lines_have_been_asked_for_after_as_many_times_as_was_said() {
        let memory = [0u8; 24 * 64];
        for count in [24, 25, 96, 1000] {
            let mut ahead = Ahead::new(&memory, count, std::ptr::null());
            let asked: std::collections::BTreeSet<_> = (0..count)
                .map(|_| {
                    let line = (ahead.next.addr() - memory.as_ptr().addr()) / LINE;
                    ahead.ask();
                    line
                })
                .filter(|line| *line < 24)
                .collect();
            assert_eq!(asked.len(), 24, "{count} times");
        }
        let near = [0f32; 16];
        let mut ahead = Ahead::new(&[], 3, near.as_ptr());
        (0..3).for_each(|_| ahead.ask());
        assert_eq!(ahead.next, near.as_ptr().cast());
    }
}
