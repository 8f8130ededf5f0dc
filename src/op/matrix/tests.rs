use super::*;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Reproducible values in -1..1.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(crate) fn half_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
}

pub(crate) fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| half::f16::from_f32(*value).to_f32()).collect()
}

/// Squared error over squared reference.
pub(crate) fn nmse(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let error: f64 = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).powi(2)).sum();
    error / expected.iter().map(|e| e * e).sum::<f64>()
}

pub(crate) fn threads(count: usize) -> Threads {
    Threads::new(NonZeroUsize::new(count)).unwrap()
}

/// Runs `kernel` dispatched on one and two threads and on the portable path; all have to meet `expected`, the first two each other's bytes.
pub(crate) fn agree(what: &str, expected: &[f64], class: f64, kernel: impl Fn(Cpu, &mut [f32])) {
    let run = |arch, count| {
        let threads = threads(count);
        let mut out = vec![f32::NAN; expected.len()];
        kernel(Cpu { arch, threads: &threads }, &mut out);
        out
    };
    let one = run(pulp::Arch::new(), 1);
    let error = nmse(&one, expected);
    assert!(error < class, "{what}: NMSE {error:e}");
    let portable = nmse(&run(pulp::Arch::Scalar, 1), expected);
    assert!(portable < class, "{what}, portable: NMSE {portable:e}");
    assert_eq!(one, run(pulp::Arch::new(), 2), "{what}: two threads");
}

/// What [`Epilogue`] does, in f64.
pub(crate) fn finish(sums: &mut [f64], columns: usize, epilogue: &Epilogue) {
    for (index, sum) in sums.iter_mut().enumerate() {
        let (row, column) = (index / columns, index % columns);
        *sum += epilogue.bias.map_or(0.0, |bias| f64::from(bias[column]));
        *sum += epilogue.shift.map_or(0.0, |shift| f64::from(shift.values[row / shift.rows * columns + column]));
        let activated = match epilogue.activation {
            Activation::None => *sum,
            Activation::Silu => *sum / (1.0 + (-*sum).exp()),
            Activation::Relu => sum.max(0.0),
            other => panic!("{other:?} has no reference here"),
        };
        *sum = activated;
        *sum += epilogue.residual.map_or(0.0, |residual| f64::from(residual[index]));
        *sum *= f64::from(epilogue.scale);
    }
}

fn reference(a: &[f32], b: &[f32], [m, k, n]: [usize; 3], epilogue: &Epilogue) -> Vec<f64> {
    let mut sums = vec![0f64; m * n];
    for (row, sums) in sums.chunks_mut(n).enumerate() {
        for (k, b) in b.chunks(n).enumerate() {
            let a = f64::from(a[row * (a.len() / m) + k]);
            sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * f64::from(*b));
        }
        let _ = k;
    }
    finish(&mut sums, n, epilogue);
    sums
}

/// Rows, depth and columns: tails of every kind, several blocks of each.
const SHAPES: [[usize; 3]; 12] = [
    [1, 1, 1],
    [1, 1280, 40],
    [2, 5, 16],
    [3, 7, 17],
    [4, 400, 33],
    [5, 3, 15],
    [7, 385, 48],
    [12, 64, 320],
    [77, 96, 31],
    [200, 70, 20],
    [193, 800, 18],
    [400, 9, 5],
];

fn product(cpu: Cpu, a: &[f32], packed: &Packed, [m, k, _]: [usize; 3], epilogue: &Epilogue, out: &mut [f32]) {
    let mut scratch = vec![0f32; scratch_bytes(cpu.threads.count()) / 4];
    multiply(cpu, Left { values: a, rows: m, stride: a.len() / m }, packed, epilogue, out, &mut scratch);
    let _ = k;
}

#[test]
fn odd_shapes() {
    for shape @ [m, k, n] in SHAPES {
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let expected = reference(&a, &b, shape, &Epilogue::default());
        let packed = Packed::new(&View::rows(&bytes(&b), Element::F32, k, n), Storage::F32, &threads(1));
        agree(&format!("{shape:?}"), &expected, 1e-10, |cpu, out| {
            product(cpu, &a, &packed, shape, &Epilogue::default(), out)
        });
    }
}

