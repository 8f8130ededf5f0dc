// Attention, softmax(q k^T scale + mask) v, without the matrix of scores: 32 queries of a head a workgroup meet 32 keys after 32 keys, with a
// running maximum and sum for every query (Milakov and Gimelshein 2018; Dao et al. 2022). An invocation holds 4 queries x 4 keys of the
// scores, then 4 queries x 4 columns of every tile of 32 columns of the output.
//
// Before this stand: DEPTH, a multiple of 8, numbers of queries and keys in workgroup memory at once; TILES; VALUES; MASKED; the bindings;
// four_query(at), four_key(at), four_value(at) if the flags FOUR_QUERIES, FOUR_KEYS, FOUR_VALUES are set, else one_query(at), …;
// mask_at(at); write(at, column, value); Sums, TILES times a Tile; added(), which is add() for each of them; ended(), which is end() for each.

struct Params {
    queries: u32,
    keys: u32,
    // Numbers of a query or key, and of a value, in one head.
    width: u32,
    value_width: u32,
    // Elements: the first, from batch to batch, from row to row.
    query: array<u32, 3>,
    key: array<u32, 3>,
    value: array<u32, 3>,
    out: array<u32, 3>,
    // Elements: the first, from batch to batch, head to head, query to query, key to key.
    mask: array<u32, 5>,
    // Workgroups that share a head's columns.
    passes: u32,
    scale: f32,
    // Minus infinity: the score of a key that is not seen.
    unseen: f32,
    // Tiles of queries that other launches do.
    first_tile: u32,
}

const LOWEST = -3.4028235e38;
const TILE = 32u;
const LANES = 64u;

var<immediate> params: Params;
// [number][query] and [number][key], then [key][column] of values, four together.
var<workgroup> left: array<vec4f, DEPTH * 8u>;
var<workgroup> right: array<vec4f, max(DEPTH, TILE) * 8u>;
// [key][query].
var<workgroup> weights: array<vec4f, TILE * 8u>;
var<workgroup> partial: array<vec4f, LANES>;

// Four rows of output, four columns of each.
struct Tile { a: vec4f, b: vec4f, c: vec4f, d: vec4f }

// Who this invocation is, and what its workgroup does.
struct Place { batch: u32, head: u32, first: u32, column: u32, lane: u32, line: u32, across: u32 }

fn load_query(first: u32, k: u32) -> vec4f {
    var values = vec4f();
    if FOUR_QUERIES {
        if k < params.width { values = four_query(first + k); }
    } else {
        for (var c = 0u; c < 4u; c++) { if k + c < params.width { values[c] = one_query(first + k + c); } }
    }
    return values;
}

fn load_key(first: u32, k: u32) -> vec4f {
    var values = vec4f();
    if FOUR_KEYS {
        if k < params.width { values = four_key(first + k); }
    } else {
        for (var c = 0u; c < 4u; c++) { if k + c < params.width { values[c] = one_key(first + k + c); } }
    }
    return values;
}

fn load_value(first: u32, k: u32) -> vec4f {
    var values = vec4f();
    if FOUR_VALUES {
        if k < params.value_width { values = four_value(first + k); }
    } else {
        for (var c = 0u; c < 4u; c++) { if k + c < params.value_width { values[c] = one_value(first + k + c); } }
    }
    return values;
}

// Numbers k0.. of the queries and of the keys from `start`.
fn load(own: Place, start: u32, k0: u32) {
    for (var slot = own.lane; slot < DEPTH * 8u; slot += LANES) {
        let row = slot % TILE;
        let k = slot / TILE * 4u;
        var query = vec4f();
        var key = vec4f();
        if own.first + row < params.queries {
            let at = params.query[0] + own.batch * params.query[1] + (own.first + row) * params.query[2];
            query = load_query(at + own.head * params.width, k0 + k) * params.scale;
        }
        if start + row < params.keys {
            let at = params.key[0] + own.batch * params.key[1] + (start + row) * params.key[2];
            key = load_key(at + own.head * params.width, k0 + k);
        }
        for (var c = 0u; c < 4u; c++) {
            left[(k + c) * 8u + row / 4u][row % 4u] = query[c];
            right[(k + c) * 8u + row / 4u][row % 4u] = key[c];
        }
    }
}

// Of four queries: scores with each of four keys.
fn scores(own: Place, start: u32) -> Tile {
    var s = Tile();
    for (var k0 = 0u; k0 < params.width; k0 += DEPTH) {
        workgroupBarrier();
        load(own, start, k0);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let q = left[k * 8u + own.line];
            let key = right[k * 8u + own.across];
            s.a = fma(q, vec4f(key.x), s.a);
            s.b = fma(q, vec4f(key.y), s.b);
            s.c = fma(q, vec4f(key.z), s.c);
            s.d = fma(q, vec4f(key.w), s.d);
        }
    }
    let key = start + own.across * 4u;
    return Tile(seen(own, key, s.a), seen(own, key + 1u, s.b), seen(own, key + 2u, s.c), seen(own, key + 3u, s.d));
}

