//! [`Tensor`]: what goes into a graph and what comes out, in plain vectors.

use crate::error::{Result, fail};
use half::f16;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Element type of a [`Tensor`] or of a graph's input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DType {
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Signed 8 bits.
    I8,
    /// Signed 32 bits.
    I32,
    /// Signed 64 bits.
    I64,
    /// Unsigned 8 bits.
    U8,
    /// One truth value a byte.
    Bool,
}

impl DType {
    /// NumPy's name of it, which ONNX runtimes use too: `float32`, `int64`, ...
    pub fn name(self) -> &'static str {
        match self {
            DType::F16 => "float16",
            DType::F32 => "float32",
            DType::F64 => "float64",
            DType::I8 => "int8",
            DType::I32 => "int32",
            DType::I64 => "int64",
            DType::U8 => "uint8",
            DType::Bool => "bool",
        }
    }

    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            DType::Bool | DType::U8 | DType::I8 => 1,
            DType::F16 => 2,
            DType::F32 | DType::I32 => 4,
            DType::F64 | DType::I64 => 8,
        }
    }

    /// Whether it is one of the floating-point types.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::F32 | DType::F64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The elements of a [`Tensor`] in row-major order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant is its element type")]
pub enum Data {
    #[serde(with = "bits")]
    F16(Vec<f16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I8(Vec<i8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    Bool(Vec<bool>),
}

/// 16-bit floats as serde sees them.
mod bits {
    use half::f16;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f16], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| value.to_bits()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f16>, D::Error> {
        Ok(Vec::<u16>::deserialize(deserializer)?.into_iter().map(f16::from_bits).collect())
    }
}

/// Runs `$body` with `$elements` bound to the vector inside, whatever its type.
macro_rules! each_type {
    ($data:expr, $elements:ident => $body:expr) => {
        match $data {
            Data::F16($elements) => $body,
            Data::F32($elements) => $body,
            Data::F64($elements) => $body,
            Data::I8($elements) => $body,
            Data::I32($elements) => $body,
            Data::I64($elements) => $body,
            Data::U8($elements) => $body,
            Data::Bool($elements) => $body,
        }
    };
}
pub(crate) use each_type;

impl Data {
    /// The element type.
    pub fn dtype(&self) -> DType {
        match self {
            Data::F16(_) => DType::F16,
            Data::F32(_) => DType::F32,
            Data::F64(_) => DType::F64,
            Data::I8(_) => DType::I8,
            Data::I32(_) => DType::I32,
            Data::I64(_) => DType::I64,
            Data::U8(_) => DType::U8,
            Data::Bool(_) => DType::Bool,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        each_type!(self, elements => elements.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

macro_rules! data_from {
    ($($variant:ident $type:ty),+) => {
        $(impl From<Vec<$type>> for Data {
            fn from(elements: Vec<$type>) -> Data {
                Data::$variant(elements)
            }
        })+
    };
}
data_from!(F16 f16, F32 f32, F64 f64, I8 i8, I32 i32, I64 i64, U8 u8, Bool bool);

/// A dense array: a shape and as many elements, row-major. A scalar has the empty shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of `shape` holding `data`.
    ///
    /// # Errors
    /// `Mismatch` when the number of elements is not the product of the shape.
    pub fn new(shape: &[usize], data: impl Into<Data>) -> Result<Tensor> {
        let data = data.into();
        if elements(shape) != Some(data.len()) {
            return fail!(Mismatch, "{} elements do not fill the shape {shape:?}", data.len());
        }
        Ok(Tensor { shape: shape.to_vec(), data })
    }

    /// A tensor with the empty shape.
    pub fn scalar<T>(value: T) -> Tensor
    where
        Data: From<Vec<T>>,
    {
        Tensor { shape: vec![], data: vec![value].into() }
    }

    /// Lengths of the axes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The elements, taken out.
    pub fn into_data(self) -> Data {
        self.data
    }

    /// The elements if they are `f32`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(elements) => Some(elements),
            _ => None,
        }
    }

    /// The elements as `f32`, converted where they are of another type.
    pub fn into_f32(self) -> Vec<f32> {
        match self.data {
            Data::F32(elements) => elements,
            other => to_f64(&other).into_iter().map(|value| value as f32).collect(),
        }
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// `Mismatch` when the two shapes do not hold equally many elements.
    pub fn reshape(self, shape: &[usize]) -> Result<Tensor> {
        Tensor::new(shape, self.data)
    }

    /// The same values as another type; floats are truncated towards zero and saturate, as with `as`.
    pub fn cast(self, dtype: DType) -> Tensor {
        if self.dtype() == dtype {
            return self;
        }
        Tensor { shape: self.shape, data: cast(&self.data, dtype) }
    }

    /// Index (row-major) and value of the first NaN or infinity, `None` when all is finite.
    pub fn first_non_finite(&self) -> Option<(usize, f64)> {
        let found = match &self.data {
            Data::F16(elements) => first(elements, f64::from),
            Data::F32(elements) => first(elements, f64::from),
            Data::F64(elements) => first(elements, |x| x),
            _ => None,
        };
        debug_assert!(found.is_none_or(|(_, value)| !value.is_finite()));
        found
    }

    /// Refuses NaN and infinity; `what` names the tensor in the message.
    ///
    /// # Errors
    /// `NotFinite`, with how many of the values are not finite and where the first stands.
    pub fn check_finite(&self, what: &str) -> Result<()> {
        match self.first_non_finite() {
            None => Ok(()),
            Some((index, value)) => {
                fail!(NotFinite, "{what} {:?} holds {value} at index {index} of {}", self.shape, self.len())
            }
        }
    }
}

/// Number of elements of a shape, `None` when it does not fit `usize`.
pub fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length))
}

