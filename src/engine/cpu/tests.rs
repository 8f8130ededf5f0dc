//! Nets of one operator, in every type and layout that its step takes.

use super::*;
use crate::graph::net::{Content, Net, Node, Value};
use crate::graph::op::{Binary, Comparison, Logic, Op, Pool, PoolKind, Predicate, Reduce, Unary};
use crate::graph::{lower, place};
use std::num::NonZeroUsize;

const TYPES: [DType; 7] = [DType::F32, DType::F64, DType::I64, DType::I32, DType::I8, DType::U8, DType::Bool];

fn value(name: &str, dtype: DType, shape: &[usize]) -> Value {
    Value { name: name.into(), dtype, shape: shape.to_vec(), content: Content::Computed }
}

/// What `op` makes of `operands`, each seen through a transpose where `permuted` says so.
fn play(op: Op, operands: &[&Tensor], permuted: Option<&[usize]>, (shape, dtype): (&[usize], DType)) -> Result<Tensor> {
    let mut net = Net::default();
    let mut inputs = Vec::new();
    for tensor in operands {
        let mut id = net.add(value("x", tensor.dtype(), tensor.shape()));
        net.inputs.push(id);
        if let Some(axes) = permuted.filter(|axes| axes.len() == tensor.shape().len()) {
            let shape: Vec<usize> = axes.iter().map(|&axis| tensor.shape()[axis]).collect();
            let seen = net.add(value("seen", tensor.dtype(), &shape));
            net.nodes.push(Node {
                name: "t".into(),
                op: Op::Transpose(axes.to_vec()),
                inputs: vec![Some(id)],
                output: seen,
            });
            id = seen;
        }
        inputs.push(Some(id));
    }
    let output = net.add(value("y", dtype, shape));
    net.nodes.push(Node { name: "n".into(), op, inputs, output });
    net.outputs.push(output);
    let mut plan = lower::lower(&net);
    place::place(&mut plan);
    place::check(&plan).unwrap();
    let given: Vec<Tensor> = operands.iter().map(|&tensor| tensor.clone()).collect();
    let [one, two] = [1, 2].map(|count| {
        let threads = Threads::new(NonZeroUsize::new(count)).unwrap();
        play_once(plan.clone(), &given, &threads).map(|mut outputs| outputs.remove(0))
    });
    if let (Ok(one), Ok(two)) = (&one, &two) {
        assert!(one == two, "threads changed the result");
    }
    one
}

fn tensor(shape: &[usize], values: &[f32], dtype: DType) -> Tensor {
    Tensor::new(shape, values.to_vec()).unwrap().cast(dtype)
}

/// 0, 1, 2, … modulo 7, of which every type has all.
fn counted(shape: &[usize], dtype: DType) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 7) as f32).collect();
    tensor(shape, &values, dtype)
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.clone().cast(DType::F64).into_data() {
        crate::value::Data::F64(values) => values,
        _ => unreachable!("cast to f64"),
    }
}

#[test]
fn every_type_is_computed_with() {
    let shape = [2, 3];
    for dtype in TYPES.into_iter().filter(|dtype| *dtype != DType::Bool) {
        let (a, b) = (tensor(&shape, &[1., 2., 3., 4., 5., 6.], dtype), tensor(&[3], &[3., 1., 2.], dtype));
        let run =
            |op: Op, operands: &[&Tensor], dtype: DType| numbers(&play(op, operands, None, (&shape, dtype)).unwrap());
        assert_eq!(run(Op::Binary(Binary::Add), &[&a, &b], dtype), [4., 3., 5., 7., 6., 8.], "{dtype}");
        assert_eq!(run(Op::Binary(Binary::Max), &[&a, &b], dtype), [3., 2., 3., 4., 5., 6.], "{dtype}");
        let less = run(Op::Comparison(Comparison::Less), &[&a, &b], DType::Bool);
        assert_eq!(less, [1., 0., 0., 0., 0., 0.], "{dtype}");
        assert_eq!(run(Op::Unary(Unary::Abs), &[&a], dtype), [1., 2., 3., 4., 5., 6.], "{dtype}");
        let truths = tensor(&shape, &[1., 0., 1., 0., 1., 0.], DType::Bool);
        assert_eq!(run(Op::Where, &[&truths, &a, &b], dtype), [1., 1., 3., 3., 5., 2.], "{dtype}");
        let sum = Op::Reduce { kind: Reduce::Sum, axes: vec![0], keep: false };
        assert_eq!(numbers(&play(sum, &[&a], None, (&[3], dtype)).unwrap()), [5., 7., 9.], "{dtype}");
        let greatest = Op::ArgMax { axis: 1, keep: false, last: false };
        assert_eq!(
            numbers(&play(greatest, &[&b.clone().reshape(&[1, 3]).unwrap()], None, (&[1], DType::I64)).unwrap()),
            [0.]
        );
    }
    let (a, b) = (tensor(&[4], &[0., 0., 1., 1.], DType::Bool), tensor(&[4], &[0., 1., 0., 1.], DType::Bool));
    let truth = |op: Op, operands: &[&Tensor]| play(op, operands, None, (&[4], DType::Bool)).unwrap();
    assert_eq!(truth(Op::Logic(Logic::Xor), &[&a, &b]), tensor(&[4], &[0., 1., 1., 0.], DType::Bool));
    assert_eq!(truth(Op::Predicate(Predicate::Not), &[&a]), tensor(&[4], &[1., 1., 0., 0.], DType::Bool));
}

