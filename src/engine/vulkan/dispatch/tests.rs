//! Every family: shaders compile within the tightest limits; numbers, which need a device, are the CPU engine's.

mod attentions;
mod axes;
mod cases;
mod gathers;
mod norms;
mod pictures;

use super::*;
use crate::engine::CancelToken;
use crate::engine::cpu::play_once;
use crate::engine::vulkan::context::Context;
use crate::engine::vulkan::narrow::narrow;
use crate::engine::vulkan::programmed;
use crate::engine::vulkan::ready::Ready;
use crate::engine::vulkan::tests::{HALVES, SPLIT_HALVES};
use crate::error::ErrorKind;
use crate::op::testing::threads;
use crate::value::{Data, Tensor};
use cases::Case;
use std::collections::HashSet;
use std::sync::Arc;

/// Fails where a dispatch of `plan` breaks `limits` or its shader does not compile; gives the shaders.
fn compile(plan: &Plan, limits: &Limits, what: &str) -> HashSet<String> {
    let mut lowering = Lowering { plan, limits, precision: Precision::F32, uploads: Vec::new() };
    let mut seen = HashSet::new();
    for step in &plan.steps {
        let dispatches = steps(&mut lowering, step).unwrap_or_else(|error| panic!("{what}: {}: {error}", step.name));
        for dispatch in dispatches {
            assert!(dispatch.push.len() * 4 <= limits.push as usize, "{what}: {} words", dispatch.push.len());
            assert!(dispatch.bindings.len() <= limits.buffers as usize, "{what}: {:?}", dispatch.bindings);
            assert!(dispatch.groups.iter().zip(&limits.groups).all(|(n, most)| n <= most), "{what}");
            if seen.insert(dispatch.shader.text()) {
                let (shared, invocations) = dispatch.shader.demands().unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(
                    shared <= limits.shared && invocations <= limits.invocations,
                    "{what}: {shared}, {invocations}"
                );
            }
        }
    }
    seen
}

