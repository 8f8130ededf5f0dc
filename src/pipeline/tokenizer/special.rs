//! `tokenizer_config.json` and `special_tokens_map.json`: the tokens with a meaning, the length and the side of padding.

use std::path::Path;

use serde::Deserialize;
use tokenizers::{AddedToken, Tokenizer};

use super::{broken, guarded, misfit};
use crate::error::Result;

/// CLIP's, and the defaults of `transformers`' `CLIPTokenizer`.
const BOS: &str = "<|startoftext|>";
const EOS: &str = "<|endoftext|>";

/// A token as the configs spell it: the text alone, or the text with how it matches.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Spelling {
    Text(String),
    Full {
        content: String,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        #[serde(default)]
        normalized: bool,
    },
}

impl Spelling {
    fn text(&self) -> &str {
        let (Spelling::Text(text) | Spelling::Full { content: text, .. }) = self;
        text
    }

    fn added(&self) -> AddedToken {
        let token = AddedToken::from(self.text(), true);
        match self {
            Spelling::Text(_) => token,
            Spelling::Full { single_word, lstrip, rstrip, normalized, .. } => {
                token.single_word(*single_word).lstrip(*lstrip).rstrip(*rstrip).normalized(*normalized)
            }
        }
    }
}

#[derive(Default, Deserialize)]
struct Map {
    bos_token: Option<Spelling>,
    eos_token: Option<Spelling>,
    unk_token: Option<Spelling>,
    pad_token: Option<Spelling>,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(flatten)]
    map: Map,
    model_max_length: Option<f64>,
    padding_side: Option<String>,
    added_tokens_decoder: Option<serde_json::Value>,
}

/// The special tokens of a directory and what else its configs say.
pub(super) struct SpecialTokens {
    map: Map,
    clip: bool,
    pub max_length: Option<f64>,
    pub pad_left: Option<bool>,
}

impl SpecialTokens {
    /// Both files may be absent. Where they disagree, `special_tokens_map.json` wins, unless the config is of the newer kind
    /// that has an `added_tokens_decoder`.
    ///
    /// Source: `transformers`, `PreTrainedTokenizerBase._from_pretrained`.
    pub fn read(dir: &Path) -> Result<Self> {
        let config: Config = read_json(&dir.join("tokenizer_config.json"))?;
        let map: Map = read_json(&dir.join("special_tokens_map.json"))?;
        let map = if config.added_tokens_decoder.is_some() { config.map.or(map) } else { map.or(config.map) };
        let clip = !dir.join("tokenizer.json").is_file();
        Ok(Self {
            map,
            clip,
            max_length: config.model_max_length,
            pad_left: config.padding_side.map(|side| side == "left"),
        })
    }

    pub fn bos(&self) -> &str {
        self.map.bos_token.as_ref().map_or(BOS, Spelling::text)
    }

    pub fn eos(&self) -> &str {
        self.map.eos_token.as_ref().map_or(EOS, Spelling::text)
    }

    pub fn unk(&self) -> &str {
        self.map.unk_token.as_ref().map_or(EOS, Spelling::text)
    }

    /// CLIP pads with its end token where nothing is said.
    pub fn pad(&self) -> Option<&str> {
        self.map.pad_token.as_ref().map(Spelling::text).or(self.clip.then_some(EOS))
    }

    /// Makes them match as wholes wherever they stand in a prompt, as `transformers` does.
    pub fn add_to(&self, tokenizer: &mut Tokenizer, source: &Path) -> Result<()> {
        for token in
            [&self.map.bos_token, &self.map.eos_token, &self.map.unk_token, &self.map.pad_token].into_iter().flatten()
        {
            self.check_known(tokenizer, token.text(), source)?;
            guarded(source, || tokenizer.add_special_tokens([token.added()]))?;
        }
        Ok(())
    }

    /// A token added beside the vocabulary would get an id that the encoder was never trained on.
    fn check_known(&self, tokenizer: &Tokenizer, token: &str, source: &Path) -> Result<()> {
        tokenizer
            .token_to_id(token)
            .map(|_| ())
            .ok_or_else(|| misfit(source, format!("special token {token:?} of its configs is not in the vocabulary")))
    }
}

impl Map {
    fn or(self, other: Self) -> Self {
        Self {
            bos_token: self.bos_token.or(other.bos_token),
            eos_token: self.eos_token.or(other.eos_token),
            unk_token: self.unk_token.or(other.unk_token),
            pad_token: self.pad_token.or(other.pad_token),
        }
    }
}

fn read_json<T: Default + for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| broken(path, format!("malformed JSON: {e}"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(e) => Err(broken(path, e)),
    }
}
