//! Which input of a graph is which: names differ between exporters, ranks and element types too.
//!
//! An input is found by name, with aliases, then by rank and element type. What is left over is an error that names it.

use super::onnx::Graph;
use super::port::{Dim, Port, names};
use super::role::Role;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::value::Tensor;

/// A denoiser's inputs and output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenoiserPorts {
    /// Noisy latents, `(batch, channels, height, width)`.
    pub sample: Port,
    /// The training timestep: a scalar, `[1]` or `[batch]`, of any number type; see [`Port::timestep`].
    pub timestep: Port,
    /// Text states, `(batch, tokens, width)`.
    pub states: Port,
    /// Guidance embedding of latent consistency models (`timestep_cond`), `(batch, width)`.
    pub guidance: Option<Port>,
    /// The prediction, shaped like the latents.
    pub output: Port,
}

/// A text encoder's inputs and output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPorts {
    /// Token ids, `(batch, tokens)`.
    pub ids: Port,
    /// 1 for tokens, 0 for padding, `(batch, tokens)`.
    pub mask: Option<Port>,
    /// The states, `(batch, tokens, width)`.
    pub states: Port,
}

/// A decoder's input and output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderPorts {
    /// Latents, `(batch, channels, height, width)`.
    pub latents: Port,
    /// The picture, `(batch, 3, height, width)`, from -1 to 1.
    pub picture: Port,
}

/// An upscaler's input and output, with values as `value_range` in its config says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpscalerPorts {
    /// The picture, `(batch, 3, height, width)`.
    pub picture: Port,
    /// The same picture, larger, `(batch, 3, height, width)`.
    pub enlarged: Port,
}

const SAMPLE: [&str; 5] = ["sample", "latent_sample", "latent", "latents", "hidden_states"];
const TIMESTEP: [&str; 4] = ["timestep", "timesteps", "t", "time"];
const STATES: [&str; 4] = ["encoder_hidden_states", "context", "text_embeddings", "prompt_embeds"];
const GUIDANCE: [&str; 1] = ["timestep_cond"];
const PREDICTION: [&str; 5] = ["out_sample", "out_hidden_states", "noise_pred", "noise_prediction", "output"];
const IDS: [&str; 2] = ["input_ids", "tokens"];
const MASK: [&str; 1] = ["attention_mask"];
const TEXT: [&str; 3] = ["last_hidden_state", "hidden_state", "text_states"];
const LATENTS: [&str; 5] = ["latent_sample", "latent", "latents", "z", "sample"];
const PICTURE: [&str; 4] = ["sample", "image", "images", "picture"];
const ENLARGED: [&str; 5] = ["out_sample", "upscaled", "enlarged", "output", "image"];

/// Inputs that other model families need, in plain words.
const FOREIGN: [(&str, &str); 12] = [
    ("text_embeds", "the pooled text states of SDXL's second text encoder"),
    ("time_ids", "the picture and crop sizes that SDXL is conditioned on"),
    ("pooled_projections", "the pooled text states of SD3 and Flux"),
    ("txt_ids", "the text positions of Flux"),
    ("img_ids", "the picture positions of Flux"),
    ("guidance", "the guidance input of Flux"),
    ("encoder_attention_mask", "the token mask of PixArt and Sana"),
    ("class_labels", "class labels"),
    ("image_embeds", "picture embeddings of an image encoder"),
    ("mask", "the mask of an inpainting model"),
    ("position_ids", "token positions"),
    ("token_type_ids", "token types"),
];

