//! A linear classifier by ridge regression onto the classes, solved exactly.

use rayon::prelude::*;

/// The ridge, as a share of the mean squared length of the centred vectors.
const RIDGE: f64 = 0.1;

/// Scores of classes, linear in a vector of unit length.
pub struct Ridge {
    /// Mean of the vectors that it was fitted to.
    middle: Vec<f64>,
    /// A vector a class.
    weights: Vec<Vec<f64>>,
    /// A number a class: its share of the vectors.
    offsets: Vec<f64>,
}

impl Ridge {
    /// Fits to vectors with a class below `classes` each; lengths do not count. There must be at least one.
    pub fn fit(vectors: &[Vec<f32>], labels: &[usize], classes: usize) -> Self {
        let unit: Vec<Vec<f64>> = vectors.iter().map(|v| unit(v)).collect();
        let n = unit.len() as f64;
        let middle: Vec<f64> = (0..unit[0].len()).map(|i| unit.iter().map(|v| v[i]).sum::<f64>() / n).collect();
        // Of each number of a vector, its values in all of them.
        let columns: Vec<Vec<f64>> =
            (0..middle.len()).map(|i| unit.iter().map(|v| v[i] - middle[i]).collect()).collect();
        let mut gram: Vec<Vec<f64>> = (0..columns.len())
            .into_par_iter()
            .map(|i| (0..=i).map(|j| dot(&columns[i], &columns[j])).collect())
            .collect();
        let squares: f64 = gram.iter().filter_map(|row| row.last()).sum();
        let ridge = (RIDGE * squares / n).max(f64::MIN_POSITIVE);
        gram.iter_mut().filter_map(|row| row.last_mut()).for_each(|square| *square += ridge);
        let lower = cholesky(gram);
        let share = |class: usize| labels.iter().filter(|label| **label == class).count() as f64 / n;
        let offsets: Vec<f64> = (0..classes).map(share).collect();
        let weights = |class: usize| {
            let target: Vec<f64> = labels.iter().map(|label| f64::from(*label == class) - offsets[class]).collect();
            solve(&lower, columns.iter().map(|column| dot(column, &target)).collect())
        };
        Self { weights: (0..classes).into_par_iter().map(weights).collect(), middle, offsets }
    }

    /// The class with the highest score.
    pub fn best(&self, vector: &[f32]) -> usize {
        let vector = minus(&unit(vector), &self.middle);
        let scores: Vec<f64> = self.weights.iter().zip(&self.offsets).map(|(w, o)| dot(w, &vector) + o).collect();
        (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0)
    }
}

fn unit(vector: &[f32]) -> Vec<f64> {
    let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    vector.iter().map(|v| f64::from(*v) / length).collect()
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `L` of a positive definite matrix `L Lᵀ`; of both only the lower triangle, row by row.
fn cholesky(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    for i in 0..a.len() {
        let (above, from) = a.split_at_mut(i);
        let row = &mut from[0];
        for (j, other) in above.iter().enumerate() {
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        row[i] = (row[i] - dot(&row[..i], &row[..i])).sqrt();
    }
    a
}

/// `x` with `L Lᵀ x = b`.
fn solve(lower: &[Vec<f64>], mut b: Vec<f64>) -> Vec<f64> {
    for i in 0..b.len() {
        b[i] = (b[i] - dot(&lower[i][..i], &b[..i])) / lower[i][i];
    }
    for i in (0..b.len()).rev() {
        let below: f64 = (i + 1..b.len()).map(|j| lower[j][i] * b[j]).sum();
        b[i] = (b[i] - below) / lower[i][i];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::super::draws::Draws;
    use super::*;

    /// `L = [[2, 0], [1, 3]]`, so that the matrix is `[[4, 2], [2, 10]]`; `x = [1, -2]` gives `b = [0, -18]`.
    #[test]
    fn a_system_by_hand() {
        let lower = cholesky(vec![vec![4.0], vec![2.0, 10.0]]);
        assert_eq!(lower, [vec![2.0], vec![1.0, 3.0]]);
        let x = solve(&lower, vec![0.0, -18.0]);
        assert!((x[0] - 1.0).abs() < 1e-12 && (x[1] + 2.0).abs() < 1e-12, "{x:?}");
    }

    #[test]
    fn classes_are_told_apart_by_direction_alone() {
        let mut draws = Draws::new(1, 0);
        let corners = [[1.0, 0.2, 0.2, 0.2], [0.2, 1.0, 0.2, 0.2], [0.2, 0.2, 1.0, 0.2]];
        let mut vector = |class: usize| {
            let length = 0.1 + 10.0 * draws.unit();
            corners[class].map(|c| (length * (c + 0.3 * draws.unit())) as f32).to_vec()
        };
        let labels: Vec<usize> = (0..30).map(|i| i % 3).collect();
        let seen: Vec<Vec<f32>> = labels.iter().map(|class| vector(*class)).collect();
        let ridge = Ridge::fit(&seen, &labels, 3);
        assert!((0..300).all(|i| ridge.best(&vector(i % 3)) == i % 3));
    }
}
