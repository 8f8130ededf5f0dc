//! Plays the steps of a plan.

use super::arena::{Arena, Plain, Reads};
use super::prepare::{Kernel, Prepared};
use super::{attention, axis, fixed::Known, movement, norm, picture, point};
use crate::engine::{CancelToken, Threads};
use crate::error::{Result, fail};
use crate::graph::op::{Activation, Op};
use crate::graph::plan::{At, Buffer, Operand, Plan, Step, Work};
use crate::model::mapped::Mapped;
use crate::op::matrix::{self, Cpu, Dynamic, Epilogue, Left, Shift};
use crate::op::simd;
use crate::op::view::View;
use crate::value::{DType, Data, Tensor};
use std::time::{Duration, Instant};

/// Writes one of a run's inputs, which has the buffer's type.
pub(super) fn write_input(arena: &mut Arena, buffer: &Buffer, tensor: &Tensor) -> Result<()> {
    match tensor.data() {
        Data::F32(values) => arena.buffer_mut(buffer).copy_from_slice(values),
        Data::F64(values) => arena.buffer_mut(buffer).copy_from_slice(values),
        Data::I64(values) => arena.buffer_mut(buffer).copy_from_slice(values),
        Data::I32(values) => arena.buffer_mut(buffer).copy_from_slice(values),
        Data::U8(values) => arena.buffer_mut(buffer).copy_from_slice(values),
        Data::I8(values) => arena.buffer_mut(buffer).copy_from_slice(values),
        Data::Bool(values) => {
            arena.buffer_mut::<u8>(buffer).iter_mut().zip(values).for_each(|(to, from)| *to = u8::from(*from));
        }
        Data::F16(_) => return fail!(Engine, "a float16 input has no buffer"),
    }
    Ok(())
}

/// Reads one of a run's outputs, row-major.
pub(super) fn read_output(plan: &Plan, fixed: &[Known], arena: &Arena, operand: &Operand) -> Result<Tensor> {
    macro_rules! collect {
        ($type:ty) => {{
            let whole: &[$type] = match operand.at {
                At::Buffer(index) => arena.buffer(&plan.buffers[index]),
                At::Fixed(index) => Plain::constant(&fixed[index]),
            };
            let mut values = Vec::with_capacity(operand.view.volume());
            operand.view.each(|at| values.push(whole[at]));
            values
        }};
    }
    let data: Data = match operand.dtype {
        DType::F32 => collect!(f32).into(),
        DType::F64 => collect!(f64).into(),
        DType::I64 => collect!(i64).into(),
        DType::I32 => collect!(i32).into(),
        DType::I8 => collect!(i8).into(),
        DType::U8 => collect!(u8).into(),
        DType::Bool => Data::Bool(collect!(u8).into_iter().map(|byte| byte != 0).collect()),
        DType::F16 => return fail!(Engine, "a float16 value has no buffer"),
    };
    Tensor::new(&operand.view.shape, data)
}

/// All steps, one after the other.
pub(super) fn steps(
    plan: &Plan,
    prepared: &mut Prepared,
    arena: &mut Arena,
    (threads, cancel): (&Threads, &CancelToken),
) -> Result<()> {
    watched(plan, prepared, arena, threads, &mut |_| cancel.check())
}

/// The same with packed weights that stay in `file`: each is given back when its step is done, then the next is mapped, and
/// the one behind it read ahead.
pub(super) fn streamed(
    plan: &Plan,
    prepared: &mut Prepared,
    arena: &mut Arena,
    (threads, cancel): (&Threads, &CancelToken),
    file: &Mapped,
) -> Result<()> {
    let pages: Vec<Vec<Mapped>> = prepared.kernels.iter().map(|kernel| kernel.pages(file)).collect();
    watched(plan, prepared, arena, threads, &mut |played| {
        pages[played.index].iter().for_each(Mapped::release_around);
        pages.get(played.index + 1).into_iter().flatten().for_each(Mapped::fetch);
        pages.get(played.index + 2).into_iter().flatten().for_each(Mapped::read_ahead);
        cancel.check()
    })
}