fn compile_all(cases: Vec<Case>, variants: std::ops::RangeInclusive<usize>) {
    let mut seen = HashSet::new();
    for mut case in cases {
        seen.extend(compile(&case.plan, &Limits::LEAST, &case.name));
        narrow(&mut case.plan, Limits::PROMISED.buffers as usize);
        compile(&case.plan, &Limits::PROMISED, &case.name);
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

#[test]
fn tables_that_are_too_large_are_cut() {
    let limits = Limits { range: 1024, ..Limits::LEAST };
    let case = gathers::large();
    let mut lowering = Lowering { plan: &case.plan, limits: &limits, precision: Precision::F32, uploads: Vec::new() };
    let dispatches = steps(&mut lowering, &case.plan.steps[0]).unwrap();
    assert_eq!(dispatches.len(), 4, "100 rows of 32 bytes, 32 at once");
    let parts: Vec<Layout> = lowering.uploads.into_iter().map(|upload| upload.layout).collect();
    assert_eq!(parts[3], Layout::Part { first: 768, count: 32 });
    compile(&case.plan, &limits, &case.name);
}

fn play(context: &Arc<Context>, case: &Case, limits: &Limits, precision: Precision) -> Result<Vec<Tensor>> {
    let (plan, program) = programmed(case.plan.clone(), limits, precision)?;
    Ready::new(context.clone(), plan, &program)?.run(&case.inputs.iter().collect::<Vec<_>>(), &CancelToken::new())
}

/// Fails unless all outputs are the CPU engine's within `bound` standard deviations, and in halves within what halves cost, with the device's
/// limits and with those that Vulkan promises.
fn agree(cases: Vec<Case>, bound: f64) {
    let halves: Vec<Case> = cases.iter().map(Case::in_halves).collect();
    let wrong: Vec<String> = cases
        .iter()
        .flat_map(|case| wrong(case, [bound; 2], Precision::F32))
        .chain(halves.iter().flat_map(|case| wrong(case, [HALVES, SPLIT_HALVES], Precision::F16)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// With the device's limits, and with those that Vulkan promises, each with its bound.
fn wrong(case: &Case, bounds: [f64; 2], precision: Precision) -> Vec<String> {
    let context = Context::shared(None).unwrap();
    let expected = play_once(case.plan.clone(), &case.inputs, &threads(2)).unwrap();
    let mut wrong = Vec::new();
    let limits = [context.opened.limits, context.opened.limits.both(Limits::PROMISED)];
    for (limits, bound) in limits.into_iter().zip(bounds) {
        match play(&context, case, &limits, precision) {
            Ok(got) => {
                wrong.extend(got.iter().zip(&expected).filter_map(|(got, expected)| differs(got, expected, bound)))
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    wrong.into_iter().map(|how| format!("{}: {how}", case.name)).collect()
}

/// What a plan of these cases keeps as halves, all that it can.
#[test]
fn halves_lie_inside_of_plans() {
    let families = [norms::all(), attentions::all(), axes::all(), gathers::all(), pictures::all()];
    let cases: Vec<Case> = families.into_iter().flatten().collect();
    let halved = cases.iter().filter(|case| {
        let (plan, _) = programmed(case.in_halves().plan, &Limits::LEAST, Precision::F16).unwrap();
        plan.buffers.iter().any(|buffer| buffer.dtype == DType::F16)
    });
    assert!(halved.count() * 2 > cases.len());
}

fn differs(got: &Tensor, expected: &Tensor, bound: f64) -> Option<String> {
    let numbers = |tensor: &Tensor| match tensor.clone().cast(DType::F64).into_data() {
        Data::F64(values) => values,
        _ => unreachable!("cast to f64"),
    };
    let (a, b) = (numbers(got), numbers(expected));
    if got.dtype() != expected.dtype() || got.shape() != expected.shape() {
        return Some(format!("{:?} of {}", got.shape(), got.dtype()));
    }
    let finite: Vec<f64> = b.iter().copied().filter(|x| x.is_finite()).collect();
    let mean = finite.iter().sum::<f64>() / finite.len() as f64;
    let deviation = (finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / finite.len() as f64).sqrt();
    let scale = if deviation > 0.0 { deviation } else { mean.abs().max(1.0) };
    // Halves are as far apart as a number is large.
    let relative = if bound >= HALVES { 0.2 } else { 0.0 };
    let far = |(a, b): (&f64, &f64)| match a == b || (a.is_nan() && b.is_nan()) {
        true => 0.0,
        false => (a - b).abs() / (scale + relative * b.abs()),
    };
    let (at, worst) = a
        .iter()
        .zip(&b)
        .map(far)
        .enumerate()
        .fold((0, 0.0), |most, (at, far)| if far > most.1 || far.is_nan() { (at, far) } else { most });
    let close = if expected.dtype() == DType::F32 { worst <= bound } else { worst == 0.0 };
    (!close).then(|| format!("{worst:.1e} deviations at {at}: {} for {}", a[at], b[at]))
}

#[test]
#[ignore = "needs a Vulkan device"]
fn norms_agree() {
    agree(norms::all(), 1e-5);
}

#[test]
#[ignore = "needs a Vulkan device"]
fn attention_agrees() {
    agree(attentions::all(), 1e-5);
}

#[test]
#[ignore = "needs a Vulkan device"]
fn steps_along_axes_agree() {
    agree(axes::all(), 1e-5);
}

#[test]
#[ignore = "needs a Vulkan device"]
fn gathers_agree() {
    agree(gathers::all(), 0.0);
}

#[test]
#[ignore = "needs a Vulkan device"]
fn pictures_agree() {
    agree(pictures::all(), 1e-6);
}

#[test]
#[ignore = "needs a Vulkan device"]
fn parts_of_a_table_are_one() {
    let context = Context::shared(None).unwrap();
    let case = gathers::large();
    let expected = play_once(case.plan.clone(), &case.inputs, &threads(1)).unwrap();
    let got = play(&context, &case, &Limits { range: 1024, ..context.opened.limits }, Precision::F32).unwrap();
    assert!(got == expected);
}

#[test]
#[ignore = "needs a Vulkan device"]
fn indices_outside_are_reported() {
    let context = Context::shared(None).unwrap();
    for index in [9, -10] {
        let case = gathers::single(index);
        let error = play(&context, &case, &context.opened.limits, Precision::F32).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    }
}
