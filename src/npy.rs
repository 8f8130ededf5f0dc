//! NumPy's `.npy` files.

use crate::error::{Error, ErrorKind, Result, fail};
use crate::value::{DType, Data, Tensor, elements};
use npyz::{NpyFile, NpyHeader, Order, WriterBuilder};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

/// Reads an array.
///
/// # Errors
/// `NotFound`, `Io`; `Malformed` for what is not a `.npy` file or is shorter than its header says; `Unsupported` for element types other than
/// floats, 8-, 32- and 64-bit integers and bool, and for Fortran order. All name the file.
pub fn read(file: impl AsRef<Path>) -> Result<Tensor> {
    let file = file.as_ref();
    open(file).map_err(|error| error.in_file(file))
}

/// Writes an array, little-endian, in C order.
///
/// # Errors
/// `Io`, naming the file.
pub fn write(file: impl AsRef<Path>, tensor: &Tensor) -> Result<()> {
    let file = file.as_ref();
    save(file, tensor).map_err(|error| Error::io("write", file, error))
}

fn open(file: &Path) -> Result<Tensor> {
    let handle = File::open(file).map_err(|error| Error::io("read", file, error))?;
    let length = handle.metadata().map_err(|error| Error::io("read", file, error))?.len();
    let mut reader = BufReader::new(handle);
    let header = NpyHeader::from_reader(&mut reader).map_err(|error| broken(&error))?;
    let (dtype, shape) = layout(&header)?;
    let bytes = elements(&shape).and_then(|count| count.checked_mul(dtype.size()));
    if bytes.is_none_or(|bytes| bytes as u64 > length) {
        return fail!(Malformed, "the header declares {dtype} {shape:?}, the file has {length} bytes")
            .map_err(|error: Error| error.advise("it is cut short"));
    }
    Tensor::new(&shape, content(NpyFile::with_header(header, reader), dtype).map_err(|error| broken(&error))?)
}

fn broken(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Malformed, format!("is not a .npy file, or is cut short ({error})"))
        .advise("write it with numpy.save")
}

fn layout(header: &NpyHeader) -> Result<(DType, Vec<usize>)> {
    let shape: Option<Vec<usize>> = header.shape().iter().map(|&length| usize::try_from(length).ok()).collect();
    let Some(shape) = shape else { return fail!(Malformed, "the declared shape {:?} is absurd", header.shape()) };
    if header.order() == Order::Fortran && shape.len() > 1 {
        return fail!(Unsupported, "the array is in Fortran order")
            .map_err(|error: Error| error.advise("save numpy.ascontiguousarray of it"));
    }
    let text = header.dtype().descr();
    match dtype(text.trim_matches('\'')) {
        Some(dtype) => Ok((dtype, shape)),
        None => fail!(Unsupported, "the element type {text} is not supported"),
    }
}

/// NumPy's type string without its byte order, which `npyz` sees to.
fn dtype(text: &str) -> Option<DType> {
    Some(match text.trim_start_matches(['<', '>', '|', '=']) {
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "i1" => DType::I8,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "b1" => DType::Bool,
        _ => return None,
    })
}

fn content(file: NpyFile<BufReader<File>>, dtype: DType) -> std::io::Result<Data> {
    Ok(match dtype {
        DType::F16 => Data::F16(file.into_vec()?),
        DType::F32 => Data::F32(file.into_vec()?),
        DType::F64 => Data::F64(file.into_vec()?),
        DType::I8 => Data::I8(file.into_vec()?),
        DType::I32 => Data::I32(file.into_vec()?),
        DType::I64 => Data::I64(file.into_vec()?),
        DType::U8 => Data::U8(file.into_vec()?),
        DType::Bool => Data::Bool(file.into_vec()?),
    })
}

fn save(file: &Path, tensor: &Tensor) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    let shape: Vec<u64> = tensor.shape().iter().map(|&length| length as u64).collect();
    crate::value::each_type!(tensor.data(), elements => append(&mut out, &shape, elements)?);
    out.flush()
}

fn append<T: npyz::AutoSerialize + Copy>(out: &mut impl Write, shape: &[u64], elements: &[T]) -> std::io::Result<()> {
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(out).begin_nd()?;
    writer.extend(elements.iter().copied())?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_type_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.npy");
        let tensors = [
            Tensor::new(&[2, 3], (0..6).map(|x| f16::from_f32(x as f32)).collect::<Vec<_>>()),
            Tensor::new(&[3], vec![1.5f32, -2.0, f32::MIN]),
            Tensor::new(&[1, 1], vec![1e300f64]),
            Tensor::new(&[2], vec![-1i8, 1]),
            Tensor::new(&[2], vec![i32::MIN, i32::MAX]),
            Tensor::new(&[2], vec![i64::MIN, i64::MAX]),
            Tensor::new(&[0, 4], Vec::<u8>::new()),
            Tensor::new(&[2], vec![true, false]),
            Ok(Tensor::scalar(7f32)),
        ];
        for tensor in tensors.map(Result::unwrap) {
            write(&file, &tensor).unwrap();
            assert_eq!(read(&file).unwrap(), tensor);
        }
    }

    #[test]
    fn numpy_s_own_bytes_are_read() {
        // numpy 2.3, numpy.save(f, numpy.array([[1, 2]], dtype="<i4"))
        let mut bytes =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2), }".to_vec();
        bytes.resize(127, b' ');
        bytes.extend(b"\n\x01\0\0\0\x02\0\0\0");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.npy");
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(read(&file).unwrap(), Tensor::new(&[1, 2], vec![1i32, 2]).unwrap());
    }
}
