//! From a prompt to token ids, as `transformers` makes them.

mod clip;
mod special;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tokenizers::utils::truncation::TruncationParams;
use tokenizers::{PaddingStrategy, PostProcessor};

use crate::error::{Error, ErrorKind, Result};
use special::SpecialTokens;

/// No text encoder reads more; a larger number in a file is an error before it is a buffer.
const LONGEST_CONTEXT: usize = 4096;
/// `transformers` writes 1e30 for "no limit".
const NO_LIMIT: f64 = 1e9;

/// What the text encoder can take. `None` where neither its graph nor its config says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The sequence length that the graph is fixed at: ids are padded to exactly this.
    pub sequence: Option<usize>,
    /// `max_position_embeddings`: ids are never more than this.
    pub positions: Option<usize>,
    /// `vocab_size`: every id is below this.
    pub vocabulary: Option<usize>,
}

/// The ids of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Special tokens and padding included.
    pub ids: Vec<u32>,
    /// 1 for a token, 0 for padding; as long as `ids`.
    pub mask: Vec<u32>,
    /// The end of the prompt that did not fit.
    pub cut: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Fixed(usize),
    AtMost(usize),
}

#[derive(Clone, Copy, Debug)]
struct Padding {
    id: u32,
    left: bool,
}

/// A tokenizer directory: `tokenizer.json` (any model of the `tokenizers` crate), or CLIP's `vocab.json` and
/// `merges.txt`; pad token and length from `tokenizer_config.json` and `special_tokens_map.json`.
///
/// Ids are those of `transformers`' `tokenizer(prompt, padding="max_length", truncation=True)`, which is how diffusers calls
/// it; where neither the files nor the graph name a length, they are left unpadded.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    length: Length,
    padding: Option<Padding>,
    dir: PathBuf,
}

impl Tokenizer {
    /// # Errors
    /// No tokenizer in `dir`, a malformed file, or one that does not fit `context`: ids that the encoder has no row for, a
    /// length with no room for a word, padding needed and no pad token named.
    pub fn open(dir: &Path, context: Context) -> Result<Self> {
        let special = SpecialTokens::read(dir)?;
        let (mut inner, source) = open_model(dir, &special)?;
        special.add_to(&mut inner, &source)?;
        check_vocabulary(&inner, context, &source)?;
        let length = length(&inner, &special, context, &source)?;
        let padding = padding(&inner, &special, &source)?;
        if matches!(length, Length::Fixed(_)) && padding.is_none() {
            let message = "ids must be padded, and no pad token is named";
            return Err(broken(&source, message).advise("add \"pad_token\" to tokenizer_config.json"));
        }
        truncate_to(&mut inner, length, &source)?;
        inner.with_padding(None);
        Ok(Self { inner, length, padding, dir: dir.to_path_buf() })
    }

    /// The ids of `text`, which may be empty (the unconditional prompt). Text that does not fit comes back in
    /// [`Tokens::cut`].
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let encoding = guarded(&self.dir, || self.inner.encode(text, true))?;
        let cut = (!encoding.get_overflowing().is_empty()).then(|| rest_of(text, &encoding));
        let mut tokens = Tokens { ids: encoding.get_ids().to_vec(), mask: vec![1; encoding.len()], cut };
        if let (Length::Fixed(length), Some(padding)) = (self.length, self.padding) {
            pad(&mut tokens, length, padding);
        }
        Ok(tokens)
    }
}

fn pad(tokens: &mut Tokens, length: usize, padding: Padding) {
    let missing = length.saturating_sub(tokens.ids.len());
    let at = if padding.left { 0 } else { tokens.ids.len() };
    tokens.ids.splice(at..at, std::iter::repeat_n(padding.id, missing));
    tokens.mask.splice(at..at, std::iter::repeat_n(0, missing));
}

fn rest_of(text: &str, kept: &tokenizers::Encoding) -> String {
    let words = kept.get_offsets().iter().zip(kept.get_special_tokens_mask()).filter(|(_, special)| **special == 0);
    let end = words.map(|((_, end), _)| *end).max().unwrap_or(0);
    text.get(end..).unwrap_or(text).trim().to_owned()
}

