//! The right-hand matrix of a product, packed once in the order in which the kernel reads it.

use super::super::tasks::{self, share};
use super::widen::{dequantize, widen};
use crate::engine::Threads;
use half::f16;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Columns of a panel.
pub(crate) const PANEL: usize = 16;
/// Most rows of every segment that stand together, where there are several segments.
pub(crate) const STRETCH: usize = 128;

/// How `length` rows of each of `segments` are cut: `[stretch 0 of segment 0, stretch 0 of segment 1, ..., stretch 1 of segment 0, ...]`.
pub(crate) fn stretches(segments: usize, length: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    even(length, if segments > 1 { STRETCH } else { length })
}

/// How weights are kept; the arithmetic is f32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Storage {
    F32,
    F16,
    /// Eight bits and one f32 scale a column: `w = q * scale`, `scale = max |w| / 127` where the file has not its own.
    Int8,
}

/// Element type of a [`View`], little-endian.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Element<'a> {
    F32,
    F16,
    /// Eight bits, and the scale of each column.
    Int8(&'a [f32]),
}

impl Element<'_> {
    pub(crate) fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 => 2,
            Element::Int8(_) => 1,
        }
    }
}

/// Weights as they stand in a file: element `(segment, k, n)` of a `[segments * length, columns]` matrix lies at
/// `segment * segment_stride + k * stride + n * column_stride`. A convolution has one segment a tap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) element: Element<'a>,
    pub(crate) segments: usize,
    pub(crate) length: usize,
    pub(crate) columns: usize,
    pub(crate) segment_stride: usize,
    pub(crate) stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> View<'a> {
    /// A dense `[rows, columns]` matrix.
    #[cfg(test)]
    pub(crate) fn rows(bytes: &'a [u8], element: Element<'a>, rows: usize, columns: usize) -> View<'a> {
        View {
            bytes,
            element,
            segments: 1,
            length: rows,
            columns,
            segment_stride: 0,
            stride: columns,
            column_stride: 1,
        }
    }

    /// A dense `[columns, rows]` matrix that is used transposed, as torch keeps linear layers.
    #[cfg(test)]
    pub(crate) fn transposed(bytes: &'a [u8], element: Element<'a>, rows: usize, columns: usize) -> View<'a> {
        View { bytes, element, segments: 1, length: rows, columns, segment_stride: 0, stride: 1, column_stride: rows }
    }

    /// `(O, I, H, W)` filters with `taps = H * W`; rows in the order tap, channel.
    pub(crate) fn filters(
        bytes: &'a [u8],
        element: Element<'a>,
        outputs: usize,
        inputs: usize,
        taps: usize,
    ) -> View<'a> {
        let column_stride = inputs * taps;
        View {
            bytes,
            element,
            segments: taps,
            length: inputs,
            columns: outputs,
            segment_stride: 1,
            stride: taps,
            column_stride,
        }
    }

    /// Output channels `columns` only, as a group of a convolution has them.
    pub(crate) fn slice(self, columns: Range<usize>) -> View<'a> {
        let skipped = columns.start * self.column_stride * self.element.size();
        let element = match self.element {
            Element::Int8(scales) => Element::Int8(&scales[columns.clone()]),
            plain => plain,
        };
        View { bytes: &self.bytes[skipped..], element, columns: columns.len(), ..self }
    }

    fn check(&self) {
        assert!(self.segments > 0 && self.length > 0 && self.columns > 0, "empty weights");
        let last = (self.segments - 1) * self.segment_stride
            + (self.length - 1) * self.stride
            + (self.columns - 1) * self.column_stride;
        let needed = (last + 1) * self.element.size();
        assert!(self.bytes.len() >= needed, "{} bytes of weights, {needed} needed", self.bytes.len());
        let scaled = if let Element::Int8(scales) = self.element { scales.len() == self.columns } else { true };
        assert!(scaled, "a scale for every column");
    }

    fn f32(&self, At { index, column }: At) -> f32 {
        match self.element {
            Element::F32 => f32::from_le_bytes(self.bytes[index * 4..][..4].try_into().unwrap()),
            Element::F16 => f16::from_le_bytes(self.bytes[index * 2..][..2].try_into().unwrap()).to_f32(),
            Element::Int8(scales) => f32::from(self.bytes[index] as i8) * scales[column],
        }
    }

    fn f16(&self, at: At) -> f16 {
        match self.element {
            Element::F16 => f16::from_le_bytes(self.bytes[at.index * 2..][..2].try_into().unwrap()),
            _ => f16::from_f32(self.f32(at)),
        }
    }

    /// Calls `put(place in the panel, element of the view)` for every element of one panel that there is.
    fn panel(&self, panel: usize, mut put: impl FnMut(usize, At)) {
        let first = panel * PANEL;
        let width = PANEL.min(self.columns - first);
        let mut place = 0;
        for stretch in stretches(self.segments, self.length) {
            for (segment, k) in (0..self.segments).flat_map(|segment| stretch.clone().map(move |k| (segment, k))) {
                let index = segment * self.segment_stride + k * self.stride + first * self.column_stride;
                (0..width)
                    .for_each(|n| put(place + n, At { index: index + n * self.column_stride, column: first + n }));
                place += PANEL;
            }
        }
    }
}

