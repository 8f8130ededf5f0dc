//! Linear layers and products of matrices.

use super::gemm::{Ending, Gemm, Right};
use super::{Dispatch, Layout, Lowering, Matrix, Upload};
use crate::error::{Result, fail};
use crate::graph::op::Activation;
use crate::graph::plan::{At, Operand, Step};
use crate::op::view::View;

/// `x (…, K), weight (K, N), [bias (N)], [residual (…, N)]`, all but the weight dense.
pub(super) fn linear(lowering: &mut Lowering, step: &Step, activation: Activation) -> Result<Vec<Dispatch>> {
    let (Some(x), Some(weight)) = (operand(step, 0), operand(step, 1)) else {
        return fail!(Engine, "a linear layer without operands");
    };
    let At::Fixed(fixed) = weight.at else { return fail!(Engine, "a linear layer's weight is computed") };
    let [depth, columns] = weight.view.shape[..] else {
        return fail!(Engine, "a linear layer's weight has {} axes", weight.view.shape.len());
    };
    if depth == 0 {
        return fail!(Unsupported, "a linear layer of no inputs");
    }
    let halves = lowering.is_half(fixed);
    let matrix = Matrix {
        first: weight.view.offset,
        groups: (1, 0),
        segments: [(1, 0); 2],
        rows: (depth, weight.view.strides[0]),
        columns: (columns, weight.view.strides[1]),
        halves,
    };
    let stride = matrix.stride();
    let right = lowering.fixed(fixed, Layout::Matrix(matrix))?;
    let bias = operand(step, 2).map(|bias| (lowering.reads(bias), bias.view.offset));
    let residual = operand(step, 3).map(|residual| (lowering.reads(residual), residual.view.offset, columns));
    let gemm = Gemm {
        rows: x.view.volume() / depth,
        columns,
        depth,
        batch: 1,
        left: (lowering.reads(x), x.view.offset, depth),
        right: (right, 0, stride),
        out: (lowering.writes(&step.write), step.write.view.offset, columns),
        kind: if halves { Right::Halves } else { Right::Packed },
        taps: None,
        out_batch: 0,
        extra: single(),
        left_fours: depth.is_multiple_of(4) && x.view.offset.is_multiple_of(4),
        right_fours: true,
        ending: Ending { bias, shift: None, activation, residual },
    };
    Ok(vec![gemm.dispatch(lowering)?])
}

/// `extra` of one matrix.
fn single() -> [usize; 13] {
    let mut extra = [0; 13];
    extra[..3].fill(1);
    extra
}

/// `(…, M, K)` times `(…, K, N)`, each row-major or, the second, column-major.
pub(super) fn matmul(lowering: &mut Lowering, step: &Step) -> Result<Vec<Dispatch>> {
    let (Some(a), Some(b)) = (operand(step, 0), operand(step, 1)) else {
        return fail!(Engine, "a product without operands");
    };
    let (batch, matrix) = step.write.view.shape.split_at(step.write.view.shape.len() - 2);
    let (m, n, k) = (matrix[0], matrix[1], *a.view.shape.last().unwrap_or(&1));
    let ((a_views, _), (b_views, b_strides)) = (a.view.matrices(batch), b.view.matrices(batch));
    let transposed = b_strides[1] != 1 && n != 1;
    let stride = if transposed { b_strides[1] } else { b_strides[0] }.max(1);
    let joined = super::point::Joined::of(&[a_views.clone(), b_views.clone()]);
    if joined.shape.len() > 3 {
        return fail!(Unsupported, "a batch of {batch:?} that cannot be joined to three axes");
    }
    let mut extra = single();
    let lead = 3 - joined.shape.len();
    for axis in 0..joined.shape.len() {
        extra[lead + axis] = joined.shape[axis];
        extra[3 + lead + axis] = joined.strides[0][axis];
        extra[6 + lead + axis] = joined.strides[1][axis];
    }
    let fours = |view: &View, stride: usize, along: usize, of: usize| {
        let lengths = [view.offset, stride, along];
        lengths.iter().chain(&joined.strides[of]).all(|elements| elements.is_multiple_of(4))
    };
    let gemm = Gemm {
        rows: m,
        columns: n,
        depth: k,
        batch: joined.shape.iter().product(),
        left_fours: fours(&a_views, k, k, 0),
        right_fours: fours(&b_views, stride, if transposed { k } else { n }, 1),
        left: (lowering.reads(a), a.view.offset, k),
        right: (lowering.reads(b), b.view.offset, stride),
        out: (lowering.writes(&step.write), step.write.view.offset, n),
        kind: if transposed { Right::Columns } else { Right::Rows },
        taps: None,
        out_batch: m * n,
        extra,
        ending: Ending::default(),
    };
    Ok(vec![gemm.dispatch(lowering)?])
}

pub(super) fn operand(step: &Step, index: usize) -> Option<&Operand> {
    step.reads.get(index).and_then(Option::as_ref)
}

impl Lowering<'_> {
    /// A binding of something fixed in another layout.
    ///
    /// # Errors
    /// `Unsupported` when it is larger than the device binds.
    pub(super) fn fixed(&mut self, fixed: usize, layout: Layout) -> Result<super::Binding> {
        if let Layout::Matrix(matrix) = &layout
            && matrix.bytes() as u64 > self.limits.range
        {
            let (bytes, most) = (matrix.bytes(), self.limits.range);
            return fail!(Unsupported, "weights of {bytes} bytes, the device binds {most}");
        }
        Ok(super::Binding { slot: self.upload(Upload { fixed, layout }), writes: false })
    }
}
