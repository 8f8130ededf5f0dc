use super::cases::{Case, Given, case};
use crate::graph::op::{Activation, Op};
use crate::value::DType;

/// Channels, groups and pixels for one, two and four floats at once, for sets that are held by 8, 64 and 256 invocations, and not held.
const GROUPS: [([usize; 2], usize, &[usize]); 9] = [
    ([1, 32], 32, &[5, 7]),
    ([2, 20], 2, &[3, 5]),
    ([2, 24], 3, &[3]),
    ([1, 12], 4, &[31, 33]),
    ([1, 28], 2, &[19, 11]),
    ([2, 16], 4, &[40, 40]),
    ([1, 6], 2, &[61, 67]),
    ([1, 9], 3, &[90, 91]),
    ([1, 8], 1, &[128, 130]),
];

pub(super) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    for (index, (lead, groups, pixels)) in GROUPS.into_iter().enumerate() {
        let shape = [&lead[..], pixels].concat();
        let channels = lead[1];
        let activation = if index % 2 == 0 { Activation::Silu } else { Activation::None };
        let mut operands = vec![Some(Given::floats(&shape, 1 + index as u64, if index == 7 { 300.0 } else { 0.5 }))];
        if index % 3 != 2 {
            operands.extend([2, 3].map(|seed| Some(Given::floats(&[channels], seed, 1.0).fixed())));
        }
        if index % 3 == 1 {
            operands.extend([4, 5].map(|seed| Some(Given::floats(&lead, seed, 0.0))));
        }
        all.push(case(Op::GroupNorm { groups, epsilon: 1e-5, activation }, operands, &shape, DType::F32));
    }
    for (index, shape) in
        [&[3, 5, 40][..], &[2, 7, 33], &[1, 77, 130], &[70, 1200], &[2, 3, 4100], &[9]].into_iter().enumerate()
    {
        let width = *shape.last().unwrap();
        let line = |seed: u64, shape: &[usize]| Some(Given::floats(shape, seed, 1.0));
        let x = || Some(Given::floats(shape, 9 + index as u64, 20.0));
        let gamma = || line(2, &[width]).map(Given::fixed);
        let mut operands = vec![x(), gamma(), line(3, &[width]).map(Given::fixed)];
        if shape.len() == 3 {
            operands.extend([line(4, &[shape[0], width]), line(5, &[shape[0], width])]);
        }
        all.push(case(Op::LayerNorm { epsilon: 1e-5 }, operands, shape, DType::F32));
        all.push(case(Op::LayerNorm { epsilon: 1e-6 }, vec![x()], shape, DType::F32));
        all.push(case(Op::RmsNorm { epsilon: 1e-6 }, vec![x(), gamma()], shape, DType::F32));
    }
    all
}