/// An element of a [`View`].
#[derive(Clone, Copy)]
struct At {
    index: usize,
    column: usize,
}

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

#[derive(Clone)]
enum Data {
    Owned(Arc<Vec<Line>>),
    Borrowed { owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize> },
}

/// A `[K, N]` matrix in panels of 16 columns, the last one filled with zeros: for every panel, for every row, 16 elements. Plain contiguous
/// bytes, so they can be kept in a file and used from its mapping. `K` counts `segments` of `length` rows, in the order of [`stretches`].
#[derive(Clone)]
pub(crate) struct Packed {
    storage: Storage,
    segments: usize,
    length: usize,
    columns: usize,
    data: Data,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Packed { storage, segments, length, columns, .. } = self;
        write!(f, "Packed({storage:?} {segments}x{length}x{columns})")
    }
}

impl Packed {
    /// Packs `view`.
    ///
    /// # Panics
    /// When the view is empty or its bytes are too few.
    pub(crate) fn new(view: &View, storage: Storage, threads: &Threads) -> Packed {
        view.check();
        let View { segments, length, columns, .. } = *view;
        let bytes = Packed::bytes_of(storage, segments * length, columns);
        let mut lines = vec![Line([0; 64]); bytes.div_ceil(64)];
        fill(view, storage, lines_as_bytes(&mut lines), threads);
        Packed { storage, segments, length, columns, data: Data::Owned(Arc::new(lines)) }
    }

    /// What [`Packed::bytes`] gave once, in `range` of `owner`, which should start on a multiple of 64 bytes to be fast.
    ///
    /// # Panics
    /// When the range lies outside, has another length than these sizes need, or does not start on a multiple of four bytes.
    pub(crate) fn borrow(
        storage: Storage,
        [segments, length, columns]: [usize; 3],
        owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
        range: Range<usize>,
    ) -> Packed {
        let bytes = &(*owner).as_ref()[range.clone()];
        assert_eq!(bytes.len(), Packed::bytes_of(storage, segments * length, columns), "bytes of packed weights");
        assert!(bytes.as_ptr().align_offset(4) == 0, "packed weights at an odd address");
        Packed { storage, segments, length, columns, data: Data::Borrowed { owner, range } }
    }

    /// Bytes that a `[rows, columns]` matrix takes.
    pub(crate) fn bytes_of(storage: Storage, rows: usize, columns: usize) -> usize {
        let padded = columns.next_multiple_of(PANEL);
        match storage {
            Storage::F32 => rows * padded * 4,
            Storage::F16 => rows * padded * 2,
            Storage::Int8 => rows * padded + padded * 4,
        }
    }

