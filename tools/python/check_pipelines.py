#!/usr/bin/env python3
"""Holds the goldens of tests/golden/pipelines to diffusers' own pipeline classes, run on the torch networks.

Each name in the environment that made its weights: sd2-b and lcm-b with requirements-optimum.txt, the others with
requirements.txt. `flow` has no class (a UNet with a flow-match scheduler), turbo-f16's networks are f32 here: both are left out.
"""

import argparse
import sys
import warnings
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image

from pipelines import golden, models
from pipelines.specs import PIPELINES

FIXTURES = Path(__file__).resolve().parent.parent.parent / "tests" / "golden" / "pipelines"
CLASSES = {"lcm-b": diffusers.LatentConsistencyModelPipeline}


def pipeline(name):
    directory = FIXTURES / name
    tokenizer = transformers.CLIPTokenizerFast.from_pretrained(directory / "tokenizer")
    text, unet, vae = models.networks(PIPELINES[name], len(tokenizer))
    made = CLASSES.get(name, diffusers.StableDiffusionPipeline)(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=golden.scheduler_of(directory),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def run(made, case, output):
    if "strength" in case:
        return run_image_to_image(made, case, output)
    negative = {} if isinstance(made, CLASSES["lcm-b"]) else {"negative_prompt": case["negative"]}
    return made(
        prompt=case["prompt"], num_inference_steps=case["steps"], guidance_scale=case["guidance"], width=case["width"],
        height=case["height"], generator=torch.Generator("cpu").manual_seed(case["seed"]), output_type=output, **negative,
    ).images[0]


def run_image_to_image(made, case, output):
    shape = (1, 4, case["height"] // made.vae_scale_factor, case["width"] // made.vae_scale_factor)
    return diffusers.StableDiffusionImg2ImgPipeline(**made.components, requires_safety_checker=False)(
        prompt=case["prompt"], negative_prompt=case["negative"], image=golden.clean_latents(shape, case), strength=case["strength"],
        num_inference_steps=case["steps"], guidance_scale=case["guidance"], output_type=output,
        generator=torch.Generator("cpu").manual_seed(case["seed"]),
    ).images[0]


def check(name):
    made = pipeline(name)
    for title, case in PIPELINES[name]["cases"].items():
        file = FIXTURES / name / "goldens" / title
        latents = golden.distance(run(made, case, "latent").numpy(), np.load(file.with_suffix(".npy"))[0])
        picture = np.asarray(run(made, case, "pil")).astype(int) - np.asarray(Image.open(file.with_suffix(".png")))
        print(f"{name}/{title}: latents {latents:.1e} of their std, picture {abs(picture).max()}/255")
        if latents > 1e-4 or abs(picture).max() > 1:
            sys.exit(f"check_pipelines.py: {name}/{title} is not what {type(made).__name__} makes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[n for n in PIPELINES if n not in ("flow", "turbo-f16")])
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name in parser.parse_args().names:
        check(name)


if __name__ == "__main__":
    main()
