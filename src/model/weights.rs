//! The constants of a graph, taken out of its protobuf before tract reads it: tract copies every one of them, and panics at some.
//!
//! Their bytes stay in the file: see [`Mapped`].

use super::external::External;
use super::mapped::Mapped;
use super::onnx::element::Element;
use super::scale::Scale;
use crate::error::{Error, ErrorKind, Result, fail};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::prelude::{DatumType, Tensor as TractTensor};

/// Most elements that a declared tensor may have: 8 GiB of f32, sixteen times the largest value in a decoder for 1024x1024.
pub(crate) const MOST_ELEMENTS: usize = 1 << 31;

/// One constant, checked: its bytes are there and are as many as its shape needs.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    pub(crate) name: String,
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
    /// What makes numbers of the elements, where the file has integers for them.
    pub(crate) scale: Option<Scale>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// Little-endian, in the file's element type: from one of protobuf's typed lists, or inside of a node.
    Inline(Arc<[u8]>),
    /// The same, where it lies in the ONNX file or in one of its data files.
    Mapped(Mapped),
}

/// The data files of a graph, each mapped once.
#[derive(Debug, Default)]
pub(crate) struct DataFiles(HashMap<PathBuf, Mapped>);

impl DataFiles {
    fn map(&mut self, external: &External) -> Result<Mapped> {
        if !self.0.contains_key(&external.file) {
            let mapped = Mapped::open(&external.file).map_err(|error| error.in_file(&external.file))?;
            self.0.insert(external.file.clone(), mapped);
        }
        let part = usize::try_from(external.offset)
            .ok()
            .zip(usize::try_from(external.length).ok())
            .and_then(|(offset, length)| self.0[&external.file].part(offset, length));
        match part {
            Some(part) => Ok(part),
            None => fail!(Mismatch, "external data lies behind the end of {}", external.file.display()),
        }
    }
}

impl Weight {
    /// Takes the content out of `tensor`, which stands in the file `onnx`; its `raw_data` may have been left there as `payload`.
    ///
    /// # Errors
    /// `Unsupported` for element types other than numbers, `Malformed` for dimensions that are negative or absurd, `Mismatch` when there are
    /// fewer or more bytes than the shape needs; all name the tensor.
    pub(crate) fn take(
        onnx: &Path,
        tensor: &mut TensorProto,
        payload: Option<Mapped>,
        files: &mut DataFiles,
    ) -> Result<Weight> {
        let name = std::mem::take(&mut tensor.name);
        Self::of(onnx, tensor, &name, payload, files).map_err(|error| error.in_field(name).in_file(onnx))
    }

    fn of(
        onnx: &Path,
        tensor: &mut TensorProto,
        name: &str,
        payload: Option<Mapped>,
        files: &mut DataFiles,
    ) -> Result<Weight> {
        let element = Element::of(tensor.data_type)?;
        let shape = lengths(&tensor.dims)?;
        let expected = shape.iter().product::<usize>() * element.size();
        let source = if tensor.data_location == Some(DataLocation::External as i32) {
            tensor.name = name.to_owned();
            let external = External::resolve(onnx, tensor, expected as u64)?;
            if expected == 0 { Source::Inline(Arc::default()) } else { Source::Mapped(files.map(&external)?) }
        } else {
            payload.map_or_else(|| Source::Inline(inline(tensor, element).into()), Source::Mapped)
        };
        let found = source.bytes().len();
        if found != expected {
            return fail!(Mismatch, "{} {shape:?} takes {expected} bytes, the file has {found}", element.name());
        }
        Ok(Weight { name: name.to_owned(), element, shape, scale: None, source })
    }

    /// The weight `name` whose numbers `scale` makes of these integers.
    pub(crate) fn scaled(&self, name: &str, scale: Scale) -> Weight {
        Weight { name: name.to_owned(), scale: Some(scale), ..self.clone() }
    }

    /// Number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The ONNX type it is computed in.
    pub(crate) fn computed(&self) -> DataType {
        if self.scale.is_some() { DataType::Float } else { self.element.computed() }
    }

