//! A linear classifier by ridge regression onto the classes, solved exactly.

use anyhow::{Context, Result};
use nalgebra::{DMatrix, DVector};

/// The ridge, as a share of the mean squared length of the centred vectors.
const RIDGE: f64 = 0.1;

/// Scores of classes, linear in a vector of unit length.
pub struct Ridge {
    /// Mean of the vectors that it was fitted to.
    middle: DVector<f64>,
    /// A column a class.
    weights: DMatrix<f64>,
    /// A number a class: its share of the vectors.
    offsets: DVector<f64>,
}

impl Ridge {
    /// Fits to vectors with a class below `classes` each; lengths do not count.
    ///
    /// # Errors
    /// If there is no vector, or one holds a number that is not finite.
    pub fn fit(vectors: &[Vec<f32>], labels: &[usize], classes: usize) -> Result<Self> {
        let units: Vec<DVector<f64>> = vectors.iter().map(|v| unit(v)).collect();
        let n = units.len() as f64;
        let middle = units.iter().sum::<DVector<f64>>() / n;
        let rows: Vec<_> = units.iter().map(|unit| (unit - &middle).transpose()).collect();
        let centred = DMatrix::from_rows(&rows);
        let mut gram = centred.tr_mul(&centred);
        let ridge = (RIDGE * gram.trace() / n).max(f64::MIN_POSITIVE);
        (0..gram.nrows()).for_each(|i| gram[(i, i)] += ridge);
        let is = |i: usize, class: usize| f64::from(labels[i] == class);
        let offsets = DVector::from_fn(classes, |class, _| (0..labels.len()).map(|i| is(i, class)).sum::<f64>() / n);
        let targets = DMatrix::from_fn(labels.len(), classes, |i, class| is(i, class) - offsets[class]);
        let solved = gram.cholesky().context("a vector to fit to is not finite")?;
        Ok(Self { weights: solved.solve(&centred.tr_mul(&targets)), middle, offsets })
    }

    /// The class with the highest score.
    pub fn best(&self, vector: &[f32]) -> usize {
        (self.weights.tr_mul(&(unit(vector) - &self.middle)) + &self.offsets).imax()
    }
}

fn unit(vector: &[f32]) -> DVector<f64> {
    let wide = DVector::from_iterator(vector.len(), vector.iter().map(|v| f64::from(*v)));
    let length = wide.norm().max(f64::MIN_POSITIVE);
    wide / length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    /// Centred, the two are ±(0.5, -0.5): the Gram matrix has the eigenvalue 1 along (1, -1) and the trace 1, so the ridge is 0.05;
    /// with targets ±0.5 the right side is (0.5, -0.5), and the solution that over 1.05.
    #[test]
    fn a_system_by_hand() {
        let ridge = Ridge::fit(&[vec![3.0, 0.0], vec![0.0, 0.5]], &[0, 1], 2).unwrap();
        let want = 0.5 / 1.05;
        assert!((ridge.weights[(0, 0)] - want).abs() < 1e-12 && (ridge.weights[(1, 0)] + want).abs() < 1e-12);
        assert_eq!([ridge.best(&[1.0, 0.1]), ridge.best(&[0.1, 1.0])], [0, 1]);
        assert!(Ridge::fit(&[vec![f32::NAN]], &[0], 1).is_err());
    }

    #[test]
    fn classes_are_told_apart_by_direction_alone() {
        let mut draws = Draws::new(1);
        let corners = [[1.0, 0.2, 0.2, 0.2], [0.2, 1.0, 0.2, 0.2], [0.2, 0.2, 1.0, 0.2]];
        let mut vector = |class: usize| {
            let length = 0.1 + 10.0 * draws.unit();
            corners[class].map(|c| (length * (c + 0.3 * draws.unit())) as f32).to_vec()
        };
        let labels: Vec<usize> = (0..30).map(|i| i % 3).collect();
        let seen: Vec<Vec<f32>> = labels.iter().map(|class| vector(*class)).collect();
        let ridge = Ridge::fit(&seen, &labels, 3).unwrap();
        assert!((0..300).all(|i| ridge.best(&vector(i % 3)) == i % 3));
    }
}
