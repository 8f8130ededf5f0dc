// Reductions: numbers of any view, over some of its axes. SETS results a workgroup, each by LANES invocations.
//
// Before this stand: LANES, SETS; KEPT and GONE, how many axes stay and go, at least one each, the outermost first; E, f32 or i32; the bindings,
// `given` and `written`; taken(x), what a number counts as; joined(a, b); ended(x), what becomes of all of them.

struct Params {
    results: u32,
    // Numbers of a result.
    count: u32,
    given: u32,
    written: u32,
    // Bits of what joined() leaves as it is.
    start: u32,
    kept: array<u32, KEPT>,
    kept_steps: array<u32, KEPT>,
    gone: array<u32, GONE>,
    gone_steps: array<u32, GONE>,
}

var<immediate> params: Params;
var<workgroup> partial: array<E, LANES * SETS>;

fn place_of_result(index: u32) -> u32 {
    var at = params.given;
    var rest = index;
    for (var axis = KEPT - 1u; axis > 0u; axis--) {
        at += rest % params.kept[axis] * params.kept_steps[axis];
        rest /= params.kept[axis];
    }
    return at + rest * params.kept_steps[0];
}

fn place_of_number(index: u32) -> u32 {
    var at = 0u;
    var rest = index;
    for (var axis = GONE - 1u; axis > 0u; axis--) {
        at += rest % params.gone[axis] * params.gone_steps[axis];
        rest /= params.gone[axis];
    }
    return at + rest * params.gone_steps[0];
}

@compute @workgroup_size(LANES * SETS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
    let wanted = (group.y * groups.x + group.x) * SETS + lane / LANES;
    let first = place_of_result(min(wanted, params.results - 1u));
    // In blocks, so that long sums lose little.
    var all = bitcast<E>(params.start);
    var block = all;
    var n = 0u;
    for (var k = lane % LANES; k < params.count; k += LANES) {
        block = joined(block, taken(given[first + place_of_number(k)]));
        n++;
        if n % 32u == 0u {
            all = joined(all, block);
            block = bitcast<E>(params.start);
        }
    }
    all = joined(all, block);
    if LANES > 1u {
        partial[lane] = all;
        workgroupBarrier();
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            if lane % LANES < half { partial[lane] = joined(partial[lane], partial[lane + half]); }
            workgroupBarrier();
        }
        all = partial[lane / LANES * LANES];
    }
    if wanted < params.results && lane % LANES == 0u { written[params.written + wanted] = ended(all); }
}
