//! [`Scale`]: what makes numbers of the integers in a file, ONNX's `DequantizeLinear`: `(x - zero_point) * scale`.

use super::onnx::element::Element;
use std::sync::Arc;

/// One scale for a whole weight, or one for every place along one of its axes.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    scales: Arc<[f32]>,
    /// As many, or none where all are 0.
    zeros: Arc<[i32]>,
    /// Elements from one place along the axis to the next.
    stride: usize,
    /// What scales and zero points take in the file.
    bytes: usize,
}

impl Scale {
    /// `zeros` are as many as `scales`, or none; `shape` is that of the weight, and `axis` counts where there are several.
    pub(crate) fn new(scales: Vec<f32>, mut zeros: Vec<i32>, shape: &[usize], axis: usize, bytes: usize) -> Scale {
        if zeros.iter().all(|zero| *zero == 0) {
            zeros.clear();
        }
        let inner = if scales.len() > 1 { &shape[axis + 1..] } else { shape };
        let stride = inner.iter().product::<usize>().max(1);
        Scale { scales: scales.into(), zeros: zeros.into(), stride, bytes }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The numbers that the little-endian integers `bytes` stand for, of which the first is the weight's element `first`.
    pub(crate) fn widen(&self, element: Element, bytes: &[u8], first: usize, wide: &mut [f32]) {
        match element.name() {
            "INT8" => self.each(bytes.iter().map(|byte| i32::from(*byte as i8)), first, wide),
            "UINT8" => self.each(bytes.iter().map(|byte| i32::from(*byte)), first, wide),
            "INT16" => self.each(bytes.as_chunks().0.iter().map(|x| i16::from_le_bytes(*x).into()), first, wide),
            "UINT16" => self.each(bytes.as_chunks().0.iter().map(|x| u16::from_le_bytes(*x).into()), first, wide),
            _ => self.each(bytes.as_chunks().0.iter().map(|x| i32::from_le_bytes(*x)), first, wide),
        }
    }

    fn each(&self, mut numbers: impl Iterator<Item = i32>, first: usize, mut wide: &mut [f32]) {
        let mut place = first / self.stride % self.scales.len();
        let mut run = self.stride - first % self.stride;
        while !wide.is_empty() {
            let (scale, zero) = (self.scales[place], self.zeros.get(place).copied().unwrap_or(0));
            let (now, later) = wide.split_at_mut(run.min(wide.len()));
            now.iter_mut().zip(&mut numbers).for_each(|(wide, x)| *wide = (x - zero) as f32 * scale);
            (wide, run) = (later, self.stride);
            place = if place + 1 == self.scales.len() { 0 } else { place + 1 };
        }
    }

    /// The scale of every column of a matrix of `rows` and `columns`, each a length and a stride, where a number is its integer times the scale of
    /// its column.
    pub(crate) fn of_columns(&self, rows: (usize, usize), columns: (usize, usize)) -> Option<Vec<f32>> {
        if !self.zeros.is_empty() {
            return None;
        }
        if let [one] = self.scales[..] {
            return Some(vec![one; columns.0]);
        }
        let period = self.stride * self.scales.len();
        let fits = columns == (self.scales.len(), self.stride);
        let stays = || (0..rows.0).all(|row| row * rows.1 % period < self.stride);
        (fits && stays()).then(|| self.scales.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::tensor_proto::DataType;

    fn element(data_type: DataType) -> Element {
        Element::of(data_type as i32).unwrap()
    }

    #[test]
    fn any_part_of_a_weight_has_the_scales_of_its_places() {
        let shape = [2, 3, 2];
        let codes: Vec<u8> = (0..12).map(|i| (i - 6) as u8).collect();
        for (axis, place) in [(0, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]), (1, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2])] {
            let scales: Vec<f32> = (0..shape[axis]).map(|i| 0.5 + i as f32).collect();
            let zeros: Vec<i32> = (0..shape[axis]).map(|i| i as i32 - 1).collect();
            let whole: Vec<f32> = (0..12).map(|i| (i as i32 - 6 - zeros[place[i]]) as f32 * scales[place[i]]).collect();
            let scale = Scale::new(scales, zeros, &shape, axis, 0);
            for first in 0..12 {
                let mut part = vec![0.0; 12 - first];
                scale.widen(element(DataType::Int8), &codes[first..], first, &mut part);
                assert_eq!(part, whole[first..], "axis {axis}, from {first}");
            }
        }
    }

    #[test]
    fn integers_of_every_width() {
        let scale = Scale::new(vec![0.5], vec![100], &[2], 0, 0);
        let widened = |data_type, bytes: &[u8]| {
            let mut wide = [0.0; 2];
            scale.widen(element(data_type), bytes, 0, &mut wide);
            wide
        };
        assert_eq!(widened(DataType::Int8, &[0x80, 0x7f]), [-114.0, 13.5]);
        assert_eq!(widened(DataType::Uint8, &[0, 255]), [-50.0, 77.5]);
        assert_eq!(widened(DataType::Int16, &[0, 0x80, 100, 0]), [-16434.0, 0.0]);
        assert_eq!(widened(DataType::Uint16, &[0, 0, 255, 255]), [-50.0, 32717.5]);
        assert_eq!(widened(DataType::Int32, &[100, 0, 0, 0, 255, 255, 255, 255]), [0.0, -50.5]);
    }

    #[test]
    fn columns_have_a_scale_where_no_row_changes_it() {
        let scale = |axis: usize| Scale::new(vec![1.0, 2.0, 3.0], Vec::new(), &[3, 3], axis, 0);
        let (rows, columns) = ((3, 3), (3, 1));
        assert_eq!(scale(1).of_columns(rows, columns), Some(vec![1.0, 2.0, 3.0]));
        assert_eq!(scale(0).of_columns(columns, rows), Some(vec![1.0, 2.0, 3.0]), "transposed");
        assert_eq!(scale(0).of_columns(rows, columns), None, "a scale a row");
        assert_eq!(scale(1).of_columns((3, 4), columns), None, "a view that runs over the end of a row");
        let one = |zeros| Scale::new(vec![0.5], zeros, &[3, 3], 0, 0).of_columns(rows, columns);
        assert_eq!(one(vec![0]), Some(vec![0.5; 3]));
        assert_eq!(one(vec![1]), None, "a zero point");
    }
}