    /// The packed bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Owned(lines) => {
                // SAFETY: a line is 64 plain bytes without padding.
                let all = unsafe { std::slice::from_raw_parts(lines.as_ptr().cast::<u8>(), lines.len() * 64) };
                &all[..Packed::bytes_of(self.storage, self.rows(), self.columns)]
            }
            Data::Borrowed { owner, range } => &(**owner).as_ref()[range.clone()],
        }
    }

    /// Where the bytes lie in the file that they were borrowed from.
    pub(crate) fn borrowed(&self) -> Option<Range<usize>> {
        match &self.data {
            Data::Owned(_) => None,
            Data::Borrowed { range, .. } => Some(range.clone()),
        }
    }

    /// Rows, `K`.
    pub(crate) fn rows(&self) -> usize {
        self.segments * self.length
    }

    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Columns, `N`.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn panels(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// Rows `rows` of a panel as they are kept.
    pub(crate) fn stored(&self, panel: usize, rows: Range<usize>) -> &[u8] {
        let size = match self.storage {
            Storage::F32 => 4,
            Storage::F16 => 2,
            Storage::Int8 => 1,
        };
        let start = (panel * self.rows() + rows.start) * PANEL;
        &self.bytes()[start * size..][..rows.len() * PANEL * size]
    }

    /// Rows `rows` of a panel in f32: where they lie if that is how they are kept, else widened into `buffer`.
    #[inline]
    pub(crate) fn panel<'a>(&'a self, panel: usize, rows: Range<usize>, buffer: &'a mut [f32]) -> &'a [f32] {
        let count = rows.len() * PANEL;
        let start = (panel * self.rows() + rows.start) * PANEL;
        match self.storage {
            Storage::F32 => &self.plain::<f32>()[start..start + count],
            Storage::F16 => {
                widen(&self.plain::<f16>()[start..start + count], &mut buffer[..count]);
                &buffer[..count]
            }
            Storage::Int8 => {
                let padded = self.panels() * PANEL;
                let (codes, scales) = self.bytes().split_at(self.rows() * padded);
                let scales = &plain::<f32>(scales).as_chunks::<PANEL>().0[panel];
                dequantize(&plain::<i8>(codes)[start..start + count], scales, &mut buffer[..count]);
                &buffer[..count]
            }
        }
    }

    fn plain<T: Plain>(&self) -> &[T] {
        plain(self.bytes())
    }
}

/// Number types of which every bit pattern is a value.
pub(crate) trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for f16 {}
impl Plain for i8 {}

/// Bytes as numbers of this machine.
///
/// # Panics
/// When they are not aligned.
pub(crate) fn plain<T: Plain>(bytes: &[u8]) -> &[T] {
    // SAFETY: every bit pattern is a `T`; what does not fit at the ends is left out, and packed weights are aligned.
    let (before, middle, _) = unsafe { bytes.align_to::<T>() };
    assert!(before.is_empty(), "packed weights at an odd address");
    middle
}

/// Numbers of this machine as bytes.
pub(crate) fn bytes<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: a `T` is plain bytes without padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

fn lines_as_bytes(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: a line is 64 plain bytes without padding.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<u8>(), lines.len() * 64) }
}

fn fill(view: &View, storage: Storage, bytes: &mut [u8], threads: &Threads) {
    let rows = view.segments * view.length;
    let panels = view.columns.div_ceil(PANEL);
    match storage {
        Storage::F32 => each_panel(&mut bytes[..rows * panels * PANEL * 4], panels, threads, |panel, bytes| {
            view.panel(panel, |place, at| bytes[place * 4..][..4].copy_from_slice(&view.f32(at).to_ne_bytes()));
        }),
        Storage::F16 => each_panel(&mut bytes[..rows * panels * PANEL * 2], panels, threads, |panel, bytes| {
            view.panel(panel, |place, at| bytes[place * 2..][..2].copy_from_slice(&view.f16(at).to_ne_bytes()));
        }),
        Storage::Int8 => match view.element {
            Element::Int8(scales) => keep(view, scales, bytes, threads),
            _ => quantize(view, bytes, threads),
        },
    }
}

