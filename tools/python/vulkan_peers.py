#!/usr/bin/env python3
"""Times a denoiser on a GPU: undiffuse by Vulkan beside PyTorch by CUDA, eager and as a captured graph.

    python vulkan_peers.py --undiffuse target/release/undiffuse [--json OUT]

The nets are the shipped denoiser's architecture (see train_speed.py) as it is, and with twice its channels on latents twice as wide, both with
random weights. A figure is the median time of one pass at batch 1: PyTorch's by CUDA events, undiffuse's by the device's clock (`bench --backend
vulkan`) from the first launch to the last. Reading the model, compiling and copying inputs are in neither.

Needs torch with CUDA, and onnx to write the nets down.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

import torch
import train_speed as twin

NETS = {"sticker-64": (16, (48, 128, 320), (4, 8)), "twice as wide, 32x32": (32, (96, 256, 640), (8, 16))}
WARM, PASSES, REPEAT = 20, 200, "50"


def made(size, channels, heads):
    """A net and its inputs, of batch 1."""
    twin.SIZE, twin.CHANNELS, twin.HEADS = size, channels, heads
    torch.manual_seed(twin.SEED)
    net = twin.Denoiser().eval()
    for p in net.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.02)
    inputs = torch.randn(1, twin.LATENT, size, size), torch.tensor([500.0]), torch.randn(1, twin.TOKENS, twin.TEXT)
    return net, inputs


def written(net, inputs, path):
    names = ["sample", "timestep", "encoder_hidden_states"]
    torch.onnx.export(net, inputs, path, input_names=names, output_names=["out_sample"], opset_version=17, dynamo=False)


def median(run):
    """Milliseconds of a pass, by events around each."""
    for _ in range(WARM):
        run()
    spans = []
    for _ in range(PASSES):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        spans.append(start.elapsed_time(end))
    return statistics.median(spans)


@torch.no_grad()
def pytorch(net, inputs, half):
    kind = torch.half if half else torch.float
    net = net.to("cuda", kind)
    inputs = [x.to("cuda", kind) for x in inputs]
    eager = median(lambda: net(*inputs))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        net(*inputs)
    return {"eager": eager, "graph": median(graph.replay)}


def undiffuse(program, model, half):
    command = [program, "bench", "--model", model, "--backend", "vulkan", "--precision", "f16" if half else "f32", "--repeat", REPEAT, "--json"]
    said = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    if said.returncode:
        return {"error": said.stderr.strip()[-400:]}
    return json.loads(said.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--undiffuse", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    rows = []
    for name, shape in NETS.items():
        net, inputs = made(*shape)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            written(net, inputs, path)
            for half in False, True:
                row = {"net": name, "type": "f16" if half else "f32", "device": torch.cuda.get_device_name(), "torch": torch.__version__}
                row |= {"undiffuse": undiffuse(args.undiffuse, path, half), "pytorch_ms": pytorch(net, inputs, half)}
                rows.append(row)
                print(json.dumps({**row, "undiffuse": str(row["undiffuse"])[:300]}), flush=True)
                if args.json:
                    args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
