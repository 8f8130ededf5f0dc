//! [`View`]: how a value lies in its buffer.

use serde::{Deserialize, Serialize};

/// Element `(i0, i1, …)` of a value is element `offset + Σ i·stride` of its buffer; a stride of 0 repeats (broadcasting).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(crate) struct View {
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

impl View {
    /// Row-major from the buffer's start.
    pub(crate) fn dense(shape: &[usize]) -> View {
        let identity: Vec<usize> = (0..shape.len()).collect();
        View::ordered(shape, &identity)
    }

    /// Dense from the buffer's start with the axes in memory in `order`, outermost first: `[0, 2, 3, 1]` is channels-last.
    pub(crate) fn ordered(shape: &[usize], order: &[usize]) -> View {
        let mut strides = vec![0; shape.len()];
        let mut stride = 1;
        for &axis in order.iter().rev() {
            strides[axis] = stride;
            stride *= shape[axis].max(1);
        }
        View { offset: 0, shape: shape.to_vec(), strides }
    }

    /// Elements, repeated ones counted each time.
    pub(crate) fn volume(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it is row-major without gaps.
    pub(crate) fn is_dense(&self) -> bool {
        self.same_strides(&View::dense(&self.shape))
    }

    /// Whether it is without gaps and repetitions, with the axes in memory in `order`.
    pub(crate) fn is_ordered(&self, order: &[usize]) -> bool {
        self.same_strides(&View::ordered(&self.shape, order))
    }

    /// Strides of axes of length 1 do not matter.
    fn same_strides(&self, other: &View) -> bool {
        let strides = self.strides.iter().zip(&other.strides);
        self.shape.iter().zip(strides).all(|(&length, (a, b))| length == 1 || a == b)
    }

    /// The axes in memory order, outermost first.
    pub(crate) fn memory_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.shape.len()).collect();
        order.sort_by_key(|&axis| std::cmp::Reverse(if self.shape[axis] == 1 { 0 } else { self.strides[axis] }));
        order
    }

    /// The axes in memory order, outermost first, if there are no gaps and no repetitions.
    pub(crate) fn order(&self) -> Option<Vec<usize>> {
        let order = self.memory_order();
        // Axes of length 1 may stand anywhere: leave them where they were, in front of what follows them.
        let mut settled: Vec<usize> = order.iter().copied().filter(|&axis| self.shape[axis] != 1).collect();
        for axis in (0..self.shape.len()).filter(|&axis| self.shape[axis] == 1) {
            let at = settled.iter().position(|&other| other > axis).unwrap_or(settled.len());
            settled.insert(at, axis);
        }
        self.is_ordered(&settled).then_some(settled)
    }

    /// Axis `i` of the result is axis `axes[i]` of this.
    pub(crate) fn permuted(&self, axes: &[usize]) -> View {
        View {
            offset: self.offset,
            shape: axes.iter().map(|&axis| self.shape[axis]).collect(),
            strides: axes.iter().map(|&axis| self.strides[axis]).collect(),
        }
    }

    /// `length` elements of `axis` from `start`, every `step`-th.
    pub(crate) fn sliced(&self, axis: usize, start: usize, step: usize, length: usize) -> View {
        let mut view = self.clone();
        view.offset += start * self.strides[axis];
        view.strides[axis] *= step;
        view.shape[axis] = length;
        view
    }

    /// Broadcast to `shape` by numpy's rule: axes are added in front, axes of length 1 are repeated.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Option<View> {
        let added = shape.len().checked_sub(self.shape.len())?;
        let mut strides = vec![0; added];
        for (axis, &length) in self.shape.iter().enumerate() {
            match shape[added + axis] {
                wanted if wanted == length => strides.push(self.strides[axis]),
                _ if length == 1 => strides.push(0),
                _ => return None,
            }
        }
        Some(View { offset: self.offset, shape: shape.to_vec(), strides })
    }

    /// The same elements in the same order under another shape, if strides can say it.
    pub(crate) fn reshaped(&self, shape: &[usize]) -> Option<View> {
        if self.volume() != shape.iter().product::<usize>() {
            return None;
        }
        if self.volume() == 0 {
            return Some(View { offset: self.offset, ..View::dense(shape) });
        }
        let old: Vec<(usize, usize)> =
            self.shape.iter().copied().zip(self.strides.iter().copied()).filter(|(length, _)| *length != 1).collect();
        let mut strides = vec![0; shape.len()];
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            // The shortest runs of old and new axes with the same number of elements.
            let (first, begin) = (i, j);
            let (mut have, mut want) = (old[i].0, 1);
            i += 1;
            while want != have || (j < shape.len() && j == begin) {
                if want < have || j == begin {
                    want *= *shape.get(j)?;
                    j += 1;
                } else {
                    have *= old.get(i)?.0;
                    i += 1;
                }
            }
            let joined = old[first..i].windows(2).all(|pair| pair[0].1 == pair[1].0 * pair[1].1);
            if !joined {
                return None;
            }
            let mut stride = old[i - 1].1;
            for axis in (begin..j).rev() {
                strides[axis] = stride;
                stride *= shape[axis];
            }
        }
        Some(View { offset: self.offset, shape: shape.to_vec(), strides })
    }

    /// Of matrices along the last two axes: the leading axes broadcast to `batch`, and the strides of the last two. A matrix of one row or
    /// column lies either way round.
    pub(crate) fn matrices(&self, batch: &[usize]) -> (View, [usize; 2]) {
        let (shape, matrix) = self.shape.split_at(self.shape.len() - 2);
        let (strides, last) = self.strides.split_at(self.strides.len() - 2);
        let leading = View { offset: self.offset, shape: shape.to_vec(), strides: strides.to_vec() };
        let wide = leading.broadcast(batch).unwrap_or_else(|| View::dense(batch));
        let rows = match matrix {
            [1, columns] => *columns,
            _ => last[0],
        };
        (wide, [rows, if matrix[1] == 1 { 1 } else { last[1] }])
    }

    /// Elements of the buffer from its start to behind the last that is seen.
    pub(crate) fn extent(&self) -> usize {
        if self.volume() == 0 {
            return self.offset;
        }
        self.offset
            + self.shape.iter().zip(&self.strides).map(|(length, stride)| (length - 1) * stride).sum::<usize>()
            + 1
    }

    /// Calls `visit` with the place of each element in row-major order.
    pub(crate) fn each(&self, mut visit: impl FnMut(usize)) {
        if self.volume() == 0 {
            return;
        }
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        loop {
            visit(at);
            let mut axis = self.shape.len();
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= self.strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(view: &View) -> Vec<usize> {
        let mut places = Vec::new();
        view.each(|at| places.push(at));
        places
    }

    #[test]
    fn orders_are_found_again() {
        let view = View::ordered(&[2, 3, 4, 5], &[0, 2, 3, 1]);
        assert_eq!(view.strides, [60, 1, 15, 3]);
        assert_eq!(view.order().unwrap(), [0, 2, 3, 1]);
        assert!(view.is_ordered(&[0, 2, 3, 1]) && !view.is_dense());
        assert_eq!(view.sliced(1, 0, 1, 2).order(), None, "a gap");
        assert_eq!(View::dense(&[1, 7, 1]).order().unwrap(), [0, 1, 2]);
        // With one pixel both orders are the same memory.
        assert!(View::ordered(&[1, 3, 1, 1], &[0, 2, 3, 1]).is_dense());
    }

    #[test]
    fn reshapes_that_strides_can_say() {
        let last = View::ordered(&[2, 6, 4, 5], &[0, 2, 3, 1]);
        let joined = last.reshaped(&[2, 6, 20]).unwrap();
        assert_eq!(joined.strides, [120, 1, 6]);
        assert_eq!(last.reshaped(&[2, 2, 60]), None);
        assert_eq!(last.reshaped(&[2, 3, 2, 4, 5]).unwrap().strides, [120, 2, 1, 30, 6]);
        assert_eq!(View::dense(&[4, 6]).reshaped(&[1, 2, 12, 1]).unwrap().strides[1..3], [12, 1]);
        assert_eq!(View::dense(&[]).reshaped(&[1, 1]).unwrap().volume(), 1);
        assert_eq!(View::dense(&[1, 1]).reshaped(&[]).unwrap().volume(), 1);
    }

    #[test]
    fn a_reshape_sees_the_same_elements_in_the_same_order() {
        let shapes: [&[usize]; 8] =
            [&[24], &[2, 12], &[2, 3, 4], &[1, 24, 1], &[4, 6], &[2, 1, 12], &[3, 8], &[2, 2, 6]];
        let bases = [View::dense(&[2, 3, 4]), View::ordered(&[2, 3, 4], &[0, 2, 1]), View::ordered(&[4, 6], &[1, 0])];
        let mut said = 0;
        for (base, shape) in bases.iter().flat_map(|base| shapes.iter().map(move |shape| (base, shape))) {
            if let Some(view) = base.reshaped(shape) {
                assert_eq!(places(&view), places(base), "{base:?} as {shape:?}");
                said += 1;
            }
        }
        assert!(said > 10);
    }

    #[test]
    fn broadcasts_repeat() {
        let view = View::dense(&[3, 1]).broadcast(&[2, 3, 2]).unwrap();
        assert_eq!(places(&view), [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
        assert_eq!(View::dense(&[3]).broadcast(&[2]), None);
        assert_eq!(view.extent(), 3);
    }
}
