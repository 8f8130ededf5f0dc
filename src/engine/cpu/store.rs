//! The weights of a graph as kernels read them, packed or widened. Plans of one graph for different shapes share them.

use super::pack::{pack, packable, widened};
use super::prepare::{Kind, kind, packed_operand};
use crate::engine::Threads;
use crate::error::{Result, fail};
use crate::graph::net::Content;
use crate::graph::op::Op;
use crate::graph::plan::{At, Operand, Plan, Step, Work};
use crate::model::mapped::Mapped;
use crate::model::weights::Weight;
use crate::op::matrix::pack::{bytes, plain};
use crate::op::matrix::{Packed, Storage};
use crate::op::view::View;
use crate::value::DType;
use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

/// What is made of a weight; the same for every size of the pictures.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    weight: String,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Form {
    /// Widened to f32, in the order of the file.
    Floats,
    /// Matrices of `sizes` (segments, rows of a segment, columns) of the weight seen through `view`.
    Packed { view: View, count: usize, sizes: [usize; 3], storage: Storage },
}

impl Key {
    fn packed(weight: &str, view: &View, kind: &Kind) -> Key {
        let (count, sizes) = kind.parts();
        Key {
            weight: weight.to_owned(),
            form: Form::Packed { view: view.clone(), count, sizes, storage: kind.storage() },
        }
    }

    fn floats(weight: &str) -> Key {
        Key { weight: weight.to_owned(), form: Form::Floats }
    }
}

/// Something that a plan's kernels read.
pub(super) struct Need<'a> {
    pub(super) key: Key,
    weight: &'a Weight,
    content: &'a Content,
    /// How it is packed, where it is.
    kind: Option<Kind>,
}

/// What the kernels of `plan` read of its weights, each once: widened weights first, then packed ones in the order of the steps.
pub(super) fn needs(plan: &Plan) -> Vec<Need<'_>> {
    let (mut floats, mut packed) = (Vec::new(), Vec::new());
    let mut known = HashSet::new();
    let mut widen = |index: usize, known: &mut HashSet<Key>| {
        let content = &plan.fixed[index].content;
        let Content::Weight(weight, _) = content else { return };
        let key = Key::floats(&weight.name);
        if known.insert(key.clone()) {
            floats.push(Need { key, weight, content, kind: None });
        }
    };
    for step in &plan.steps {
        let kind = kind(step, plan);
        let packs = packed_operand(step, &kind);
        let looks_up = table(step, plan).is_some();
        for (place, read) in step.reads.iter().enumerate() {
            if let Some(At::Fixed(index)) = read.as_ref().map(|read| read.at)
                && !(looks_up && place == 0 || packs.is_some() && place == 1)
            {
                widen(index, &mut known);
            }
        }
        let Some((Operand { view, .. }, index)) = packs else { continue };
        let content = &plan.fixed[index].content;
        let Content::Weight(weight, _) = content else { continue };
        let key = Key::packed(&weight.name, view, &kind);
        if known.insert(key.clone()) {
            packed.push(Need { key, weight, content, kind: Some(kind) });
        }
    }
    for output in &plan.outputs {
        if let At::Fixed(index) = output.at {
            widen(index, &mut known);
        }
    }
    floats.append(&mut packed);
    floats
}

/// The table that a gathering step looks rows up in where it lies in the model's file: it is not read as a whole.
pub(super) fn table<'a>(step: &Step, plan: &'a Plan) -> Option<&'a Weight> {
    let (Work::Op(Op::Gather { axis: 0 }), DType::F32) = (&step.work, step.write.dtype) else { return None };
    let Operand { at: At::Fixed(index), view, .. } = step.reads.first()?.as_ref()? else { return None };
    match &plan.fixed[*index].content {
        Content::Weight(weight, _) if view.offset == 0 && view.is_dense() => Some(weight),
        _ => None,
    }
}