fn first<T: Copy>(elements: &[T], wide: impl Fn(T) -> f64) -> Option<(usize, f64)> {
    elements.iter().map(|&x| wide(x)).enumerate().find(|(_, value)| !value.is_finite())
}

fn cast(data: &Data, dtype: DType) -> Data {
    if let (Data::I32(from), DType::I64) = (data, dtype) {
        return Data::I64(from.iter().map(|&x| x.into()).collect());
    }
    if let Data::I64(from) = data {
        return cast_i64(from, dtype);
    }
    let wide = to_f64(data).into_iter();
    match dtype {
        DType::F16 => Data::F16(wide.map(f16::from_f64).collect()),
        DType::F32 => Data::F32(wide.map(|x| x as f32).collect()),
        DType::F64 => Data::F64(wide.collect()),
        DType::I8 => Data::I8(wide.map(|x| x as i8).collect()),
        DType::I32 => Data::I32(wide.map(|x| x as i32).collect()),
        DType::I64 => Data::I64(wide.map(|x| x as i64).collect()),
        DType::U8 => Data::U8(wide.map(|x| x as u8).collect()),
        DType::Bool => Data::Bool(wide.map(|x| x != 0.0).collect()),
    }
}

/// `i64` does not survive the way through `f64`.
fn cast_i64(from: &[i64], dtype: DType) -> Data {
    let from = from.iter().copied();
    match dtype {
        DType::F16 => Data::F16(from.map(|x| f16::from_f64(x as f64)).collect()),
        DType::F32 => Data::F32(from.map(|x| x as f32).collect()),
        DType::F64 => Data::F64(from.map(|x| x as f64).collect()),
        DType::I8 => Data::I8(from.map(|x| x.clamp(i8::MIN.into(), i8::MAX.into()) as i8).collect()),
        DType::I32 => Data::I32(from.map(|x| x.clamp(i32::MIN.into(), i32::MAX.into()) as i32).collect()),
        DType::I64 => Data::I64(from.collect()),
        DType::U8 => Data::U8(from.map(|x| x.clamp(0, u8::MAX.into()) as u8).collect()),
        DType::Bool => Data::Bool(from.map(|x| x != 0).collect()),
    }
}

fn to_f64(data: &Data) -> Vec<f64> {
    match data {
        Data::F16(elements) => elements.iter().map(|&x| x.into()).collect(),
        Data::F32(elements) => elements.iter().map(|&x| x.into()).collect(),
        Data::F64(elements) => elements.clone(),
        Data::I8(elements) => elements.iter().map(|&x| x.into()).collect(),
        Data::I32(elements) => elements.iter().map(|&x| x.into()).collect(),
        Data::I64(elements) => elements.iter().map(|&x| x as f64).collect(),
        Data::U8(elements) => elements.iter().map(|&x| x.into()).collect(),
        Data::Bool(elements) => elements.iter().map(|&x| f64::from(u8::from(x))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_elements_must_agree() {
        assert!(Tensor::new(&[2, 3], vec![0f32; 6]).is_ok());
        assert!(Tensor::new(&[2, 3], vec![0f32; 5]).is_err());
        assert!(Tensor::new(&[usize::MAX, 2], vec![0f32; 6]).is_err());
        assert_eq!(Tensor::scalar(1i64).shape(), &[] as &[usize]);
    }

    #[test]
    fn casts_saturate_and_keep_large_integers() {
        let big = Tensor::scalar((1i64 << 60) + 1);
        assert_eq!(big.clone().cast(DType::I64), big);
        assert_eq!(big.cast(DType::I32), Tensor::scalar(i32::MAX));
        assert_eq!(Tensor::scalar(-1.7f32).cast(DType::I64), Tensor::scalar(-1i64));
        assert_eq!(Tensor::scalar(0.5f32).cast(DType::F16), Tensor::scalar(f16::from_f32(0.5)));
    }

    #[test]
    fn finds_the_first_nan() {
        let tensor = Tensor::new(&[3], vec![0.0, f32::NAN, f32::INFINITY]).unwrap();
        assert_eq!(tensor.first_non_finite().unwrap().0, 1);
        let message = tensor.check_finite("latents").unwrap_err().to_string();
        assert_eq!(message, "latents [3] holds NaN at index 1 of 3");
    }
}
