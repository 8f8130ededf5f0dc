//! Element-wise operators.

use super::super::attributes::Attributes;
use super::super::net::{Content, ValueId};
use super::super::op::{Activation, Binary, Comparison, Logic, Op, Predicate, Reduce, Unary};
use super::{Import, Imported, axis};
use crate::value::DType;
use tract_onnx::pb::NodeProto;

/// Operators of one operand whose parameters are attributes.
pub(super) fn unary(op: &str, attributes: &Attributes) -> Option<Op> {
    Some(match op {
        "IsNaN" => Op::Predicate(Predicate::IsNan),
        "Not" => Op::Predicate(Predicate::Not),
        _ => Op::Unary(function(op).or_else(|| activation(op, attributes).map(Unary::Activation))?),
    })
}

fn function(op: &str) -> Option<Unary> {
    Some(match op {
        "Abs" => Unary::Abs,
        "Ceil" => Unary::Ceil,
        "Cos" => Unary::Cos,
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Floor" => Unary::Floor,
        "Log" => Unary::Log,
        "Neg" => Unary::Neg,
        "Reciprocal" => Unary::Reciprocal,
        "Round" => Unary::Round,
        "Sign" => Unary::Sign,
        "Sin" => Unary::Sin,
        "Softplus" => Unary::Softplus,
        "Sqrt" => Unary::Sqrt,
        _ => return None,
    })
}

fn activation(op: &str, attributes: &Attributes) -> Option<Activation> {
    let alpha = |default| attributes.float("alpha").unwrap_or(default);
    Some(match op {
        "Elu" => Activation::Elu(alpha(1.0)),
        "Gelu" if attributes.text("approximate") == Some("tanh") => Activation::GeluTanh,
        "Gelu" => Activation::Gelu,
        "HardSigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: attributes.float("beta").unwrap_or(0.5) },
        "HardSwish" => Activation::HardSwish,
        "LeakyRelu" => Activation::LeakyRelu(alpha(0.01)),
        "Relu" => Activation::Relu,
        "Sigmoid" => Activation::Sigmoid,
        "Tanh" => Activation::Tanh,
        _ => return None,
    })
}

/// Operators of two operands, or of several with the same one between.
pub(super) fn binary(op: &str, attributes: &Attributes) -> Option<Op> {
    Some(match op {
        "Equal" => Op::Comparison(Comparison::Equal),
        "Less" => Op::Comparison(Comparison::Less),
        "LessOrEqual" => Op::Comparison(Comparison::LessOrEqual),
        "Greater" => Op::Comparison(Comparison::Greater),
        "GreaterOrEqual" => Op::Comparison(Comparison::GreaterOrEqual),
        "And" => Op::Logic(Logic::And),
        "Or" => Op::Logic(Logic::Or),
        "Xor" => Op::Logic(Logic::Xor),
        _ => Op::Binary(arithmetic(op, attributes)?),
    })
}

fn arithmetic(op: &str, attributes: &Attributes) -> Option<Binary> {
    Some(match op {
        "Add" | "Sum" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        "Mod" => Binary::Mod { fmod: attributes.int("fmod") == Some(1) },
        _ => return None,
    })
}

impl Import {
    /// Base and power may be of different types; the result is of the base's.
    pub(super) fn pow(&mut self, node: &NodeProto) -> Imported {
        let (base, power) = (self.input(node, 0)?, self.input(node, 1)?);
        let [wanted, other] = [base, power].map(|id| self.net.values[id].dtype);
        if other.is_float() && !wanted.is_float() {
            let base = self.converted(node, base, other);
            let shape = self.output_shape(node)?;
            let real = self.between(node, Op::Binary(Binary::Pow), &[base, power], &shape, other);
            return self.push(node, Op::Cast(wanted), vec![Some(real)]);
        }
        let power = self.converted(node, power, wanted);
        self.push(node, Op::Binary(Binary::Pow), vec![Some(base), Some(power)])
    }

    /// A value in another type.
    fn converted(&mut self, node: &NodeProto, id: ValueId, dtype: DType) -> ValueId {
        if self.net.values[id].dtype == dtype {
            return id;
        }
        if let Some(tensor) = self.net.known(id) {
            let tensor = tensor.clone().cast(dtype);
            return self.net.constant(&node.name, tensor);
        }
        let shape = self.net.shape(id).to_vec();
        self.between(node, Op::Cast(dtype), &[id], &shape, dtype)
    }

    pub(super) fn clip(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        let bound = |index: usize, name: &str, open: f32| match self.optional(node, index) {
            Some(id) => self.net.scalar(id).ok_or_else(|| format!("its operand {index} is not constant")),
            None => Ok(attributes.float(name).unwrap_or(open)),
        };
        let (lo, hi) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
        self.emit(node, Op::Unary(Unary::Activation(Activation::Clamp { lo, hi })), &[0])
    }

