#!/usr/bin/env python3
"""Samples a second at which PyTorch trains the denoiser: a twin of tools/src/net/denoiser.rs and of the step of `train denoiser`.

    python train_speed.py --device cuda --batch 32 256 --bf16 --compile --json OUT
    python train_speed.py --check models/sticker-64

A variant is a batch size, f32 or bfloat16, eager or compiled; each is timed for --seconds after its warm-up. Latents and token states are random
and stay the same, noise and times are drawn every step: reading data and encoding prompts are not in the figure. Peak memory is the allocator's on
CUDA; on the CPU it is the process's so far, so the variant that needs most comes last.

Timing needs torch alone, --from safetensors or onnx, --check onnx, onnxruntime and numpy, all as pinned in requirements.txt.
"""

import argparse
import itertools
import json
import math
import resource
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

SEED = 0
LATENT, SIZE, CHANNELS, HEADS = 4, 16, (48, 128, 320), (4, 8)
TEXT, TOKENS, CONDITION, TIME, MAP, GROUPS = 384, 32, 384, 128, 32, 8
RATE = 1.5e-3
# Steps before the clock starts: compilation, choice of kernels, the allocator's growth.
WARM = 5


def three(a, b):
    return nn.Conv2d(a, b, 3, padding=1)


def one(a, b):
    return nn.Conv2d(a, b, 1)


def halve(a, b):
    return nn.Conv2d(a, b, 2, stride=2)


class Block(nn.Module):
    """Residual block, modulated by the condition (B, CONDITION)."""

    def __init__(self, a, b):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, a), three(a, b)
        self.modulate, self.conv2 = nn.Linear(CONDITION, 2 * b), three(b, b)
        self.skip = nn.Identity() if a == b else one(a, b)

    def forward(self, x, cond):
        h = F.group_norm(self.conv1(F.silu(self.norm1(x))), GROUPS)
        scale, shift = self.modulate(cond)[..., None, None].chunk(2, 1)
        return self.skip(x) + self.conv2(F.silu(h * (scale + 1) + shift))


class Attend(nn.Module):
    """Self-attention, then cross-attention to the token states (B, T, TEXT), both residual."""

    def __init__(self, c, heads):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(c), nn.LayerNorm(c)
        for kind, source in ("self", c), ("cross", TEXT):
            widths = {"q": c, "k": source, "v": source, "out": c}
            self.add_module(kind, nn.ModuleDict({part: nn.Linear(width, c) for part, width in widths.items()}))

    def attention(self, kind, x, source):
        part = getattr(self, kind)
        projected = part["q"](x), part["k"](source), part["v"](source)
        q, k, v = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in projected)
        return part["out"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x, states):
        tokens = x.flatten(2).transpose(1, 2)
        h = self.norm1(tokens)
        tokens = tokens + self.attention("self", h, h)
        tokens = tokens + self.attention("cross", self.norm2(tokens), states)
        return tokens.transpose(1, 2).reshape(x.shape)


