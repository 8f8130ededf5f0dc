//! ONNX element types (`TensorProto.DataType`): which we compute in, and as what.

use crate::error::{Result, fail};
use crate::value::DType;
use half::{bf16, f16};
use tract_onnx::pb::tensor_proto::DataType;

/// Element type of an ONNX tensor that this library can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element(DataType);

impl Element {
    /// # Errors
    /// `Unsupported` for strings, complex numbers, packed 4- and 8-bit floats and undefined types, by name.
    pub(crate) fn of(data_type: i32) -> Result<Element> {
        use DataType::*;
        match DataType::try_from(data_type) {
            Ok(
                known @ (Float | Uint8 | Int8 | Uint16 | Int16 | Int32 | Int64 | Bool | Float16 | Double | Uint32
                | Uint64 | Bfloat16),
            ) => Ok(Element(known)),
            Ok(other) => fail!(Unsupported, "element type {} where numbers belong", other.as_str_name()),
            Err(_) => fail!(Malformed, "element type {data_type}, which is not known here"),
        }
    }

    /// ONNX's name of it.
    pub(crate) fn name(self) -> &'static str {
        self.0.as_str_name()
    }

    /// Bytes an element takes in the file.
    pub(crate) fn size(self) -> usize {
        use DataType::*;
        match self.0 {
            Uint8 | Int8 | Bool => 1,
            Uint16 | Int16 | Float16 | Bfloat16 => 2,
            Int64 | Uint64 | Double => 8,
            _ => 4,
        }
    }

    /// Whether it is computed in f32 although the file has 16 bits.
    pub(crate) fn is_half(self) -> bool {
        matches!(self.0, DataType::Float16 | DataType::Bfloat16)
    }

    /// Whether it is one of the floating-point types.
    pub(crate) fn is_float(self) -> bool {
        matches!(self.computed(), DataType::Float | DataType::Double)
    }

    /// The ONNX type it is computed in.
    pub(crate) fn computed(self) -> DataType {
        if self.is_half() { DataType::Float } else { self.0 }
    }

    /// The type of a graph's input or output, `None` for those that only occur inside graphs.
    pub(crate) fn port(self) -> Option<DType> {
        use DataType::*;
        Some(match self.computed() {
            Float => DType::F32,
            Double => DType::F64,
            Int8 => DType::I8,
            Int32 => DType::I32,
            Int64 => DType::I64,
            Uint8 => DType::U8,
            Bool => DType::Bool,
            _ => return None,
        })
    }

    /// Widens little-endian 16-bit floats to `f32`, in native order.
    pub(crate) fn widen(self, bytes: &[u8], wide: &mut [f32]) {
        let pairs = bytes.as_chunks::<2>().0.iter().zip(wide);
        match self.0 {
            DataType::Bfloat16 => pairs.for_each(|(pair, x)| *x = bf16::from_le_bytes(*pair).to_f32()),
            _ => pairs.for_each(|(pair, x)| *x = f16::from_le_bytes(*pair).to_f32()),
        }
    }
}
