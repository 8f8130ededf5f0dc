// Element by element: write[i] = compute(element i of each operand), the operands seen through views.
//
// Before this stand: RANK, the axes of the output in the order of its memory, joined where all operands allow it; WIDTH, 1 or 4 elements an
// invocation, along the last axis; OPERANDS, the written one last; the bindings; store(), which reads, computes and writes at given places.

struct Params {
    count: u32,
    shape: array<u32, RANK>,
    offsets: array<u32, OPERANDS>,
    strides: array<u32, RANK * OPERANDS>,
}

var<immediate> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= params.count { return; }
    var at: array<u32, OPERANDS>;
    for (var k = 0u; k < OPERANDS; k++) { at[k] = params.offsets[k]; }
    var rest = index * WIDTH;
    for (var axis = RANK; axis > 0u; axis--) {
        let length = params.shape[axis - 1u];
        let place = rest % length;
        rest = rest / length;
        for (var k = 0u; k < OPERANDS; k++) { at[k] += place * params.strides[k * RANK + axis - 1u]; }
    }
    store(at);
}
