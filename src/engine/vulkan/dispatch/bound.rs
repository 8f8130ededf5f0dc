//! What the shaders of several families have in common: their bindings, and how many elements an invocation takes at once.

use super::{Binding, activation};
use crate::graph::op::Activation;
use std::fmt::Write;

/// Bindings with their lines of WGSL.
#[derive(Debug, Clone, Default)]
pub(super) struct Bound {
    pub(super) bindings: Vec<Binding>,
    pub(super) text: String,
}

impl Bound {
    /// At the next index: `get_NAME(index)` gives `per` elements that lie together, and, where they are written, `put_NAME(index, elements)`
    /// stores them; the index counts such vectors. Floats may lie there as halves, in pairs.
    ///
    /// # Panics
    /// When halves are written one by one: a pair is one word.
    pub(super) fn add(&mut self, name: &str, per: usize, element: &str, binding: Binding) {
        let access = if binding.writes { "read_write" } else { "read" };
        let index = self.bindings.len();
        let Storage { stored, get, put } = Storage::of(name, per, element, binding.halves);
        let v = vector(per, element);
        let _ = writeln!(self.text, "@group(0) @binding({index}) var<storage, {access}> {name}: array<{stored}>;");
        let _ = writeln!(self.text, "fn get_{name}(at: u32) -> {v} {{ {get} }}");
        if binding.writes {
            assert!(per > 1 || !binding.halves, "halves of {name} are written in pairs");
            let _ = writeln!(self.text, "fn put_{name}(at: u32, v: {v}) {{ {put} }}");
        }
        self.bindings.push(Binding { together: per, ..binding });
    }
}

/// How elements lie in a binding, and how they are read and written.
struct Storage {
    stored: String,
    get: String,
    put: String,
}

impl Storage {
    fn of(name: &str, per: usize, element: &str, halves: bool) -> Storage {
        let text = |stored: &str, get: String, put: String| Storage { stored: stored.into(), get, put };
        match (halves, per) {
            (false, _) => text(&vector(per, element), format!("return {name}[at];"), format!("{name}[at] = v;")),
            (true, 1) => text("u32", format!("return unpack2x16float({name}[at / 2u])[at % 2u];"), String::new()),
            (true, 2) => {
                text("u32", format!("return unpack2x16float({name}[at]);"), format!("{name}[at] = half_pair(v);"))
            }
            (true, _) => text(
                "vec2u",
                format!("let h = {name}[at]; return vec4f(unpack2x16float(h.x), unpack2x16float(h.y));"),
                format!("{name}[at] = vec2u(half_pair(v.xy), half_pair(v.zw));"),
            ),
        }
    }
}

/// 4, 2 or 1: the most elements that lie together wherever all of `numbers`, which are places and steps, lead.
pub(super) fn per(numbers: &[usize]) -> usize {
    let divides = |per: &usize| numbers.iter().all(|number| number.is_multiple_of(*per));
    [4, 2].into_iter().find(divides).unwrap_or(1)
}

/// WGSL's type of so many elements.
pub(super) fn vector(per: usize, element: &str) -> String {
    if per == 1 { element.into() } else { format!("vec{per}<{element}>") }
}

/// `fn total(v: V) -> f32`, the sum of the elements.
pub(super) fn total(per: usize) -> String {
    format!("fn total(v: V) -> f32 {{ return {}; }}", parts(per).join(" + "))
}

/// `fn activated(v: V) -> V`.
pub(super) fn activated(per: usize, op: Activation) -> String {
    if op == Activation::None {
        return "fn activated(v: V) -> V { return v; }".into();
    }
    let calls: Vec<String> = parts(per).iter().map(|part| format!("activate({part})")).collect();
    format!("{}fn activated(v: V) -> V {{ return V({}); }}", activation("activate", op), calls.join(", "))
}

/// The names of the elements of `v`.
fn parts(per: usize) -> &'static [&'static str] {
    if per == 1 { &["v"] } else { &["v.x", "v.y", "v.z", "v.w"][..per] }
}
