use super::super::activation::Activation;
use super::super::matrix::Shift;
use super::super::matrix::tests::{agree, bytes, finish, half_bytes, noise, rounded, threads};
use super::*;

/// The convolution by its definition, in f64.
fn reference(conv: &Conv, picture: Picture, input: &[f32], weights: &[f32], epilogue: &Epilogue) -> Vec<f64> {
    let [oh, ow] = conv.output(picture.height, picture.width).unwrap();
    let [h, w] = conv.seen(picture.height, picture.width);
    let shift = usize::from(conv.enlarge);
    let (channels, columns) = (conv.inputs / conv.groups, conv.outputs / conv.groups);
    let mut sums = Vec::new();
    for index in 0..picture.count * oh * ow * conv.outputs {
        let (o, pixel) = (index % conv.outputs, index / conv.outputs);
        let (x, y, n) = (pixel % ow, pixel / ow % oh, pixel / ow / oh);
        let mut sum = 0f64;
        for tap in 0..conv.taps() {
            let (down, right) = (tap / conv.kernel[1], tap % conv.kernel[1]);
            let y = (y * conv.stride[0] + down * conv.dilation[0]).wrapping_sub(conv.pads[0]);
            let x = (x * conv.stride[1] + right * conv.dilation[1]).wrapping_sub(conv.pads[1]);
            if y >= h || x >= w {
                continue;
            }
            let row = (n * picture.height + (y >> shift)) * picture.width + (x >> shift);
            for c in 0..channels {
                let value = input[row * conv.inputs + o / columns * channels + c];
                sum += f64::from(value) * f64::from(weights[(o * channels + c) * conv.taps() + tap]);
            }
        }
        sums.push(sum);
    }
    finish(&mut sums, conv.outputs, epilogue);
    sums
}

const WINOGRAD4: f64 = 1e-8;
const EXACT: f64 = 1e-10;

fn class(method: Method) -> f64 {
    if method == Method::Winograd4 { WINOGRAD4 } else { EXACT }
}

fn check(conv: Conv, picture: Picture, method: Method, epilogue: &Epilogue) {
    let channels = conv.inputs / conv.groups;
    let input = noise(picture.count * picture.height * picture.width * conv.inputs, 1);
    let weights = noise(conv.outputs * channels * conv.taps(), 2);
    let filters = Filters::new(conv, &bytes(&weights), Element::F32, Storage::F32, &threads(1));
    let expected = reference(&conv, picture, &input, &weights, epilogue);
    agree(&format!("{conv:?} {picture:?} {method:?}"), &expected, class(method), |cpu, out| {
        let mut scratch = vec![f32::NAN; conv.scratch_bytes(picture, method, cpu.threads.count()) / 4];
        filters.run(cpu, (picture, method), &input, epilogue, out, &mut scratch);
    });
    let half = Filters::new(conv, &half_bytes(&weights), Element::F16, Storage::F16, &threads(2));
    let expected = reference(&conv, picture, &input, &rounded(&weights), epilogue);
    agree(&format!("f16 {conv:?} {picture:?} {method:?}"), &expected, class(method), |cpu, out| {
        let mut scratch = vec![f32::NAN; conv.scratch_bytes(picture, method, cpu.threads.count()) / 4];
        half.run(cpu, (picture, method), &input, epilogue, out, &mut scratch);
    });
    let each = channels * conv.taps();
    let codes: Vec<i8> = weights.iter().map(|x| (x * 40.0) as i8).collect();
    let scales: Vec<f32> = (0..conv.outputs).map(|output| 0.01 + 0.001 * output as f32).collect();
    let wide: Vec<f32> = codes.iter().enumerate().map(|(i, code)| f32::from(*code) * scales[i / each]).collect();
    let codes: Vec<u8> = codes.into_iter().map(|code| code as u8).collect();
    let coded = Filters::new(conv, &codes, Element::Int8(&scales), Storage::Int8, &threads(2));
    let expected = reference(&conv, picture, &input, &wide, epilogue);
    agree(&format!("int8 {conv:?} {picture:?} {method:?}"), &expected, class(method), |cpu, out| {
        let mut scratch = vec![f32::NAN; conv.scratch_bytes(picture, method, cpu.threads.count()) / 4];
        coded.run(cpu, (picture, method), &input, epilogue, out, &mut scratch);
    });
}

fn chosen(conv: Conv, picture: Picture) -> Method {
    conv.method(picture)
}

fn picture(count: usize, height: usize, width: usize) -> Picture {
    Picture { count, height, width }
}

