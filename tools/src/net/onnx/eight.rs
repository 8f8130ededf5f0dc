//! Weights in eight bits: an initialiser of integers and one of scales behind `DequantizeLinear`, as ONNX has it since operator set 13.

use super::proto::{FLOAT, FLOAT16, Graph, INT8, Model, Tensor};
use super::{PRODUCER, int, node, read};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;

/// Fewer rows, or numbers, than these are not worth their loss: first and last layers, tables of a few lines.
const FEW_ROWS: i64 = 64;
const FEW: i64 = 4096;

/// What rounding cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounded {
    /// Weights that are in eight bits now.
    pub tensors: usize,
    /// Their numbers.
    pub numbers: usize,
    /// Sum of their squares, and of those of what was lost.
    squares: f64,
    lost: f64,
}

/// Puts the f16 weights that convolutions, products and tables read into eight bits, with a scale an output channel or a row of the table.
///
/// # Errors
/// If the graph is not one that [`super::Recorder`] wrote: what others write may hold what is not read here.
pub fn in_eight_bits(model: &mut Model) -> Result<Rounded> {
    ensure!(model.producer_name == PRODUCER, "was written by \"{}\", not by `export`", model.producer_name);
    let Some(graph) = &mut model.graph else { return Ok(Rounded::default()) };
    let mut rounded = Rounded::default();
    for (weight, axis) in eligible(graph) {
        let Some(tensor) = graph.initializer.iter_mut().find(|tensor| tensor.name == weight) else { continue };
        let numbers = read::halves(&tensor.raw_data);
        let (codes, scales) = codes(&numbers, &tensor.dims, axis);
        rounded.count(&numbers, &dequantized(&codes, &scales, &tensor.dims, axis));
        (tensor.data_type, tensor.raw_data) = (INT8, codes.iter().map(|code| *code as u8).collect());
        let scale = format!("{weight}/scale");
        let raw_data = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let dims = vec![scales.len() as i64];
        graph.initializer.push(Tensor { dims, data_type: FLOAT, name: scale.clone(), raw_data });
        let cast = graph.node.iter_mut().find(|node| node.op_type == "Cast" && node.input == [weight.as_str()]);
        if let Some(cast) = cast {
            let output = cast.output[0].clone();
            *cast = node("DequantizeLinear", &output, &[&weight, &scale], &output, vec![int("axis", axis as i64)]);
        }
    }
    Ok(rounded)
}

impl Rounded {
    /// What was lost, root mean square, over what there was.
    pub fn share(&self) -> f64 {
        if self.squares > 0.0 { (self.lost / self.squares).sqrt() } else { 0.0 }
    }

    fn count(&mut self, before: &[f32], after: &[f32]) {
        let square = |x: f32| f64::from(x).powi(2);
        self.tensors += 1;
        self.numbers += before.len();
        self.squares += before.iter().map(|x| square(*x)).sum::<f64>();
        self.lost += before.iter().zip(after).map(|(a, b)| square(a - b)).sum::<f64>();
    }
}

/// Weights behind a Cast of which every reader wants one scale along the same axis, with that axis.
fn eligible(graph: &Graph) -> Vec<(String, usize)> {
    let mut axes: BTreeMap<&str, Vec<Option<usize>>> = BTreeMap::new();
    for node in &graph.node {
        for (place, name) in node.input.iter().enumerate() {
            axes.entry(name).or_default().push(axis(&node.op_type, place));
        }
    }
    let large = |tensor: &Tensor, axis: usize| {
        let count: i64 = tensor.dims.iter().product();
        count >= FEW && count / tensor.dims[axis].max(1) >= FEW_ROWS
    };
    let casts = graph.node.iter().filter(|node| node.op_type == "Cast");
    casts
        .filter_map(|cast| {
            let tensor = graph.initializer.iter().find(|tensor| cast.input == [tensor.name.as_str()])?;
            let readers = axes.get(cast.output[0].as_str())?;
            let axis = readers[0].filter(|_| readers.iter().all(|reader| *reader == readers[0]))?;
            let rounds = tensor.data_type == FLOAT16 && large(tensor, axis) && !whole(&tensor.raw_data);
            rounds.then(|| (tensor.name.clone(), axis))
        })
        .collect()
}

/// Whether all numbers are whole: such weights count and compare, which rounding would make wrong.
fn whole(halves: &[u8]) -> bool {
    read::halves(halves).iter().all(|number| number.fract() == 0.0)
}

