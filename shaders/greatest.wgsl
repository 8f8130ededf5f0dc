// The index of the greatest number along an axis, the first or, with LAST, the last of equals. An invocation a result.
//
// Before this stand: KEPT, how many other axes there are, at least one, the outermost first; LAST; the bindings, `given` and `written`.

struct Params {
    results: u32,
    length: u32,
    step: u32,
    given: u32,
    written: u32,
    kept: array<u32, KEPT>,
    kept_steps: array<u32, KEPT>,
}

var<immediate> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= params.results { return; }
    var at = params.given;
    var rest = index;
    for (var axis = KEPT; axis > 0u; axis--) {
        at += rest % params.kept[axis - 1u] * params.kept_steps[axis - 1u];
        rest /= params.kept[axis - 1u];
    }
    var best = 0u;
    var most = given[at];
    for (var k = 1u; k < params.length; k++) {
        let x = given[at + k * params.step];
        if x > most || (LAST && x == most) {
            best = k;
            most = x;
        }
    }
    written[params.written + index] = i32(best);
}