#[test]
fn every_epilogue() {
    for shape @ [m, k, n] in [[6, 20, 16], [20, 800, 21], [400, 3, 34]] {
        let (a, b, bias) = (noise(m * k, 1), noise(k * n, 2), noise(n, 3));
        let (shift, residual) = (noise(2 * n, 4), noise(m * n, 5));
        let packed = Packed::new(&View::rows(&bytes(&b), Element::F32, k, n), Storage::F32, &threads(1));
        for options in 0..32u32 {
            let on = |bit: u32| options >> bit & 1 == 1;
            let epilogue = Epilogue {
                bias: on(0).then_some(&bias[..]),
                shift: on(1).then_some(Shift { values: &shift, rows: m / 2 }),
                residual: on(2).then_some(&residual[..]),
                activation: if on(3) { Activation::Silu } else { Activation::None },
                scale: if on(4) { 0.7 } else { 1.0 },
            };
            let expected = reference(&a, &b, shape, &epilogue);
            agree(&format!("{shape:?} {options:b}"), &expected, 1e-10, |cpu, out| {
                product(cpu, &a, &packed, shape, &epilogue, out)
            });
        }
    }
}

#[test]
fn rows_may_be_apart() {
    let shape @ [m, k, n] = [13, 10, 18];
    let (a, b) = (noise(m * 12, 1), noise(k * n, 2));
    let packed = Packed::new(&View::rows(&bytes(&b), Element::F32, k, n), Storage::F32, &threads(1));
    let dense: Vec<f32> = a.chunks(12).flat_map(|row| row[..k].to_vec()).collect();
    let expected = reference(&dense, &b, shape, &Epilogue::default());
    agree("apart", &expected, 1e-10, |cpu, out| product(cpu, &a, &packed, shape, &Epilogue::default(), out));
}

fn transposed(b: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| b[i % rows * columns + i / rows]).collect()
}

#[test]
fn weights_of_either_order_and_type_pack_alike() {
    let [k, n] = [37, 21];
    let b = noise(k * n, 2);
    let (rows, columns) = (bytes(&b), bytes(&transposed(&b, k, n)));
    let half_columns = half_bytes(&transposed(&b, k, n));
    for storage in [Storage::F32, Storage::F16, Storage::Int8] {
        let from_rows = Packed::new(&View::rows(&rows, Element::F32, k, n), storage, &threads(1));
        let from_columns = Packed::new(&View::transposed(&columns, Element::F32, k, n), storage, &threads(2));
        assert_eq!(from_rows.bytes(), from_columns.bytes(), "{storage:?}");
        assert_eq!(from_rows.bytes().len(), Packed::bytes_of(storage, k, n));
    }
    let wide = Packed::new(&View::rows(&bytes(&rounded(&b)), Element::F32, k, n), Storage::F32, &threads(1));
    let half = Packed::new(&View::transposed(&half_columns, Element::F16, k, n), Storage::F32, &threads(1));
    assert_eq!(wide.bytes(), half.bytes());
}

#[test]
fn halves_compute_as_their_f32() {
    for shape @ [m, k, n] in SHAPES {
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let half = Packed::new(&View::rows(&half_bytes(&b), Element::F16, k, n), Storage::F16, &threads(1));
        let wide = Packed::new(&View::rows(&half_bytes(&b), Element::F16, k, n), Storage::F32, &threads(1));
        let expected = reference(&a, &rounded(&b), shape, &Epilogue::default());
        agree(&format!("{shape:?}"), &expected, 1e-10, |cpu, out| {
            product(cpu, &a, &half, shape, &Epilogue::default(), out);
            let mut same = vec![0f32; m * n];
            product(cpu, &a, &wide, shape, &Epilogue::default(), &mut same);
            assert_eq!(out, &same[..], "{shape:?}");
        });
    }
}

#[test]
fn int8_weights_are_off_by_half_a_code() {
    let shape @ [m, k, n] = [9, 500, 35];
    let (a, mut b) = (noise(m * k, 1), noise(k * n, 2));
    (0..k).for_each(|k| b[k * n + 3] = 0.0);
    let packed = Packed::new(&View::rows(&bytes(&b), Element::F32, k, n), Storage::Int8, &threads(2));
    let most = |n0: usize| (0..k).map(|k| b[k * n + n0].abs()).fold(0f32, f32::max) / 127.0;
    let scales: Vec<f32> = (0..n).map(most).collect();
    let kept: Vec<f32> = (0..k * n)
        .map(|i| if scales[i % n] > 0.0 { (b[i] / scales[i % n]).round() * scales[i % n] } else { 0.0 })
        .collect();
    assert!(kept.iter().zip(&b).enumerate().all(|(i, (q, b))| (q - b).abs() <= scales[i % n] * 0.501));
    let expected = reference(&a, &kept, shape, &Epilogue::default());
    agree("int8", &expected, 1e-10, |cpu, out| product(cpu, &a, &packed, shape, &Epilogue::default(), out));
}

