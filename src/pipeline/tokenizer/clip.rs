//! CLIP's byte-pair encoding from `vocab.json` and `merges.txt`.

use std::collections::HashMap;
use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use super::special::SpecialTokens;
use super::{broken, guarded};
use crate::error::Result;

const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// NFC, white space to one blank, lower case; CLIP's word pattern; bytes; pairs merged, words ending in `</w>`; begin and end
/// tokens around.
///
/// Source: Radford et al., arXiv:2103.00020, section 2.4; `transformers`, `CLIPConverter` in `convert_slow_tokenizer.py`.
pub(super) fn open(vocab: &Path, merges: &Path, special: &SpecialTokens) -> Result<Tokenizer> {
    let ids = read_vocab(vocab)?;
    let (start, end) = (bracket(vocab, &ids, special.bos())?, bracket(vocab, &ids, special.eos())?);
    let pairs = read_merges(merges, &ids)?;
    let unknown = special.unk().to_owned();
    guarded(vocab, || {
        let model = BPE::builder()
            .vocab_and_merges(ids.into_iter().collect::<Vocab>(), pairs)
            .unk_token(unknown)
            .end_of_word_suffix("</w>".into())
            .build()?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_normalizer(Some(normalizer()?))?;
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer()?));
        tokenizer
            .with_post_processor(Some(RobertaProcessing::new(end, start).trim_offsets(false).add_prefix_space(false)));
        Ok(tokenizer)
    })
}

fn normalizer() -> tokenizers::Result<Normalizers> {
    let blank = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ")?;
    Ok(Normalizers::new(vec![NFC.into(), blank.into(), Lowercase.into()]))
}

fn pre_tokenizer() -> tokenizers::Result<PreTokenizers> {
    let words = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Removed, true)?;
    Ok(PreTokenizers::new(vec![words.into(), ByteLevel::new(false, true, true).into()]))
}

fn bracket(vocab: &Path, ids: &HashMap<String, u32>, token: &str) -> Result<(String, u32)> {
    let id = ids.get(token).ok_or_else(|| {
        broken(vocab, format!("no {token:?} in the vocabulary, and every prompt is put between such tokens"))
    })?;
    Ok((token.to_owned(), *id))
}

fn read_vocab(path: &Path) -> Result<HashMap<String, u32>> {
    let bytes = std::fs::read(path).map_err(|e| broken(path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| broken(path, format!("not a map from tokens to ids: {e}")))
}

/// A merge whose result is no token would make `tokenizers` index out of bounds.
fn read_merges(path: &Path, ids: &HashMap<String, u32>) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(|e| broken(path, e))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version") && !line.trim().is_empty());
    lines
        .map(|(i, line)| {
            let at = |why: &str| broken(path, format!("line {}, {line:?}: {why}", i + 1));
            let (a, b) = line
                .trim_end()
                .split_once(' ')
                .filter(|(_, b)| !b.contains(' '))
                .ok_or_else(|| at("expected two tokens"))?;
            let known = [a, b, &format!("{a}{b}")].iter().all(|token| ids.contains_key(*token));
            known
                .then(|| (a.to_owned(), b.to_owned()))
                .ok_or_else(|| at("a merge of tokens that vocab.json does not have"))
        })
        .collect()
}