/// The axis of a weight along which the operand at `place` of an operator has its output channels, or its rows.
fn axis(op: &str, place: usize) -> Option<usize> {
    match (op, place) {
        ("Conv", 1) | ("Gather", 0) => Some(0),
        ("MatMul", 1) => Some(1),
        _ => None,
    }
}

/// Integers from -127 to 127, and the scale of each place along `axis`.
fn codes(numbers: &[f32], dims: &[i64], axis: usize) -> (Vec<i8>, Vec<f32>) {
    let (places, inner) = strides(dims, axis);
    let of_place =
        |place: usize| (0..numbers.len() / places).map(move |i| i / inner * inner * places + place * inner + i % inner);
    let mut codes = vec![0; numbers.len()];
    let mut scales = Vec::with_capacity(places);
    for place in 0..places {
        let channel: Vec<f32> = of_place(place).map(|index| numbers[index]).collect();
        let scale = scale(&channel);
        of_place(place).zip(&channel).for_each(|(index, x)| codes[index] = code(*x, scale));
        scales.push(scale);
    }
    (codes, scales)
}

/// What codes stand for.
pub(super) fn dequantized(codes: &[i8], scales: &[f32], dims: &[i64], axis: usize) -> Vec<f32> {
    let (places, inner) = strides(dims, axis);
    codes.iter().enumerate().map(|(index, code)| f32::from(*code) * scales[index / inner % places]).collect()
}

/// Places along an axis, and numbers from one to the next.
fn strides(dims: &[i64], axis: usize) -> (usize, usize) {
    (dims[axis] as usize, dims[axis + 1..].iter().product::<i64>() as usize)
}

/// The largest number becomes 127 or -127.
fn scale(channel: &[f32]) -> f32 {
    let most = channel.iter().fold(0f32, |most, x| most.max(x.abs()));
    if most > 0.0 { most / 127.0 } else { 1.0 }
}

fn code(x: f32, scale: f32) -> i8 {
    (x / scale).round().clamp(-127.0, 127.0) as i8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    #[test]
    fn every_number_is_off_by_half_a_code_of_its_channel_at_most() {
        let mut draws = Draws::new(4);
        let dims = [20, 5, 6];
        for axis in 0..3 {
            let (places, inner) = strides(&dims, axis);
            // One channel is a hundred times as large.
            let wide = |i: usize| if i / inner % places == 3 { 100.0 } else { 1.0 };
            let numbers: Vec<f32> = (0..600).map(|i| (draws.unit() as f32 - 0.5) * wide(i)).collect();
            let (codes, scales) = codes(&numbers, &dims, axis);
            let widened = dequantized(&codes, &scales, &dims, axis);
            assert_eq!(scales.len(), places);
            assert!(scales.iter().enumerate().all(|(place, scale)| (*scale > 0.01) == (place == 3)), "{scales:?}");
            for (index, (before, after)) in numbers.iter().zip(&widened).enumerate() {
                assert!((before - after).abs() <= 0.501 * scales[index / inner % places], "axis {axis}, {index}");
            }
        }
    }

    #[test]
    fn nothing_is_lost_of_nothing_and_of_codes() {
        assert_eq!(codes(&[0.0; 6], &[2, 3], 0), (vec![0; 6], vec![1.0; 2]));
        let exact: Vec<f32> = (-127..=127).map(|code| code as f32 * 0.25).collect();
        let (codes, scales) = codes(&exact, &[1, 255], 0);
        assert_eq!(dequantized(&codes, &scales, &[1, 255], 0), exact);
    }

    #[test]
    fn weights_that_count_stay_exact() {
        let bytes = |numbers: &[f32]| numbers.iter().flat_map(|n| half::f16::from_f32(*n).to_le_bytes()).collect();
        let graph = |numbers: &[f32]| Graph {
            node: vec![
                node("Cast", "w/f32", &["w"], "w/f32", vec![int("to", i64::from(FLOAT))]),
                node("MatMul", "y", &["x", "w/f32"], "y", Vec::new()),
            ],
            initializer: vec![Tensor {
                dims: vec![64, 64],
                data_type: FLOAT16,
                name: "w".into(),
                raw_data: bytes(numbers),
            }],
            ..Graph::default()
        };
        let counts: Vec<f32> = (0..4096).map(|i| (i % 7) as f32 - 3.0).collect();
        let mut others = counts.clone();
        others[9] = 0.5;
        assert_eq!(eligible(&graph(&counts)), []);
        assert_eq!(eligible(&graph(&others)), [("w".to_owned(), 1)]);
    }
}
