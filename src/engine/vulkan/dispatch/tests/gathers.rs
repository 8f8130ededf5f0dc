use super::cases::{Case, Given, case};
use crate::graph::op::Op;
use crate::value::{DType, Tensor};

fn indices(shape: &[usize], values: &[i64]) -> Option<Given> {
    Some(Given::of(Tensor::new(shape, values.to_vec()).unwrap()))
}

pub(super) fn all() -> Vec<Case> {
    let data = |shape: &[usize]| Given::floats(shape, 9, 0.0);
    let mut all = Vec::new();
    for (given, axis, at, shape) in [
        (data(&[9, 8]), 0, indices(&[2, 3], &[0, 8, -1, 3, -9, 3]), &[2, 3, 8][..]),
        (data(&[9, 8]).fixed(), 0, indices(&[2], &[4, -2]), &[2, 8]),
        (data(&[9, 7]), 0, indices(&[3], &[0, 8, -1]), &[3, 7]),
        (data(&[4, 5, 6]), 1, indices(&[3], &[4, -5, 2]), &[4, 3, 6]),
        (data(&[4, 5, 6]), 2, indices(&[], &[-1]), &[4, 5]),
        (data(&[4, 5, 6]).transposed(&[2, 0, 1]), 1, indices(&[2], &[3, 0]), &[6, 2, 5]),
        (data(&[6]), 0, indices(&[4], &[5, 0, -6, 2]), &[4]),
    ] {
        all.push(case(Op::Gather { axis }, vec![Some(given), at], shape, DType::F32));
    }
    for (given, at, shape) in [
        (data(&[3, 4, 8]), indices(&[2, 2], &[2, -1, 0, 3]), &[2, 8][..]),
        (data(&[3, 4, 5]), indices(&[4, 1], &[2, -3, 0, 1]), &[4, 4, 5]),
        (data(&[3, 4]), indices(&[1, 3, 2], &[2, 3, -1, -4, 0, 0]), &[1, 3]),
    ] {
        all.push(case(Op::GatherNd, vec![Some(given), at], shape, DType::F32));
    }
    let whole = Some(Given::whole(&[3, 8], DType::I64));
    all.push(case(Op::Gather { axis: 0 }, vec![whole, indices(&[2], &[1, -1])], &[2, 8], DType::I64));
    all
}

/// Rows of a table of 100.
pub(super) fn large() -> Case {
    let table = Given::floats(&[100, 8], 2, 0.0).fixed();
    let rows = indices(&[7], &[0, 31, 32, -1, 64, 95, -5]);
    case(Op::Gather { axis: 0 }, vec![Some(table), rows], &[7, 8], DType::F32)
}

/// One row of nine.
pub(super) fn single(index: i64) -> Case {
    let operands = vec![Some(Given::floats(&[9, 8], 2, 0.0)), indices(&[1], &[index])];
    case(Op::Gather { axis: 0 }, operands, &[1, 8], DType::F32)
}
