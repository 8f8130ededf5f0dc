//! Sentence vectors of all-MiniLM-L6-v2, with its own tokenizer.

use crate::net::bert::Bert;
use crate::net::params::{Params, read_safetensors};
use crate::net::torch::Torch;
use anyhow::{Result, anyhow};
use std::path::Path;
use tch::{Device, Kind, Tensor};
use tokenizers::{Tokenizer, TruncationParams};

/// Word pieces that are read of a text, at most.
const LONGEST: usize = 64;
/// Texts that are read at a time.
const BATCH: usize = 256;

pub struct Sentences {
    net: Bert,
    params: Params,
    tokenizer: Tokenizer,
}

impl Sentences {
    /// `folder` holds `model.safetensors` and `tokenizer.json`.
    ///
    /// # Errors
    /// If one is missing or is not MiniLM's.
    pub fn open(folder: &Path, device: Device) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let broken = |e| anyhow!("{}: {e}", path.display());
        let mut tokenizer = Tokenizer::from_file(&path).map_err(broken)?;
        let truncation = TruncationParams { max_length: LONGEST, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(broken)?.with_padding(None);
        let weights = read_safetensors(&folder.join("model.safetensors"))?;
        let own = |(k, v): (String, Tensor)| (k.strip_prefix("bert.").unwrap_or(&k).to_owned(), v.to_kind(Kind::Float));
        let params = Params::frozen(weights.into_iter().map(own).collect(), device);
        Ok(Self { net: Bert::minilm(), params, tokenizer })
    }

    /// Vectors of unit length, `(N, 384)`. Texts of about one length are read together.
    pub fn of(&self, texts: &[String]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let encoded = self.tokenizer.encode_batch_fast(texts.to_vec(), true).map_err(|e| anyhow!("{e}"))?;
        let ids: Vec<&[u32]> = encoded.iter().map(|e| e.get_ids()).collect();
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|i| ids[*i].len());
        let parts: Vec<Tensor> = order.chunks(BATCH).map(|chunk| self.batch(chunk, &ids)).collect();
        self.params.close("the teacher")?;
        let places: Vec<i64> = order.iter().map(|i| *i as i64).collect();
        let sorted = Tensor::cat(&parts, 0);
        Ok(sorted.zeros_like().index_copy(0, &Tensor::from_slice(&places).to_device(self.params.device()), &sorted))
    }

    /// Of the texts of `chunk`, the last of which is the longest.
    fn batch(&self, chunk: &[usize], ids: &[&[u32]]) -> Tensor {
        let longest = chunk.last().map_or(0, |i| ids[*i].len());
        let padded = |i: &usize| ids[*i].iter().map(|id| i64::from(*id)).chain(std::iter::repeat(0)).take(longest);
        let flat: Vec<i64> = chunk.iter().flat_map(padded).collect();
        let ids =
            Tensor::from_slice(&flat).reshape([chunk.len() as i64, longest as i64]).to_device(self.params.device());
        let states = self.net.forward(&Torch(&self.params), &ids, longest as i64);
        let summed = (states * ids.ne(0).to_kind(Kind::Float).unsqueeze(-1)).sum_dim_intlist(
            [1i64].as_slice(),
            false,
            Kind::Float,
        );
        // The mean's length does not matter.
        let norm = summed.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Float).sqrt();
        summed / norm
    }
}
