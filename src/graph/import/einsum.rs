//! `Einsum` of one or two operands: sums, transposes and one product.

use super::super::attributes::Attributes;
use super::super::net::ValueId;
use super::super::op::{Op, Reduce};
use super::{Import, Imported};
use crate::value::DType;
use tract_onnx::pb::NodeProto;

/// An operand and the letters of its axes.
struct Term {
    id: ValueId,
    letters: Vec<char>,
}

impl Import {
    pub(super) fn einsum(&mut self, node: &NodeProto) -> Imported {
        let equation = Attributes(node).text("equation").ok_or("its equation is missing")?;
        let (operands, output) = letters(equation)?;
        if operands.len() != node.input.len() || operands.len() > 2 {
            return Err(format!("equations of {} operands are not supported", operands.len()));
        }
        let mut terms = Vec::new();
        for (index, letters) in operands.into_iter().enumerate() {
            terms.push(self.term(node, index, letters)?);
        }
        let read = |term: &Term, letter: &char| term.letters.contains(letter);
        for index in 0..terms.len() {
            let others: Vec<char> =
                terms.iter().enumerate().filter(|(i, _)| *i != index).flat_map(|(_, t)| t.letters.clone()).collect();
            let lost = terms[index].letters.clone().into_iter().filter(|c| !output.contains(c) && !others.contains(c));
            terms[index] = self.summed(node, &terms[index], &lost.collect::<Vec<_>>());
        }
        if output.iter().any(|letter| !terms.iter().any(|term| read(term, letter))) {
            return Err("a letter of its output is in no operand".into());
        }
        let term = match &terms[..] {
            [term] => Term { id: term.id, letters: term.letters.clone() },
            [a, b] => self.product(node, a, b, &output)?,
            _ => return Err("it has no operands".into()),
        };
        let id = self.arranged(node, &term, &output)?;
        self.rename(node, id)
    }

    fn term(&self, node: &NodeProto, index: usize, letters: Vec<char>) -> Result<Term, String> {
        let id = self.input(node, index)?;
        if self.net.values[id].dtype != DType::F32 || self.net.shape(id).len() != letters.len() {
            return Err(format!("its operand {index} is not f32, or has other axes than the equation"));
        }
        Ok(Term { id, letters })
    }

    fn length(&self, term: &Term, letter: char) -> usize {
        term.letters.iter().position(|c| *c == letter).map_or(1, |axis| self.net.shape(term.id)[axis])
    }

    /// `term` summed over `lost`.
    fn summed(&mut self, node: &NodeProto, term: &Term, lost: &[char]) -> Term {
        if lost.is_empty() {
            return Term { id: term.id, letters: term.letters.clone() };
        }
        let axes = (0..term.letters.len()).filter(|&axis| lost.contains(&term.letters[axis])).collect();
        let letters: Vec<char> = term.letters.iter().copied().filter(|c| !lost.contains(c)).collect();
        let shape: Vec<usize> = letters.iter().map(|c| self.length(term, *c)).collect();
        let op = Op::Reduce { kind: Reduce::Sum, axes, keep: false };
        Term { id: self.between(node, op, &[term.id], &shape, DType::F32), letters }
    }

    /// `term` with its axes in the order of `letters`.
    fn arranged(&mut self, node: &NodeProto, term: &Term, letters: &[char]) -> Result<ValueId, String> {
        let place = |letter: &char| term.letters.iter().position(|c| c == letter);
        let axes: Vec<usize> = letters.iter().filter_map(place).collect();
        if axes.iter().enumerate().all(|(axis, from)| axis == *from) {
            return Ok(term.id);
        }
        self.transposed(node, term.id, &axes)
    }

    /// Letters of both operands count pictures where the output has them, and are summed over where it has not.
    fn product(&mut self, node: &NodeProto, a: &Term, b: &Term, output: &[char]) -> Result<Term, String> {
        let shared = |c: &char| a.letters.contains(c) && b.letters.contains(c);
        if let Some(letter) = a.letters.iter().find(|c| shared(c) && self.length(a, **c) != self.length(b, **c)) {
            return Err(format!("its operands differ in the length of {letter}"));
        }
        let of = |letters: &[char], wanted: &dyn Fn(&char) -> bool| -> Vec<char> {
            letters.iter().copied().filter(|c| wanted(c)).collect()
        };
        let batch = of(output, &|c| shared(c));
        let inner = of(&a.letters, &|c| shared(c) && !output.contains(c));
        let (left, right) = (of(output, &|c| !b.letters.contains(c)), of(output, &|c| !a.letters.contains(c)));
        let lengths = |term: &Term, letters: &[char]| letters.iter().map(|c| self.length(term, *c)).collect::<Vec<_>>();
        let (n, m, k, w) = (lengths(a, &batch), lengths(a, &left), lengths(a, &inner), lengths(b, &right));
        let matrix = |rows: &[usize], columns: &[usize]| {
            [&n[..], &[rows.iter().product()], &[columns.iter().product()]].concat()
        };
        let (of_a, of_b, of_c) = (matrix(&m, &k), matrix(&k, &w), matrix(&m, &w));
        let whole = [&n[..], &m, &w].concat();
        let a = self.arranged(node, a, &[&batch[..], &left, &inner].concat())?;
        let a = self.reshaped(node, a, &of_a)?;
        let b = self.arranged(node, b, &[&batch[..], &inner, &right].concat())?;
        let b = self.reshaped(node, b, &of_b)?;
        let c = self.between(node, Op::MatMul, &[a, b], &of_c, DType::F32);
        let id = self.reshaped(node, c, &whole)?;
        Ok(Term { id, letters: [batch, left, right].concat() })
    }
}

/// The letters of the operands and of the output; without an arrow the output has those that occur once, in the order of the alphabet.
fn letters(equation: &str) -> Result<(Vec<Vec<char>>, Vec<char>), String> {
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    if !equation.chars().all(|c| c.is_alphabetic() || ",->".contains(c)) {
        return Err(format!("the equation {equation} is not supported"));
    }
    let (left, right) = equation.split_once("->").map_or((&equation[..], None), |(left, right)| (left, Some(right)));
    let operands: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
    let once = |c: &char| operands.iter().flatten().filter(|other| *other == c).count() == 1;
    let mut output: Vec<char> = match right {
        Some(right) => right.chars().collect(),
        None => operands.iter().flatten().copied().filter(once).collect(),
    };
    if right.is_none() {
        output.sort_unstable();
    }
    let repeats = |letters: &[char]| letters.iter().enumerate().any(|(i, c)| letters[..i].contains(c));
    if operands.iter().any(|letters| repeats(letters)) || repeats(&output) {
        return Err(format!("the equation {equation} takes a diagonal, which is not supported"));
    }
    Ok((operands, output))
}