    /// Whether it is computed as floating-point numbers.
    pub(crate) fn is_float(&self) -> bool {
        self.scale.is_some() || self.element.is_float()
    }

    /// The type that tract computes in.
    pub(crate) fn datum_type(&self) -> DatumType {
        datum_type(self.computed())
    }

    /// Bytes it takes in the file.
    pub(crate) fn bytes(&self) -> usize {
        self.elements() * self.element.size() + self.scale.as_ref().map_or(0, Scale::bytes)
    }

    /// The content: little-endian elements of the file's type, without alignment.
    pub(crate) fn content(&self) -> &[u8] {
        self.source.bytes()
    }

    /// The part of a file that holds the content, `None` for what stands in one of protobuf's typed lists or in a node.
    pub(crate) fn mapped(&self) -> Option<&Mapped> {
        match &self.source {
            Source::Mapped(mapped) => Some(mapped),
            Source::Inline(_) => None,
        }
    }

    /// The content in f32; only for floats of 16, 32 and 64 bits, and for integers with a scale.
    pub(crate) fn widen_into(&self, wide: &mut [f32]) {
        self.widen_part(0, wide);
    }

    /// The same of as many elements as `wide` has, from the element `first`.
    pub(crate) fn widen_part(&self, first: usize, wide: &mut [f32]) {
        let size = self.element.size();
        let bytes = &self.content()[first * size..][..wide.len() * size];
        if let Some(scale) = &self.scale {
            return scale.widen(self.element, bytes, first, wide);
        }
        if self.element.is_half() {
            return self.element.widen(bytes, wide);
        }
        if size == 8 {
            let eights = bytes.as_chunks::<8>().0.iter().zip(wide);
            eights.for_each(|(bytes, x)| *x = f64::from_le_bytes(*bytes) as f32);
        } else {
            let fours = bytes.as_chunks::<4>().0.iter().zip(wide);
            fours.for_each(|(bytes, x)| *x = f32::from_le_bytes(*bytes));
        }
    }

    /// Gives back the memory of pages that were read.
    pub(crate) fn release(&self) {
        if let Some(mapped) = self.mapped() {
            mapped.release();
        }
    }

    /// The tensor that tract computes with; 16-bit floats and integers with a scale are widened. The pages read for it are given back.
    ///
    /// # Errors
    /// `Engine` when tract cannot make a tensor of this shape.
    pub(crate) fn to_tract(&self) -> Result<TractTensor> {
        let mut tensor = zeros(self.datum_type(), &self.shape)?;
        if self.scale.is_some() || self.element.is_half() {
            let mut plain = tensor.try_as_plain_ram_mut().map_err(engine)?;
            self.widen_into(plain.as_slice_mut::<f32>().map_err(engine)?);
        } else {
            tensor.as_bytes_mut().copy_from_slice(self.content());
            if self.computed() == DataType::Bool {
                tensor.as_bytes_mut().iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
            }
        }
        self.release();
        Ok(tensor)
    }

    /// Puts the content into a protobuf tensor, inline and widened.
    ///
    /// # Errors
    /// As [`Weight::to_tract`].
    pub(crate) fn to_proto(&self) -> Result<TensorProto> {
        let dims = self.shape.iter().map(|&length| length as i64).collect();
        let (name, data_type) = (self.name.clone(), self.computed() as i32);
        let raw_data = self.to_tract()?.as_bytes().to_vec();
        Ok(TensorProto { name, dims, data_type, raw_data, ..TensorProto::default() })
    }

    /// The values if they are 64-bit integers, as the shape arguments of ONNX operators are.
    pub(crate) fn integers(&self) -> Option<Vec<i64>> {
        let integers = self.computed() == DataType::Int64;
        integers.then(|| self.content().as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk)).collect())
    }
}

impl Source {
    fn bytes(&self) -> &[u8] {
        match self {
            Source::Inline(content) => content,
            Source::Mapped(mapped) => mapped.bytes(),
        }
    }
}