/// A step that was just played.
pub(super) struct Played<'a> {
    pub(super) index: usize,
    pub(super) step: &'a Step,
    pub(super) taken: Duration,
    pub(super) fixed: &'a [Known],
    pub(super) arena: &'a Arena,
}

/// The same, telling `watch` of every step.
pub(super) fn watched(
    plan: &Plan,
    prepared: &mut Prepared,
    arena: &mut Arena,
    threads: &Threads,
    watch: &mut (dyn FnMut(Played<'_>) -> Result<()> + Send),
) -> Result<()> {
    let Prepared { fixed, kernels, scratch } = prepared;
    threads.install(|| {
        for (index, (step, kernel)) in plan.steps.iter().zip(kernels).enumerate() {
            let started = Instant::now();
            let scene = Scene { plan, fixed, step, cpu: Cpu { arch: simd::arch(), threads } };
            scene.play(kernel, arena, scratch).map_err(|error| error.in_node(&step.name))?;
            watch(Played { index, step, taken: started.elapsed(), fixed, arena })?;
        }
        Ok(())
    })
}

/// One step with everything around it.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) plan: &'a Plan,
    pub(super) fixed: &'a [Known],
    pub(super) step: &'a Step,
    pub(super) cpu: Cpu<'a>,
}

impl<'a> Scene<'a> {
    fn play(&self, kernel: &Kernel, arena: &mut Arena, scratch: &mut [f32]) -> Result<()> {
        match (&self.step.work, kernel) {
            (Work::Copy, _) => movement::copy(self, arena),
            (Work::Fill(value), _) => movement::fill(self, arena, *value),
            (Work::Chain(_), _) => fail!(Engine, "this engine takes the links of a chain one by one"),
            (Work::Op(Op::Conv(conv)), Kernel::Conv { filters, picture, method }) => {
                let (reads, out) = self.lend(arena);
                let epilogue = self.epilogue(&reads, conv.activation, 4, picture_rows(&self.step.write.view));
                filters.run(self.cpu, (*picture, *method), self.dense(&reads, 0), &epilogue, out, scratch);
                Ok(())
            }
            (Work::Op(Op::Linear(activation)), Kernel::Linear(packed)) => {
                let (reads, out) = self.lend(arena);
                let epilogue = self.epilogue(&reads, *activation, 3, 1);
                matrix::multiply(
                    self.cpu,
                    Left::dense(self.dense(&reads, 0), packed.rows()),
                    packed,
                    &epilogue,
                    out,
                    scratch,
                );
                Ok(())
            }
            (Work::Op(Op::MatMul), _) => self.matmul(arena, scratch),
            (Work::Op(op), _) => self.other(op, arena, scratch),
        }
    }

    fn other(&self, op: &Op, arena: &mut Arena, scratch: &mut [f32]) -> Result<()> {
        match op {
            Op::GroupNorm { groups, epsilon, activation } => {
                norm::group(self, arena, scratch, *groups, *epsilon, *activation)
            }
            Op::LayerNorm { epsilon } => norm::layer(self, arena, scratch, *epsilon, true),
            Op::RmsNorm { epsilon } => norm::layer(self, arena, scratch, *epsilon, false),
            Op::Attention { heads, scale } => attention::run(self, arena, scratch, *heads, *scale),
            Op::Gated { activation, gate_last } => axis::gated(self, arena, *activation, *gate_last),
            Op::Unary(op) => point::unary(self, arena, *op),
            Op::Binary(op) => point::binary(self, arena, *op),
            Op::Predicate(op) => point::predicate(self, arena, *op),
            Op::Comparison(op) => point::comparison(self, arena, *op),
            Op::Logic(op) => point::logic(self, arena, *op),
            Op::Where => point::choose(self, arena),
            Op::Cast(_) => point::cast(self, arena),
            Op::Reduce { kind, axes, .. } => axis::reduce(self, arena, *kind, axes),
            Op::ArgMax { axis, last, .. } => axis::arg_max(self, arena, *axis, *last),
            Op::Softmax { axis } => axis::softmax(self, arena, *axis),
            Op::Gather { axis } => movement::gather(self, arena, *axis),
            Op::GatherNd => movement::gather_nd(self, arena),
            Op::Resize(resize) => picture::resize(self, arena, resize),
            Op::Pool(pool) => picture::pool(self, arena, pool),
            _ => fail!(Engine, "{} is no step", op.name()),
        }
    }

    /// The reads and the written buffer.
    pub(super) fn lend<'b, T: Plain>(&self, arena: &'b mut Arena) -> (Reads<'b>, &'b mut [T])
    where
        'a: 'b,
    {
        arena.step(self.plan, &self.step.reads, &self.step.write)
    }

    pub(super) fn operand(&self, index: usize) -> Option<&'a Operand> {
        self.step.reads.get(index).and_then(Option::as_ref)
    }

    /// An operand that must be there.
    pub(super) fn given(&self, index: usize) -> &'a Operand {
        self.operand(index).expect("an operand that the operator always has")
    }

    /// All elements that an operand's view counts in.
    pub(super) fn elements<'b, T: Plain>(&self, reads: &Reads<'b>, index: usize) -> &'b [T]
    where
        'a: 'b,
    {
        match self.given(index).at {
            At::Buffer(buffer) => reads.buffer(buffer),
            At::Fixed(fixed) => T::constant(&self.fixed[fixed]),
        }
    }

    /// The floats of an operand that lies without gaps.
    pub(super) fn dense<'b>(&self, reads: &Reads<'b>, index: usize) -> &'b [f32]
    where
        'a: 'b,
    {
        let view = &self.given(index).view;
        &self.elements(reads, index)[view.offset..][..view.volume()]
    }

    /// The same of an operand that may be missing.
    pub(super) fn optional<'b>(&self, reads: &Reads<'b>, index: usize) -> Option<&'b [f32]>
    where
        'a: 'b,
    {
        self.operand(index).map(|_| self.dense(reads, index))
    }

    /// What follows a product: bias at 2, for convolutions a row a picture at 3, the residual behind.
    fn epilogue<'b>(&self, reads: &Reads<'b>, activation: Activation, residual: usize, rows: usize) -> Epilogue<'b>
    where
        'a: 'b,
    {
        let row = if residual == 4 { self.optional(reads, 3) } else { None };
        Epilogue {
            bias: self.optional(reads, 2),
            shift: row.map(|values| Shift { values, rows }),
            activation,
            residual: self.optional(reads, residual),
            scale: 1.0,
        }
    }

    fn matmul(&self, arena: &mut Arena, scratch: &mut [f32]) -> Result<()> {
        let (reads, out) = self.lend(arena);
        let (a, b) = (self.given(0), self.given(1));
        let (left, right) = (self.elements(&reads, 0), self.elements(&reads, 1));
        let out_shape = &self.step.write.view.shape;
        let (batch, matrix) = out_shape.split_at(out_shape.len() - 2);
        let (m, n, k) = (matrix[0], matrix[1], *a.view.shape.last().unwrap_or(&1));
        let (a, b) = (a.view.matrices(batch), b.view.matrices(batch));
        let transposed = b.1[1] != 1 && n != 1;
        let stride = if transposed { b.1[1] } else { b.1[0] };
        let mut places = Vec::new();
        a.0.each(|at| places.push((at, 0)));
        let mut index = 0;
        b.0.each(|at| {
            places[index].1 = at;
            index += 1;
        });
        for ((from, to), out) in places.into_iter().zip(out.chunks_mut((m * n).max(1))) {
            let left = Left { values: &left[from..][..m * k], rows: m, stride: k };
            let right = Dynamic { values: &right[to..], rows: k, columns: n, stride: stride.max(1), transposed };
            matrix::multiply_dynamic(self.cpu, left, &right, &Epilogue::default(), out, scratch);
        }
        Ok(())
    }
}

fn picture_rows(view: &View) -> usize {
    view.shape[2..].iter().product()
}
