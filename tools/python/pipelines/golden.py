"""Goldens: the text-to-image loop of diffusers (its schedulers, torch noise) around the exported graphs in onnxruntime."""

import copy
import inspect
import json
import re
from pathlib import Path

import diffusers
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, numpy_helper
from PIL import Image
from transformers import CLIPTokenizer

# Classes the runtime knows and replaces: they run DPM-Solver++ 2M on the same config.
REPLACED = {"PNDMScheduler": "DPMSolverMultistepScheduler"}
NUMPY = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


class Stage:
    """One graph in onnxruntime; an f16 graph is widened to f32 inside and keeps its f16 edges (see README.md)."""

    def __init__(self, path, widen=True):
        model = onnx.load(path)
        self.edges = {i.name: i.type.tensor_type.elem_type for i in [*model.graph.input, *model.graph.output]}
        if widen and TensorProto.FLOAT16 in self.edges.values():
            model = widened(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self.inputs = {i.name: i for i in self.session.get_inputs()}

    def __call__(self, **values):
        feed = {n: self.at_edge(n, np.asarray(values[n])).astype(NUMPY[i.type]) for n, i in self.inputs.items()}
        name = self.session.get_outputs()[0].name
        return self.at_edge(name, self.session.run([name], feed)[0]).astype(np.float32)

    def at_edge(self, name, value):
        return value.astype(np.float16) if self.edges[name] == TensorProto.FLOAT16 else value

    def rank(self, name):
        return len(self.inputs[name].shape)

    def fixed_batch(self):
        batch = next(iter(self.inputs.values())).shape[0]
        return isinstance(batch, int)


def widened(model):
    """The same graph with every f16 tensor, cast and constant made f32; the weights keep their f16 values."""
    graph = model.graph
    for tensor in graph.initializer:
        widen_tensor(tensor)
    for info in [*graph.input, *graph.output, *graph.value_info]:
        if info.type.tensor_type.elem_type == TensorProto.FLOAT16:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t"):
                widen_tensor(attribute.t)
    return model


def widen_tensor(tensor):
    if tensor.data_type == TensorProto.FLOAT16:
        wide = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
        tensor.CopyFrom(wide)


def scheduler_of(model_dir):
    config = json.loads((Path(model_dir) / "scheduler" / "scheduler_config.json").read_text())
    name = REPLACED.get(config["_class_name"], config["_class_name"])
    return getattr(diffusers, name).from_config(config)


def guidance_embedding(guidance, size):
    """LatentConsistencyModelPipeline.get_guidance_scale_embedding."""
    half = size // 2
    scale = (guidance - 1) * 1000
    angles = scale * torch.exp(torch.arange(half, dtype=torch.float32) * -(np.log(10000.0) / (half - 1)))
    return torch.cat([torch.sin(angles), torch.cos(angles)])[None].numpy()


class Pipeline:
    def __init__(self, model_dir, widen=True):
        self.dir = Path(model_dir)
        self.tokenizer = CLIPTokenizer.from_pretrained(self.dir / "tokenizer")
        self.text, self.unet, self.vae = (Stage(self.dir / n / "model.onnx", widen) for n in ("text_encoder", "unet", "vae_decoder"))
        self.unet_config, self.vae_config = self.config("unet"), self.config("vae_decoder")

    def tokens(self, text):
        return self.tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids

    def config(self, stage):
        """diffusers' own script writes no config.json; its OnnxStableDiffusionPipeline then takes SD 1's values as given."""
        path = self.dir / stage / "config.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def downscale(self):
        widths = self.vae_config.get("block_out_channels") or self.vae_config.get("decoder_block_out_channels")
        return 2 ** (len(widths) - 1) if widths else 8

    def denoise(self, sample, t, contexts, guidance, extra):
        """The guided answer; the two halves run as one batch, or one after the other when the graph's batch is fixed."""
        batches = [[c] for c in contexts] if self.unet.fixed_batch() else [contexts]
        answers = []
        for batch in batches:
            n = len(batch)
            timestep = np.full([n] if self.unet.rank("timestep") else [], float(t))
            repeated = {k: np.repeat(v, n, 0) for k, v in extra.items()}
            x = np.repeat(sample.numpy(), n, 0)
            answers.append(self.unet(sample=x, timestep=timestep, encoder_hidden_states=np.concatenate(batch), **repeated))
        answers = torch.from_numpy(np.concatenate(answers))
        if len(contexts) == 1:
            return answers
        unconditional, conditional = answers.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    def __call__(self, case):
        width, height = case["width"], case["height"]
        embedded = self.unet_config.get("time_cond_proj_dim")
        guided = case["guidance"] > 1 and not embedded
        ids = {"prompt": self.tokens(case["prompt"])}
        if guided:
            ids = {"negative": self.tokens(case["negative"]), **ids}
        contexts = [self.text(input_ids=np.array([row])) for row in ids.values()]
        extra = {"timestep_cond": guidance_embedding(case["guidance"], embedded)} if embedded else {}

        scheduler = scheduler_of(self.dir)
        scheduler.set_timesteps(case["steps"])
        generator = torch.Generator("cpu").manual_seed(case["seed"])
        shape = (1, 4, height // self.downscale(), width // self.downscale())
        latents, timesteps = begin(scheduler, torch.randn(shape, generator=generator), case)
        scale = getattr(scheduler, "scale_model_input", lambda x, _: x)
        draws = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
        last_bit = 0.0
        for t in timesteps:
            answer = self.denoise(scale(latents, t), t, contexts, case["guidance"], extra)
            last_bit += last_bit_of(answer, scheduler, t, latents, draws)
            latents = scheduler.step(answer, t, latents, **draws).prev_sample
        picture = self.vae(latent_sample=latents.numpy() / self.vae_config.get("scaling_factor", 0.18215))
        facts = {
            "sampler": type(scheduler).__name__,
            "timesteps": [float(t) for t in timesteps],
            "tokens": ids["prompt"],
            "negative_tokens": ids.get("negative"),
        }
        if TensorProto.FLOAT16 in self.unet.edges.values():
            assert not guided and type(scheduler).__name__ == "EulerDiscreteScheduler", "last_bit_of does not cover this"
            facts["f16_last_bit"] = round(last_bit / float(latents.std()), 6)
        return latents.numpy().astype(np.float32), to_rgb8(picture), facts


def clean_latents(shape, case):
    """What an image-to-image case starts from: stands for a picture that was encoded."""
    return 0.8 * torch.randn(shape, generator=torch.Generator("cpu").manual_seed(case["init_seed"]))


def begin(scheduler, noise, case):
    """First latents and remaining timesteps: `prepare_latents` and `get_timesteps` of StableDiffusionPipeline, and for a case
    with a strength those of StableDiffusionImg2ImgPipeline and StableDiffusion3Img2ImgPipeline."""
    if "strength" not in case:
        return noise * getattr(scheduler, "init_noise_sigma", 1.0), scheduler.timesteps
    flow, steps = hasattr(scheduler, "scale_noise"), case["steps"]
    left = steps * case["strength"]
    first = int(max(steps - min(left if flow else int(left), steps), 0))
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first * scheduler.order)
    timesteps = scheduler.timesteps[first * scheduler.order :]
    clean = clean_latents(noise.shape, case)
    if flow:
        return scheduler.scale_noise(clean, timesteps[:1], noise), timesteps
    return scheduler.add_noise(clean, noise, timesteps[:1]), timesteps


def last_bit_of(answer, scheduler, t, latents, draws):
    """What one unit in the last f16 place of the largest answer moves the next latents by, which Euler passes on as it is."""
    step = lambda moved: copy.deepcopy(scheduler).step(answer + moved, t, latents, **copy.deepcopy(draws)).prev_sample
    unit = float(np.spacing(np.float16(float(answer.abs().max()))))
    return unit * float((step(1.0) - step(0.0)).abs().max())


def to_rgb8(picture):
    """VaeImageProcessor: denormalize, clamp, round."""
    unit = np.clip(picture[0].transpose(1, 2, 0) * 0.5 + 0.5, 0, 1)
    return (unit * 255).round().astype(np.uint8)


def distance(a, b):
    """max |d| / std of the second."""
    return float(np.abs(a - b).max() / b.std())


def write(model_dir, name, case):
    """Writes goldens/NAME.{json,npy,png}; returns the row for the README."""
    directory = Path(model_dir) / "goldens"
    directory.mkdir(exist_ok=True)
    latents, picture, facts = Pipeline(model_dir)(case)
    if TensorProto.FLOAT16 in Stage(Path(model_dir) / "unet" / "model.onnx").edges.values():
        plain, _, _ = Pipeline(model_dir, widen=False)(case)
        facts["f16_arithmetic_distance"] = round(distance(plain, latents), 6)
    std = float(picture.std())
    assert np.isfinite(latents).all() and latents.std() < 40, (model_dir, name, latents.std())
    assert std >= 25, (model_dir, name, std)
    np.save(directory / f"{name}.npy", latents)
    Image.fromarray(picture).save(directory / f"{name}.png", optimize=True)
    text = json.dumps({**case, **facts, "latent_std": round(float(latents.std()), 4), "picture_std": round(std, 2)}, indent=1)
    (directory / f"{name}.json").write_text(on_one_line(text) + "\n")
    return facts, float(latents.std()), std


def on_one_line(text):
    """Keeps number lists of a json text on one line."""
    return re.sub(r"\[[\d\s,.\-e]+\]", lambda m: re.sub(r"\s+", " ", m.group()), text)
