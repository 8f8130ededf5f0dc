//! What a step costs on paper.

use super::op::Op;
use super::plan::{Operand, Step, Work};
use crate::op::view::View;

/// Arithmetic and memory of one step, as if nothing were cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cost {
    /// Additions and multiplications of products; what is done a few times an element does not count.
    pub(crate) flops: u64,
    /// Bytes read and written, in the type of the computation.
    pub(crate) bytes: u64,
}

pub(crate) fn cost(step: &Step) -> Cost {
    // Of a table only the rows that are asked for are read.
    let table = matches!(step.work, Work::Op(Op::Gather { .. } | Op::GatherNd));
    let reads = step.reads.iter().skip(usize::from(table)).flatten();
    let moved = |operand: &Operand| touched(&operand.view) * operand.dtype.size() as u64;
    let written = std::iter::repeat_n(&step.write, 1 + usize::from(table));
    let bytes = reads.chain(written).map(moved).sum();
    Cost { flops: flops(step).unwrap_or(0), bytes }
}

/// Elements of the buffer, repeated ones once.
pub(crate) fn touched(view: &View) -> u64 {
    let axes = view.shape.iter().zip(&view.strides);
    axes.map(|(length, stride)| if *stride == 0 { 1 } else { *length as u64 }).product()
}

fn flops(step: &Step) -> Option<u64> {
    let Work::Op(op) = &step.work else { return None };
    let shape = |index: usize| step.reads.get(index).and_then(Option::as_ref).map(|read| &read.view.shape);
    let out = step.write.view.volume() as u64;
    let depth = match op {
        Op::Conv(_) => shape(1)?[1..].iter().product(),
        Op::Linear(_) => shape(1)?[0],
        Op::MatMul => *shape(0)?.last()?,
        Op::Attention { heads, .. } => {
            let (q, k, v) = (shape(0)?, shape(1)?, shape(2)?);
            let pairs = (q[0] * heads * q[1] * k[1]) as u64;
            return Some(2 * pairs * ((q[2] + v[2]) / heads) as u64);
        }
        _ => return None,
    };
    Some(2 * out * depth as u64)
}

#[cfg(test)]
mod tests {
    use super::super::op::Activation;
    use super::super::plan::At;
    use super::*;
    use crate::value::DType;

    fn operand(shape: &[usize]) -> Option<Operand> {
        Some(Operand { at: At::Buffer(0), view: View::dense(shape), dtype: DType::F32 })
    }

    fn step(op: Op, reads: Vec<Option<Operand>>, write: &[usize]) -> Step {
        let write = operand(write).unwrap();
        Step { name: "n".into(), work: Work::Op(op), reads, write, value: None }
    }

    #[test]
    fn products_are_counted() {
        let linear = step(Op::Linear(Activation::None), vec![operand(&[2, 5, 8]), operand(&[8, 3])], &[2, 5, 3]);
        assert_eq!(cost(&linear), Cost { flops: 2 * 10 * 8 * 3, bytes: 4 * (80 + 24 + 30) });
        let reads = vec![operand(&[2, 7, 12]), operand(&[2, 9, 12]), operand(&[2, 9, 20])];
        let attention = step(Op::Attention { heads: 4, scale: 1.0 }, reads, &[2, 7, 20]);
        assert_eq!(cost(&attention).flops, 2 * (2 * 4 * 7 * 9) * (3 + 5));
        assert_eq!(cost(&step(Op::Reshape, vec![operand(&[4])], &[4])).flops, 0);
    }
}
