//! Norms and products.

use super::super::attributes::Attributes;
use super::super::net::ValueId;
use super::super::op::{Activation, Binary, Op, Reduce, Unary};
use super::{Import, Imported, axis, vector};
use crate::value::DType;
use tract_onnx::pb::NodeProto;

impl Import {
    /// `InstanceNormalization` is a group norm with a group a channel.
    pub(super) fn group_norm(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        let channels = *self.output_shape(node)?.get(1).ok_or("it has no channels")?;
        let groups = match attributes.int("num_groups") {
            Some(groups) => usize::try_from(groups).ok().filter(|g| *g > 0 && channels % g == 0),
            None => Some(channels),
        };
        let groups = groups.ok_or("its groups do not divide the channels")?;
        let vectors = [self.input(node, 1)?, self.input(node, 2)?];
        let mut inputs = vec![Some(self.input(node, 0)?)];
        for id in vectors {
            // Up to opset 20 GroupNormalization has one number a group.
            let id = match self.net.shape(id) {
                [length] if *length == channels => id,
                [length] if *length == groups => {
                    let values =
                        self.net.known(id).and_then(|tensor| tensor.as_f32()).ok_or("its scale is computed")?;
                    let each = values.iter().flat_map(|v| std::iter::repeat_n(*v, channels / groups)).collect();
                    self.net.constant(&node.name, vector(each, &[channels])?)
                }
                shape => return Err(format!("its scale has the shape {shape:?}")),
            };
            inputs.push(Some(id));
        }
        let epsilon = attributes.float("epsilon").unwrap_or(1e-5);
        self.push(node, Op::GroupNorm { groups, epsilon, activation: Activation::None }, inputs)
    }

    pub(super) fn layer_norm(&mut self, node: &NodeProto) -> Imported {
        let epsilon = Attributes(node).float("epsilon").unwrap_or(1e-5);
        let at = self.first_axis(node)?;
        self.statistics(node, at, epsilon)?;
        self.norm_from(node, at, Op::LayerNorm { epsilon }, 3)
    }

    pub(super) fn rms_norm(&mut self, node: &NodeProto) -> Imported {
        let epsilon = Attributes(node).float("epsilon").unwrap_or(1e-5);
        let at = self.first_axis(node)?;
        self.norm_from(node, at, Op::RmsNorm { epsilon }, 2)
    }

    /// The first of the axes that a norm runs over.
    fn first_axis(&self, node: &NodeProto) -> Result<usize, String> {
        if self.dtype(self.input(node, 0)?) != DType::F32 {
            return Err("its operand is not f32".into());
        }
        axis(Attributes(node).int("axis").unwrap_or(-1), self.output_shape(node)?.len())
    }

    /// `op` over the axes from `at` on, as one axis; the operands behind the first have its length.
    fn norm_from(&mut self, node: &NodeProto, at: usize, op: Op, operands: usize) -> Imported {
        let shape = self.output_shape(node)?;
        let width: usize = shape[at..].iter().product();
        let mut inputs = vec![self.input(node, 0)?];
        for index in 1..operands {
            if let Some(id) = self.optional(node, index) {
                inputs.push(self.reshaped(node, id, &[width])?);
            }
        }
        if at + 1 == shape.len() {
            return self.push(node, op, inputs.into_iter().map(Some).collect());
        }
        let rows = [&shape[..at], &[width]].concat();
        inputs[0] = self.reshaped(node, inputs[0], &rows)?;
        let normed = self.between(node, op, &inputs, &rows, DType::F32);
        self.push(node, Op::Reshape, vec![Some(normed)])
    }

    /// Mean and reciprocal deviation, where they are outputs.
    fn statistics(&mut self, node: &NodeProto, at: usize, epsilon: f32) -> Imported {
        let x = self.input(node, 0)?;
        let shape = self.net.shape(x).to_vec();
        let mean = Op::Reduce { kind: Reduce::Mean, axes: (at..shape.len()).collect(), keep: true };
        if self.gives(node, 1) {
            self.make(node, 1, mean.clone(), vec![Some(x)])?;
        }
        if !self.gives(node, 2) {
            return Ok(());
        }
        let one: Vec<usize> = (0..shape.len()).map(|axis| if axis < at { shape[axis] } else { 1 }).collect();
        let epsilon = self.net.constant(&node.name, vector(vec![epsilon], &[1])?);
        let average = self.between(node, mean.clone(), &[x], &one, DType::F32);
        let away = self.between(node, Op::Binary(Binary::Sub), &[x, average], &shape, DType::F32);
        let square = self.between(node, Op::Binary(Binary::Mul), &[away, away], &shape, DType::F32);
        let variance = self.between(node, mean, &[square], &one, DType::F32);
        let safe = self.between(node, Op::Binary(Binary::Add), &[variance, epsilon], &one, DType::F32);
        let deviation = self.between(node, Op::Unary(Unary::Sqrt), &[safe], &one, DType::F32);
        self.make(node, 2, Op::Unary(Unary::Reciprocal), vec![Some(deviation)])
    }