// Scores of four queries with the mask added; minus infinity for keys that do not exist.
fn seen(own: Place, key: u32, score: vec4f) -> vec4f {
    if key >= params.keys { return vec4f(params.unseen); }
    var s = score;
    if MASKED {
        let at = params.mask[0] + own.batch * params.mask[1] + own.head * params.mask[2] + key * params.mask[4];
        for (var r = 0u; r < 4u; r++) {
            s[r] += mask_at(at + min(own.first + own.line * 4u + r, params.queries - 1u) * params.mask[3]);
        }
    }
    return s;
}

fn weight(score: vec4f, centre: vec4f) -> vec4f {
    return select(exp(score - centre), vec4f(), score < vec4f(LOWEST));
}

// The columns of a tile: shrunk, and the weighted values of the keys from `start` added.
fn add(own: Place, start: u32, tile: u32, shrink: vec4f, sums: Tile) -> Tile {
    workgroupBarrier();
    let column = own.column + tile * TILE;
    for (var slot = own.lane; slot < TILE * 8u; slot += LANES) {
        let row = start + slot / 8u;
        var value = vec4f();
        if row < params.keys {
            let at = params.value[0] + own.batch * params.value[1] + row * params.value[2];
            value = load_value(at + own.head * params.value_width, column + slot % 8u * 4u);
        }
        right[slot] = value;
    }
    workgroupBarrier();
    var s = Tile(sums.a * shrink.x, sums.b * shrink.y, sums.c * shrink.z, sums.d * shrink.w);
    for (var key = 0u; key < TILE; key++) {
        let w = weights[key * 8u + own.line];
        let v = right[key * 8u + own.across];
        s.a = fma(vec4f(w.x), v, s.a);
        s.b = fma(vec4f(w.y), v, s.b);
        s.c = fma(vec4f(w.z), v, s.c);
        s.d = fma(vec4f(w.w), v, s.d);
    }
    return s;
}

fn end(own: Place, tile: u32, inverse: vec4f, sums: Tile) {
    let column = own.column + tile * TILE + own.across * 4u;
    var rows = array<vec4f, 4>(sums.a * inverse.x, sums.b * inverse.y, sums.c * inverse.z, sums.d * inverse.w);
    for (var r = 0u; r < 4u; r++) {
        let t = own.first + own.line * 4u + r;
        if t < params.queries {
            let at = params.out[0] + own.batch * params.out[1] + t * params.out[2] + own.head * params.value_width;
            write(at, column, rows[r]);
        }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let part = group.z % params.passes;
    let own = Place(group.z / params.passes, group.y, (params.first_tile + group.x) * TILE, part * TILES * TILE, lane, lane / 8u, lane % 8u);
    var sums = Sums();
    var greatest = vec4f(params.unseen);
    // Of the keys that this invocation meets.
    var weight_sum = vec4f();
    for (var start = 0u; start < params.keys; start += TILE) {
        let s = scores(own, start);
        partial[own.across * 8u + own.line] = max(max(s.a, s.b), max(s.c, s.d));
        workgroupBarrier();
        var most = greatest;
        for (var n = 0u; n < 8u; n++) { most = max(most, partial[n * 8u + own.line]); }
        // Nothing seen yet: every weight is 0 relative to any finite number.
        let centre = select(most, vec4f(), most < vec4f(LOWEST));
        let shrink = select(weight(greatest, centre), vec4f(1.0), greatest == most);
        greatest = most;
        let w = Tile(weight(s.a, centre), weight(s.b, centre), weight(s.c, centre), weight(s.d, centre));
        weight_sum = weight_sum * shrink + (w.a + w.b + (w.c + w.d));
        let key = own.across * 4u;
        weights[key * 8u + own.line] = w.a;
        weights[(key + 1u) * 8u + own.line] = w.b;
        weights[(key + 2u) * 8u + own.line] = w.c;
        weights[(key + 3u) * 8u + own.line] = w.d;
        sums = added(own, start, shrink, sums);
    }
    workgroupBarrier();
    partial[own.across * 8u + own.line] = weight_sum;
    workgroupBarrier();
    var all = vec4f();
    for (var n = 0u; n < 8u; n++) { all += partial[n * 8u + own.line]; }
    ended(own, select(1.0 / all, vec4f(), all == vec4f()), sums);
}
