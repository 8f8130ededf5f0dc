//! The configs beside the graphs: JSON with every value checked, and typed values per stage.
//!
//! diffusers' own ONNX script writes no `config.json` beside its graphs, so every value may be missing.

use super::role::Role;
use crate::error::{Error, ErrorKind, Result, fail};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Scaling factor of `AutoencoderKL` where no config gives one (diffusers, `autoencoder_kl.py`).
const KL_SCALING: f64 = 0.18215;

/// How many times larger an upscaler may make a picture.
pub(crate) const UPSCALES: std::ops::RangeInclusive<usize> = 2..=16;

/// A JSON object in a file, whose fields are read one by one, each checked.
#[derive(Debug, Clone)]
pub struct Fields {
    file: PathBuf,
    map: Map<String, Value>,
}

impl Fields {
    /// Reads the JSON object in `file`.
    ///
    /// # Errors
    /// `NotFound`, `Io`, or `Malformed` with line and column.
    pub fn read(file: &Path) -> Result<Fields> {
        let text = std::fs::read_to_string(file).map_err(|error| Error::io("read", file, error))?;
        match serde_json::from_str(&quote_non_finite(&text)) {
            Ok(Value::Object(map)) => Ok(Fields { file: file.to_path_buf(), map }),
            Ok(_) => fail!(Malformed, "is not a JSON object").map_err(|error: Error| error.in_file(file)),
            Err(error) => fail!(Malformed, "is not JSON: {error}").map_err(|error: Error| error.in_file(file)),
        }
    }

    /// As [`Fields::read`], and no fields where there is no file.
    ///
    /// # Errors
    /// `Io`, or `Malformed` with line and column.
    pub fn read_optional(file: &Path) -> Result<Fields> {
        if file.exists() { Self::read(file) } else { Ok(Fields { file: file.to_path_buf(), map: Map::new() }) }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Names of the fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// The field as it stands, unless it is missing or null.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A finite number.
    ///
    /// # Errors
    /// `Malformed`, naming file and field, as all of these.
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.typed(name, "a number", |value| value.as_f64().filter(|number| number.is_finite()))
    }

    /// A whole number from 0 up to 2^31.
    ///
    /// # Errors
    /// `Malformed`, naming file and field.
    pub fn size(&self, name: &str) -> Result<Option<usize>> {
        self.typed(name, "a whole number up to 2147483648", whole)
    }

    /// A truth value.
    ///
    /// # Errors
    /// `Malformed`, naming file and field.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A text.
    ///
    /// # Errors
    /// `Malformed`, naming file and field.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        self.typed(name, "a text", Value::as_str)
    }

    /// A list of whole numbers.
    ///
    /// # Errors
    /// `Malformed`, naming file and field.
    pub fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>> {
        self.typed(name, "a list of whole numbers", |value| value.as_array()?.iter().map(whole).collect())
    }

    /// One whole number for a square, or two.
    ///
    /// # Errors
    /// `Malformed`, naming file and field.
    pub fn pair(&self, name: &str) -> Result<Option<(usize, usize)>> {
        self.typed(name, "a whole number, or a list of two", |value| match value.as_array().map(Vec::as_slice) {
            None => whole(value).map(|side| (side, side)),
            Some([first, second]) => whole(first).zip(whole(second)),
            Some(_) => None,
        })
    }

    /// `error`, naming this file and `field`.
    pub(crate) fn blame(&self, field: &str, error: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Malformed, error.to_string()).in_field(field).in_file(&self.file)
    }

    fn typed<'a, T>(&'a self, name: &str, kind: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.blame(name, format!("is {value}, not {kind}")))
    }
}