    /// With constant statistics it is one multiplication and one addition.
    pub(super) fn batch_norm(&mut self, node: &NodeProto) -> Imported {
        let epsilon = f64::from(Attributes(node).float("epsilon").unwrap_or(1e-5));
        let shape = self.output_shape(node)?;
        let mut constants = Vec::new();
        for index in 1..5 {
            let id = self.input(node, index)?;
            let values = self.net.known(id).and_then(|tensor| tensor.as_f32());
            constants.push(values.ok_or("its statistics are computed")?.to_vec());
        }
        let [gamma, beta, mean, variance] = &constants[..] else { return Err("its statistics are missing".into()) };
        let factor: Vec<f32> = gamma
            .iter()
            .zip(variance)
            .map(|(g, v)| (f64::from(*g) / (f64::from(*v) + epsilon).sqrt()) as f32)
            .collect();
        let offset = beta
            .iter()
            .zip(mean)
            .zip(&factor)
            .map(|((b, m), f)| (f64::from(*b) - f64::from(*m) * f64::from(*f)) as f32);
        let wide: Vec<usize> = (0..shape.len()).skip(1).map(|axis| if axis == 1 { factor.len() } else { 1 }).collect();
        let offset = self.net.constant(&node.name, vector(offset.collect(), &wide)?);
        let factor = self.net.constant(&node.name, vector(factor, &wide)?);
        let x = self.input(node, 0)?;
        let scaled = self.between(node, Op::Binary(Binary::Mul), &[x, factor], &shape, DType::F32);
        self.push(node, Op::Binary(Binary::Add), vec![Some(scaled), Some(offset)])
    }

    pub(super) fn matmul(&mut self, node: &NodeProto) -> Imported {
        let operands = [self.input(node, 0)?, self.input(node, 1)?];
        if operands.iter().any(|id| self.net.shape(*id).is_empty() || self.dtype(*id) != DType::F32) {
            return Err("an operand is no matrix of f32".into());
        }
        match operands.map(|id| self.net.shape(id).len() == 1) {
            [false, false] => self.emit(node, Op::MatMul, &[0, 1]),
            vectors => self.with_vectors(node, operands, vectors),
        }
    }

    /// A vector is a row on the left, a column on the right.
    fn with_vectors(&mut self, node: &NodeProto, [a, b]: [ValueId; 2], [row, column]: [bool; 2]) -> Imported {
        let mut shape = self.output_shape(node)?;
        let (mut a, mut b) = (a, b);
        if row {
            a = self.reshaped(node, a, &[1, self.net.shape(a)[0]])?;
            shape.insert(shape.len() - usize::from(!column), 1);
        }
        if column {
            b = self.reshaped(node, b, &[self.net.shape(b)[0], 1])?;
            shape.push(1);
        }
        let product = self.between(node, Op::MatMul, &[a, b], &shape, DType::F32);
        self.push(node, Op::Reshape, vec![Some(product)])
    }

    /// `alpha A' B' + beta C`.
    pub(super) fn gemm(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        let dtype = self.computed(&node.output[0])?.dtype;
        if dtype != DType::F32 {
            return Err("its operands are not f32".into());
        }
        let shape = self.output_shape(node)?;
        let mut operands = [self.input(node, 0)?, self.input(node, 1)?];
        for (operand, flag) in operands.iter_mut().zip(["transA", "transB"]) {
            if attributes.int(flag) == Some(1) {
                *operand = self.transposed(node, *operand, &[1, 0])?;
            }
        }
        let mut steps = Vec::new();
        if let Some(alpha) = attributes.float("alpha").filter(|alpha| *alpha != 1.0) {
            steps.push((Binary::Mul, self.net.constant(&node.name, vector(vec![alpha], &[1])?)));
        }
        if let Some(mut c) = self.optional(node, 2) {
            if let Some(beta) = attributes.float("beta").filter(|beta| *beta != 1.0) {
                let beta = self.net.constant(&node.name, vector(vec![beta], &[1])?);
                let c_shape = self.net.shape(c).to_vec();
                c = self.between(node, Op::Binary(Binary::Mul), &[c, beta], &c_shape, dtype);
            }
            steps.push((Binary::Add, c));
        }
        let Some((last, operand)) = steps.pop() else {
            return self.push(node, Op::MatMul, operands.map(Some).to_vec());
        };
        let mut x = self.between(node, Op::MatMul, &operands, &shape, dtype);
        for (op, operand) in steps {
            x = self.between(node, Op::Binary(op), &[x, operand], &shape, dtype);
        }
        self.push(node, Op::Binary(last), vec![Some(x), Some(operand)])
    }
}
