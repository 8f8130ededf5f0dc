//! Is a picture found among real drawings of many concepts?

use anyhow::Result;
use serde_json::{Value, json};

use super::cells::Row;
use super::lab::Lab;
use super::retrieval::{Share, rank};

/// A real drawing of each of many concepts.
pub struct Gallery {
    /// Indices of the concepts, each once.
    pub concepts: Vec<usize>,
    features: Vec<Vec<f32>>,
}

/// How far up the gallery's own drawing came.
pub struct Score {
    pub top1: Share,
    pub top5: Share,
    /// From 0, one a query.
    pub ranks: Vec<usize>,
}

impl Gallery {
    /// # Errors
    /// If the features network fails.
    pub fn of(lab: &mut Lab, rows: &[Row]) -> Result<Self> {
        Ok(Self { concepts: rows.iter().map(|row| row.concept).collect(), features: lab.features_of(rows)? })
    }

    /// One feature vector a concept; concepts that the gallery does not have are left out.
    pub fn score(&self, features: &[Vec<f32>], concepts: impl IntoIterator<Item = usize>) -> Score {
        let own = |concept: usize| self.concepts.iter().position(|c| *c == concept);
        let ranked = features.iter().zip(concepts).filter_map(|(query, c)| Some(rank(query, &self.features, own(c)?)));
        Score::new(ranked.collect())
    }

    pub fn names<'a>(&self, lab: &'a Lab) -> Vec<&'a str> {
        self.concepts.iter().map(|concept| lab.name(*concept)).collect()
    }
}

impl Score {
    fn new(ranks: Vec<usize>) -> Self {
        let within = |most: usize| Share::new(ranks.iter().filter(|rank| **rank < most).count(), ranks.len());
        Self { top1: within(1), top5: within(5), ranks }
    }

    /// How many there were, and the shares as they are printed.
    pub fn row(&self) -> [String; 3] {
        [self.ranks.len().to_string(), self.top1.to_string(), self.top5.to_string()]
    }

    pub fn json(&self) -> Value {
        json!({ "top1": self.top1, "top5": self.top5, "ranks": self.ranks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_ranked_against_their_own_concept() {
        let features = (0..6).map(|i| vec![1.0, i as f32]).collect();
        let gallery = Gallery { concepts: vec![10, 11, 12, 13, 14, 15], features };
        let queries = vec![vec![1.0, 0.1], vec![1.0, 0.1], vec![1.0, 0.1], vec![1.0, 0.1]];
        let score = gallery.score(&queries, [10, 12, 15, 99]);
        assert_eq!(score.ranks, [0, 2, 5], "the concept that is not in the gallery is left out");
        assert_eq!([score.top1.hits, score.top5.hits, score.top1.of], [1, 2, 3]);
    }
}
