//! Vectors of pieces whose sums come nearest to a teacher's vectors of texts: ridge regression, by conjugate gradients.

use crate::words::SPECIAL;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The ridge, in texts.
const RIDGE: f64 = 3.0;
/// Steps of the conjugate gradients: more change nothing.
const STEPS: usize = 30;
/// Meanings are said within a quarter, so that marks, which are whole numbers and a half at least, decide first.
const LOUDEST: f64 = 0.25;

/// What the texts taught.
pub struct Fit {
    /// `(384, width)`: the principal directions of the teacher's vectors.
    axes: Tensor,
    /// `(vocabulary, width)`.
    pieces: Tensor,
    /// Texts that taught nothing, `(texts, vocabulary)`, and the teacher's vectors of them.
    held_out: (Tensor, Tensor),
}

impl Fit {
    /// Of texts as ids and unit vectors `(N, 384)`; every `held_out`th is left out.
    pub fn of(ids: &[Vec<i64>], vectors: &Tensor, vocabulary: i64, width: i64, held_out: usize) -> Result<Self> {
        let (out, own): (Vec<usize>, Vec<usize>) = (0..ids.len()).partition(|i| i.is_multiple_of(held_out));
        let some = |which: &[usize]| {
            let at = Tensor::from_slice(&which.iter().map(|i| *i as i64).collect::<Vec<_>>());
            (bags(which.iter().map(|i| &ids[*i]), vocabulary), vectors.index_select(0, &at))
        };
        let (texts, wanted) = some(&own);
        let axes = principal(&wanted, width);
        let pieces = ridge(&texts, &wanted.matmul(&axes));
        Ok(Self { axes, pieces, held_out: some(&out) })
    }

    /// Vectors of pieces and of keys `(C, 384)`, so long that no prompt says more than [`LOUDEST`].
    pub fn scaled(&self, keys: &Tensor) -> (Tensor, Tensor) {
        let longest = self.pieces.norm_scalaropt_dim(2.0, [1i64].as_slice(), false).max();
        let loudest = LOUDEST / crate::words::LENGTH as f64;
        (&self.pieces / longest.clamp_min(1e-6), unit(&keys.matmul(&self.axes)) * loudest)
    }

    /// How near held-out texts come to the teacher, and how often both mean one key.
    pub fn report(&self, keys: &Tensor) -> String {
        let (texts, wanted) = &self.held_out;
        let own = unit(&texts.mm(&self.pieces));
        let cosine = (&own * unit(&wanted.matmul(&self.axes))).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let means = |vectors: &Tensor, keys: &Tensor| vectors.matmul(&unit(keys).transpose(0, 1)).argmax(1, false);
        let same = means(&own, &keys.matmul(&self.axes)).eq_tensor(&means(wanted, keys)).to_kind(Kind::Float);
        let mean = |t: Tensor| t.mean(Kind::Float).double_value(&[]);
        format!("of {} held out, cosine {:.3}, same concept {:.3}", own.size()[0], mean(cosine), mean(same))
    }
}

/// Of each text, its pieces over the root of their number: sparse `(texts, vocabulary)`.
fn bags<'a>(texts: impl Iterator<Item = &'a Vec<i64>>, vocabulary: i64) -> Tensor {
    let (mut rows, mut columns, mut values, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (ids, row) in texts.zip(0i64..) {
        let pieces: Vec<i64> = ids.iter().copied().filter(|id| *id >= SPECIAL.len() as i64).collect();
        rows.extend(std::iter::repeat_n(row, pieces.len()));
        values.extend(std::iter::repeat_n(1.0 / (pieces.len() as f32).sqrt(), pieces.len()));
        columns.extend(pieces);
        count = row + 1;
    }
    let places = Tensor::stack(&[Tensor::from_slice(&rows), Tensor::from_slice(&columns)], 0);
    let (kind, size) = ((Kind::Float, Device::Cpu), [count, vocabulary]);
    Tensor::sparse_coo_tensor_indices_size(&places, &Tensor::from_slice(&values), size, kind, false).coalesce()
}

/// `x` so that `texts x` is nearest to `wanted` `(texts, width)`, all columns at once.
fn ridge(texts: &Tensor, wanted: &Tensor) -> Tensor {
    let turned = texts.transpose(0, 1).coalesce();
    let dot = |a: &Tensor, b: &Tensor| (a * b).sum_dim_intlist([0i64].as_slice(), true, Kind::Float);
    let mut left = turned.mm(wanted);
    let (mut x, mut way, mut size) = (left.zeros_like(), left.copy(), dot(&left, &left));
    for _ in 0..STEPS {
        let through = turned.mm(&texts.mm(&way)) + &way * RIDGE;
        let far = &size / (dot(&way, &through) + 1e-12);
        x += &far * &way;
        left -= &far * through;
        let next = dot(&left, &left);
        way = &left + &next / (&size + 1e-12) * way;
        size = next;
    }
    x
}

/// `(W, width)`: the directions in which rows `(N, W)` are longest.
fn principal(rows: &Tensor, width: i64) -> Tensor {
    let (_, vectors) = rows.transpose(0, 1).matmul(rows).linalg_eigh("L");
    let all = vectors.size()[1];
    vectors.narrow(1, all - width.min(all), width.min(all))
}

fn unit(rows: &Tensor) -> Tensor {
    rows / rows.norm_scalaropt_dim(2.0, [1i64].as_slice(), true).clamp_min(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::params::generator_lock;

    /// Texts of pieces 5 to 9, whose vectors are drawn, and the sums of these over the root of their number.
    fn summed(texts: &[&[i64]]) -> (Vec<Vec<i64>>, Tensor) {
        tch::manual_seed(4);
        let ids: Vec<Vec<i64>> = texts.iter().map(|t| [&[2, 4], *t, &[3, 0]].concat()).collect();
        let pieces = Tensor::randn([10, 384], (Kind::Float, Device::Cpu));
        (ids.clone(), bags(ids.iter(), 10).mm(&pieces))
    }

    #[test]
    fn vectors_of_pieces_are_found_in_their_sums() {
        let _lock = generator_lock();
        let texts: Vec<Vec<i64>> = (0..400).map(|i| vec![5 + i % 5, 5 + i / 5 % 5, 5 + i / 25 % 5]).collect();
        let (ids, vectors) = summed(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let fit = Fit::of(&ids, &vectors, 10, 8, 50).unwrap();
        let text = fit.report(&vectors.narrow(0, 0, 20));
        let cosine: f64 = text.split("cosine ").nth(1).unwrap()[..5].parse().unwrap();
        assert!(cosine > 0.99 && text.starts_with("of 8 held out"), "{text}");
        let (pieces, keys) = fit.scaled(&vectors);
        assert!(pieces.narrow(0, 0, 5).abs().max().double_value(&[]) == 0.0, "what no text says has no vector");
        let loudest = pieces.matmul(&keys.transpose(0, 1)).abs().max().double_value(&[]) * crate::words::LENGTH as f64;
        assert!(loudest <= LOUDEST * 1.001, "{loudest}");
    }
}