    /// `x sigmoid(alpha x)`.
    pub(super) fn swish(&mut self, node: &NodeProto) -> Imported {
        match Attributes(node).float("alpha") {
            None | Some(1.0) => self.emit(node, Op::Unary(Unary::Activation(Activation::Silu)), &[0]),
            Some(_) => Err("alpha other than 1 is not supported".into()),
        }
    }

    pub(super) fn cast(&mut self, node: &NodeProto) -> Imported {
        let id = self.input(node, 0)?;
        let wanted = self.computed(&node.output[0])?.dtype;
        // Weights are f32 here whatever the file holds.
        let same = self.net.values[id].dtype == wanted;
        if same || (matches!(self.net.values[id].content, Content::Weight(..)) && wanted == DType::F32) {
            return self.rename(node, id);
        }
        self.emit(node, Op::Cast(wanted), &[0])
    }

    /// `(x - zero point) * scale`, these two one number or one a place along an axis.
    pub(super) fn dequantize(&mut self, node: &NodeProto) -> Imported {
        if Attributes(node).int("block_size").unwrap_or(0) != 0 {
            return Err("scales of blocks are not supported".into());
        }
        let shape = self.output_shape(node)?;
        let x = self.input(node, 0)?;
        let mut x = self.converted(node, x, DType::F32);
        if node.input.get(2).is_some_and(|name| !name.is_empty()) {
            let zero = self.along_axis(node, 2)?;
            x = self.between(node, Op::Binary(Binary::Sub), &[x, zero], &shape, DType::F32);
        }
        let scale = self.along_axis(node, 1)?;
        self.push(node, Op::Binary(Binary::Mul), vec![Some(x), Some(scale)])
    }

    /// An operand in f32, one number or one a place along the node's axis, in a shape that broadcasts to the output's.
    fn along_axis(&mut self, node: &NodeProto, index: usize) -> Result<ValueId, String> {
        let id = self.input(node, index)?;
        let id = self.converted(node, id, DType::F32);
        let whole = self.output_shape(node)?;
        let mut shape = vec![1; whole.len()];
        match self.net.shape(id) {
            [] | [1] => {}
            [length] => {
                let axis = axis(Attributes(node).int("axis").unwrap_or(1), whole.len())?;
                if *length != whole[axis] {
                    return Err(format!("its operand {index} has {length} numbers for an axis of {}", whole[axis]));
                }
                shape[axis] = *length;
            }
            other => return Err(format!("its operand {index} has the shape {other:?}")),
        }
        Ok(self.between(node, Op::Reshape, &[id], &shape, DType::F32))
    }

    pub(super) fn softmax(&mut self, node: &NodeProto) -> Imported {
        let rank = self.output_shape(node)?.len();
        let before_13 = self.opset < 13;
        let axis = axis(Attributes(node).int("axis").unwrap_or(if before_13 { 1 } else { -1 }), rank)?;
        if before_13 && axis + 1 != rank {
            return Err("before opset 13 it flattens several axes".into());
        }
        self.emit(node, Op::Softmax { axis }, &[0])
    }

    pub(super) fn reduce(&mut self, node: &NodeProto) -> Imported {
        let kind = match node.op_type.as_str() {
            "ReduceSum" => Reduce::Sum,
            "ReduceMean" => Reduce::Mean,
            "ReduceMax" => Reduce::Max,
            "ReduceMin" => Reduce::Min,
            "ReduceProd" => Reduce::Prod,
            _ => Reduce::L2,
        };
        let attributes = Attributes(node);
        let rank = self.net.shape(self.input(node, 0)?).len();
        let given = match attributes.ints("axes") {
            Some(axes) => Some(axes.to_vec()),
            None => self.integers(node, 1)?,
        };
        let given = given.unwrap_or_default();
        if given.is_empty() && attributes.int("noop_with_empty_axes") == Some(1) {
            return self.alias(node);
        }
        let mut axes = given.into_iter().map(|at| axis(at, rank)).collect::<Result<Vec<_>, _>>()?;
        if axes.is_empty() {
            axes = (0..rank).collect();
        }
        axes.sort_unstable();
        axes.dedup();
        let keep = attributes.int("keepdims") != Some(0);
        self.emit(node, Op::Reduce { kind, axes, keep }, &[0])
    }

    pub(super) fn arg_max(&mut self, node: &NodeProto) -> Imported {
        let attributes = Attributes(node);
        let rank = self.net.shape(self.input(node, 0)?).len();
        let axis = axis(attributes.int("axis").unwrap_or(0), rank)?;
        let (keep, last) = (attributes.int("keepdims") != Some(0), attributes.int("select_last_index") == Some(1));
        self.emit(node, Op::ArgMax { axis, keep, last }, &[0])
    }
}
