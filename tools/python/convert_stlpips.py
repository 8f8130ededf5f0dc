#!/usr/bin/env python3
"""Shift-tolerant LPIPS (PyPI stlpips-pytorch 0.0.2) as ONNX: pictures (N, 3, S, S) in [0, 1] -> vectors (N, D), S 64 unless told.

The squared distance of two vectors is the metric (Ghildyal and Liu 2022, "Shift-tolerant Perceptual Similarity Metric", AlexNet): each
layer's activations are brought to unit length over channels, weighted by the roots of the learned weights, and divided by the root of the
number of positions.

The wheel is fetched from PyPI; only its weights are used.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import wheel

WHEEL = "stlpips-pytorch==0.0.2"
SHA256 = "a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645"
SIDE = 64
CHANNELS = [64, 192, 384, 256, 256]
# Where the convolutions stand in the checkpoint, and their padding.
CONVOLUTIONS = [("slice1.0", 2), ("slice2.5", 2), ("slice3.9", 1), ("slice4.11", 1), ("slice5.13", 1)]


def halved(x, channels):
    """Binomial blur of 3x3, every second pixel (Zhang 2019, "Making convolutional networks shift-invariant again"), padded by two."""
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).repeat(channels, 1, 1, 1)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=channels)


class Metric(nn.Module):
    def __init__(self, state):
        super().__init__()
        self.weights = [(state[f"net.{name}.weight"], state[f"net.{name}.bias"], pad) for name, pad in CONVOLUTIONS]
        self.roots = [state[f"lin{i}.model.1.weight"].sqrt() for i in range(len(CHANNELS))]
        self.shift, self.scale = state["scaling_layer.shift"], state["scaling_layer.scale"]

    def forward(self, picture):
        x = (picture * 2 - 1 - self.shift) / self.scale
        vectors = []
        for i, (weight, bias, pad) in enumerate(self.weights):
            if i in (1, 2):
                x = halved(F.max_pool2d(x, 3, 1), CHANNELS[i - 1])
            x = F.conv2d(x, weight, bias, padding=pad)
            x = F.relu(halved(x, CHANNELS[0]) if i == 0 else x)
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
            vectors.append((unit * self.roots[i] / (x.shape[2] * x.shape[3]) ** 0.5).flatten(1))
        return torch.cat(vectors, 1)


def weights():
    with tempfile.TemporaryDirectory() as folder:
        wheel.unpack(WHEEL, SHA256, Path(folder), "stlpips_pytorch/weights/vST0.0/")
        return torch.load(Path(folder, "alex_shift_tolerant.pth"), map_location="cpu", weights_only=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--side", type=int, default=SIDE, help=f"height and width of the pictures ({SIDE})")
    args = parser.parse_args()
    net = Metric(weights()).eval()
    torch.onnx.export(net, (torch.zeros(1, 3, args.side, args.side),), args.output, input_names=["picture"], output_names=["features"],
                      dynamic_axes={"picture": {0: "batch"}, "features": {0: "batch"}}, opset_version=17, dynamo=False)


if __name__ == "__main__":
    main()