fn open_model(dir: &Path, special: &SpecialTokens) -> Result<(tokenizers::Tokenizer, PathBuf)> {
    let json = dir.join("tokenizer.json");
    if json.is_file() {
        // Parsed by its own crate, where that code is compiled already: `from_file` would be compiled here again.
        return Ok((guarded(&json, || std::fs::read_to_string(&json)?.parse())?, json));
    }
    let (vocab, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
    if vocab.is_file() && merges.is_file() {
        return Ok((clip::open(&vocab, &merges, special)?, vocab));
    }
    let message = "no tokenizer here: expected tokenizer.json, or vocab.json and merges.txt";
    Err(Error::new(ErrorKind::NotFound, message).in_file(dir))
}

fn check_vocabulary(inner: &tokenizers::Tokenizer, context: Context, source: &Path) -> Result<()> {
    let (Some(rows), Some((token, id))) =
        (context.vocabulary, inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id))
    else {
        return Ok(());
    };
    if (id as usize) < rows {
        return Ok(());
    }
    Err(misfit(source, format!("token {token:?} has id {id}, the encoder has {rows} embeddings")))
}

fn length(inner: &tokenizers::Tokenizer, special: &SpecialTokens, context: Context, source: &Path) -> Result<Length> {
    let declared = declared_length(inner, special);
    let limit = [declared, context.positions].into_iter().flatten().min();
    let length = match (context.sequence, declared) {
        (Some(n), _) => Length::Fixed(n),
        (None, Some(_)) => Length::Fixed(limit.unwrap_or(LONGEST_CONTEXT)),
        (None, None) => {
            Length::AtMost(limit.or_else(|| Some(inner.get_truncation()?.max_length)).unwrap_or(LONGEST_CONTEXT))
        }
    };
    let (Length::Fixed(n) | Length::AtMost(n)) = length;
    let added = inner.get_post_processor().map_or(0, |p| p.added_tokens(false));
    if n > LONGEST_CONTEXT {
        return Err(misfit(
            source,
            format!("a context of {n} tokens, more than the {LONGEST_CONTEXT} that any encoder reads"),
        ));
    }
    if n <= added {
        return Err(misfit(source, format!("it adds {added} special tokens, the context has room for {n}")));
    }
    Ok(length)
}

fn declared_length(inner: &tokenizers::Tokenizer, special: &SpecialTokens) -> Option<usize> {
    special.max_length.filter(|n| *n < NO_LIMIT).map(|n| n as usize).or_else(|| match inner.get_padding()?.strategy {
        PaddingStrategy::Fixed(n) => Some(n),
        PaddingStrategy::BatchLongest => None,
    })
}

fn padding(inner: &tokenizers::Tokenizer, special: &SpecialTokens, source: &Path) -> Result<Option<Padding>> {
    let left = special.pad_left.unwrap_or_else(|| inner.get_padding().is_some_and(|p| p.direction.as_ref() == "left"));
    let Some(token) = special.pad() else {
        return Ok(inner.get_padding().map(|p| Padding { id: p.pad_id, left }));
    };
    let id = inner
        .token_to_id(token)
        .ok_or_else(|| misfit(source, format!("pad token {token:?} is not in the vocabulary")))?;
    Ok(Some(Padding { id, left }))
}

fn truncate_to(inner: &mut tokenizers::Tokenizer, length: Length, source: &Path) -> Result<()> {
    let (Length::Fixed(max_length) | Length::AtMost(max_length)) = length;
    let params = TruncationParams { max_length, ..TruncationParams::default() };
    inner.with_truncation(Some(params)).map(|_| ()).map_err(|e| broken(source, e))
}

/// Runs a call into `tokenizers`, which panics on some malformed files.
fn guarded<T>(path: &Path, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| broken(path, e)),
        Err(_) => Err(broken(path, "malformed: the tokenizer library gave up on it")),
    }
}

fn broken(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Malformed, why.to_string()).in_file(path)
}

fn misfit(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Mismatch, format!("the tokenizer does not fit the text encoder: {why}")).in_file(path)
}