#[test]
fn every_type_becomes_every_other() {
    for (from, to) in TYPES.into_iter().flat_map(|from| TYPES.map(|to| (from, to))) {
        let x = counted(&[3, 4], from);
        let y = play(Op::Cast(to), &[&x], Some(&[1, 0]), (&[4, 3], to)).unwrap();
        let places = (0..12).map(|n| n % 3 * 4 + n / 3);
        let expected: Vec<f64> = places.map(|at| numbers(&x)[at]).collect();
        let expected =
            if to == DType::Bool { expected.iter().map(|x| f64::from(*x != 0.0)).collect() } else { expected };
        assert_eq!((y.dtype(), numbers(&y)), (to, expected), "{from} to {to}");
    }
}

#[test]
fn every_type_is_moved() {
    for dtype in TYPES {
        let x = counted(&[2, 3], dtype);
        let all = numbers(&x);
        let zero = |at: &[usize]| at.iter().map(|&i| if i == 9 { 0.0 } else { all[i] }).collect::<Vec<_>>();
        let run =
            |op: Op, operands: &[&Tensor], shape: &[usize]| numbers(&play(op, operands, None, (shape, dtype)).unwrap());
        let pad = Op::Pad { before: vec![0, 1], value: 0.0 };
        assert_eq!(run(pad, &[&x], &[2, 5]), zero(&[9, 0, 1, 2, 9, 9, 3, 4, 5, 9]), "{dtype}");
        assert_eq!(
            run(Op::Concat { axis: 1 }, &[&x, &x], &[2, 6]),
            zero(&[0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]),
            "{dtype}"
        );
        for indices in [DType::I64, DType::I32] {
            let at = tensor(&[2], &[2., -3.], indices);
            assert_eq!(run(Op::Gather { axis: 1 }, &[&x, &at], &[2, 2]), zero(&[2, 0, 5, 3]), "{dtype}");
            let pairs = tensor(&[2, 2], &[1., -1., 0., 1.], indices);
            assert_eq!(run(Op::GatherNd, &[&x, &pairs], &[2]), zero(&[5, 1]), "{dtype}");
        }
    }
}

#[test]
fn operands_that_lie_differently() {
    let shape = [2, 30, 40, 50];
    let (x, row) = (counted(&shape, DType::F32), counted(&[50], DType::F32));
    let last = [0, 3, 1, 2];
    let seen = [2, 50, 30, 40];
    let (all, row) = (numbers(&x), numbers(&row.clone()));
    let constant = tensor(&[50, 1, 1], &row.iter().map(|x| *x as f32).collect::<Vec<_>>(), DType::F32);
    let sum = play(Op::Binary(Binary::Add), &[&x, &constant], Some(&last), (&seen, DType::F32)).unwrap();
    let negative = play(Op::Unary(Unary::Neg), &[&x], Some(&last), (&seen, DType::F32)).unwrap();
    let (sum, negative) = (numbers(&sum), numbers(&negative));
    for n in 0..all.len() {
        let (w, h, c, b) = (n % 40, n / 40 % 30, n / 1200 % 50, n / 60_000);
        let x = all[((b * 30 + h) * 40 + w) * 50 + c];
        assert_eq!((sum[n], negative[n]), (x + row[c], -x), "{n}");
    }
}

#[test]
fn pictures_of_one_axis_are_pooled() {
    let x = tensor(&[1, 2, 4], &[1., 5., 2., 3., 8., 6., 7., 4.], DType::F32);
    let pool = Pool { kind: PoolKind::Max, kernel: [1, 2], stride: [1, 2], pads: [[0; 2]; 2] };
    assert_eq!(numbers(&play(Op::Pool(pool), &[&x], None, (&[1, 2, 2], DType::F32)).unwrap()), [5., 3., 8., 7.]);
}

#[test]
fn what_is_wrong_is_said_with_the_node() {
    let (x, zero) = (counted(&[2], DType::I64), tensor(&[2], &[1., 0.], DType::I64));
    let error = play(Op::Binary(Binary::Div), &[&x, &zero], None, (&[2], DType::I64)).unwrap_err();
    assert!(error.to_string().contains("divided by zero") && error.to_string().contains("n"), "{error}");
    let error =
        play(Op::Gather { axis: 0 }, &[&x, &tensor(&[1], &[2.], DType::I64)], None, (&[1], DType::I64)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains("index 2"), "{error}");
    let error = play(Op::Binary(Binary::Add), &[&x, &counted(&[2], DType::F32)], None, (&[2], DType::I64)).unwrap_err();
    assert!(error.to_string().contains("different types"), "{error}");
}
