// Gated halves: of rows of 2 * width numbers, one half times the activation of the other.
//
// Before this stand: V, four floats or one; GATE_LAST; the bindings, `given` and `written`; activated().

struct Params { count: u32, width: u32, given: u32, written: u32 }

var<immediate> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= params.count { return; }
    let first = params.given + index / params.width * params.width + index;
    let a = given[first];
    let b = given[first + params.width];
    var y: V;
    if GATE_LAST { y = a * activated(b); } else { y = b * activated(a); }
    written[params.written + index] = y;
}