class Denoiser(nn.Module):
    """Names of parameters are those of the Rust net; so is their start, but for the seed."""

    def __init__(self):
        super().__init__()
        c1, c2, c3 = CHANNELS
        self.time = nn.ModuleList([nn.Linear(TIME, CONDITION), nn.Linear(CONDITION, CONDITION)])
        self.pooled = nn.ModuleList([nn.Linear(TEXT, 512), nn.Linear(512, CONDITION)])
        self.style = nn.Linear(TEXT, CONDITION)
        self.map4, self.map8 = nn.Linear(CONDITION, c3 * (SIZE // 4) ** 2), nn.Linear(CONDITION, MAP * (SIZE // 2) ** 2)
        self.map8.mix = one(MAP, c2)
        self.add_module("in", three(LATENT, c1))
        self.positions = nn.Embedding(TOKENS, TEXT)
        self.down1 = nn.ModuleList([Block(c1, c1)])
        self.halve1, self.halve2 = halve(c1, c2), halve(c2, c3)
        self.down2 = nn.ModuleDict({"0": Block(c2, c2), "1": Block(c2, c2), "attention": Attend(c2, HEADS[0])})
        self.down3 = nn.ModuleDict({"0": Block(c3, c3), "1": Block(c3, c3)})
        self.down3.update({"attention0": Attend(c3, HEADS[1]), "attention1": Attend(c3, HEADS[1])})
        self.middle = Block(c3, c3)
        self.double2, self.double1 = one(c3, 4 * c2), one(c2, 4 * c1)
        self.up2 = nn.ModuleDict({"0": Block(2 * c2, c2), "1": Block(2 * c2, c2), "attention": Attend(c2, HEADS[0])})
        self.up1 = nn.ModuleList([Block(2 * c1, c1), Block(c1, c1)])
        self.out = three(c1, LATENT)
        self.out.norm = nn.GroupNorm(GROUPS, c1)
        frequencies = torch.exp(torch.arange(TIME // 2, dtype=torch.float64) * (-math.log(10_000) / (TIME // 2))).float()
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.start()

    @torch.no_grad()
    def start(self):
        for name, p in self.named_parameters():
            layer, kind = name.split(".")[-2:]
            if kind == "bias" or layer in ("conv2", "out"):
                p.zero_()
            elif layer in ("map4", "map8"):
                p.normal_(std=0.01)
            elif layer == "positions":
                p.normal_(std=0.02)

    def condition(self, timestep, states):
        """(B, CONDITION), after its SiLU."""
        angles = timestep[:, None] * self.frequencies
        moment = self.time[1](F.silu(self.time[0](torch.cat([angles.cos(), angles.sin()], 1))))
        pooled = self.pooled[1](F.silu(self.pooled[0](states[:, 0])))
        return F.silu(moment + pooled + self.style(states[:, 1]))

    def forward(self, sample, timestep, states):
        """Latents (B, LATENT, SIZE, SIZE), timesteps (B) in 0..1000, token states (B, T, TEXT) -> as the latents."""
        cond = self.condition(timestep, states)
        states = states + self.positions.weight
        skip1 = self.down1[0](getattr(self, "in")(sample), cond)

        x = self.halve1(skip1) + self.map8.mix(self.map8(cond).unflatten(1, (MAP, SIZE // 2, SIZE // 2)))
        skip2a = self.down2["0"](x, cond)
        skip2b = self.down2["attention"](self.down2["1"](skip2a, cond), states)

        x = self.halve2(skip2b) + self.map4(cond).unflatten(1, (CHANNELS[2], SIZE // 4, SIZE // 4))
        x = self.down3["attention0"](self.down3["0"](x, cond), states)
        x = self.down3["attention1"](self.down3["1"](x, cond), states)
        x = self.middle(x, cond)

        x = F.pixel_shuffle(self.double2(x), 2)
        x = self.up2["0"](torch.cat([x, skip2b], 1), cond)
        x = self.up2["1"](torch.cat([x, skip2a], 1), cond)
        x = self.up2["attention"](x, states)

        x = F.pixel_shuffle(self.double1(x), 2)
        x = self.up1[1](self.up1[0](torch.cat([x, skip1], 1), cond), cond)
        return self.out(F.silu(self.out.norm(x)))


def weights(path):
    """Parameters by name, from a run's weights.safetensors, the run's folder or an exported model directory, where they are f16 or int8."""
    if not (path / "model_index.json").exists():
        from safetensors.torch import load_file
        return load_file(path / "weights.safetensors" if path.is_dir() else path)
    import onnx
    graph = onnx.load(path / "unet/model.onnx").graph
    given = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    arrays = {name: values.astype("f4") for name, values in given.items() if values.dtype in ("f2", "i1")}
    for node in (node for node in graph.node if node.op_type == "DequantizeLinear"):
        axis, values = next(a.i for a in node.attribute if a.name == "axis"), arrays[node.input[0]]
        values *= given[node.input[1]].reshape([-1 if n == axis else 1 for n in range(values.ndim)])
    return {name.removesuffix("^T"): torch.tensor(a.T if name.endswith("^T") else a) for name, a in arrays.items()}


class Training:
    """The step of tools/src/train: rectified flow, AdamW, clipping, running averages; the learning rate is constant."""

    def __init__(self, net, bf16, compiled):
        self.net, self.bf16, self.steps, self.params = net, bf16, 0, list(net.parameters())
        self.averages = [p.detach().clone() for p in self.params]
        wide, narrow = [p for p in self.params if p.dim() > 1], [p for p in self.params if p.dim() == 1]
        groups = [{"params": wide, "weight_decay": 0.01}, {"params": narrow, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
        self.loss = torch.compile(self.error) if compiled else self.error

    def error(self, x0, noise, t, states):
        wide = t[:, None, None, None]
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=self.bf16):
            flow = self.net(x0 * (1 - wide) + noise * wide, t * 1000, states)
        return (flow - (noise - x0)).square().mean()

    def step(self, x0, states):
        """Trains on one batch; its loss stays on the device."""
        t = (torch.randn(len(x0), device=x0.device) + 0.6).sigmoid()
        loss = self.loss(x0, torch.randn_like(x0), t, states)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        self.steps += 1
        decay = min(0.999, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.params, 1 - decay)
        return loss.detach()


def device_name(device):
    if device == "cuda":
        return torch.cuda.get_device_name()
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        model = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "cpu")
    return f"{model}, threads {torch.get_num_threads()}"


def speed(args, batch, bf16, compiled):
    """Times one variant."""
    torch.manual_seed(SEED)
    torch.compiler.reset()
    net = Denoiser()
    if args.weights:
        net.load_state_dict(weights(args.weights))
    training = Training(net.to(args.device), bf16, compiled)
    x0 = torch.randn(batch, LATENT, SIZE, SIZE, device=args.device)
    states = torch.randn(batch, TOKENS, TEXT, device=args.device)
    cuda = args.device == "cuda"
    wait = torch.cuda.synchronize if cuda else lambda: None
    for _ in range(WARM):
        training.step(x0, states)
    wait()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    started, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - started < args.seconds:
        loss = training.step(x0, states)
        steps += 1
    wait()
    seconds = time.perf_counter() - started
    if not math.isfinite(loss):
        sys.exit(f"train_speed.py: the loss is {loss.item()} after {training.steps} steps")
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "device": device_name(args.device), "torch": torch.__version__,
        "batch": batch, "type": "bf16" if bf16 else "f32", "compiled": compiled,
        "samples_per_s": steps * batch / seconds, "steps": steps, "seconds": seconds, "peak_bytes": peak, "loss": loss.item(),
    }


def speeds(args):
    rows = []
    variants = itertools.product(args.batch, [False, True][: 1 + args.bf16], [False, True][: 1 + args.compile])
    for row in (speed(args, *variant) for variant in variants):
        rows.append(row)
        print(
            f"{row['device']}, torch {row['torch']}: batch {row['batch']}, {row['type']}, {'compiled' if row['compiled'] else 'eager'}: "
            f"{row['samples_per_s']:.1f} samples/s ({row['steps']} steps in {row['seconds']:.1f} s), peak {row['peak_bytes'] / 1e6:.0f} MB",
            flush=True,
        )
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def check(model, tolerance=1e-4):
    """Holds the twin, with a model's weights, to onnxruntime on the model's graph."""
    import numpy as np
    import onnxruntime
    rng = np.random.default_rng(SEED)
    inputs = {
        "sample": rng.standard_normal((8, LATENT, SIZE, SIZE), "f4"), "timestep": rng.uniform(0, 1000, 8).astype("f4"),
        "encoder_hidden_states": rng.standard_normal((8, TOKENS, TEXT), "f4"),
    }
    options = onnxruntime.SessionOptions()
    # See check_export.py: what weights in eight bits are multiplied by stays f32.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(model / "unet/model.onnx", options, providers=["CPUExecutionProvider"])
    wanted = session.run(None, inputs)[0].astype("f8")
    net = Denoiser()
    net.load_state_dict(weights(model))
    with torch.no_grad():
        own = net(*(torch.from_numpy(x) for x in inputs.values())).numpy()
    distance = abs(own - wanted).max() / wanted.std()
    print(f"{model}: max |d| / std {distance:.1e} from onnxruntime {onnxruntime.__version__}, torch {torch.__version__}, seed {SEED}")
    if not distance <= tolerance:
        sys.exit(f"train_speed.py: the twin is {distance:.1e} of the output's std away from onnxruntime, allowed {tolerance:.0e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="MODEL_DIR", help="compare the forward pass with an exported model, time nothing")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="of torch on the CPU; unless told, its own choice")
    parser.add_argument("--batch", type=int, nargs="+", default=[32])
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast too")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--seconds", type=float, default=10, help="of every variant (10)")
    parser.add_argument("--from", dest="weights", type=Path, help="weights to begin with: of a run, or an exported model directory")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = True  # as tools/src/train/run.rs sets it
    if args.threads:
        torch.set_num_threads(args.threads)
    return check(args.check) if args.check else speeds(args)


if __name__ == "__main__":
    main()
