#!/usr/bin/env python3
"""Makes tests/golden/upscaler: a small upscaler with seeded weights, and what onnxruntime makes of a small pipeline's latents with it.

    python tools/python/make_upscaler.py

`upscaler/` is laid over tests/golden/pipelines/tiny-vae by the tests. `picture.npy` is a picture (1, 3, H, W) in the graph's values and `enlarged.npy`
what the graph makes of it; `one.png` is the golden `one` of that pipeline, decoded, enlarged and rounded to bytes. Needs numpy, onnx, onnxruntime and
pillow as pinned in requirements.txt.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

import srvgg

GOLDEN = Path(__file__).resolve().parent.parent.parent / "tests" / "golden"
PIPELINE = GOLDEN / "pipelines" / "tiny-vae"
SEED = 1
UPSCALE, FEATURES, DEPTH = 2, 8, 2
SIDES = (7, 10)


def layers(rng):
    """Weights that keep the deviation of what goes through, and slopes of which some are negative."""
    channels = [3] + [FEATURES] * (DEPTH + 1)
    widths = list(zip(channels, channels[1:] + [3 * UPSCALE**2]))
    convolutions = [(rng.standard_normal((b, a, 3, 3)) * (9 * a) ** -0.5, rng.standard_normal(b) * 0.1) for a, b in widths]
    # What is added to the repeated picture is seen, and is not all there is.
    kernel, bias = convolutions[-1]
    convolutions[-1] = (kernel * 0.25, bias * 0.25)
    return convolutions, [rng.uniform(-0.25, 0.5, b) for _, b in widths[:-1]]


def play(file, picture):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: picture.astype(np.float32)})
    return output


def main():
    rng, folder = np.random.default_rng(SEED), GOLDEN / "upscaler"
    srvgg.write(folder / "upscaler", *layers(rng), UPSCALE)
    graph = folder / "upscaler" / "model.onnx"
    picture = rng.random((1, 3, *SIDES), np.float32)
    np.save(folder / "picture.npy", picture)
    np.save(folder / "enlarged.npy", play(graph, picture))
    config = json.loads((PIPELINE / "vae_decoder" / "config.json").read_text())
    latents = np.load(PIPELINE / "goldens" / "one.npy") / config["scaling_factor"] + config["shift_factor"]
    decoded = play(PIPELINE / "vae_decoder" / "model.onnx", latents).clip(-1, 1)
    low, high = srvgg.RANGE
    enlarged = (play(graph, low + (decoded + 1) / 2 * (high - low))[0] - low) / (high - low)
    pixels = np.round(enlarged.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(pixels).save(folder / "one.png", optimize=True)
    print(f"onnxruntime {onnxruntime.__version__}: {pixels.shape}, std {pixels.std():.1f}")


if __name__ == "__main__":
    main()
