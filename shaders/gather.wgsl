// Elements that indices name: the output is walked in its order; indices count from the end where they are negative, and those that point
// outside are held inside and reported.
//
// Before this stand: RANK, axes of the output, the outermost first, of which FROM up to TO are axes of the indices, the others of the data; DEPTH,
// how many axes an index names; PART: only rows of the data that lie in `given` are written; V, one element or four; the bindings, `given`,
// `indices`, `written` and `faults`.

struct Params {
    count: u32,
    given: u32,
    indices: u32,
    written: u32,
    // Elements of the data that lie before `given`, and elements of `given`.
    first: u32,
    held: u32,
    // Elements from one index of a tuple to the next.
    index_step: u32,
    shape: array<u32, RANK>,
    steps: array<u32, RANK>,
    // Of the axes that indices name.
    lengths: array<u32, DEPTH>,
    length_steps: array<u32, DEPTH>,
}

var<immediate> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= params.count { return; }
    var at = params.given;
    var index_at = params.indices;
    var rest = index;
    for (var axis = RANK; axis > 0u; axis--) {
        let step = rest % params.shape[axis - 1u] * params.steps[axis - 1u];
        rest /= params.shape[axis - 1u];
        if axis - 1u >= FROM && axis - 1u < TO { index_at += step; } else { at += step; }
    }
    for (var n = 0u; n < DEPTH; n++) {
        let length = i32(params.lengths[n]);
        var place = indices[index_at + n * params.index_step];
        if place < 0 { place += length; }
        if place < 0 || place >= length {
            faults[0] = 1u;
            place = clamp(place, 0, length - 1);
        }
        at += u32(place) * params.length_steps[n];
    }
    if PART {
        if at < params.first || at - params.first >= params.held { return; }
        at -= params.first;
    }
    written[params.written + index] = given[at];
}
