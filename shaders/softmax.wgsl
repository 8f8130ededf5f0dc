// Softmax: e^(x - max) / sum over `length` numbers, `inner` apart, which are a row. SETS rows a workgroup, each by LANES invocations.
//
// Before this stand: LANES, SETS; the bindings, `given` and `written`.

struct Params { rows: u32, length: u32, inner: u32, given: u32, written: u32 }

var<immediate> params: Params;
var<workgroup> partial: array<f32, LANES * SETS>;

fn greatest_of_row(lane: u32, value: f32) -> f32 {
    if LANES == 1u { return value; }
    partial[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane % LANES < half { partial[lane] = max(partial[lane], partial[lane + half]); }
        workgroupBarrier();
    }
    return partial[lane / LANES * LANES];
}

fn sum_of_row(lane: u32, value: f32) -> f32 {
    if LANES == 1u { return value; }
    workgroupBarrier();
    partial[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane % LANES < half { partial[lane] += partial[lane + half]; }
        workgroupBarrier();
    }
    return partial[lane / LANES * LANES];
}

@compute @workgroup_size(LANES * SETS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
    let wanted = (group.y * groups.x + group.x) * SETS + lane / LANES;
    let row = min(wanted, params.rows - 1u);
    let first = row / params.inner * params.length * params.inner + row % params.inner;
    var most = -3.4028235e38;
    for (var k = lane % LANES; k < params.length; k += LANES) { most = max(most, given[params.given + first + k * params.inner]); }
    most = greatest_of_row(lane, most);
    var sum = 0.0;
    for (var k = lane % LANES; k < params.length; k += LANES) { sum += exp(given[params.given + first + k * params.inner] - most); }
    let inverse = 1.0 / sum_of_row(lane, sum);
    if wanted >= params.rows { return; }
    for (var k = lane % LANES; k < params.length; k += LANES) {
        let at = first + k * params.inner;
        written[params.written + at] = exp(given[params.given + at] - most) * inverse;
    }
}
