use super::cases::{Case, Given, case};
use crate::graph::op::{Coordinates, Op, Pool, PoolKind, Resize, ResizeMode};
use crate::value::DType;

const MODES: [ResizeMode; 5] = [
    ResizeMode::Linear,
    ResizeMode::NearestFloor,
    ResizeMode::NearestCeil,
    ResizeMode::NearestRoundPreferFloor,
    ResizeMode::NearestRoundPreferCeil,
];
const COORDINATES: [Coordinates; 4] =
    [Coordinates::Asymmetric, Coordinates::HalfPixel, Coordinates::PytorchHalfPixel, Coordinates::AlignCorners];

pub(super) fn all() -> Vec<Case> {
    [resized(), pooled()].into_iter().flatten().collect()
}

fn resized() -> Vec<Case> {
    let mut all = Vec::new();
    for (mode, coordinates) in MODES.into_iter().flat_map(|mode| COORDINATES.map(|coordinates| (mode, coordinates))) {
        for (from, to, channels) in [([5, 7], [10, 14], 8), ([6, 5], [4, 11], 3), ([3, 4], [1, 9], 4)] {
            let scales = [0, 1].map(|axis| to[axis] as f32 / from[axis] as f32);
            let x = Given::floats(&[2, channels, from[0], from[1]], 3, 0.0);
            let op = Op::Resize(Resize { mode, coordinates, scales });
            all.push(case(op, vec![Some(x)], &[2, channels, to[0], to[1]], DType::F32));
        }
    }
    all
}

fn pooled() -> Vec<Case> {
    let mut all = Vec::new();
    for kind in [PoolKind::Max, PoolKind::Average { count_pad: true }, PoolKind::Average { count_pad: false }] {
        for (kernel, stride, pads, to) in [
            ([2, 2], [2, 2], [[0; 2]; 2], [3, 4]),
            ([2, 2], [2, 2], [[0; 2]; 2], [4, 5]),
            ([3, 3], [1, 1], [[1; 2]; 2], [7, 9]),
            ([3, 2], [2, 1], [[2, 0], [1, 1]], [4, 9]),
            ([7, 9], [1, 1], [[0; 2]; 2], [1, 1]),
        ] {
            for channels in [8, 5] {
                let x = Given::floats(&[2, channels, 7, 9], 4, -1.0);
                let op = Op::Pool(Pool { kind, kernel, stride, pads });
                all.push(case(op, vec![Some(x)], &[2, channels, to[0], to[1]], DType::F32));
            }
        }
        let line = Op::Pool(Pool { kind, kernel: [1, 2], stride: [1, 2], pads: [[0; 2]; 2] });
        all.push(case(line, vec![Some(Given::floats(&[1, 2, 6], 4, 0.0))], &[1, 2, 3], DType::F32));
    }
    all
}
