#!/usr/bin/env python3
"""Makes the models that bench_peers.py times: diffusers architectures with random weights, as ONNX.

    python -m venv A && A/bin/pip install -r requirements.txt
    A/bin/python make_bench_models.py DIR [NAME ...]

Not committed: together they take 6 GB. Seed 0; weights are drawn as torch's layers draw them, vectors disturbed a little.
"""

import argparse
import gc
import warnings
from pathlib import Path

import onnx
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

OPSET = 17


class UNet(torch.nn.Module):
    """sample, timestep, encoder_hidden_states -> out_sample."""

    def __init__(self, **config):
        super().__init__()
        self.net = UNet2DConditionModel(**config)

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.net(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class Decoder(torch.nn.Module):
    """latent_sample -> sample."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, latent_sample):
        return self.net.decode(latent_sample, return_dict=False)[0]


class Text(torch.nn.Module):
    """input_ids -> last_hidden_state, pooler_output."""

    def __init__(self, config):
        super().__init__()
        self.net = CLIPTextModel(config)

    def forward(self, input_ids):
        return self.net(input_ids, return_dict=False)[:2]


def unet_18m():
    net = UNet(
        sample_size=32, block_out_channels=(64, 128, 256), layers_per_block=1, cross_attention_dim=256,
        attention_head_dim=4, norm_num_groups=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )
    return net, unet_inputs(32, 256), UNET_NAMES


def unet_140m():
    net = UNet(
        sample_size=64, block_out_channels=(160, 320, 640), layers_per_block=1, cross_attention_dim=768,
        attention_head_dim=8, norm_num_groups=32,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )
    return net, unet_inputs(64, 768), UNET_NAMES


def unet_sd_turbo():
    net = UNet(
        sample_size=64, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2, cross_attention_dim=1024,
        attention_head_dim=(5, 10, 20, 20), norm_num_groups=32, use_linear_projection=True,
    )
    return net, unet_inputs(64, 1024), UNET_NAMES


def decoder_tiny():
    return Decoder(AutoencoderTiny()), (torch.randn(1, 4, 64, 64),), (["latent_sample"], ["sample"])


def decoder_kl():
    net = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )
    return Decoder(net), (torch.randn(1, 4, 64, 64),), (["latent_sample"], ["sample"])


def text_clip_l():
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=49406, eos_token_id=49407,
    )
    ids = torch.randint(0, 49405, (1, 77))
    ids[0, 0], ids[0, -1] = 49406, 49407
    return Text(config), (ids,), (["input_ids"], ["last_hidden_state", "pooler_output"])


UNET_NAMES = (["sample", "timestep", "encoder_hidden_states"], ["out_sample"])


def unet_inputs(size, width):
    return torch.randn(1, 4, size, size), torch.tensor([500.0]), torch.randn(1, 77, width)


MODELS = {
    "unet-18m": unet_18m, "unet-140m": unet_140m, "unet-sd-turbo": unet_sd_turbo,
    "decoder-tiny": decoder_tiny, "decoder-kl": decoder_kl, "text-clip-l": text_clip_l,
}


def disturb(net):
    """Norms start at one and biases at zero, which runtimes may drop: a trained model has neither."""
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def export(name, folder):
    torch.manual_seed(0)
    net, inputs, (inputs_named, outputs_named) = MODELS[name]()
    net.eval()
    disturb(net)
    count = sum(p.numel() for p in net.parameters())
    target = folder / name / "model.onnx"
    target.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, inputs, str(target), input_names=inputs_named, output_names=outputs_named, opset_version=OPSET,
            dynamo=False, do_constant_folding=True,
        )
    del net
    gc.collect()
    print(f"{name}: {count / 1e6:.1f} M parameters", flush=True)
    if name == "unet-sd-turbo":
        halve(target, folder)


def halve(source, folder):
    """The weights as f16 with a Cast to f32 behind each: once as external data, once as one file."""
    model = onnx.load(source)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 1:
            continue
        values = onnx.numpy_helper.to_array(tensor).astype("float16")
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, name + ".f16"))
        casts.append(onnx.helper.make_node("Cast", [name + ".f16"], [name], to=onnx.TensorProto.FLOAT))
        del values
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)
    one = folder / "unet-sd-turbo-f16-one-file" / "model.onnx"
    one.parent.mkdir(exist_ok=True)
    onnx.save(model, one)
    outside = folder / "unet-sd-turbo-f16" / "model.onnx"
    outside.parent.mkdir(exist_ok=True)
    onnx.save(model, outside, save_as_external_data=True, location="weights.pb", size_threshold=1024)
    print("unet-sd-turbo in f16: one file, and external data", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(MODELS))
    args = parser.parse_args()
    for name in args.names or MODELS:
        export(name, args.folder)


if __name__ == "__main__":
    main()
