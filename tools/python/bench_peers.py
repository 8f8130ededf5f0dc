#!/usr/bin/env python3
"""Times `undiffuse run` beside onnxruntime on the same files and inputs, in turns, and checks that their outputs agree.

    A/bin/python bench_peers.py UNDIFFUSE MODEL.onnx ... [--threads 1 2] [--rounds 3] [--repeat 5] [--json OUT]

Besides the models of make_bench_models.py, the third-party UNet that check_terrain.py fetches into target/terrain can be given (--size 1).

Each round runs A B: a process of undiffuse, then one of onnxruntime, each with `--repeat` runs; the figure of a round is the median of its runs
but the first, that of a model the median of its rounds. Peak RSS is the process's own VmHWM, file pages included.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs_of(path, size):
    """Deterministic inputs: normal floats, small integers; free axes are given by --size."""
    generator = np.random.default_rng(0)
    given = {}
    for port in session(path, 1).get_inputs():
        shape = [axis if isinstance(axis, int) else size for axis in port.shape]
        if "int" in port.type:
            given[port.name] = generator.integers(0, 16, shape).astype(np.int32 if "32" in port.type else np.int64)
        else:
            given[port.name] = generator.standard_normal(shape).astype(np.float32)
        if port.name == "sigma":  # of which networks take the logarithm
            given[port.name] = np.abs(given[port.name]) + np.float32(0.1)
        if "timestep" in port.name:
            given[port.name] = np.full(shape, 500, given[port.name].dtype)
    return given


def peer(path, threads, repeat, folder):
    """The child process that times onnxruntime."""
    given = {file.stem: np.load(file) for file in Path(folder).glob("in/*.npy")}
    started = time.perf_counter()
    net = session(path, threads)
    load = time.perf_counter() - started
    runs = []
    for _ in range(repeat):
        started = time.perf_counter()
        outputs = net.run(None, given)
        runs.append((time.perf_counter() - started) * 1e3)
    np.save(Path(folder) / "peer.npy", outputs[0])
    with open("/proc/self/status", encoding="utf-8") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    print(json.dumps({"load_ms": load * 1e3, "runs_ms": runs, "peak_rss_bytes": peak}))


def ours(binary, path, threads, repeat, folder, given, output):
    command = [binary, "run", path, "--no-cache", "--backend", "cpu", "--threads", threads, "--repeat", repeat, "--json"]
    for name in given:
        command += ["--input", f"{name}={folder}/in/{name}.npy"]
    command += ["--output", f"{output}={folder}/ours.npy"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{path}: {done.stderr}")
    return json.loads(done.stdout)


def theirs(path, threads, repeat, folder):
    command = [sys.executable, __file__, "--peer", path, threads, repeat, folder]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def figure(rounds):
    steady = [statistics.median(r["runs_ms"][1:] or r["runs_ms"]) for r in rounds]
    return {
        "ms": statistics.median(steady), "low_ms": min(steady), "high_ms": max(steady),
        "load_ms": statistics.median(r["load_ms"] for r in rounds),
        "peak_mb": statistics.median(r["peak_rss_bytes"] for r in rounds) / 1e6,
    }


def bench(binary, path, threads, args):
    given = inputs_of(path, args.size)
    output = session(path, 1).get_outputs()[0].name
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/in")
        for name, values in given.items():
            np.save(f"{folder}/in/{name}.npy", values)
        rounds = {"undiffuse": [], "onnxruntime": []}
        for _ in range(args.rounds):
            rounds["undiffuse"].append(ours(binary, path, threads, args.repeat, folder, given, output))
            rounds["onnxruntime"].append(theirs(path, threads, args.repeat, folder))
        a, b = np.load(f"{folder}/ours.npy"), np.load(f"{folder}/peer.npy")
    result = {name: figure(r) for name, r in rounds.items()}
    result["ratio"] = result["undiffuse"]["ms"] / result["onnxruntime"]["ms"]
    result["rss_ratio"] = result["undiffuse"]["peak_mb"] / result["onnxruntime"]["peak_mb"]
    result["distance"] = float(np.abs(a.astype(np.float64) - b).max() / b.std())
    return result


def row(name, threads, result):
    us, peer_ = result["undiffuse"], result["onnxruntime"]
    return (
        f"| {name} | {threads} | {us['ms']:.1f} ({us['low_ms']:.1f}-{us['high_ms']:.1f}) "
        f"| {peer_['ms']:.1f} ({peer_['low_ms']:.1f}-{peer_['high_ms']:.1f}) | {result['ratio']:.2f} "
        f"| {us['peak_mb']:.0f} / {peer_['peak_mb']:.0f} MB = {result['rss_ratio']:.2f} "
        f"| {us['load_ms']:.0f} / {peer_['load_ms']:.0f} | {result['distance']:.1e} |"
    )


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--peer":
        return peer(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--size", type=int, default=1, help="length of free axes")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, {args.rounds} rounds of {args.repeat} runs, in turns")
    print("| model | threads | undiffuse ms (spread) | onnxruntime ms (spread) | ratio | peak RSS | load ms | max d / std |")
    print("|---|---|---|---|---|---|---|---|")
    results = {}
    for path in args.models:
        name = path.parent.name
        for threads in args.threads:
            results[f"{name}/{threads}"] = bench(args.binary, path, threads, args)
            print(row(name, threads, results[f"{name}/{threads}"]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
