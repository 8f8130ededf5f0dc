// Pooling of channels-last pictures.
//
// Before this stand: GREATEST: the greatest under the window, or the mean; COUNT_PAD: padding counts as zeros; V, one float or four; the bindings, `given` and
// `written`; not_number(v).

struct Params {
    count: u32,
    given: u32,
    written: u32,
    channels: u32,
    from_rows: u32,
    from_columns: u32,
    rows: u32,
    columns: u32,
    kernel: array<u32, 2>,
    stride: array<u32, 2>,
    before: array<u32, 2>,
    behind: array<u32, 2>,
    // Minus infinity.
    least: f32,
}

var<immediate> params: Params;

// What the window at `place` sees of an axis: first, end; and how much of the axis and its padding it lies over.
struct Span { first: u32, end: u32, padded: u32 }

fn span(axis: u32, length: u32, place: u32) -> Span {
    let first = place * params.stride[axis];
    let pad = params.before[axis];
    let end = first + params.kernel[axis];
    let whole = pad + length + params.behind[axis];
    let begins = min(max(first, pad) - pad, length);
    let ends = min(max(end, pad) - pad, length);
    return Span(begins, ends, min(max(whole, first) - first, params.kernel[axis]));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= params.count { return; }
    let channel = index % params.channels;
    let across = span(1u, params.from_columns, index / params.channels % params.columns);
    let down = span(0u, params.from_rows, index / params.channels / params.columns % params.rows);
    let first = index / params.channels / params.columns / params.rows * params.from_rows;
    var y = V();
    if GREATEST { y = V(params.least); }
    for (var row = down.first; row < down.end; row++) {
        for (var column = across.first; column < across.end; column++) {
            let x = given[params.given + ((first + row) * params.from_columns + column) * params.channels + channel];
            if GREATEST { y = select(y, x, not_number(x) | (x > y)); } else { y += x; }
        }
    }
    if !GREATEST {
        var seen = (down.end - down.first) * (across.end - across.first);
        if COUNT_PAD { seen = down.padded * across.padded; }
        y /= f32(max(seen, 1u));
    }
    written[params.written + index] = y;
}
