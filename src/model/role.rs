//! What a stage does in a pipeline.

use std::fmt;

/// What a stage of a model does, by the name of its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Tokens to states (`text_encoder`).
    TextEncoder,
    /// A further text encoder (`text_encoder_2`, `text_encoder_3`).
    SecondTextEncoder,
    /// Noisy latents to a prediction (`unet`, `transformer`).
    Denoiser,
    /// Latents to a picture (`vae_decoder`).
    Decoder,
    /// A picture to latents (`vae_encoder`).
    Encoder,
    /// A picture to a larger one (`upscaler`).
    Upscaler,
    /// Whether a picture may be shown (`safety_checker`).
    Checker,
    /// Anything else that has a graph.
    Other,
}

impl Role {
    /// The role of the folder `name`.
    pub fn of_folder(name: &str) -> Role {
        match name {
            "text_encoder" => Role::TextEncoder,
            "text_encoder_2" | "text_encoder_3" => Role::SecondTextEncoder,
            "unet" | "transformer" => Role::Denoiser,
            "vae_decoder" => Role::Decoder,
            "vae_encoder" => Role::Encoder,
            "upscaler" => Role::Upscaler,
            "safety_checker" => Role::Checker,
            _ => Role::Other,
        }
    }

    /// The folder, or folders, that the role has.
    pub fn folders(self) -> &'static str {
        match self {
            Role::TextEncoder => "text_encoder/",
            Role::SecondTextEncoder => "text_encoder_2/",
            Role::Denoiser => "unet/ or transformer/",
            Role::Decoder => "vae_decoder/",
            Role::Encoder => "vae_encoder/",
            Role::Upscaler => "upscaler/",
            Role::Checker => "safety_checker/",
            Role::Other => "?",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::TextEncoder => "text encoder",
            Role::SecondTextEncoder => "second text encoder",
            Role::Denoiser => "denoiser",
            Role::Decoder => "decoder",
            Role::Encoder => "encoder",
            Role::Upscaler => "upscaler",
            Role::Checker => "checker",
            Role::Other => "other",
        })
    }
}
