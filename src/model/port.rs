//! What a graph takes and gives: names, element types, symbolic or fixed shapes.

use crate::error::{Error, ErrorKind, Result, fail};
use crate::value::{DType, Tensor};
use std::fmt;

/// One axis of a declared shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Always this long.
    Fixed(usize),
    /// As long as the caller makes it; equal symbols mean equal lengths.
    Symbol(String),
    /// The file does not say.
    Unknown,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(length) => write!(f, "{length}"),
            Dim::Symbol(name) => f.write_str(name),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// An input or output of a graph, as its file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// The element type it is computed in: `F32` where the file says float16 or bfloat16.
    pub dtype: DType,
    /// The element type in the file, in ONNX's spelling (`FLOAT16`).
    pub declared: String,
    /// The axes, `None` when the file gives no shape.
    pub shape: Option<Vec<Dim>>,
}

impl Port {
    /// Number of axes, where declared.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// Length of `axis`, where it is declared and fixed.
    pub fn fixed(&self, axis: usize) -> Option<usize> {
        match self.shape.as_ref()?.get(axis)? {
            Dim::Fixed(length) => Some(*length),
            _ => None,
        }
    }

    /// All lengths, where all are fixed.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        (0..self.rank()?).map(|axis| self.fixed(axis)).collect()
    }

    /// Checks that an array of `shape` may be given here.
    ///
    /// # Errors
    /// `Mismatch` that names the input, with both shapes.
    pub fn accepts(&self, shape: &[usize]) -> Result<()> {
        let Some(dims) = &self.shape else { return Ok(()) };
        let fits = |(dim, &length): (&Dim, &usize)| !matches!(dim, Dim::Fixed(fixed) if *fixed != length);
        if dims.len() == shape.len() && dims.iter().zip(shape).all(fits) {
            return Ok(());
        }
        fail!(Mismatch, "the array has the shape {shape:?}, the graph declares {}", self.shape_text())
            .map_err(|error: Error| error.in_field(&self.name))
    }

    /// `tensor` as this input wants it: floats become this float type, integers this integer type.
    ///
    /// # Errors
    /// `Mismatch` when a float is given for an integer or the other way round, or when an integer does not fit.
    pub fn convert(&self, tensor: Tensor) -> Result<Tensor> {
        let from = tensor.dtype();
        if from == self.dtype {
            return Ok(tensor);
        }
        let same_kind = from.is_float() == self.dtype.is_float() && from != DType::Bool && self.dtype != DType::Bool;
        let back = same_kind.then(|| tensor.clone().cast(self.dtype));
        match back {
            Some(cast) if from.is_float() || cast.clone().cast(from) == tensor => Ok(cast),
            Some(_) => Err(self.refuse(format!("a value of the {from} array does not fit {}", self.dtype))),
            None => Err(self.refuse(format!("the array is {from}, the graph takes {}", self.dtype))),
        }
    }

    fn refuse(&self, message: String) -> Error {
        Error::new(ErrorKind::Mismatch, message).in_field(&self.name)
    }

    /// The declared shape as text, `[batch, 4, height, width]`.
    pub fn shape_text(&self) -> String {
        match &self.shape {
            None => "any shape".into(),
            Some(dims) => format!("[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.dtype, self.shape_text())
    }
}

/// Names of ports as a sentence part: `sample, timestep`.
pub(crate) fn names(ports: &[Port]) -> String {
    ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(dtype: DType, shape: Vec<Dim>) -> Port {
        Port { name: "x".into(), dtype, declared: String::new(), shape: Some(shape) }
    }

    #[test]
    fn a_fixed_axis_must_match_and_a_symbol_takes_any_length() {
        let port = port(DType::F32, vec![Dim::Symbol("batch".into()), Dim::Fixed(4)]);
        assert!(port.accepts(&[7, 4]).is_ok());
        let message = port.accepts(&[7, 5]).unwrap_err().to_string();
        assert_eq!(message, "`x`: the array has the shape [7, 5], the graph declares [batch, 4]");
        assert!(port.accepts(&[4]).is_err());
    }

    #[test]
    fn integers_are_narrowed_only_when_they_fit() {
        let port = port(DType::I32, vec![]);
        assert_eq!(port.convert(Tensor::scalar(7i64)).unwrap(), Tensor::scalar(7i32));
        assert!(port.convert(Tensor::scalar(1i64 << 40)).is_err());
        assert!(port.convert(Tensor::scalar(7f32)).is_err());
    }
}
