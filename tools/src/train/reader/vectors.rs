//! Vectors of pieces and of concepts, as they stand in a reader's tables.

use crate::net::params::Params;
use crate::net::reader::READER;
use crate::words::LENGTH;
use anyhow::{Result, ensure};
use tch::Tensor;

pub struct Vectors {
    /// `(vocabulary, width)`; what stands around words is 0.
    pub pieces: Tensor,
    /// `(concepts, width)`.
    pub meanings: Tensor,
}

impl Vectors {
    /// Those that a text encoder with a reader has.
    ///
    /// # Errors
    /// If it has no reader, or one of another tokenizer or of other concepts.
    pub fn kept(encoder: &Params, vocabulary: usize, concepts: usize) -> Result<Self> {
        let map = encoder.map();
        let of = |name: &str| map.get(&format!("{READER}{name}.weight")).map(Tensor::shallow_clone);
        let (Some(pieces), Some(meanings)) = (of("pieces"), of("meanings")) else {
            anyhow::bail!("--keep-vectors: the text encoder of --from has no reader; leave the option out")
        };
        let rows = |tensor: &Tensor| tensor.size()[0] as usize;
        ensure!(
            (rows(&pieces), rows(&meanings)) == (vocabulary, concepts),
            "--keep-vectors: the reader of --from is of {} pieces and {} concepts, its tokenizer has {vocabulary} and --data {concepts}",
            rows(&pieces),
            rows(&meanings)
        );
        Ok(Self { pieces, meanings })
    }

    /// The concept that each text says most of, by its ids, `LENGTH` each.
    ///
    /// # Errors
    /// If torch fails.
    pub fn heard(&self, ids: &[Vec<i64>]) -> Result<Vec<usize>> {
        let mut all = Vec::new();
        for part in ids.chunks(1000) {
            let rows = self.pieces.index_select(0, &Tensor::from_slice(&part.concat()));
            let sums = rows.reshape([-1, LENGTH as i64, self.pieces.size()[1]]).sum_dim_intlist(
                [1i64].as_slice(),
                false,
                tch::Kind::Float,
            );
            let said: Vec<i64> = Vec::try_from(sums.matmul(&self.meanings.transpose(0, 1)).argmax(1, false))?;
            all.extend(said.into_iter().map(|concept| concept as usize));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn encoder(names: [&str; 2]) -> Params {
        let eye = |rows| Tensor::eye(rows, (Kind::Float, Device::Cpu));
        let [pieces, meanings] = names.map(str::to_owned);
        Params::frozen([(pieces, eye(4)), (meanings, eye(4).narrow(0, 1, 2))].into(), Device::Cpu)
    }

    #[test]
    fn vectors_are_kept_where_they_fit() {
        let own = encoder(["reader.pieces.weight", "reader.meanings.weight"]);
        let vectors = Vectors::kept(&own, 4, 2).unwrap();
        let ids = |first: &[i64]| [first, &vec![0; LENGTH - first.len()]].concat();
        assert_eq!(vectors.heard(&[ids(&[2, 2, 1]), ids(&[1]), ids(&[1, 2, 2])]).unwrap(), [1, 0, 1]);
        let refused = |params: &Params, vocabulary| Vectors::kept(params, vocabulary, 2).err().unwrap().to_string();
        assert!(refused(&own, 5).contains("of 4 pieces and 2 concepts, its tokenizer has 5 and --data 2"));
        assert!(refused(&encoder(["a", "b"]), 4).contains("has no reader"));
    }
}
