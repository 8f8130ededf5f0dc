// Resizing of channels-last pictures. `samples` holds for every row, then for every column of the output two places of the input and the bits of
// the weight of the second.
//
// Before this stand: LINEAR: with weights, or the first place alone; V, one float or four; the bindings, `given`, `samples` and `written`.

struct Params { count: u32, given: u32, written: u32, channels: u32, from_rows: u32, from_columns: u32, rows: u32, columns: u32 }

var<immediate> params: Params;

fn pixel(line: u32, column: u32, channel: u32) -> V {
    return given[params.given + (line * params.from_columns + column) * params.channels + channel];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= params.count { return; }
    let channel = index % params.channels;
    let column = index / params.channels % params.columns;
    let row = index / params.channels / params.columns % params.rows;
    let first = index / params.channels / params.columns / params.rows * params.from_rows;
    let down = row * 3u;
    let across = (params.rows + column) * 3u;
    var y = pixel(first + samples[down], samples[across], channel);
    if LINEAR {
        let right = bitcast<f32>(samples[across + 2u]);
        let below = first + samples[down + 1u];
        let top = y + (pixel(first + samples[down], samples[across + 1u], channel) - y) * right;
        let low = pixel(below, samples[across], channel);
        let bottom = low + (pixel(below, samples[across + 1u], channel) - low) * right;
        y = top + (bottom - top) * bitcast<f32>(samples[down + 2u]);
    }
    written[params.written + index] = y;
}