/// Declared dimensions as lengths.
///
/// # Errors
/// `Malformed` when one is negative or all together are more than [`MOST_ELEMENTS`].
pub(crate) fn lengths(dims: &[i64]) -> Result<Vec<usize>> {
    let shape: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let Some(shape) = shape else { return fail!(Malformed, "the declared dimensions {dims:?} are negative") };
    // An empty axis must not hide absurd ones.
    let volume = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length.max(1)));
    match volume {
        Some(volume) if volume <= MOST_ELEMENTS => Ok(shape),
        _ => fail!(Malformed, "the declared dimensions {dims:?} are absurd: more than {MOST_ELEMENTS} elements"),
    }
}

/// The content in the file's element type: `raw_data`, or whichever typed list ONNX prescribes for it.
fn inline(tensor: &mut TensorProto, element: Element) -> Vec<u8> {
    use DataType::*;
    if !tensor.raw_data.is_empty() {
        return std::mem::take(&mut tensor.raw_data);
    }
    let ints = std::mem::take(&mut tensor.int32_data);
    match DataType::try_from(tensor.data_type).unwrap_or_default() {
        Float => tensor.float_data.drain(..).flat_map(f32::to_le_bytes).collect(),
        Double => tensor.double_data.drain(..).flat_map(f64::to_le_bytes).collect(),
        Int64 => tensor.int64_data.drain(..).flat_map(i64::to_le_bytes).collect(),
        Uint64 => tensor.uint64_data.drain(..).flat_map(u64::to_le_bytes).collect(),
        Uint32 => tensor.uint64_data.drain(..).flat_map(|x| (x as u32).to_le_bytes()).collect(),
        _ => ints.into_iter().flat_map(|x| x.to_le_bytes().into_iter().take(element.size())).collect(),
    }
}

fn datum_type(data_type: DataType) -> DatumType {
    use DataType::*;
    match data_type {
        Double => DatumType::F64,
        Uint8 => DatumType::U8,
        Int8 => DatumType::I8,
        Uint16 => DatumType::U16,
        Int16 => DatumType::I16,
        Int32 => DatumType::I32,
        Int64 => DatumType::I64,
        Uint32 => DatumType::U32,
        Uint64 => DatumType::U64,
        Bool => DatumType::Bool,
        _ => DatumType::F32,
    }
}

fn zeros(datum_type: DatumType, shape: &[usize]) -> Result<TractTensor> {
    TractTensor::zero_dt(datum_type, shape).map_err(engine)
}

fn engine(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Engine, format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn tensor(data_type: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { name: "w".into(), data_type: data_type as i32, dims: dims.to_vec(), ..TensorProto::default() }
    }

    fn take(onnx: &str, tensor: &mut TensorProto) -> Result<Weight> {
        Weight::take(Path::new(onnx), tensor, None, &mut DataFiles::default())
    }

    #[test]
    fn every_typed_list_is_read() {
        let mut half = tensor(DataType::Float16, &[2]);
        half.int32_data = [1.5, -2.0].map(|x| f16::from_f32(x).to_bits().into()).to_vec();
        let wide = take("m", &mut half).unwrap().to_tract().unwrap();
        assert_eq!(wide.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap(), [1.5, -2.0]);
        let mut flags = tensor(DataType::Bool, &[3]);
        flags.int32_data = vec![0, 1, 2];
        let flags = take("m", &mut flags).unwrap().to_tract().unwrap();
        assert_eq!(flags.try_as_plain_ram().unwrap().as_slice::<bool>().unwrap(), [false, true, true]);
    }

    #[test]
    fn a_wrong_number_of_bytes_names_the_tensor() {
        let mut short = tensor(DataType::Float, &[2, 2]);
        short.raw_data = vec![0; 12];
        let message = take("m.onnx", &mut short).unwrap_err().to_string();
        assert_eq!(message, "m.onnx: `w`: FLOAT [2, 2] takes 16 bytes, the file has 12");
    }

    #[test]
    fn absurd_dimensions_are_refused_before_anything_is_allocated() {
        for dims in [&[-1][..], &[1 << 40], &[i64::MAX, i64::MAX], &[0, 1 << 40]] {
            assert!(lengths(dims).is_err(), "{dims:?}");
        }
    }
}