/// Codes and scales as they are.
fn keep(view: &View, given: &[f32], bytes: &mut [u8], threads: &Threads) {
    let panels = view.columns.div_ceil(PANEL);
    let (codes, scales) = bytes.split_at_mut(view.segments * view.length * panels * PANEL);
    scales.chunks_mut(4).zip(given).for_each(|(bytes, scale)| bytes.copy_from_slice(&scale.to_ne_bytes()));
    each_panel(codes, panels, threads, |panel, bytes| {
        view.panel(panel, |place, at| bytes[place] = view.bytes[at.index]);
    });
}

fn quantize(view: &View, bytes: &mut [u8], threads: &Threads) {
    let panels = view.columns.div_ceil(PANEL);
    let (codes, scales) = bytes.split_at_mut(view.segments * view.length * panels * PANEL);
    each_panel(&mut scales[..panels * PANEL * 4], panels, threads, |panel, bytes| {
        let mut most = [0f32; PANEL];
        view.panel(panel, |place, at| most[place % PANEL] = most[place % PANEL].max(view.f32(at).abs()));
        let scales = most.map(|most| (most / 127.0).to_ne_bytes());
        bytes.copy_from_slice(scales.as_flattened());
    });
    let scales = plain::<f32>(scales);
    each_panel(codes, panels, threads, |panel, bytes| {
        view.panel(panel, |place, at| {
            let scale = scales[at.column];
            let code = if scale > 0.0 { (view.f32(at) / scale).round() as i8 } else { 0 };
            bytes[place] = code as u8;
        });
    });
}

fn each_panel(bytes: &mut [u8], panels: usize, threads: &Threads, pack: impl Fn(usize, &mut [u8]) + Sync) {
    let size = bytes.len() / panels;
    tasks::pieces(threads, bytes.chunks_mut(size).collect(), pack);
}

/// A right-hand matrix that is computed at run time: `[K, N]` with `stride` floats a row, or `[N, K]` when `transposed`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dynamic<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

impl Dynamic<'_> {
    pub(crate) fn check(&self) {
        let (lines, width) = if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) };
        assert!(lines > 0 && width > 0 && self.stride >= width, "a matrix of {lines} rows of {width}");
        let needed = (lines - 1) * self.stride + width;
        assert!(self.values.len() >= needed, "{} floats of a matrix, {needed} needed", self.values.len());
    }

    /// Rows `rows` of a panel, copied into `buffer`.
    pub(crate) fn panel<'a>(&self, panel: usize, rows: Range<usize>, buffer: &'a mut [f32]) -> &'a [f32] {
        let first = panel * PANEL;
        let width = PANEL.min(self.columns - first);
        let packed = &mut buffer[..rows.len() * PANEL];
        if width < PANEL {
            packed.fill(0.0);
        }
        if self.transposed {
            for n in 0..width {
                let line = &self.values[(first + n) * self.stride..][rows.clone()];
                packed.as_chunks_mut::<PANEL>().0.iter_mut().zip(line).for_each(|(row, value)| row[n] = *value);
            }
        } else {
            for (row, k) in packed.as_chunks_mut::<PANEL>().0.iter_mut().zip(rows) {
                row[..width].copy_from_slice(&self.values[k * self.stride + first..][..width]);
            }
        }
        packed
    }
}

/// Blocks of `0..total` none longer than `most`, as even as can be.
pub(crate) fn even(total: usize, most: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let count = total.div_ceil(most).max(1);
    (0..count).map(move |index| share(total, count, index))
}