#[test]
fn codes_of_a_file_are_kept_as_they_are() {
    let shape @ [m, k, n] = [5, 130, 35];
    let a = noise(m * k, 1);
    let codes: Vec<u8> = (0..k * n).map(|i| (i * 37 % 256) as u8).collect();
    let scales: Vec<f32> = (0..n).map(|n| 0.01 + n as f32 * 0.001).collect();
    let wide: Vec<f32> = codes.iter().enumerate().map(|(i, code)| f32::from(*code as i8) * scales[i % n]).collect();
    let pack = |bytes: &[u8], element, storage| Packed::new(&View::rows(bytes, element, k, n), storage, &threads(2));
    let packed = pack(&codes, Element::Int8(&scales), Storage::Int8);
    let expected = reference(&a, &wide, shape, &Epilogue::default());
    agree("int8", &expected, 1e-10, |cpu, out| product(cpu, &a, &packed, shape, &Epilogue::default(), out));
    let turned: Vec<u8> = (0..k * n).map(|i| codes[i % k * n + i / k]).collect();
    let view = View::transposed(&turned, Element::Int8(&scales), k, n);
    assert_eq!(Packed::new(&view, Storage::Int8, &threads(1)).bytes(), packed.bytes());
    for storage in [Storage::F32, Storage::F16] {
        let widened = pack(&codes, Element::Int8(&scales), storage);
        assert_eq!(widened.bytes(), pack(&bytes(&wide), Element::F32, storage).bytes(), "{storage:?}");
    }
}

#[test]
fn packed_bytes_can_be_kept_and_borrowed() {
    struct Kept(Vec<u64>);
    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            // SAFETY: the words are plain bytes.
            unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 8) }
        }
    }
    let [k, n] = [30, 19];
    let b = noise(k * n, 2);
    for storage in [Storage::F32, Storage::F16, Storage::Int8] {
        let packed = Packed::new(&View::rows(&bytes(&b), Element::F32, k, n), storage, &threads(1));
        let mut file = vec![0u8; 8];
        file.extend(packed.bytes());
        let end = file.len();
        file.resize(end.next_multiple_of(8), 0);
        let words = file.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let borrowed = Packed::borrow(storage, [1, k, n], Arc::new(Kept(words)), 8..end);
        let a = noise(4 * k, 1);
        let run = |packed: &Packed| {
            let threads = threads(1);
            let mut out = vec![0f32; 4 * n];
            let cpu = Cpu { arch: pulp::Arch::new(), threads: &threads };
            product(cpu, &a, packed, [4, k, n], &Epilogue::default(), &mut out);
            out
        };
        assert_eq!(run(&packed), run(&borrowed), "{storage:?}");
    }
}

#[test]
fn matrices_of_the_run() {
    for shape @ [m, k, n] in SHAPES {
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let bias = noise(n, 3);
        let epilogue = Epilogue { bias: Some(&bias), scale: 0.125, ..Epilogue::default() };
        let expected = reference(&a, &b, shape, &epilogue);
        let spread = |b: &[f32], width: usize| -> Vec<f32> {
            b.chunks(width).flat_map(|row| row.iter().copied().chain([f32::NAN; 2])).collect()
        };
        for (values, stride, turned) in
            [(b.clone(), n, false), (spread(&b, n), n + 2, false), (spread(&transposed(&b, k, n), k), k + 2, true)]
        {
            let right = Dynamic { values: &values, rows: k, columns: n, stride, transposed: turned };
            agree(&format!("{shape:?} {turned}"), &expected, 1e-10, |cpu, out| {
                let mut scratch = vec![0f32; scratch_bytes(cpu.threads.count()) / 4];
                multiply_dynamic(cpu, Left::dense(&a, k), &right, &epilogue, out, &mut scratch);
            });
        }
    }
}
