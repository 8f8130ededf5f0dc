#!/usr/bin/env python3
"""How near an upscaler's pictures come to what they should be: drawings rendered small and enlarged, beside the same drawings rendered large.

    python tools/python/convert_stlpips.py stlpips256.onnx --side 256     # needs torch
    python tools/python/measure_upscaler.py models/sticker-64/upscaler stlpips256.onnx [--sheet sheet.png]

Drawings are SVG on white, drawn by lot from each of two npm packages, at the versions and checksums that tools/src/dataset/packages.rs pins. Beside the
upscaler stands Catmull-Rom interpolation, which is what the runtime enlarges with where a model has no upscaler. PSNR in decibels, ST-LPIPS as in
convert_stlpips.py (less is nearer). Needs numpy, onnxruntime and pillow as pinned in requirements.txt, and PyPI resvg_py 0.5.0.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime
import resvg_py
from PIL import Image

PACKAGES = {
    "Noto": ("@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    "Fluent flat": ("@iconify-json/fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"),
}
SMALL = 64
SEED = 0
# Drawings of a sheet, and what stands in its rows: small by repetition, Catmull-Rom, upscaler, rendered large.
SHOWN = 8


def archive(name, version, sha256, folder):
    """The package's `.tgz`, fetched by npm if it is not there."""
    file = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        subprocess.run(["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder, f"{name}@{version}"], check=True, stdout=sys.stderr)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    return file if found == sha256 else sys.exit(f"{file} has the SHA-256 {found}, not {sha256}")


def drawings(file, count):
    """SVG texts of `count` icons, drawn by lot."""
    with tarfile.open(file) as package:
        icons = json.load(package.extractfile("package/icons.json"))
    names = sorted(name for name, icon in icons["icons"].items() if not icon.get("hidden"))
    chosen = np.random.default_rng(SEED).choice(len(names), count, replace=False)
    return [svg(icons, icons["icons"][names[i]]) for i in sorted(chosen)]


def svg(icons, icon):
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    box = f'{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}'
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} width="{width}" height="{height}" viewBox="{box}">{icon["body"]}</svg>'


def rendered(text, side):
    """(side, side, 3) bytes."""
    png = resvg_py.svg_to_bytes(svg_string=text, background="white", width=side, height=side, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))


def planes(picture):
    return (picture.astype(np.float32) / 255).transpose(2, 0, 1)[None]


class Upscaler:
    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text())
        self.factor, (self.low, self.high) = config["upscale"], config["value_range"]
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def __call__(self, picture):
        values = self.low + planes(picture) * (self.high - self.low)
        (made,) = self.session.run(None, {self.session.get_inputs()[0].name: values})
        made = ((made[0] - self.low) / (self.high - self.low)).clip(0, 1)
        return np.round(made * 255).astype(np.uint8).transpose(1, 2, 0)


def interpolated(picture, side):
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype("f8") - b) ** 2), 1e-12))


class Metric:
    def __init__(self, file, side):
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        found = self.session.get_inputs()[0].shape[2]
        if found != side:
            sys.exit(f"{file}: is for pictures of {found}, not {side}: convert_stlpips.py --side {side}")

    def __call__(self, a, b):
        a, b = (self.session.run(None, {"picture": planes(picture)})[0].astype("f8") for picture in (a, b))
        return float(((a - b) ** 2).sum())


def measured(title, texts, upscaler, metric):
    """Prints a row; gives the pictures of the sheet's columns."""
    side, scores, columns = SMALL * upscaler.factor, [], []
    for text in texts:
        small, wanted = rendered(text, SMALL), rendered(text, side)
        made = [interpolated(small, side), upscaler(small)]
        scores.append([[psnr(picture, wanted), metric(picture, wanted)] for picture in made])
        if len(columns) < SHOWN:
            columns.append(np.concatenate([small.repeat(upscaler.factor, 0).repeat(upscaler.factor, 1), *made, wanted]))
    scores = np.array(scores)
    (psnr_by, lpips_by), (psnr_up, lpips_up) = scores.mean(0)
    better = (scores[:, 1, 0] > scores[:, 0, 0]).sum(), (scores[:, 1, 1] < scores[:, 0, 1]).sum()
    print(f"{title}: {len(texts)} drawings; PSNR {psnr_by:.2f} dB interpolated, {psnr_up:.2f} upscaled ({psnr_up - psnr_by:+.2f}), better in {better[0]}; "
          f"ST-LPIPS {lpips_by:.4f} and {lpips_up:.4f}, better in {better[1]}")
    return columns


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upscaler", type=Path, help="an upscaler/ with config.json")
    parser.add_argument("stlpips", type=Path, help="what convert_stlpips.py writes for the large side")
    parser.add_argument("--count", type=int, default=100, help="drawings of each package (100)")
    parser.add_argument("--packages", type=Path, default=Path("target/npm"), help="where archives are kept (target/npm)")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="some of them: small, interpolated, upscaled, rendered large")
    args = parser.parse_args()
    upscaler = Upscaler(args.upscaler)
    metric = Metric(args.stlpips, SMALL * upscaler.factor)
    rows = [measured(title, drawings(archive(*package, args.packages), args.count), upscaler, metric) for title, package in PACKAGES.items()]
    if args.sheet:
        Image.fromarray(np.concatenate([np.concatenate(columns, 1) for columns in rows])).save(args.sheet)


if __name__ == "__main__":
    main()
