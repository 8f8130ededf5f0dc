#!/usr/bin/env python3
"""Holds ONNX graphs, run by `undiffuse run`, to onnxruntime: a model directory, stage by stage, or single files.

Needs numpy and onnxruntime as pinned in requirements.txt. Ends with an error where an output is further away than --tolerance.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

SEED = 0
# Height and width of pictures and latents where a graph leaves them open.
SIDE = 64
# Token ids that every shipped vocabulary has.
IDS = 1000


def graphs(path):
    """Titles and files: those of a directory's stages, or the file itself."""
    if path.is_file():
        return [(path.name, path)]
    found = [(file.parent.name, file) for file in sorted(path.glob("*/*.onnx"))]
    return found or sys.exit(f"check_export.py: {path} holds no graph")


def draw(port, lengths, rng):
    """Pictures from 0 to 1, timesteps from 0 to 1000, token ids with padding behind them, everything else unit normal."""
    missing = [axis for axis in port.shape if isinstance(axis, str) and axis not in lengths]
    if missing:
        sys.exit(f"check_export.py: {port.name}: how long is {missing[0]}? Give --dim {missing[0]}=N")
    shape = [lengths[axis] if isinstance(axis, str) else axis for axis in port.shape]
    kind = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(int64)": "i8", "tensor(int32)": "i4"}[port.type]
    if "timestep" in port.name and len(shape) < 2:
        return rng.uniform(0, 1000, shape).astype(kind)
    if kind.startswith("i"):
        ids = rng.integers(1, IDS, shape)
        ids[..., shape[-1] // 2 :] = 0
        return ids.astype(kind)
    picture = len(shape) == 4 and shape[1] == 3
    return (rng.random(shape) if picture else rng.standard_normal(shape)).astype(kind)


def undiffuse(program, model, inputs, outputs):
    """What `undiffuse run` makes of `inputs`, by name of output."""
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "run", model, "--no-cache"]
        for i, (name, values) in enumerate(inputs.items()):
            np.save(f"{folder}/input{i}.npy", values)
            command += ["--input", f"{name}={folder}/input{i}.npy"]
        for i, name in enumerate(outputs):
            command += ["--output", f"{name}={folder}/output{i}.npy"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {name: np.load(f"{folder}/output{i}.npy") for i, name in enumerate(outputs)}


def check(title, file, args):
    """Prints the distance of every output; gives the largest."""
    options = onnxruntime.SessionOptions()
    # Where weights are in eight bits, onnxruntime would round what they are multiplied by to eight bits too; level 1 keeps it f32.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(SEED)
    inputs = {port.name: draw(port, args.dim, rng) for port in session.get_inputs()}
    names = [port.name for port in session.get_outputs()]
    own = undiffuse(args.undiffuse, file, inputs, names)
    worst = 0.0
    for name, wanted in zip(names, session.run(names, inputs)):
        wanted = wanted.astype("f8")
        if own[name].shape != wanted.shape:
            sys.exit(f"check_export.py: {title}: {name} has shape {own[name].shape}, in onnxruntime {wanted.shape}")
        apart = abs(own[name] - wanted).max()
        distance = apart / wanted.std()
        print(f"{title}: {name} {wanted.shape}: max |d| {apart:.1e}, max |d| / std {distance:.1e} from onnxruntime")
        worst = max(worst, distance) if np.isfinite(distance) else np.inf
    return worst


def dimension(text):
    name, length = text.split("=")
    return name, int(length)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+", type=Path, help="a model directory or an ONNX file")
    parser.add_argument("--undiffuse", default="target/release/undiffuse", help="the program (target/release/undiffuse)")
    parser.add_argument("--dim", type=dimension, action="append", default=[], metavar="NAME=N", help="length of a symbolic axis")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of max |d| / std (1e-4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="gets the largest max |d| / std of each graph")
    args = parser.parse_args()
    args.dim = {"batch": 2, "batch_size": 2, "height": SIDE, "width": SIDE, **dict(args.dim)}
    print(f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}, seed {SEED}")
    found = {title: float(check(title, file, args)) for model in args.model for title, file in graphs(model)}
    if args.json:
        args.json.write_text(json.dumps(found))
    worst = max(found.values())
    if worst > args.tolerance:
        sys.exit(f"check_export.py: an output is {worst:.1e} of its std away from onnxruntime, allowed {args.tolerance:.0e}")


if __name__ == "__main__":
    main()
