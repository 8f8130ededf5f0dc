"""Exports a stage to ONNX with torch's two exporters, under the tensor names of the two dialects (both name them alike)."""

import re
from pathlib import Path

import onnx
import torch
from onnx.external_data_helper import set_external_data

IMAGE_AXES = {0: "batch", 1: "channels", 2: "height", 3: "width"}
# What differs between the dialects is the dtype of input_ids, the rank and dtype of timestep, and the free dimensions.
TEXT_OUTPUTS = ["last_hidden_state", "pooler_output"]


class TextEncoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids, return_dict=False)[:2]


class Denoiser(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.model(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class Decoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, latent_sample):
        return self.model.decode(latent_sample, return_dict=False)[0]


def stages(text_encoder, unet, vae, *, ids=torch.int32, timestep=None, batch=2, dtype=torch.float32, latent=16):
    """The three stages as (name, module, example inputs, free axes by input, output names)."""
    context = unet.config.cross_attention_dim
    timestep = torch.full((batch,), 500.0) if timestep is None else timestep
    timestep = timestep.to(dtype) if timestep.is_floating_point() else timestep
    t_axes = {0: "batch"} if timestep.ndim else {}
    text_axes = {"input_ids": {0: "batch", 1: "sequence"}}
    unet_axes = {"sample": IMAGE_AXES, "timestep": t_axes, "encoder_hidden_states": {0: "batch", 1: "sequence"}}
    sample, hidden = torch.randn(batch, 4, latent, latent).to(dtype), torch.randn(batch, 77, context).to(dtype)
    ids = torch.arange(77).repeat(batch, 1).to(ids)
    return [
        ("text_encoder", TextEncoder(text_encoder), {"input_ids": ids}, text_axes, TEXT_OUTPUTS),
        (
            "unet",
            Denoiser(unet),
            {"sample": sample, "timestep": timestep, "encoder_hidden_states": hidden},
            unet_axes,
            ["out_sample"],
        ),
        ("vae_decoder", Decoder(vae), {"latent_sample": sample[:1]}, {"latent_sample": IMAGE_AXES}, ["sample"]),
    ]


@torch.no_grad()
def torchscript(stage, directory, opset, static=False):
    """The exporter that diffusers' convert_stable_diffusion_checkpoint_to_onnx.py uses."""
    name, module, inputs, axes, outputs = stage
    path = Path(directory) / name / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        module,
        tuple(inputs.values()),
        path.as_posix(),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_axes=None if static else axes,
        do_constant_folding=True,
        opset_version=opset,
        dynamo=False,
    )


@torch.no_grad()
def dynamo(stage, directory, opset):
    """torch's present exporter (torch.export); always writes `model.onnx.data` beside the graph."""
    name, module, inputs, axes, outputs = stage
    path = Path(directory) / name / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    free = {n: {i: torch.export.Dim.DYNAMIC for i, a in axes[n].items() if a != "channels"} for n in inputs}
    torch.onnx.export(
        module,
        tuple(inputs.values()),
        path.as_posix(),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes=free,
        opset_version=opset,
        dynamo=True,
        external_data=True,
        verbose=False,
    )
    drop_traces(path)


def drop_traces(path):
    """Removes the exporter's stack traces and source paths, half of a small file; everything else stays as written."""
    model = onnx.load(path, load_external_data=False)
    for item in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer]:
        del item.metadata_props[:]
        item.ClearField("doc_string")
    del model.graph.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
    onnx.save_model(model, path)


def move_weights_out(path, location=None, threshold=1024):
    """Rewrites the graph with external data: in one file `location`, or as torch does over 2 GB, in one file per tensor."""
    model = onnx.load(path)
    path.unlink()
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= threshold:
            set_external_data(tensor, location or re.sub(r'[\\/:?*"<>|]', "_", tensor.name))
    onnx.save_model(model, path)
