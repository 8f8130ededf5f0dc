//! The memory that a plan's buffers lie in.
#![allow(unsafe_code)]

use super::fixed::Known;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::plan::{At, Buffer, Operand, Plan};
use crate::op::number::Number;
use crate::value::{DType, Data};

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes for all buffers of a plan.
pub(super) struct Arena {
    lines: Vec<Line>,
}

/// Elements of a type that any bits are a value of.
pub(super) trait Plain: Number {
    /// Whether a buffer of `dtype` holds such elements; truth values are bytes here.
    fn fits(dtype: DType) -> bool;

    /// A constant of such elements.
    ///
    /// # Panics
    /// When it is of others, which a plan's types exclude.
    fn constant(known: &Known) -> &[Self];
}

macro_rules! plain {
    ($($type:ty => $($dtype:ident)|+, |$known:ident| $constant:expr;)*) => {
        $(impl Plain for $type {
            fn fits(dtype: DType) -> bool {
                matches!(dtype, $(DType::$dtype)|+)
            }

            fn constant($known: &Known) -> &[Self] {
                $constant
            }
        })*
    };
}

macro_rules! data {
    ($known:ident, $variant:ident) => {
        match $known.data() {
            Data::$variant(values) => values.as_slice(),
            other => panic!("a constant of {} is read as something else", other.dtype()),
        }
    };
}

plain! {
    f32 => F32, |known| known.f32();
    f64 => F64, |known| data!(known, F64);
    i64 => I64, |known| data!(known, I64);
    i32 => I32, |known| data!(known, I32);
    i8 => I8, |known| data!(known, I8);
    u8 => U8 | Bool, |known| known.truths();
}

/// `body` with `T` the type of a buffer's elements.
macro_rules! typed {
    ($dtype:expr, $type:ident => $body:expr) => {{
        macro_rules! with {
            ($element:ty) => {{
                type $type = $element;
                $body
            }};
        }
        match $dtype {
            $crate::value::DType::F32 => with!(f32),
            $crate::value::DType::F64 => with!(f64),
            $crate::value::DType::I64 => with!(i64),
            $crate::value::DType::I32 => with!(i32),
            $crate::value::DType::I8 => with!(i8),
            $crate::value::DType::U8 | $crate::value::DType::Bool => with!(u8),
            $crate::value::DType::F16 => $crate::error::fail!(Engine, "float16 values are not computed with"),
        }
    }};
}
pub(super) use typed;

impl Arena {
    /// # Errors
    /// `Engine` when there is not so much memory.
    pub(super) fn new(bytes: usize) -> Result<Arena> {
        let count = bytes.div_ceil(size_of::<Line>());
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| {
            Error::new(ErrorKind::Engine, format!("there is no memory for {bytes} bytes of intermediate values"))
        })?;
        lines.resize(count, Line([0; 64]));
        Ok(Arena { lines })
    }

    /// The elements of one buffer.
    pub(super) fn buffer<T: Plain>(&self, buffer: &Buffer) -> &[T] {
        let (pointer, length) = self.place::<T>(buffer);
        // SAFETY: inside of the arena, aligned (both checked by `place`), and any bits are a `T`. Nobody writes it meanwhile: `step` lends
        // mutable parts only with the reads of the same step, whose ranges the plan's check found apart, and holds the arena mutably.
        unsafe { std::slice::from_raw_parts(pointer, length) }
    }

    /// The elements of one buffer, to be written.
    pub(super) fn buffer_mut<T: Plain>(&mut self, buffer: &Buffer) -> &mut [T] {
        let (pointer, length) = self.place::<T>(buffer);
        // SAFETY: as in `buffer`, and the arena is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(pointer.cast_mut(), length) }
    }

    /// What a step reads and writes: the write's whole buffer, and a way to its reads' whole buffers.
    ///
    /// # Panics
    /// When the written buffer overlaps a buffer that is read, which the plan's check excludes.
    pub(super) fn step<'a, T: Plain>(
        &'a mut self,
        plan: &'a Plan,
        reads: &[Option<Operand>],
        write: &Operand,
    ) -> (Reads<'a>, &'a mut [T]) {
        let At::Buffer(written) = write.at else { panic!("a step writes a buffer") };
        let written = &plan.buffers[written];
        for read in reads.iter().flatten() {
            if let At::Buffer(read) = read.at {
                let read = &plan.buffers[read];
                let apart =
                    read.offset + read.bytes() <= written.offset || written.offset + written.bytes() <= read.offset;
                assert!(apart || read.bytes() == 0 || written.bytes() == 0, "a step reads what it writes");
            }
        }
        let (pointer, length) = self.place::<T>(written);
        // SAFETY: as in `buffer`; that no read of this step overlaps it was checked just now, and `Reads` gives these alone.
        let slice = unsafe { std::slice::from_raw_parts_mut(pointer.cast_mut(), length) };
        (Reads { arena: self, plan }, slice)
    }

    fn place<T: Plain>(&self, buffer: &Buffer) -> (*const T, usize) {
        assert!(T::fits(buffer.dtype), "a buffer of {} is read as something else", buffer.dtype);
        assert!(
            buffer.offset + buffer.bytes() <= self.lines.len() * size_of::<Line>(),
            "a buffer outside of the arena"
        );
        assert!(buffer.offset.is_multiple_of(align_of::<T>()), "a buffer that is not aligned");
        let start = self.lines.as_ptr().cast::<u8>();
        // SAFETY: the offset lies inside of the allocation, as checked.
        (unsafe { start.add(buffer.offset) }.cast::<T>(), buffer.elements)
    }
}

/// The reads of one step.
#[derive(Clone, Copy)]
pub(super) struct Reads<'a> {
    arena: *const Arena,
    plan: &'a Plan,
}

impl<'a> Reads<'a> {
    /// The whole buffer at `index`, one of the reads that [`Arena::step`] was asked for.
    pub(super) fn buffer<T: Plain>(&self, index: usize) -> &'a [T] {
        // SAFETY: the arena outlives `'a`, for which it is borrowed, and the buffer is none that is written meanwhile.
        unsafe { &*self.arena }.buffer(&self.plan.buffers[index])
    }
}
