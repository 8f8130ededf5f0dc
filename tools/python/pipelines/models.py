"""Builds a fixture's networks and writes the files that stand beside its graphs."""

import json
from pathlib import Path

import diffusers

from . import nets, vocabulary

FREQUENT_MERGES = 300


def merges(wheel, specs):
    """CLIP's merges, cut to what the fixtures' prompts need and the most frequent ones."""
    texts = [t for spec in specs.values() for c in spec["cases"].values() for t in (c["prompt"], c["negative"])]
    words = {w.strip("!&,.'") for t in texts for w in t.lower().replace("'", " ").replace("-", " ").split()}
    return vocabulary.cut(vocabulary.clip_merges(wheel), FREQUENT_MERGES, sorted(w for w in words if w))


def networks(spec, vocabulary_size):
    seed, vae = spec["seed"], spec["vae"]
    text = nets.text_encoder(seed, vocabulary_size, **spec["text"])
    unet = nets.unet(seed + 1000, spec["prediction"], **spec["unet"])
    decoder = nets.tiny_decoder(seed + 2000) if vae == "tiny" else nets.kl_decoder(seed + 2000, vae)
    return text, unet, decoder


def scheduler(spec):
    name, config = spec["scheduler"]
    return getattr(diffusers, name)(**config)


def write_sidecars(directory, spec, text, unet, vae, merges_, onnx_pipeline=False):
    """model_index.json, scheduler/, tokenizer/ and, unless diffusers' own script would write none, each stage's config.json."""
    directory = Path(directory)
    vocabulary.write_tokenizer(directory / "tokenizer", merges_, spec["pad"])
    sampler = scheduler(spec)
    sampler.save_pretrained(directory / "scheduler")
    stage = ["diffusers", "OnnxRuntimeModel"]
    index = {
        "_class_name": "OnnxStableDiffusionPipeline" if onnx_pipeline else "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", type(sampler).__name__],
        "text_encoder": stage if onnx_pipeline else ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": stage if onnx_pipeline else ["diffusers", "UNet2DConditionModel"],
        **({"vae_decoder": stage} if onnx_pipeline else {"vae": ["diffusers", type(vae).__name__]}),
    }
    write_json(directory / "model_index.json", index)
    if not onnx_pipeline:
        for name, model in (("unet", unet), ("vae_decoder", vae)):
            write_json(directory / name / "config.json", json.loads(model.to_json_string()))
        write_json(directory / "text_encoder" / "config.json", text.config.to_dict())


def write_json(path, value):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")
