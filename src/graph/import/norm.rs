//! Norms and products.

use super::super::attributes::Attributes;
use super::super::op::{Activation, Binary, Op};
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
        let attributes = Attributes(node);
        let rank = self.output_shape(node)?.len();
        if axis(attributes.int("axis").unwrap_or(-1), rank)? + 1 != rank {
            return Err("it runs over more than the last axis".into());
        }
        if node.output.iter().skip(1).any(|name| !name.is_empty()) {
            return Err("its mean or deviation is an output".into());
        }
        let inputs = vec![Some(self.input(node, 0)?), self.optional(node, 1), self.optional(node, 2)];
        self.push(node, Op::LayerNorm { epsilon: attributes.float("epsilon").unwrap_or(1e-5) }, inputs)
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
        if operands.iter().any(|id| self.net.shape(*id).len() < 2 || self.net.values[*id].dtype != DType::F32) {
            return Err("an operand is no matrix of f32".into());
        }
        self.emit(node, Op::MatMul, &[0, 1])
    }

    /// `alpha A' B' + beta C`.
    pub(super) fn gemm(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        let dtype = self.computed(&node.output[0])?.dtype;
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
