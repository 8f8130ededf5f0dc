"""The tiny networks: seeded random weights, with output layers fitted so that latents stay bounded and pictures have contrast."""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

CONTEXT = 24  # width of the text encoder
OUTPUT_STD = 0.6  # of the denoiser's answer, at least
PICTURE_STD = 0.35  # of the decoder's output in [-1, 1]: 45/255
ALPHAS_BAR = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)


def text_encoder(seed, vocabulary_size, act="quick_gelu", hidden=CONTEXT):
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        projection_dim=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        hidden_act=act,
        bos_token_id=vocabulary_size - 2,
        eos_token_id=2,
        pad_token_id=1,  # as in SD's configs: with eos 2 the pooled state is that of the highest id
    )
    return CLIPTextModel(config).eval()


def unet(seed, prediction, context=CONTEXT, **config):
    torch.manual_seed(seed)
    model = UNet2DConditionModel(
        **{
            "sample_size": 16,
            "in_channels": 4,
            "out_channels": 4,
            "layers_per_block": 1,
            "block_out_channels": (16, 32),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "norm_num_groups": 8,
            "attention_head_dim": 4,
            "cross_attention_dim": context,
            **config,
        }
    ).eval()
    strengthen_text(model)
    fit_head(model, prediction, context)
    return model


@torch.no_grad()
def strengthen_text(model):
    """Scales what cross-attention adds, so that another prompt gives visibly another picture."""
    for name, parameter in model.named_parameters():
        if ".attn2.to_v.weight" in name or ".attn2.to_out.0.weight" in name:
            parameter.mul_(2.0)


def noisy(prediction, t, x0, noise):
    """What the network sees at training time `t` in [0, 999], and what it should answer."""
    if prediction == "flow":
        share = (t.float() / 1000)[:, None, None, None]
        return (1 - share) * x0 + share * noise, noise - x0
    alpha, sigma = (f(ALPHAS_BAR[t]).float()[:, None, None, None] for f in (torch.sqrt, lambda a: torch.sqrt(1 - a)))
    target = {"epsilon": noise, "v_prediction": alpha * noise - sigma * x0, "sample": x0}[prediction]
    return alpha * x0 + sigma * noise, target


@torch.no_grad()
def fit_head(model, prediction, context, batch=48, size=16, ridge=1e-3):
    """Solves the last convolution by ridge regression against the training target on random latents.

    A random network answers anything, and one step from pure noise multiplies that by 1/sqrt(alpha_bar) = 14.6; with a
    fitted head the trajectory behaves more like a trained model's. Where there is little to fit, regression answers almost
    zero: then the head is scaled up to `OUTPUT_STD`, so that a wrong network shows.
    """
    x0, noise = 0.8 * torch.randn(batch, 4, size, size), torch.randn(batch, 4, size, size)
    t = torch.linspace(20, 999, batch).round().long()
    sample, target = noisy(prediction, t, x0, noise)
    features = []
    hook = model.conv_out.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    extra = {}
    if model.config.time_cond_proj_dim:
        extra["timestep_cond"] = torch.randn(batch, model.config.time_cond_proj_dim)
    model(sample, t, torch.randn(batch, 77, context), **extra)
    hook.remove()
    columns = torch.nn.functional.unfold(features[0], 3, padding=1).transpose(1, 2).flatten(0, 1).double()
    columns = torch.cat([columns, torch.ones(len(columns), 1, dtype=torch.float64)], 1)
    wanted = target.flatten(2).transpose(1, 2).flatten(0, 1).double()
    gram = columns.T @ columns + ridge * len(columns) * torch.eye(columns.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(gram, columns.T @ wanted)
    gain = max(1.0, OUTPUT_STD / float((columns @ solution).std()))
    model.conv_out.weight.copy_(gain * solution[:-1].T.reshape(model.conv_out.weight.shape))
    model.conv_out.bias.copy_(gain * solution[-1])


def kl_decoder(seed, widths=(16, 16, 32), scaling=0.18215):
    torch.manual_seed(seed)
    model = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        sample_size=16 << (len(widths) - 1),
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=1,
        norm_num_groups=8,
        scaling_factor=scaling,
    ).eval()
    # The encoder is not exported; optimum-onnx insists on exporting one, so it stays, as small as the decoder.
    return with_contrast(model, model.decoder.conv_out, 1 / scaling)


def tiny_decoder(seed, widths=(16, 16, 16)):
    torch.manual_seed(seed)
    model = AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1,) * len(widths),
        num_decoder_blocks=(1,) * len(widths),
        scaling_factor=1.0,
    ).eval()
    return with_contrast(model, model.decoder.layers[-1], 1.0)


@torch.no_grad()
def with_contrast(model, last, latent_scale):
    """Scales and shifts the decoder's last convolution so that the picture has mean 0 and std `PICTURE_STD` in [-1, 1]."""
    latents = latent_scale * torch.randn(4, 4, 16, 16)
    last.bias.zero_()
    last.weight.mul_(PICTURE_STD / decoded(model, latents).std(dim=(0, 2, 3)).reshape(3, 1, 1, 1))
    last.bias.sub_(decoded(model, latents).mean(dim=(0, 2, 3)) * last_gain(model))
    return model


def last_gain(model):
    """AutoencoderTiny maps its last convolution from [0, 1] to [-1, 1]."""
    return 0.5 if isinstance(model, AutoencoderTiny) else 1.0


@torch.no_grad()
def decoded(model, latents):
    return model.decode(latents, return_dict=False)[0]
