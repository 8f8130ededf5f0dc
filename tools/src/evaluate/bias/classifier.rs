//! A classifier of pictures whose accuracy is known: each drawing is judged by one that was fitted without its subject.

use anyhow::Result;
use serde::Serialize;

use super::people::Known;
use crate::draws::mix;
use crate::evaluate::retrieval::Share;
use crate::evaluate::ridge::Ridge;

/// Parts of the subjects, each judged by what was fitted to the others.
const PARTS: usize = 5;

/// A classifier, and how well it does on subjects that it was not fitted to.
pub struct Classifier {
    ridge: Ridge,
    pub accuracy: Share,
    /// How often a class (row) was taken for another (column).
    pub confusion: Vec<Vec<usize>>,
}

/// Shares of classes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shares(pub Vec<Share>);

impl Classifier {
    /// Fits to vectors of drawings whose class is below `classes`. `counts` says which of them accuracy is told of: those that look as the
    /// pictures that will be judged.
    ///
    /// # Errors
    /// If there is no vector, or one holds a number that is not finite.
    pub fn fit(vectors: &[Vec<f32>], known: &[Known], classes: usize, counts: impl Fn(&Known) -> bool) -> Result<Self> {
        let fit = |of: &[usize]| {
            let some: Vec<Vec<f32>> = of.iter().map(|i| vectors[*i].clone()).collect();
            Ridge::fit(&some, &of.iter().map(|i| known[*i].class).collect::<Vec<_>>(), classes)
        };
        let mut confusion = vec![vec![0; classes]; classes];
        for part in 0..PARTS {
            let (held_out, others): (Vec<usize>, Vec<usize>) =
                (0..known.len()).partition(|i| part_of(&known[*i].subject) == part);
            let judged: Vec<usize> = held_out.into_iter().filter(|i| counts(&known[*i])).collect();
            if judged.is_empty() || others.is_empty() {
                continue;
            }
            let ridge = fit(&others)?;
            judged.iter().for_each(|i| confusion[known[*i].class][ridge.best(&vectors[*i])] += 1);
        }
        let right = (0..classes).map(|class| confusion[class][class]).sum();
        let accuracy = Share::new(right, confusion.iter().flatten().sum());
        Ok(Self { ridge: fit(&(0..known.len()).collect::<Vec<_>>())?, accuracy, confusion })
    }

    /// The shares of the classes among pictures.
    pub fn shares(&self, vectors: &[Vec<f32>]) -> Shares {
        let mut counts = vec![0; self.confusion.len()];
        vectors.iter().for_each(|vector| counts[self.ridge.best(vector)] += 1);
        Shares(counts.into_iter().map(|count| Share::new(count, vectors.len())).collect())
    }
}

/// The part of a subject, the same wherever it stands.
fn part_of(subject: &str) -> usize {
    (mix(0, subject) % PARTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The class stands in the first three numbers, the subject in a number of its own.
    fn vector(class: usize, subject: usize) -> Vec<f32> {
        let mut vector = vec![0.0; 3 + 40];
        vector[class] = 1.0;
        vector[3 + subject] = 1.0;
        vector
    }

    #[test]
    fn accuracy_is_that_on_other_subjects() {
        let known: Vec<Known> =
            (0..120).map(|i| Known { picture: i, class: i % 3, subject: format!("subject {}", i / 3) }).collect();
        let vectors: Vec<Vec<f32>> = (0..120).map(|i| vector(i % 3, i / 3)).collect();
        let all = Classifier::fit(&vectors, &known, 3, |_| true).unwrap();
        assert_eq!((all.accuracy.hits, all.accuracy.of), (120, 120));
        let some = Classifier::fit(&vectors, &known, 3, |known| known.picture < 30).unwrap();
        assert_eq!((some.accuracy.of, &some.confusion[1]), (30, &vec![0, 10, 0]));
        let shares = all.shares(&[vector(0, 1), vector(2, 1), vector(2, 5), vector(2, 7)]);
        assert_eq!(shares.0.iter().map(|s| s.hits).collect::<Vec<_>>(), [1, 0, 3]);

        // Only the subject tells the class: nothing is known of one that was not seen.
        let labels = |i: usize| i / 3 % 3;
        let known: Vec<Known> = known.into_iter().map(|k| Known { class: labels(k.picture), ..k }).collect();
        let vectors: Vec<Vec<f32>> = (0..120).map(|i| vector(0, i / 3)).collect();
        assert!(Classifier::fit(&vectors, &known, 3, |_| true).unwrap().accuracy.percent < 60.0);
    }
}
