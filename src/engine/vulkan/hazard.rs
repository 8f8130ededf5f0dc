//! Which dispatches must wait for which: plain data, checked without a device.

use std::ops::Range;

/// What a dispatch touches: bytes of the arena, or of what else is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) reads: Vec<Range<usize>>,
    pub(super) writes: Vec<Range<usize>>,
}

impl Access {
    /// Whether one of the two writes what the other touches.
    fn conflicts(&self, other: &Access) -> bool {
        let meet = |a: &[Range<usize>], b: &[Range<usize>]| {
            a.iter().any(|a| b.iter().any(|b| a.start < b.end && b.start < a.end))
        };
        meet(&self.writes, &other.writes) || meet(&self.writes, &other.reads) || meet(&self.reads, &other.writes)
    }
}

/// Before which dispatches a barrier stands: as few as let no two that conflict run without one between them. There is one before the first
/// always, because the same commands are replayed.
pub(super) fn barriers(accesses: &[Access]) -> Vec<bool> {
    let mut since = 0;
    let mut barriers = Vec::with_capacity(accesses.len());
    for (index, access) in accesses.iter().enumerate() {
        let needed = index == 0 || accesses[since..index].iter().any(|earlier| earlier.conflicts(access));
        if needed {
            since = index;
        }
        barriers.push(needed);
    }
    barriers
}

/// The first two dispatches that conflict without a barrier between them.
pub(super) fn unguarded(accesses: &[Access], barriers: &[bool]) -> Option<(usize, usize)> {
    if !accesses.is_empty() && !barriers.first().is_some_and(|first| *first) {
        return Some((0, 0));
    }
    (0..accesses.len()).find_map(|later| {
        let start = barriers[..=later].iter().rposition(|barrier| *barrier)?;
        let earlier = (start..later).find(|&earlier| accesses[earlier].conflicts(&accesses[later]))?;
        Some((earlier, later))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the first to the second of each pair.
    fn access(reads: (usize, usize), writes: (usize, usize)) -> Access {
        let bytes = |(first, end)| std::iter::once(first..end).collect();
        Access { reads: bytes(reads), writes: bytes(writes) }
    }

    #[test]
    fn only_conflicts_wait() {
        let chain = [
            access((0, 8), (8, 16)),
            access((0, 8), (16, 24)),
            access((8, 24), (24, 32)),
            access((16, 20), (32, 40)),
            access((32, 40), (0, 8)),
        ];
        let found = barriers(&chain);
        assert_eq!(found, [true, false, true, false, true]);
        assert_eq!(unguarded(&chain, &found), None);
    }

    #[test]
    fn a_missing_barrier_is_found() {
        let chain: Vec<Access> = (0..20).map(|i| access((i * 8, i * 8 + 8), (i * 8 + 8, i * 8 + 16))).collect();
        let found = barriers(&chain);
        for index in 0..found.len() {
            let mut without = found.clone();
            without[index] = false;
            assert!(unguarded(&chain, &without).is_some(), "{index}");
        }
    }
}
