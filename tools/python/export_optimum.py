#!/usr/bin/env python3
"""Dialect B: builds one fixture with the pins of requirements-optimum.txt and lets optimum-onnx export it.

Called by make_pipelines.py; its environment is a second one because optimum-onnx 0.1.0 and diffusers 0.42.1 cannot be
installed together (huggingface-hub < 1 against >= 1.32).
"""

import argparse
import json
import tempfile

import diffusers
import torch
import transformers
from optimum.exporters.onnx import main_export
from pipelines import models
from pipelines.specs import PIPELINES

CLASSES = {"lcm-b": diffusers.LatentConsistencyModelPipeline}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PIPELINES)
    parser.add_argument("merges", help="json file with the vocabulary's merges")
    parser.add_argument("output")
    args = parser.parse_args()
    torch.set_num_threads(1)
    spec = PIPELINES[args.name]
    merges = [tuple(pair) for pair in json.load(open(args.merges))]
    with tempfile.TemporaryDirectory() as folder:
        models.vocabulary.write_tokenizer(f"{folder}/tokenizer", merges, spec["pad"])
        tokenizer = transformers.CLIPTokenizerFast.from_pretrained(f"{folder}/tokenizer")
        text, unet, vae = models.networks(spec, len(tokenizer))
        pipeline = CLASSES.get(args.name, diffusers.StableDiffusionPipeline)(
            vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=models.scheduler(spec),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )
        pipeline.save_pretrained(f"{folder}/pipeline")
        main_export(f"{folder}/pipeline", args.output, library_name="diffusers", task="text-to-image", do_validation=False)


if __name__ == "__main__":
    main()