impl Need<'_> {
    /// How many pieces it is, and the bytes of each.
    pub(super) fn parts(&self) -> (usize, usize) {
        match &self.kind {
            Some(kind) => (kind.parts().0, kind.part_bytes()),
            None => (1, self.weight.elements() * size_of::<f32>()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let (count, bytes) = self.parts();
        count * bytes
    }

    pub(super) fn is_packed(&self) -> bool {
        self.kind.is_some()
    }

    /// Bytes of the file, or of a copy in another order, that are there while it is made.
    pub(super) fn making(&self) -> usize {
        match (&self.kind, &self.key.form) {
            (Some(kind), Form::Packed { view, .. }) => {
                let turned = !view.is_dense() && kind.storage() == Storage::F32;
                let widened = packable(self.weight, view).is_none();
                if turned || widened { self.weight.elements() * size_of::<f32>() * 2 } else { self.weight.bytes() }
            }
            _ => 0,
        }
    }

    pub(super) fn make(&self, threads: &Threads) -> Entry {
        match (&self.kind, &self.key.form) {
            (Some(kind), Form::Packed { view, .. }) => Entry::Packed(pack(self.content, view, kind, threads)),
            _ => Entry::Floats(Floats::Owned(Arc::new(widened(self.weight)))),
        }
    }

    /// The same out of `file`, where it was [written](super::saved) at `offset`, its pieces `ALIGN` bytes apart.
    pub(super) fn read(&self, file: &Arc<Mapped>, mut offset: usize, align: usize) -> Option<Entry> {
        let (count, bytes) = self.parts();
        let (Some(kind), Form::Packed { sizes, .. }) = (&self.kind, &self.key.form) else {
            return Some(Entry::Floats(Floats::Mapped(file.part(offset, bytes)?)));
        };
        let mut packed = Vec::with_capacity(count);
        for _ in 0..count {
            packed.push(Packed::borrow(kind.storage(), *sizes, file.clone(), offset..offset + bytes));
            offset += bytes.next_multiple_of(align);
        }
        Some(Entry::Packed(packed))
    }
}

#[derive(Debug, Clone)]
pub(super) enum Entry {
    Floats(Floats),
    Packed(Vec<Packed>),
}

impl Entry {
    /// The bytes of its pieces.
    pub(super) fn pieces(&self) -> Vec<&[u8]> {
        match self {
            Entry::Floats(Floats::Mapped(mapped)) => vec![mapped.bytes()],
            Entry::Floats(Floats::Owned(floats)) => vec![bytes(floats)],
            Entry::Packed(packed) => packed.iter().map(Packed::bytes).collect(),
        }
    }
}

/// A widened weight.
#[derive(Debug, Clone)]
pub(super) enum Floats {
    Owned(Arc<Vec<f32>>),
    Mapped(Mapped),
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Floats::Owned(floats) => floats,
            Floats::Mapped(mapped) => plain(mapped.bytes()),
        }
    }
}

/// Weights that are ready.
#[derive(Debug, Default)]
pub(super) struct Store {
    entries: HashMap<Key, Entry>,
    /// Bytes of this process's own memory.
    owned: usize,
    /// The file that they lie in, where they do.
    file: Option<Arc<Mapped>>,
}

impl Store {
    /// Weights that lie in a file.
    pub(super) fn mapped(entries: HashMap<Key, Entry>, file: Arc<Mapped>) -> Store {
        Store { entries, owned: 0, file: Some(file) }
    }

    /// Makes what is missing and drops what is not needed.
    pub(super) fn fill(&mut self, needs: &[Need], threads: &Threads) {
        let mut before = std::mem::take(&mut self.entries);
        before.retain(|key, _| needs.iter().any(|need| need.key == *key));
        for need in needs {
            let entry = before.remove(&need.key).unwrap_or_else(|| need.make(threads));
            self.entries.insert(need.key.clone(), entry);
        }
        self.owned = if self.file.is_some() { 0 } else { needs.iter().map(Need::bytes).sum() };
    }

    pub(super) fn has(&self, needs: &[Need]) -> bool {
        needs.iter().all(|need| self.entries.contains_key(&need.key))
    }

    /// Bytes of memory that it holds whatever is run.
    pub(super) fn owned(&self) -> usize {
        self.owned
    }

    /// The file that the weights lie in.
    pub(super) fn file(&self) -> Option<&Arc<Mapped>> {
        self.file.as_ref()
    }

    pub(super) fn packed(&self, plan: &Plan, index: usize, view: &View, kind: &Kind) -> Result<Vec<Packed>> {
        let Content::Weight(weight, _) = &plan.fixed[index].content else { return fail!(Engine, "no weight") };
        match self.entries.get(&Key::packed(&weight.name, view, kind)) {
            Some(Entry::Packed(packed)) => Ok(packed.clone()),
            _ => fail!(Engine, "the weight {} is not packed", weight.name),
        }
    }

    pub(super) fn floats(&self, weight: &str) -> Option<Floats> {
        match self.entries.get(&Key::floats(weight)) {
            Some(Entry::Floats(floats)) => Some(floats.clone()),
            _ => None,
        }
    }
}
