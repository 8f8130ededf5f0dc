use super::cases::{Case, Given, case};
use crate::graph::op::Op;
use crate::value::{DType, Tensor};

/// Batches, heads, queries, keys, width, width of values.
const SIZES: [[usize; 6]; 9] = [
    [1, 1, 1, 1, 1, 1],
    [2, 3, 33, 45, 40, 40],
    [1, 2, 64, 77, 64, 64],
    [1, 1, 70, 40, 80, 33],
    [2, 1, 5, 100, 7, 6],
    [1, 2, 31, 32, 160, 160],
    [1, 1, 40, 50, 36, 200],
    [1, 4, 100, 3, 8, 8],
    [1, 1, 33, 64, 200, 512],
];

pub(super) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    for [b, heads, t, s, d, e] in SIZES {
        let op = || Op::Attention { heads, scale: 1.0 / (d as f32).sqrt() };
        let operands = || {
            let (q, k) = (Given::floats(&[b, t, heads * d], 1, 0.0), Given::floats(&[b, s, heads * d], 2, 0.5));
            vec![Some(q), Some(k), Some(Given::floats(&[b, s, heads * e], 3, 0.5))]
        };
        let out = [b, t, heads * e];
        all.push(case(op(), operands(), &out, DType::F32));
        for (shape, whole) in [(&[t, s][..], false), (&[b, 1, 1, s], true), (&[b, heads, t, s], true)] {
            let mut masked = operands();
            masked.push(Some(mask(shape, whole)));
            all.push(case(op(), masked, &out, DType::F32));
        }
    }
    all.push(parts_of_rows());
    all
}

/// Some minus infinities and, where `whole`, rows of nothing else.
fn mask(shape: &[usize], whole: bool) -> Given {
    let keys = shape[shape.len() - 1];
    let hidden = |n: usize| n % 5 == 2 || (whole && n / keys % 3 == 1);
    let value = |n: usize| if hidden(n) { f32::NEG_INFINITY } else { (n % 11) as f32 * 0.1 };
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Given::of(Tensor::new(shape, values).unwrap()).fixed()
}

/// Queries and values that lie in longer rows.
fn parts_of_rows() -> Case {
    let long = |rows: usize, seed: u64, width: usize| Some(Given::floats(&[1, rows, width], seed, 0.0).cut(24));
    let operands = vec![long(37, 1, 72), long(41, 2, 27), long(41, 3, 72)];
    case(Op::Attention { heads: 3, scale: 0.35 }, operands, &[1, 37, 24], DType::F32)
}
