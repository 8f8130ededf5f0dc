//! Finds the first value inside of a graph in which two engines differ.
//!
//! The CPU engine plays its plan as it is: to ask it for a value would undo the fusion that may be at fault. So every step's value is looked at
//! when the step is done, and tract gives the same values as further outputs, as many at a time as fit into [`AT_ONCE`].

use super::cpu::Watched;
use super::reference::Reference;
use super::{Engine, Outputs, Threads};
use crate::error::Result;
use crate::model::Graph;
use crate::value::Tensor;

/// Bytes of tract's values that are held at a time.
const AT_ONCE: usize = 256 << 20;

/// What a comparison found.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// Values that both engines gave.
    pub values: usize,
    /// The first value, in the order in which they are computed, that differs by more than was allowed.
    pub first: Option<Difference>,
    /// The value that differs most, of those that were compared: none after the first part that holds a [`Compared::first`].
    pub worst: Option<Difference>,
}

/// How far a value of one engine is from the other's.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The node that makes the value; the last of those that were fused.
    pub node: String,
    /// The kernel that made it.
    pub kernel: String,
    /// The value's name in the file.
    pub value: String,
    pub shape: Vec<usize>,
    /// Largest difference, over the reference's standard deviation.
    pub error: f64,
}

/// Plays `graph` on the CPU engine and in tract and compares every value that both have.
///
/// # Errors
/// `Unsupported` with the nodes that the CPU engine has no step for; those of running the graph in either.
pub fn compare(graph: &Graph, inputs: &[(&str, &Tensor)], tolerance: f64, threads: &Threads) -> Result<Compared> {
    let mut watched = Watched::new(graph, inputs, threads).map_err(|error| error.in_file(graph.file()))?;
    let mut compared = Compared::default();
    for part in parts(&watched.values()) {
        let expected = in_tract(graph, inputs, &part, threads)?;
        let look = |difference: Difference| compared.add(difference, tolerance);
        watched.compare(&expected, look).map_err(|error| error.in_file(graph.file()))?;
        if compared.first.is_some() {
            break;
        }
    }
    Ok(compared)
}

impl Compared {
    fn add(&mut self, found: Difference, tolerance: f64) {
        self.values += 1;
        if self.first.is_none() && found.error > tolerance {
            self.first = Some(found.clone());
        }
        if self.worst.as_ref().is_none_or(|worst| worst.error < found.error) {
            self.worst = Some(found);
        }
    }
}

/// Names in parts of at most [`AT_ONCE`] bytes, or of one value.
fn parts(values: &[(String, usize)]) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut held = usize::MAX;
    for (name, bytes) in values {
        held = held.saturating_add(*bytes);
        if held > AT_ONCE {
            parts.push(Vec::new());
            held = *bytes;
        }
        parts.last_mut().expect("a part was begun").push(name.clone());
    }
    parts
}

pub(super) fn in_tract(
    graph: &Graph,
    inputs: &[(&str, &Tensor)],
    names: &[String],
    threads: &Threads,
) -> Result<Outputs> {
    let mut watching = graph.clone();
    let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.shape())).collect();
    watching.watch(names, &graph.shapes(&shapes)?)?;
    Reference::new(watching, threads).run(inputs)
}

/// The largest difference over the standard deviation of `expected`; infinite where either is no number.
pub(super) fn error(got: &[f32], expected: &[f32]) -> f64 {
    let count = expected.len().max(1) as f64;
    let mean = expected.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let variance = expected.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
    let differences = got.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    // Equal infinities are no difference.
    let same = got.iter().zip(expected).all(|(a, b)| a == b);
    let largest = differences.fold(0.0, |most: f64, d| if d.is_nan() { f64::INFINITY } else { most.max(d) });
    match variance.sqrt() {
        _ if same => 0.0,
        deviation if deviation > 0.0 => largest / deviation,
        _ => largest / mean.abs().max(f64::from(f32::MIN_POSITIVE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_held_in_parts() {
        let named = |sizes: &[usize]| -> Vec<(String, usize)> {
            sizes.iter().enumerate().map(|(i, bytes)| (i.to_string(), *bytes)).collect()
        };
        assert!(parts(&[]).is_empty());
        let third = AT_ONCE / 3;
        let lengths: Vec<usize> =
            parts(&named(&[third, third, third, third, AT_ONCE * 2, 1])).iter().map(Vec::len).collect();
        assert_eq!(lengths, [3, 1, 1, 1]);
    }

    #[test]
    fn errors_are_in_deviations() {
        assert_eq!(error(&[1.0, 3.5], &[1.0, 3.0]), 0.5);
        assert_eq!(error(&[2.0, 2.0], &[2.0, 2.0]), 0.0);
        assert_eq!(error(&[2.0, 3.0], &[2.0, 2.0]), 0.5);
        assert_eq!(error(&[f32::NAN, 3.0], &[1.0, 3.0]), f64::INFINITY);
        assert_eq!(error(&[f32::INFINITY, 3.0], &[f32::INFINITY, 3.0]), 0.0);
    }
}