/// Python's `json` writes infinities and NaN as bare words, which JSON does not have; here they become texts.
fn quote_non_finite(text: &str) -> String {
    let mut pieces: Vec<String> = text.split('"').map(str::to_owned).collect();
    // Every second piece lies outside of texts; escaped quotes inside of texts make the rest come out as it was, at worst.
    if !text.contains("\\\"") {
        for piece in pieces.iter_mut().step_by(2) {
            *piece = piece
                .replace("Infinity", "\"Infinity\"")
                .replace("-\"Infinity\"", "\"-Infinity\"")
                .replace("NaN", "\"NaN\"");
        }
    }
    pieces.join("\"")
}

fn whole(value: &Value) -> Option<usize> {
    value.as_u64().filter(|&number| number <= 1 << 31).and_then(|number| usize::try_from(number).ok())
}

/// Typed values of a stage's `config.json`; `None` where the file does not say.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct StageConfig {
    /// The class that was exported: `UNet2DConditionModel`, `AutoencoderTiny`, ...
    pub class: Option<String>,
    /// Latents are divided by it before they are decoded. From the class where the file does not say: 0.18215, tiny autoencoders 1.
    pub scaling_factor: Option<f64>,
    /// Added to the latents after the division (SD3, Flux).
    pub shift_factor: Option<f64>,
    /// Channels of the latents: what the denoiser and the decoder take.
    pub latent_channels: Option<usize>,
    /// Height and width the stage was trained at: latents for the denoiser, pixels for the autoencoder.
    pub sample_size: Option<(usize, usize)>,
    /// Width of the text states that the denoiser attends to.
    pub cross_attention_dim: Option<usize>,
    /// Width of the guidance embedding (`timestep_cond`) of latent consistency models.
    pub time_cond_proj_dim: Option<usize>,
    /// Pixels a latent is wide: 2 to the number of blocks less one.
    pub spatial_factor: Option<usize>,
    /// Longest prompt of a text encoder, in tokens.
    pub context_length: Option<usize>,
    /// Width of a text encoder's states.
    pub hidden_size: Option<usize>,
    /// Tokens a text encoder knows.
    pub vocabulary: Option<usize>,
    /// How many times as high and wide an upscaler's picture is (basicsr's name).
    pub upscale: Option<usize>,
    /// What black and white are in an upscaler's pictures, in and out: our own field; 0 and 1, as Real-ESRGAN's, where the file does not say.
    pub value_range: Option<(f64, f64)>,
}

impl StageConfig {
    /// Reads the `config.json` of a stage with `role`.
    ///
    /// # Errors
    /// `Malformed`, naming file and field.
    pub fn of(role: Role, fields: &Fields) -> Result<StageConfig> {
        let class = fields.text("_class_name")?.map(str::to_owned);
        let common = StageConfig { class, ..StageConfig::default() };
        match role {
            Role::TextEncoder => text(common, fields),
            Role::Denoiser => denoiser(common, fields),
            Role::Decoder | Role::Encoder => autoencoder(common, fields),
            Role::Upscaler => upscaler(common, fields),
            _ => Ok(common),
        }
    }
}

fn text(common: StageConfig, fields: &Fields) -> Result<StageConfig> {
    Ok(StageConfig {
        context_length: fields.size("max_position_embeddings")?,
        hidden_size: fields.size("hidden_size")?,
        vocabulary: fields.size("vocab_size")?,
        ..common
    })
}

fn denoiser(common: StageConfig, fields: &Fields) -> Result<StageConfig> {
    Ok(StageConfig {
        latent_channels: fields.size("in_channels")?,
        sample_size: fields.pair("sample_size")?,
        cross_attention_dim: width(fields)?,
        time_cond_proj_dim: fields.size("time_cond_proj_dim")?,
        ..common
    })
}

/// A number, or a list of equal ones, one a block.
fn width(fields: &Fields) -> Result<Option<usize>> {
    if fields.value("cross_attention_dim").is_some_and(Value::is_array) {
        return Ok(fields.sizes("cross_attention_dim")?.and_then(|list| list.first().copied()));
    }
    fields.size("cross_attention_dim")
}

