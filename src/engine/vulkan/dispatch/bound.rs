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
    /// `array<element>` under `name`, at the next index.
    pub(super) fn add(&mut self, name: &str, element: &str, binding: Binding) {
        let access = if binding.writes { "read_write" } else { "read" };
        let index = self.bindings.len();
        let _ = writeln!(self.text, "@group(0) @binding({index}) var<storage, {access}> {name}: array<{element}>;");
        self.bindings.push(binding);
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
