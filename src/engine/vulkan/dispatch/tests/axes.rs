use super::cases::{Case, Given, case};
use crate::graph::op::{Activation, Op, Reduce};
use crate::value::DType;

const KINDS: [Reduce; 6] = [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min, Reduce::Prod, Reduce::L2];

pub(super) fn all() -> Vec<Case> {
    [softmax(), gated(), reductions(), greatest()].into_iter().flatten().collect()
}

fn softmax() -> Vec<Case> {
    let shapes = [
        (&[3, 5][..], 1),
        (&[2, 7, 77], 2),
        (&[4, 9, 11], 1),
        (&[2, 3, 3, 2], 1),
        (&[3, 1000], 1),
        (&[2, 3001], 1),
        (&[1, 1], 0),
    ];
    shapes
        .into_iter()
        .map(|(shape, axis)| case(Op::Softmax { axis }, vec![Some(Given::floats(shape, 5, 3.0))], shape, DType::F32))
        .collect()
}

fn gated() -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, width) in [(7, 12), (3, 5), (1, 64)] {
        for (activation, gate_last) in [(Activation::Gelu, true), (Activation::Silu, false)] {
            let x = Given::floats(&[1, rows, 2 * width], 6, 0.0);
            all.push(case(Op::Gated { activation, gate_last }, vec![Some(x)], &[1, rows, width], DType::F32));
        }
    }
    all
}

fn reductions() -> Vec<Case> {
    let mut all = Vec::new();
    for kind in KINDS {
        let reduce = |axes: &[usize]| Op::Reduce { kind, axes: axes.to_vec(), keep: false };
        let floats = |shape: &[usize]| Given::floats(shape, 7, 0.4);
        // A product of many numbers says nothing.
        let long = if kind == Reduce::Prod { 12 } else { 3000 };
        for (given, axes, shape) in [
            (floats(&[3, 5, 7]), &[2][..], &[3, 5][..]),
            (floats(&[3, 5, 7]), &[0, 2], &[5]),
            (floats(&[2, 4, 3, 5]).transposed(&[0, 3, 1, 2]), &[2, 3], &[2, 5]),
            (floats(&[2, 6, 9]).cut(5), &[0, 1], &[5]),
            (floats(&[5, long]), &[1], &[5]),
            (floats(&[4, 20, 1100]), &[1], &[4, 1100]),
            (floats(&[6, 100]), &[1], &[6]),
            (floats(&[2, 3]), &[0, 1], &[]),
            (floats(&[2, 3]), &[], &[2, 3]),
        ] {
            all.push(case(reduce(axes), vec![Some(given)], shape, DType::F32));
        }
        for dtype in [DType::I64, DType::I32, DType::I8] {
            all.push(case(reduce(&[1]), vec![Some(Given::whole(&[4, 6], dtype))], &[4], dtype));
        }
    }
    all
}

fn greatest() -> Vec<Case> {
    let mut all = Vec::new();
    for last in [false, true] {
        let op = |axis: usize| Op::ArgMax { axis, keep: false, last };
        all.push(case(op(1), vec![Some(Given::whole(&[3, 9], DType::I64))], &[3], DType::I64));
        let seen = Given::floats(&[4, 5, 6], 8, 0.0).transposed(&[2, 0, 1]);
        all.push(case(op(0), vec![Some(seen)], &[4, 5], DType::I64));
    }
    all
}