fn autoencoder(common: StageConfig, fields: &Fields) -> Result<StageConfig> {
    let tiny = common.class.as_deref() == Some("AutoencoderTiny");
    let scaling_factor = fields.number("scaling_factor")?.unwrap_or(if tiny { 1.0 } else { KL_SCALING });
    if scaling_factor == 0.0 {
        return Err(fields.blame("scaling_factor", "is 0: latents cannot be divided by it"));
    }
    Ok(StageConfig {
        scaling_factor: Some(scaling_factor),
        shift_factor: fields.number("shift_factor")?,
        latent_channels: fields.size("latent_channels")?,
        sample_size: fields.pair("sample_size")?,
        spatial_factor: spatial_factor(fields)?,
        ..common
    })
}

fn upscaler(common: StageConfig, fields: &Fields) -> Result<StageConfig> {
    let upscale = fields.size("upscale")?;
    if let Some(factor) = upscale.filter(|factor| !UPSCALES.contains(factor)) {
        let (least, most) = (UPSCALES.start(), UPSCALES.end());
        return Err(fields.blame("upscale", format!("is {factor}; {least} to {most} make sense")));
    }
    let range = fields.typed("value_range", "two numbers, the smaller first", ordered)?;
    Ok(StageConfig { upscale, value_range: Some(range.unwrap_or((0.0, 1.0))), ..common })
}

/// Two finite numbers, the smaller first.
fn ordered(value: &Value) -> Option<(f64, f64)> {
    let [low, high] = value.as_array()?.as_slice() else { return None };
    let (low, high) = (low.as_f64()?, high.as_f64()?);
    (low < high && (high - low).is_finite()).then_some((low, high))
}

fn spatial_factor(fields: &Fields) -> Result<Option<usize>> {
    let name =
        ["decoder_block_out_channels", "block_out_channels"].into_iter().find(|name| fields.value(name).is_some());
    let Some(name) = name else { return Ok(None) };
    let blocks = fields.sizes(name)?.unwrap_or_default().len();
    if !(1..=8).contains(&blocks) {
        return Err(fields.blame(name, format!("lists {blocks} blocks; 1 to 8 make sense")));
    }
    Ok(Some(1 << (blocks - 1)))
}

/// What the model directory itself asks for: `undiffuse.json`, all of it optional.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Steps where the caller does not say (`steps`).
    pub steps: Option<usize>,
    /// Guidance where the caller does not say (`guidance`).
    pub guidance: Option<f64>,
    /// Width and height at which pictures of the native size are shown (`display_size`: one number, or width and height).
    pub display_size: Option<(usize, usize)>,
    /// Negative prompt where the caller does not say (`negative`).
    pub negative: Option<String>,
}

impl Settings {
    const KNOWN: [&str; 4] = ["steps", "guidance", "display_size", "negative"];

    /// Reads `undiffuse.json` of `directory`, where there is one.
    ///
    /// # Errors
    /// `Malformed`, naming file and field; a field that is not known is one.
    pub fn read(directory: &Path) -> Result<Settings> {
        let fields = Fields::read_optional(&directory.join("undiffuse.json"))?;
        if let Some(unknown) = fields.names().find(|name| !Self::KNOWN.contains(name)) {
            let known = Self::KNOWN.join(", ");
            return Err(fields.blame(unknown, "is not a setting").advise(format!("known are {known}")));
        }
        let settings = Settings {
            steps: fields.size("steps")?,
            guidance: fields.number("guidance")?,
            display_size: fields.pair("display_size")?,
            negative: fields.text("negative")?.map(str::to_owned),
        };
        match settings {
            Settings { steps: Some(0), .. } => Err(fields.blame("steps", "is 0; at least one step is needed")),
            Settings { display_size: Some((0, _) | (_, 0)), .. } => Err(fields.blame("display_size", "is 0")),
            sound => Ok(sound),
        }
    }
}
