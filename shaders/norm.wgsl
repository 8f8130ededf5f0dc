// Norms: every set of numbers gets mean 0 and variance 1 (CENTRED) or mean square 1, then ((x) * gamma + beta) * (1 + scale) + shift, then an
// activation. A set is `pixels` rows of `width` vectors, `step` apart: the channels of a group of a picture, or one row. SETS sets a workgroup,
// each by LANES invocations; HELD vectors of a set stay in workgroup memory (0: it is read three times).
//
// Before this stand: LANES, SETS, HELD, CENTRED; V, one, two or four floats; the bindings, `given` and `written` first; total(), activated(),
// factor(batch, channel) and term(batch, channel).

struct Params {
    sets: u32,
    // Sets of a batch, which share a row of scale and shift.
    each: u32,
    pixels: u32,
    width: u32,
    step: u32,
    batch: u32,
    // Vectors from a set's first channel to the next set's: 0 where all sets have the same channels.
    channels: u32,
    // Vectors of a row of scale and shift.
    row: u32,
    given: u32,
    written: u32,
    gamma: u32,
    beta: u32,
    scale: u32,
    shift: u32,
    epsilon: f32,
    // Floats of a set.
    count: f32,
}

var<immediate> params: Params;
var<workgroup> partial: array<vec2f, LANES * SETS>;
var<workgroup> held: array<V, HELD * SETS + 1u>;

// Sums over the invocations of a set.
fn over_set(lane: u32, value: vec2f) -> vec2f {
    workgroupBarrier();
    partial[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane % LANES < half { partial[lane] += partial[lane + half]; }
        workgroupBarrier();
    }
    return partial[lane / LANES * LANES];
}

// Where an invocation is in its set: vector `index`, which is vector `column` of its row.
struct Cursor { index: u32, column: u32, at: u32 }

fn begin(lane: u32) -> Cursor {
    let index = lane % LANES;
    let column = index % params.width;
    return Cursor(index, column, index / params.width * params.step + column);
}

fn next(cursor: Cursor) -> Cursor {
    let down = LANES / params.width;
    let across = LANES % params.width;
    var next = Cursor(cursor.index + LANES, cursor.column + across, cursor.at + down * params.step + across);
    if next.column >= params.width {
        next.column -= params.width;
        next.at += params.step - params.width;
    }
    return next;
}

@compute @workgroup_size(LANES * SETS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
    let wanted = (group.y * groups.x + group.x) * SETS + lane / LANES;
    let own = min(wanted, params.sets - 1u);
    let batch = own / params.each;
    let first = batch * params.batch + own % params.each * params.width;
    let channel = own % params.each * params.channels;
    let place = lane / LANES * HELD;
    let size = params.pixels * params.width;

    // Sums are taken in blocks, so that long ones lose little.
    var sum = V();
    var block = V();
    var n = 0u;
    for (var c = begin(lane); c.index < size; c = next(c)) {
        let x = given[params.given + first + c.at];
        if HELD > 0u { held[place + c.index] = x; }
        block += x;
        n++;
        if n % 32u == 0u {
            sum += block;
            block = V();
        }
    }
    var mean = 0.0;
    let all = over_set(lane, vec2f(total(sum + block), 0.0));
    if CENTRED { mean = all.x / params.count; }

    sum = V();
    block = V();
    n = 0u;
    var rest = V();
    for (var c = begin(lane); c.index < size; c = next(c)) {
        var x: V;
        if HELD > 0u { x = held[place + c.index]; } else { x = given[params.given + first + c.at]; }
        let d = x - V(mean);
        rest += d;
        block += d * d;
        n++;
        if n % 32u == 0u {
            sum += block;
            block = V();
        }
    }
    // What is left of the differences corrects the rounded mean.
    let both = over_set(lane, vec2f(total(sum + block), total(rest))) / params.count;
    var correction = 0.0;
    if CENTRED { correction = both.y; }
    let inverse = 1.0 / sqrt(max(both.x - correction * correction, 0.0) + params.epsilon);

    if wanted >= params.sets { return; }
    for (var c = begin(lane); c.index < size; c = next(c)) {
        var x: V;
        if HELD > 0u { x = held[place + c.index]; } else { x = given[params.given + first + c.at]; }
        let y = (x - V(mean) - V(correction)) * inverse;
        written[params.written + first + c.at] = activated(y * factor(batch, channel + c.column) + term(batch, channel + c.column));
    }
}