#[test]
fn kernels_strides_pads_and_dilations() {
    let base = Conv::same(20, 18, 3);
    let cases = [
        (Conv::same(20, 33, 1), Method::Pointwise),
        (base, Method::Taps),
        (Conv { stride: [2, 2], ..base }, Method::Taps),
        (Conv { stride: [1, 3], pads: [0, 1, 2, 3], ..base }, Method::Taps),
        (Conv { stride: [2, 2], pads: [0, 0, 1, 1], ..base }, Method::Taps),
        (Conv { dilation: [2, 3], pads: [2, 3, 2, 3], ..base }, Method::Taps),
        (Conv { kernel: [1, 5], pads: [0, 2, 0, 2], ..base }, Method::Taps),
        (Conv { kernel: [7, 7], pads: [3; 4], inputs: 3, ..base }, Method::Taps),
        (Conv { inputs: 4, outputs: 320, ..base }, Method::Taps),
        (Conv { inputs: 70, outputs: 3, ..base }, Method::Taps),
        (Conv { inputs: 400, outputs: 4, ..base }, Method::Taps),
        (Conv { enlarge: true, ..base }, Method::Taps),
        (Conv { enlarge: true, inputs: 5, stride: [2, 1], ..base }, Method::Taps),
        (Conv { kernel: [1, 1], pads: [0; 4], stride: [2, 2], ..base }, Method::Taps),
        (Conv { groups: 2, ..base }, Method::Groups),
        (Conv { groups: 2, inputs: 40, outputs: 34, stride: [2, 2], ..base }, Method::Groups),
        (Conv { groups: 20, outputs: 40, ..base }, Method::Groups),
        (Conv { groups: 20, outputs: 20, ..base }, Method::Depthwise),
        (Conv { groups: 35, inputs: 35, outputs: 35, stride: [2, 1], dilation: [1, 2], ..base }, Method::Depthwise),
        (Conv { groups: 16, inputs: 16, outputs: 16, enlarge: true, kernel: [5, 5], ..base }, Method::Depthwise),
    ];
    for (conv, method) in cases {
        check(conv, picture(2, 9, 7), method, &Epilogue::default());
    }
}

#[test]
fn filters_that_are_larger_than_their_input_have_no_output() {
    let conv = Conv { pads: [0; 4], ..Conv::same(3, 3, 5) };
    assert_eq!(conv.output(4, 9), None);
    assert_eq!(conv.output(5, 9), Some([1, 5]));
    assert_eq!(Conv { enlarge: true, ..conv }.output(4, 9), Some([4, 14]));
}

#[test]
fn winograd_sizes() {
    for method in [Method::Winograd2, Method::Winograd4] {
        for (inputs, outputs) in [(1, 1), (20, 33), (130, 16), (300, 20)] {
            for size in [picture(1, 1, 1), picture(2, 5, 8), picture(1, 12, 6)] {
                check(Conv::same(inputs, outputs, 3), size, method, &Epilogue::default());
            }
        }
        let base = Conv::same(19, 20, 3);
        check(Conv { pads: [0, 1, 2, 0], ..base }, picture(2, 7, 6), method, &Epilogue::default());
        check(Conv { pads: [0; 4], ..base }, picture(1, 6, 9), method, &Epilogue::default());
        check(Conv { enlarge: true, ..base }, picture(2, 5, 3), method, &Epilogue::default());
        check(Conv::same(40, 24, 3), picture(1, 70, 66), method, &Epilogue::default());
    }
}

#[test]
fn every_epilogue() {
    let size = picture(2, 6, 5);
    for (conv, method) in [
        (Conv::same(20, 21, 3), Method::Winograd4),
        (Conv::same(20, 21, 3), Method::Winograd2),
        (Conv::same(20, 21, 3), Method::Taps),
        (Conv { groups: 2, ..Conv::same(20, 24, 3) }, Method::Groups),
        (Conv { groups: 21, ..Conv::same(21, 21, 3) }, Method::Depthwise),
        (Conv::same(20, 21, 1), Method::Pointwise),
    ] {
        let n = conv.outputs;
        let (bias, shift, residual) = (noise(n, 3), noise(2 * n, 4), noise(2 * 30 * n, 5));
        for options in 0..32u32 {
            let on = |bit: u32| options >> bit & 1 == 1;
            let epilogue = Epilogue {
                bias: on(0).then_some(&bias[..]),
                shift: on(1).then_some(Shift { values: &shift, rows: 30 }),
                residual: on(2).then_some(&residual[..]),
                activation: if on(3) { Activation::Silu } else { Activation::None },
                scale: if on(4) { 0.7 } else { 1.0 },
            };
            check(conv, size, method, &epilogue);
        }
    }
}

#[test]
fn the_method_follows_shape() {
    assert_eq!(chosen(Conv::same(320, 320, 3), picture(1, 64, 64)), Method::Winograd4);
    assert_eq!(chosen(Conv::same(320, 4, 1), picture(1, 64, 64)), Method::Pointwise);
    assert_eq!(chosen(Conv { stride: [2, 2], ..Conv::same(320, 320, 3) }, picture(1, 64, 64)), Method::Taps);
    assert_eq!(chosen(Conv::same(4, 320, 3), picture(1, 64, 64)), Method::Taps);
    assert_eq!(chosen(Conv::same(64, 3, 5), picture(1, 64, 64)), Method::Taps);
    assert_eq!(chosen(Conv { groups: 8, ..Conv::same(8, 8, 3) }, picture(1, 8, 8)), Method::Depthwise);
    assert_eq!(chosen(Conv { groups: 4, ..Conv::same(8, 8, 3) }, picture(1, 8, 8)), Method::Groups);
}
