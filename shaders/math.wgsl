// Functions that every shader may use. Vulkan promises little of its own sin, cos and tanh; polynomials are those of the CPU's kernels.

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// 2^n for a whole n from -126 to 127.
fn power_of_two(n: f32) -> f32 {
    return bitcast<f32>(u32(i32(n) + 127) << 23u);
}

// e^x = 2^n e^r with |r| at most ln(2) / 2: a device's own exp may lose more digits the larger x is.
fn exponential(x: f32) -> f32 {
    if is_nan(x) { return x; }
    let held = clamp(x, -104.5, 89.0);
    let n = round(held * 1.442695);
    let r = fma(n, -1.4286068e-6, fma(n, -0.69314575, held));
    let p = 0.5 + r * (0.16666667 + r * (0.041666668 + r * (0.008333334 + r * (0.0013888889 + r * 1.984127e-4))));
    let half = floor(n * 0.5);
    return (fma(p, r * r, r) + 1.0) * power_of_two(half) * power_of_two(n - half);
}

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exponential(clamp(-x, -87.0, 88.0)));
}

// Near 0 an odd polynomial, elsewhere 1 - 2 / (e^2x + 1).
fn hyperbolic_tangent(x: f32) -> f32 {
    let s = x * x;
    if abs(x) < 0.625 {
        let p = (((-0.0057049873 * s + 0.020639088) * s - 0.053739715) * s + 0.13331442) * s - 0.3333328;
        return p * s * x + x;
    }
    let far = 1.0 - 2.0 / (exponential(min(2.0 * abs(x), 40.0)) + 1.0);
    return select(far, -far, x < 0.0);
}

fn error_function(x: f32) -> f32 {
    let s = x * x;
    if abs(x) < 0.93 {
        let p = ((((-5.953762e-4 * s + 0.0049859453) * s - 0.026761724) * s + 0.112816826) * s - 0.3761248) * s
            + 0.12837915;
        return p * x + x;
    }
    let m = min(abs(x), 3.95);
    let p = ((((2.1398495e-4 * m - 0.0032149556) * m + 0.022889964) * m - 0.10526184) * m - 0.6357183) * m - 0.12851436;
    let far = 1.0 - exponential(p * m - m);
    return select(far, -far, x < 0.0);
}

// ln(1 + y) for y from 0 to 1: its series in y / (2 + y).
fn log_of_more(y: f32) -> f32 {
    let t = y / (2.0 + y);
    let s = t * t;
    return 2.0 * t * (1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0 + s * (1.0 / 9.0 + s / 11.0)))));
}

fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + log_of_more(exponential(-abs(x)));
}

// What is left of x beside the nearest multiple of pi / 2, whose last digits are taken off in three parts, and that multiple.
struct Turn { rest: f32, quarter: i32 }

fn turn(x: f32) -> Turn {
    let n = round(x * 0.63661975);
    let a = fma(n, -1.5707397, x);
    let b = fma(n, -5.6579709e-5, a);
    return Turn(fma(n, -9.9209363e-10, b), i32(n) & 3);
}

fn sine_near(x: f32) -> f32 {
    let s = x * x;
    return x + x * s * (-0.16666667 + s * (0.008333333 + s * (-1.9841270e-4 + s * 2.7557319e-6)));
}

fn cosine_near(x: f32) -> f32 {
    let s = x * x;
    return 1.0 + s * (-0.5 + s * (0.041666668 + s * (-0.0013888889 + s * (2.4801587e-5 - s * 2.7557319e-7))));
}

fn sine(x: f32) -> f32 {
    let t = turn(x);
    let y = select(sine_near(t.rest), cosine_near(t.rest), (t.quarter & 1) == 1);
    return select(y, -y, t.quarter >= 2);
}

fn cosine(x: f32) -> f32 {
    let t = turn(x);
    let y = select(cosine_near(t.rest), sine_near(t.rest), (t.quarter & 1) == 1);
    return select(y, -y, t.quarter == 1 || t.quarter == 2);
}

fn power(a: f32, b: f32) -> f32 {
    if b == 2.0 { return a * a; }
    if b == 1.0 { return a; }
    if b == 0.0 { return 1.0; }
    if b == 0.5 { return sqrt(a); }
    let whole = b == round(b);
    let magnitude = exp2(b * log2(abs(a)));
    if a >= 0.0 || !whole { return select(magnitude, bitcast<f32>(0x7fc00000u + u32(b * 0.0)), a < 0.0); }
    let odd = fract(abs(b) * 0.5) != 0.0;
    return select(magnitude, -magnitude, odd);
}

// Two numbers as halves in a word, the nearest that a half holds; what is larger than the greatest half becomes that, infinities stay.
fn half_pair(v: vec2f) -> u32 {
    let held = clamp(v, vec2f(-65504.0), vec2f(65504.0));
    return pack2x16float(select(held, v, abs(v) > vec2f(3.4028235e38)));
}
