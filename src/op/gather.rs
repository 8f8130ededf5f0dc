//! Picking by index: ONNX Gather and GatherElements. Indices are data: one that points outside is an error, never a read outside.

use crate::error::{Error, ErrorKind, Result};

/// Rows of `(outer, length, inner)` by indices along `length`, which count from the end where they are negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gather {
    pub(crate) outer: usize,
    pub(crate) length: usize,
    pub(crate) inner: usize,
}

impl Gather {
    /// `output (outer, indices, inner)` from dense `data`.
    ///
    /// # Errors
    /// `Mismatch` when an index points outside of the axis.
    ///
    /// # Panics
    /// When the sizes do not fit each other.
    pub(crate) fn run<T: Copy>(&self, data: &[T], indices: &[i64], output: &mut [T]) -> Result<()> {
        let each = self.length * self.inner;
        assert_eq!(data.len(), self.outer * each, "data of {self:?}");
        assert_eq!(output.len(), self.outer * indices.len() * self.inner, "output of {self:?}");
        let mut rows = output.chunks_mut(self.inner.max(1));
        for outer in 0..self.outer {
            for &index in indices {
                let row = &data[outer * each + place(index, self.length)? * self.inner..][..self.inner];
                if let (false, Some(to)) = (row.is_empty(), rows.next()) {
                    to.copy_from_slice(row);
                }
            }
        }
        Ok(())
    }

    /// `output[o][n][i] = data[o][indices[o][n][i]][i]` with `indices` and `output` `(outer, n, inner)`, dense (GatherElements where the other
    /// axes are as long as the data's).
    ///
    /// # Errors
    /// As [`Gather::run`].
    ///
    /// # Panics
    /// As [`Gather::run`].
    pub(crate) fn elements<T: Copy>(&self, data: &[T], indices: &[i64], output: &mut [T]) -> Result<()> {
        let each = self.length * self.inner;
        assert_eq!(data.len(), self.outer * each, "data of {self:?}");
        assert_eq!(output.len(), indices.len(), "output of {self:?}");
        assert!(indices.len().is_multiple_of((self.outer * self.inner).max(1)), "indices of {self:?}");
        let picked = indices.len() / self.outer.max(1);
        for (n, (to, &index)) in output.iter_mut().zip(indices).enumerate() {
            *to = data[n / picked * each + place(index, self.length)? * self.inner + n % self.inner];
        }
        Ok(())
    }
}

fn place(index: i64, length: usize) -> Result<usize> {
    let from_end = if index < 0 { index.saturating_add(length as i64) } else { index };
    usize::try_from(from_end).ok().filter(|&place| place < length).ok_or_else(|| {
        Error::new(ErrorKind::Mismatch, format!("index {index} points outside of an axis of length {length}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_picked_and_outside_is_an_error() {
        let data: Vec<i32> = (0..12).collect();
        let gather = Gather { outer: 2, length: 3, inner: 2 };
        let mut output = [0; 8];
        gather.run(&data, &[2, -3], &mut output).unwrap();
        assert_eq!(output, [4, 5, 0, 1, 10, 11, 6, 7]);
        for index in [3, -4, i64::MIN, i64::MAX] {
            let error = gather.run(&data, &[index, 0], &mut output).unwrap_err().to_string();
            assert_eq!(error, format!("index {index} points outside of an axis of length 3"));
        }
        gather.elements(&data, &[2, 0, 1, -1, 0, 1, 2, 2], &mut output).unwrap();
        assert_eq!(output, [4, 1, 2, 5, 6, 9, 10, 11]);
    }
}
