use super::super::super::op::Binary;
use super::*;

/// Queries, keys and values as a pointwise convolution gives them, `(B, 3 H d, T)`, and products of `(B H, …)`: two pictures, two heads of four, five places.
fn over_columns(as_picture: bool) -> super::super::Net {
    let (whole, part, heads, turned) = ([2, 24, 5], [2, 8, 5], [4, 4, 5], [4, 5, 4]);
    let (mut s, x) = Sketch::new(&whole);
    let operand = |s: &mut Sketch, index: usize, factor: Option<f32>| {
        let slice = s.node(Op::Slice { axis: 1, start: 8 * index, step: 1 }, &[x], &part);
        let scaled = factor.map(|factor| {
            let factor = s.constant(vec![factor]);
            s.node(Op::Binary(Binary::Mul), &[slice, factor], &part)
        });
        s.node(Op::Reshape, &[scaled.unwrap_or(slice)], &heads)
    };
    let (q, k, v) = (operand(&mut s, 0, Some(0.5)), operand(&mut s, 1, Some(0.7)), operand(&mut s, 2, None));
    let exchange = Op::Transpose(vec![0, 2, 1]);
    let (q, v) = (s.node(exchange.clone(), &[q], &turned), s.node(exchange.clone(), &[v], &turned));
    let scores = s.node(Op::MatMul, &[q, k], &[4, 5, 5]);
    let weights = s.node(Op::Softmax { axis: 2 }, &[scores], &[4, 5, 5]);
    let product = s.node(Op::MatMul, &[weights, v], &turned);
    let back = s.node(exchange, &[product], &heads);
    let out = s.node(Op::Reshape, &[back], if as_picture { &[2, 8, 5, 1] } else { &part });
    s.finish(out)
}

#[test]
fn heads_below_each_other_are_joined_and_keep_the_numbers() {
    let x: Vec<f32> = (0..240).map(|i| ((i * 37 % 240) as f32 - 120.0) / 50.0).collect();
    let inputs = [Tensor::new(&[2, 24, 5], x).unwrap()];
    for net in [over_columns(false), over_columns(true)] {
        let plain = play(&net, &inputs);
        let mut fused = net.clone();
        assert_eq!(fuse(&mut fused, |name| name == "attention"), [("attention", 1)]);
        let left = |op: &Op| matches!(op, Op::MatMul | Op::Softmax { .. } | Op::Binary(_));
        assert!(!fused.nodes.iter().any(|node| left(&node.op)), "{:?}", fused.nodes);
        let joined = fused.nodes.iter().find_map(|node| match node.op {
            Op::Attention { heads, scale } => Some((heads, scale)),
            _ => None,
        });
        assert_eq!(joined, Some((2, 0.35)));
        let far = distance(&plain, &play(&fused, &inputs));
        assert!(far < 1e-5, "the output moves by {far:.1e} of its std");
    }
}
