"""What each fixture is: its networks, scheduler, tokenizer padding and cases."""

BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
EULER_TRAILING = {"timestep_spacing": "trailing", "steps_offset": 1, "interpolation_type": "linear", **BETAS}

LONG = (
    "a very detailed picture of a small red house by the sea with a white boat and a black cat on the roof, two green trees, "
    "a blue sky with many stars, a yellow moon over the water, an old man with a dog walking on the beach, birds, flowers, "
    "and a big clock tower in the distance, oil painting, soft light, high quality, every word after this one is too much"
)


def case(prompt, seed, steps, guidance, width=64, height=64, negative="", **image_to_image):
    """`strength` and `init_seed`: the case starts from latents drawn from that seed."""
    return {
        "prompt": prompt,
        "negative": negative,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "width": width,
        "height": height,
        **image_to_image,
    }


# name -> seed, unet (arguments of nets.unet), vae (widths, or "tiny"), text (arguments of nets.text_encoder), scheduler, pad, cases
PIPELINES = {
    "sd1-a": {
        "seed": 101,
        "prediction": "epsilon",
        "unet": {"block_out_channels": (16, 16, 24),
                 "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
                 "up_block_types": ("UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D")},
        "vae": (8, 16, 16, 16),
        "text": {"act": "quick_gelu"},
        "scheduler": ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1,
                                        "timestep_spacing": "leading", "prediction_type": "epsilon", **BETAS}),
        "pad": "<|endoftext|>",
        "cases": {
            "guided": case("a photo of an astronaut riding a horse", 0, 8, 7.5, 128, 128),
            "wide": case(LONG, 42, 2, 1.0, 128, 64),
            "edited": case("a photo of an astronaut riding a horse", 21, 8, 7.5, 64, 128, strength=0.6, init_seed=31),
        },
    },
    "sd2-b": {
        "seed": 102,
        "prediction": "v_prediction",
        "unet": {"block_out_channels": (16, 24), "use_linear_projection": True, "attention_head_dim": (2, 3)},
        "vae": (8, 16, 16),
        "text": {"act": "gelu"},
        "scheduler": ("EulerDiscreteScheduler", {"prediction_type": "v_prediction", **EULER_TRAILING}),
        "pad": "!",
        "cases": {
            "guided": case("A café by the sea, 3 boats & a lighthouse's lamp!!", 7, 8, 4.0, negative="blurry, dark"),
            "tall": case("a red apple", 123456789, 4, 1.0, 64, 96),
        },
    },
    "lcm-b": {
        "seed": 103,
        "prediction": "epsilon",
        "unet": {"block_out_channels": (16, 16), "time_cond_proj_dim": 32},
        "vae": (8, 16, 16),
        "text": {"act": "quick_gelu"},
        "scheduler": ("LCMScheduler", {"original_inference_steps": 50, "clip_sample": False, "set_alpha_to_one": True,
                                       "steps_offset": 0, "timestep_spacing": "leading", "prediction_type": "epsilon",
                                       "timestep_scaling": 10.0, **BETAS}),
        "pad": "<|endoftext|>",
        "cases": {
            "four": case("self-portrait oil painting, a beautiful cat, 8k", 1, 4, 8.0),
            "wide": case("a green tree", 2, 2, 1.5, 96, 64),
        },
    },
    "turbo-f16": {
        "seed": 104,
        "prediction": "epsilon",
        "unet": {"block_out_channels": (16, 24), "use_linear_projection": True, "attention_head_dim": (2, 3)},
        "vae": (8, 16, 16),
        "text": {"act": "gelu"},
        "scheduler": ("EulerDiscreteScheduler", {"prediction_type": "epsilon", **EULER_TRAILING}),
        "pad": "!",
        "cases": {
            "one": case("a cinematic shot of a baby raccoon", 0, 1, 0.0),
            "tall": case("a big clock", 5, 4, 0.0, 64, 96),
            "edited": case("a big clock", 22, 4, 0.0, strength=0.5, init_seed=32),
        },
    },
    "tiny-vae": {
        "seed": 105,
        "prediction": "sample",
        "unet": {"block_out_channels": (16, 24), "mid_block_type": None},
        "vae": "tiny",
        "text": {"act": "gelu"},
        "scheduler": ("EulerDiscreteScheduler", {"prediction_type": "sample", **EULER_TRAILING}),
        "pad": "!",
        "cases": {
            "one": case("portrait photo of a girl, photograph", 11, 1, 0.0),
            "wide": case(LONG, 12, 2, 2.0, 96, 64, negative="text"),
        },
    },
    "flow": {
        "seed": 106,
        "prediction": "flow",
        "unet": {"block_out_channels": (16, 16)},
        "vae": (8, 16, 16),
        "text": {"act": "gelu"},
        "scheduler": ("FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": 1000, "shift": 3.0}),
        "pad": "<|endoftext|>",
        "cases": {
            "guided": case("a house in the snow", 3, 8, 3.5, negative="summer"),
            "wide": case("two birds", 4, 2, 1.0, 96, 64),
            "edited": case("two birds", 23, 8, 3.5, strength=0.6, init_seed=33, negative="summer"),
        },
    },
    "static": {
        "seed": 107,
        "prediction": "epsilon",
        "unet": {"block_out_channels": (8, 16)},
        "vae": (8, 16, 16),
        "text": {"act": "quick_gelu"},
        "scheduler": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
                                        "timestep_spacing": "leading", "prediction_type": "epsilon", **BETAS}),
        "pad": "<|endoftext|>",
        "cases": {
            "guided": case("a bowl of fruit", 8, 8, 7.5, negative="blurry"),
            "two": case("a bowl of fruit", 9, 2, 1.0),
            "edited": case("a bowl of fruit", 24, 10, 1.0, strength=0.75, init_seed=34),
        },
    },
}