impl DenoiserPorts {
    /// Finds the ports of a denoiser in `graph`.
    ///
    /// # Errors
    /// `Mismatch` when this is no denoiser, `Unsupported` when it needs an input that is not known; both name the file and the inputs.
    pub fn of(graph: &Graph) -> Result<DenoiserPorts> {
        let mut inputs = Claims::of(graph, Role::Denoiser);
        let ports = DenoiserPorts {
            sample: inputs.need("sample", &SAMPLE, |port| port.dtype.is_float() && port.rank() == Some(4))?,
            timestep: inputs.need("timestep", &TIMESTEP, |port| port.rank().is_some_and(|rank| rank <= 1))?,
            states: inputs
                .need("encoder_hidden_states", &STATES, |port| port.dtype.is_float() && port.rank() == Some(3))?,
            guidance: inputs.find(&GUIDANCE),
            output: output(graph, Role::Denoiser, &PREDICTION, 4)?,
        };
        inputs.nothing_left()?;
        Ok(ports)
    }
}

impl TextPorts {
    /// Finds the ports of a text encoder in `graph`.
    ///
    /// # Errors
    /// As [`DenoiserPorts::of`].
    pub fn of(graph: &Graph) -> Result<TextPorts> {
        let mut inputs = Claims::of(graph, Role::TextEncoder);
        let ports = TextPorts {
            mask: inputs.find(&MASK),
            ids: inputs.need("input_ids", &IDS, |port| !port.dtype.is_float() && port.rank() == Some(2))?,
            states: output(graph, Role::TextEncoder, &TEXT, 3)?,
        };
        inputs.nothing_left()?;
        Ok(ports)
    }
}

impl DecoderPorts {
    /// Finds the ports of a decoder in `graph`.
    ///
    /// # Errors
    /// As [`DenoiserPorts::of`]; an encoder in the decoder's place is recognised by the latents it gives.
    pub fn of(graph: &Graph) -> Result<DecoderPorts> {
        let encodes = |port: &Port| port.name.starts_with("latent");
        if graph.outputs().iter().any(encodes) {
            return Err(wrong(
                graph,
                Role::Decoder,
                format!("it gives {}, as an encoder does", names(graph.outputs())),
            ));
        }
        let mut inputs = Claims::of(graph, Role::Decoder);
        let ports = DecoderPorts {
            latents: inputs.need("latent_sample", &LATENTS, |port| port.dtype.is_float() && port.rank() == Some(4))?,
            picture: output(graph, Role::Decoder, &PICTURE, 4)?,
        };
        inputs.nothing_left()?;
        Ok(ports)
    }
}

impl UpscalerPorts {
    /// Finds the ports of an upscaler in `graph`: one that needs nothing but the picture.
    ///
    /// # Errors
    /// As [`DenoiserPorts::of`]; an upscaler of latents is recognised by its channels, one that is a denoiser by what else it takes.
    pub fn of(graph: &Graph) -> Result<UpscalerPorts> {
        let mut inputs = Claims::of(graph, Role::Upscaler);
        let ports = UpscalerPorts {
            picture: inputs.need("sample", &PICTURE, |port| port.dtype.is_float() && port.rank() == Some(4))?,
            enlarged: output(graph, Role::Upscaler, &ENLARGED, 4)?,
        };
        inputs.nothing_left()?;
        for (port, does) in [(&ports.picture, "takes"), (&ports.enlarged, "gives")] {
            let colours =
                port.rank().is_none_or(|rank| rank == 4) && port.fixed(1).is_none_or(|channels| channels == 3);
            if !(colours && port.dtype.is_float()) {
                let why = format!(
                    "it {does} `{}` {} {}, a picture is [batch, 3, height, width]",
                    port.name,
                    port.dtype,
                    port.shape_text()
                );
                return Err(wrong(graph, Role::Upscaler, why));
            }
        }
        Ok(ports)
    }
}

impl Port {
    /// The timestep `t` as this input wants it, for a batch of `batch`. Integer inputs get the whole part, as diffusers gives it to
    /// onnxruntime.
    ///
    /// # Errors
    /// `Mismatch` when the input has more than one axis or is fixed to another batch.
    pub fn timestep(&self, t: f64, batch: usize) -> Result<Tensor> {
        let shape: &[usize] = match self.shape.as_deref() {
            Some([]) => &[],
            Some([Dim::Fixed(1)]) | None => &[1],
            Some([_]) => &[batch],
            Some(_) => return Err(Error::new(ErrorKind::Mismatch, "has more than one axis").in_field(&self.name)),
        };
        self.accepts(shape)?;
        let count = shape.iter().product();
        Ok(Tensor::new(shape, vec![t; count])?.cast(self.dtype))
    }
}

