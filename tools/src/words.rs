//! The tokenizer of the shipped models: MiniLM's WordPiece with a pruned vocabulary.

use anyhow::{Context, Result, anyhow, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tokenizers::Tokenizer;

/// Positions of the text encoder: `[CLS] [MASK] words [SEP]`, padded.
pub const LENGTH: usize = 32;

/// Tokens before the first word: `[CLS]`, where the sentence is pooled, and `[MASK]`, where the style is read.
pub const LEADING: usize = 2;

/// Pieces that stand at fixed ids 0 to 4.
pub(crate) const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// A tokenizer with its fixed length.
pub struct Words {
    tokenizer: Tokenizer,
}

impl Words {
    pub fn open(path: &Path) -> Result<Self> {
        let tokenizer = Tokenizer::from_file(path).map_err(|e| anyhow!("cannot read {}: {e}", path.display()))?;
        Ok(Self { tokenizer })
    }

    pub fn from_json(json: &str) -> Result<Self> {
        let tokenizer = json.parse::<Tokenizer>().map_err(|e| anyhow!("the tokenizer is malformed: {e}"))?;
        Ok(Self { tokenizer })
    }

    /// `LENGTH` ids.
    pub fn ids(&self, text: &str) -> Result<Vec<i64>> {
        let encoding = self.tokenizer.encode(text, true).map_err(|e| anyhow!("cannot tokenize {text:?}: {e}"))?;
        let ids: Vec<i64> = encoding.get_ids().iter().map(|id| i64::from(*id)).collect();
        ensure!(ids.len() == LENGTH, "the tokenizer gives {} ids, not {LENGTH}", ids.len());
        Ok(ids)
    }

    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// A `tokenizer.json` that also has `more`, behind the pieces that are there.
    pub fn grown(&self, more: &[String]) -> String {
        describe(&self.pieces().into_iter().chain(more.iter().cloned()).zip(0..).collect())
    }

    /// The piece of every id, in order.
    pub fn pieces(&self) -> Vec<String> {
        let ordered: BTreeMap<u32, String> = self.tokenizer.get_vocab(true).into_iter().map(|(k, v)| (v, k)).collect();
        ordered.into_values().collect()
    }
}

/// The vocabulary of `teacher` (a `tokenizer.json`) cut to the pieces that `texts` need, and every single character.
/// Gives the new `tokenizer.json`.
pub fn prune<'a>(teacher: &Path, texts: impl Iterator<Item = &'a str>) -> Result<String> {
    let text = std::fs::read_to_string(teacher).with_context(|| format!("cannot read {}", teacher.display()))?;
    let mut json: serde_json::Value = serde_json::from_str(&text)?;
    json["padding"] = serde_json::Value::Null;
    json["truncation"] = serde_json::Value::Null;
    let full: Tokenizer = json.to_string().parse().map_err(|e| anyhow!("{}: {e}", teacher.display()))?;
    let mut kept = BTreeSet::new();
    for text in texts {
        let encoding = full.encode(text, false).map_err(|e| anyhow!("cannot tokenize {text:?}: {e}"))?;
        kept.extend(encoding.get_ids().iter().copied());
    }
    let mut pieces: Vec<(u32, String)> = full.get_vocab(true).into_iter().map(|(piece, id)| (id, piece)).collect();
    pieces.sort();
    let single = |piece: &str| {
        let bare = piece.strip_prefix("##").unwrap_or(piece);
        bare.chars().count() == 1 && bare.is_ascii()
    };
    let wanted = pieces.into_iter().filter(|(id, p)| kept.contains(id) || single(p)).map(|(_, p)| p);
    let ordered = SPECIAL.iter().map(|s| (*s).to_owned()).chain(wanted.filter(|p| !SPECIAL.contains(&p.as_str())));
    let vocabulary: BTreeMap<String, usize> = ordered.enumerate().map(|(id, piece)| (piece, id)).collect();
    Ok(describe(&vocabulary))
}

/// A `tokenizer.json` over a vocabulary: BERT's normaliser and splitter, WordPiece, our template, fixed length.
pub(crate) fn describe(vocabulary: &BTreeMap<String, usize>) -> String {
    let special = |name: &str| serde_json::json!({"id": name, "ids": [vocabulary[name]], "tokens": [name]});
    let token = |name: &str| serde_json::json!({"SpecialToken": {"id": name, "type_id": 0}});
    let added: Vec<_> = SPECIAL
        .iter()
        .map(|name| {
            serde_json::json!({"id": vocabulary[*name], "content": name, "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    let sequence = serde_json::json!({"Sequence": {"id": "A", "type_id": 0}});
    let template = [token("[CLS]"), token("[MASK]"), sequence.clone(), token("[SEP]")];
    let pair = [
        token("[CLS]"),
        token("[MASK]"),
        sequence,
        token("[SEP]"),
        serde_json::json!({"Sequence": {"id": "B", "type_id": 0}}),
        token("[SEP]"),
    ];
    serde_json::json!({
        "version": "1.0",
        "truncation": {"max_length": LENGTH, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": LENGTH}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": vocabulary["[PAD]"], "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": template, "pair": pair,
            "special_tokens": {"[CLS]": special("[CLS]"), "[MASK]": special("[MASK]"), "[SEP]": special("[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Words {
        let pieces = SPECIAL.iter().copied().chain(["red", "apple", "##s", "a"]);
        let vocabulary = pieces.enumerate().map(|(i, p)| (p.to_owned(), i)).collect();
        Words::from_json(&describe(&vocabulary)).unwrap()
    }

    #[test]
    fn template_puts_pool_and_style_first() {
        let ids = small().ids("A red Apples").unwrap();
        assert_eq!(ids[..8], [2, 4, 8, 5, 6, 7, 3, 0]);
        assert_eq!(ids.len(), LENGTH);
    }

    #[test]
    fn a_grown_tokenizer_knows_more_and_tells_the_rest_as_before() {
        let grown = Words::from_json(&small().grown(&["plum".into()])).unwrap();
        assert_eq!(grown.ids("a red apples").unwrap(), small().ids("a red apples").unwrap());
        assert_eq!((small().ids("plum").unwrap()[2], grown.ids("plum").unwrap()[2]), (1, 9));
        assert_eq!(grown.vocabulary(), small().vocabulary() + 1);
    }

    #[test]
    fn long_text_is_cut_and_still_ends() {
        let ids = small().ids(&"red ".repeat(100)).unwrap();
        assert_eq!((ids[LENGTH - 2], ids[LENGTH - 1]), (5, 3));
    }
}
