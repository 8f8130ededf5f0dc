//! The text encoder: a small BERT (post-norm, learned positions), and its teacher MiniLM-L6, which is one too.
//!
//! The student reads `[CLS] [MASK] words… [SEP] [PAD]…` and gives `(B, T, output)`: at position 0 the pooled sentence, at
//! position 1 the drawing style, then the words; padding gives zeros, so that a denoiser needs no mask.

use super::{Init, Layers};
use serde::{Deserialize, Serialize};

/// The sizes of a BERT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bert {
    pub vocabulary: i64,
    /// The most positions.
    pub positions: i64,
    pub layers: i64,
    pub width: i64,
    pub heads: i64,
    pub feed_forward: i64,
    /// Width of the projected states; none: the hidden states themselves.
    pub output: Option<i64>,
    /// The id of `[PAD]`.
    pub pad: i64,
}

impl Bert {
    /// MiniLM-L6, as `model.safetensors` of all-MiniLM-L6-v2 has it.
    pub fn minilm() -> Self {
        Self {
            vocabulary: 30_522,
            positions: 512,
            layers: 6,
            width: 384,
            heads: 12,
            feed_forward: 1536,
            output: None,
            pad: 0,
        }
    }

    /// The student: 2 layers of 192.
    pub fn student(vocabulary: i64, positions: i64) -> Self {
        Self { vocabulary, positions, layers: 2, width: 192, heads: 6, feed_forward: 768, output: Some(384), pad: 0 }
    }

    /// ids `(B, T)` int64 -> states `(B, T, output or width)`; `length` is T.
    pub fn forward<L: Layers>(&self, l: &L, ids: &L::T, length: i64) -> L::T {
        let w = self.width;
        let mask = l.not_equal(ids, self.pad);
        let words = l.embedding("embeddings.word_embeddings", ids, self.vocabulary, w);
        let x = l.add(&words, &l.table("embeddings.position_embeddings", self.positions, length, w));
        let x = l.add(&x, &l.table("embeddings.token_type_embeddings", 2, 1, w));
        let mut x = l.layer_norm("embeddings.LayerNorm", &x, w, 1e-12);
        for i in 0..self.layers {
            x = self.layer(l, &format!("encoder.layer.{i}"), &x, &mask);
        }
        let Some(output) = self.output else { return x };
        let states = l.linear("output", &x, w, output, Init::FanIn);
        l.mul(&states, &l.unsqueeze_last(&mask))
    }

    fn layer<L: Layers>(&self, l: &L, name: &str, x: &L::T, mask: &L::T) -> L::T {
        let w = self.width;
        let linear = |part: &str, x: &L::T, from, to| l.linear(&format!("{name}.{part}"), x, from, to, Init::FanIn);
        let q = linear("attention.self.query", x, w, w);
        let k = linear("attention.self.key", x, w, w);
        let v = linear("attention.self.value", x, w, w);
        let h = linear("attention.output.dense", &l.attention(&q, &k, &v, self.heads, Some(mask)), w, w);
        let x = l.layer_norm(&format!("{name}.attention.output.LayerNorm"), &l.add(x, &h), w, 1e-12);
        let h = l.gelu(&linear("intermediate.dense", &x, w, self.feed_forward));
        let h = linear("output.dense", &h, self.feed_forward, w);
        l.layer_norm(&format!("{name}.output.LayerNorm"), &l.add(&x, &h), w, 1e-12)
    }
}
