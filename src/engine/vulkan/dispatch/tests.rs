//! Every family: shaders compile within the tightest limits; numbers are the CPU engine's.

mod attentions;
mod axes;
mod cases;
mod gathers;
mod norms;
mod pictures;

use super::*;
use crate::graph::{self, lower};
use crate::model::{Graph, Port};
use cases::Case;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Fails where a dispatch of `plan` breaks `limits` or its shader does not compile; gives the shaders.
fn compile(plan: &Plan, limits: &Limits, what: &str) -> HashSet<String> {
    let mut lowering = Lowering { plan, limits, uploads: Vec::new() };
    let mut seen = HashSet::new();
    for step in &plan.steps {
        let dispatches = steps(&mut lowering, step).unwrap_or_else(|error| panic!("{what}: {}: {error}", step.name));
        for dispatch in dispatches {
            assert!(dispatch.push.len() * 4 <= limits.push as usize, "{what}: {} words", dispatch.push.len());
            assert!(dispatch.bindings.len() <= limits.buffers as usize, "{what}: {:?}", dispatch.bindings);
            assert!(dispatch.groups.iter().zip(&limits.groups).all(|(n, most)| n <= most), "{what}");
            if seen.insert(dispatch.shader.text()) {
                dispatch.shader.compile().unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
    }
    seen
}

fn compile_all(cases: Vec<Case>, variants: std::ops::RangeInclusive<usize>) {
    let mut seen = HashSet::new();
    for case in cases {
        seen.extend(compile(&case.plan, &Limits::LEAST, &case.name));
    }
    assert!(variants.contains(&seen.len()), "{} variants", seen.len());
}

#[test]
fn norms_compile() {
    compile_all(norms::all(), 12..=40);
}

#[test]
fn attention_compiles() {
    compile_all(attentions::all(), 10..=40);
}

#[test]
fn steps_along_axes_compile() {
    compile_all(axes::all(), 30..=80);
}

#[test]
fn gathers_compile() {
    compile_all(gathers::all(), 5..=20);
}

#[test]
fn pictures_compile() {
    compile_all(pictures::all(), 8..=12);
}
