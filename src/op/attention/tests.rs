use super::*;
use crate::op::simd::tests::paths;
use crate::op::testing::{close, noise, threads};

/// In f64, with every score stored.
fn reference(a: &Attention, [q, k, v]: [Operand; 3], mask: Option<Mask>) -> Vec<f64> {
    let mut out = Vec::new();
    for (b, t, h) in (0..a.batches).flat_map(|b| (0..a.queries).flat_map(move |t| (0..a.heads).map(move |h| (b, t, h))))
    {
        let key_head = h / (a.heads / a.key_heads);
        let seen = if a.causal { a.keys.min(t + 1) } else { a.keys };
        let query = q.line(b, t, h, a.width);
        let scores: Vec<f64> = (0..seen)
            .map(|s| {
                let key = k.line(b, s, key_head, a.width);
                let dot: f64 = query.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                let added = mask.map_or(0.0, |m| m.values[b * m.batch + h * m.head + t * m.query + s * m.key]);
                dot * f64::from(a.scale) + f64::from(added)
            })
            .collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| if most.is_finite() { (s - most).exp() } else { 0.0 }).collect();
        let sum = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        out.extend((0..a.value_width).map(|i| {
            let value = |s| f64::from(v.line(b, s, key_head, a.value_width)[i]);
            weights.iter().enumerate().map(|(s, w)| w / sum * value(s)).sum::<f64>()
        }));
    }
    out
}

fn check(a: Attention, operands: [Operand; 3], mask: Option<Mask>) {
    let expected = reference(&a, operands, mask);
    for arch in paths() {
        let run = |count: usize| {
            let mut output = vec![7.0; expected.len()];
            let mut scratch = vec![f32::NAN; a.scratch_bytes(count) / 4];
            a.run(Cpu { arch, threads: &threads(count) }, operands, mask, &mut output, &mut scratch);
            output
        };
        let one = run(1);
        close(&one, &expected, 1e-11, &format!("{a:?}"));
        assert!(one == run(2), "threads changed {a:?}");
    }
}

fn sizes([batches, heads, queries, keys]: [usize; 4], [width, value_width]: [usize; 2]) -> Attention {
    let scale = 1.0 / (width as f32).sqrt();
    Attention { batches, heads, key_heads: heads, queries, keys, width, value_width, scale, causal: false }
}

fn dense(a: Attention, mask: Option<Mask>) {
    let q = noise(a.batches * a.queries * a.heads * a.width, 1);
    let k = noise(a.batches * a.keys * a.key_heads * a.width, 2);
    let v = noise(a.batches * a.keys * a.key_heads * a.value_width, 3);
    let operands = [
        Operand::dense(&q, a.queries, a.heads, a.width),
        Operand::dense(&k, a.keys, a.key_heads, a.width),
        Operand::dense(&v, a.keys, a.key_heads, a.value_width),
    ];
    check(a, operands, mask);
}

#[test]
fn odd_shapes() {
    for (shape, widths) in [
        ([1, 1, 1, 1], [1, 1]),
        ([2, 3, 7, 5], [8, 8]),
        ([1, 2, 13, 77], [40, 40]),
        ([1, 2, 100, 300], [64, 64]),
        ([1, 1, 50, 257], [80, 80]),
        ([1, 1, 31, 65], [160, 160]),
        ([1, 1, 9, 130], [512, 512]),
        ([2, 2, 12, 33], [7, 19]),
        ([1, 1, 800, 40], [33, 9]),
        ([1, 2, 4, 0], [8, 8]),
    ] {
        dense(sizes(shape, widths), None);
    }
}

#[test]
fn masks_broadcast_and_hide() {
    let a = sizes([2, 3, 20, 70], [16, 16]);
    let full: Vec<f32> =
        noise(2 * 3 * 20 * 70, 5).iter().map(|x| if *x > 1.0 { f32::NEG_INFINITY } else { *x }).collect();
    for [batch, head, query, key] in [[4200, 1400, 70, 1], [70, 0, 0, 1], [0, 0, 70, 1], [0, 20, 1, 0]] {
        dense(a, Some(Mask { values: &full, batch, head, query, key }));
    }
    let nothing = vec![f32::NEG_INFINITY; 70];
    dense(a, Some(Mask { values: &nothing, batch: 0, head: 0, query: 0, key: 1 }));
    let least = vec![f32::MIN; 70];
    dense(a, Some(Mask { values: &least, batch: 0, head: 0, query: 0, key: 1 }));
}

#[test]
fn causal_and_grouped() {
    dense(Attention { causal: true, ..sizes([1, 2, 77, 77], [64, 64]) }, None);
    dense(Attention { causal: true, ..sizes([1, 1, 300, 290], [8, 8]) }, None);
    dense(Attention { key_heads: 2, ..sizes([2, 6, 19, 23], [8, 8]) }, None);
}

#[test]
fn operands_may_lie_in_one_matrix_or_heads_first() {
    let a = sizes([2, 3, 21, 21], [10, 10]);
    let fused = noise(2 * 21 * 90, 4);
    let part = |first: usize| Operand { values: &fused[first..], batch: 21 * 90, row: 90, head: 10 };
    check(a, [part(0), part(30), part(60)], None);
    let heads_first = Operand { values: &fused, batch: 3 * 21 * 10, row: 10, head: 210 };
    check(a, [heads_first; 3], None);
}

#[test]
fn large_scores_do_not_overflow() {
    dense(Attention { scale: 300.0, ..sizes([1, 1, 10, 400], [16, 16]) }, None);
}
