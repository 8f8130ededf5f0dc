"""Fits the polynomials of src/op/simd.rs (exp, tanh, erf): minimax in relative error by Lawson's reweighted least squares, rounded to f32.

Prints Rust constants, highest power first, with the largest relative error of the rounded polynomial in exact arithmetic.
Written with numpy 2.4; any numpy gives the same figures to f32.
"""

import math

import numpy as np


def minimax(target, weight, low, high, degree, power=1, rounds=400):
    """Coefficients, highest first, of p with p(x**power) ~ target(x) on [low, high], |weight * error| as even as possible."""
    nodes = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(2000) + 0.5) / 2000)
    values = np.array([target(x) for x in nodes])
    scale = np.array([weight(x) for x in nodes])
    basis = np.vander(nodes**power, degree + 1)
    lawson = np.ones_like(nodes)
    for _ in range(rounds):
        root = np.sqrt(lawson) * scale
        solution = np.linalg.lstsq(basis * root[:, None], values * root, rcond=None)[0]
        error = np.abs((basis @ solution - values) * scale)
        lawson *= error / error.max() + 1e-9
        lawson /= lawson.sum()
    rounded = solution.astype(np.float32).astype(np.float64)
    return rounded, np.abs((basis @ rounded - values) * scale).max()


def show(name, fit):
    coefficients, error = fit
    print(f"// {name}: {error:.2e}")
    print("[" + ", ".join(np.format_float_positional(np.float32(c), unique=True, trim="0") if abs(c) > 1e-3
                          else np.format_float_scientific(np.float32(c), unique=True) for c in coefficients) + "]")


half = math.log(2) / 2 * 1.0001
show("(exp(x) - 1 - x) / x^2 on |x| <= ln(2)/2", minimax(
    lambda x: (math.expm1(x) - x) / x**2 if abs(x) > 1e-3 else 0.5 + x / 6 + x**2 / 24,
    lambda x: x**2 / math.exp(x), -half, half, 4))
show("(tanh(x) - x) / x^3 in x^2 on 0..0.625", minimax(
    lambda x: (math.tanh(x) - x) / x**3 if x > 1e-2 else -1 / 3 + 2 * x**2 / 15,
    lambda x: x**3 / math.tanh(x) if x > 0 else 0, 0, 0.625, 4, power=2))
show("(erf(x) - x) / x in x^2 on 0..0.93", minimax(
    lambda x: (math.erf(x) - x) / x if x > 1e-9 else 2 / math.sqrt(math.pi) - 1,
    lambda x: x / math.erf(x) if x > 1e-9 else 1, 0, 0.93, 5, power=2))
show("(ln erfc(x) + x) / x on 0.93..3.95", minimax(
    lambda x: (math.log(math.erfc(x)) + x) / x,
    lambda x: x * math.erfc(x) / math.erf(x), 0.92, 3.95, 5))