/// Checks that `graph` does what a stage with `role` is for.
pub(super) fn check(role: Role, graph: &Graph) -> Result<()> {
    match role {
        Role::TextEncoder => TextPorts::of(graph).map(drop),
        Role::Denoiser => DenoiserPorts::of(graph).map(drop),
        Role::Decoder => DecoderPorts::of(graph).map(drop),
        Role::Upscaler => UpscalerPorts::of(graph).map(drop),
        _ => Ok(()),
    }
}

/// Inputs that are not spoken for yet.
struct Claims<'a> {
    graph: &'a Graph,
    role: Role,
    left: Vec<&'a Port>,
}

impl<'a> Claims<'a> {
    fn of(graph: &'a Graph, role: Role) -> Claims<'a> {
        Claims { graph, role, left: graph.inputs().iter().collect() }
    }

    fn find(&mut self, aliases: &[&str]) -> Option<Port> {
        let position = aliases.iter().find_map(|alias| self.left.iter().position(|port| port.name == *alias))?;
        Some(self.left.remove(position).clone())
    }

    /// By name, else the only input that `fits` and has no meaning of its own.
    fn need(&mut self, name: &str, aliases: &[&str], fits: impl Fn(&Port) -> bool) -> Result<Port> {
        if let Some(port) = self.find(aliases) {
            return Ok(port);
        }
        let unnamed = |port: &&Port| fits(port) && !spoken(&port.name);
        let mut fitting = (0..self.left.len()).filter(|&index| unnamed(&self.left[index]));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(self.left.remove(only).clone()),
            _ => Err(wrong(self.graph, self.role, format!("it takes {}, but no {name}", names(self.graph.inputs())))),
        }
    }

    fn nothing_left(&self) -> Result<()> {
        if self.left.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = self.left.iter().map(|port| in_plain_words(port)).collect();
        fail!(Unsupported, "this {} also needs {}, which this version cannot give", self.role, list.join(", "))
            .map_err(|error: Error| error.in_file(self.graph.file()))
    }
}

/// Whether the name belongs to some input that is known here, so that rank and type do not decide.
fn spoken(name: &str) -> bool {
    let known = [&SAMPLE[..], &TIMESTEP, &STATES, &GUIDANCE, &IDS, &MASK, &LATENTS];
    known.iter().any(|aliases| aliases.contains(&name)) || FOREIGN.iter().any(|(foreign, _)| *foreign == name)
}

fn in_plain_words(port: &Port) -> String {
    let meaning = FOREIGN.iter().find(|(name, _)| *name == port.name).map(|(_, meaning)| *meaning);
    let meaning = meaning.map(str::to_owned).unwrap_or_else(|| format!("{} {}", port.dtype, port.shape_text()));
    format!("`{}` ({meaning})", port.name)
}

fn output(graph: &Graph, role: Role, aliases: &[&str], rank: usize) -> Result<Port> {
    let outputs = graph.outputs();
    let named = aliases.iter().find_map(|alias| outputs.iter().find(|port| port.name == *alias));
    let fits = |port: &&Port| port.dtype.is_float() && port.rank().is_none_or(|own| own == rank);
    let found = named.filter(fits).or_else(|| outputs.iter().find(fits)).cloned();
    found.ok_or_else(|| wrong(graph, role, format!("it gives {}, of which none has {rank} axes", names(outputs))))
}

fn wrong(graph: &Graph, role: Role, why: String) -> Error {
    let article = if matches!(role, Role::Upscaler) { "an" } else { "a" };
    Error::new(ErrorKind::Mismatch, format!("is not {article} {role}: {why}"))
        .in_file(graph.file())
        .advise(format!("put the {role}'s own graph there"))
}
