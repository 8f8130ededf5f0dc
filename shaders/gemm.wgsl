// A product of matrices in tiles: out (M, N) = left (M, K) right (K, N), then what follows a product. Every invocation holds 4 rows x 4
// columns; TILE_K rows of both tiles lie in workgroup memory. With TAPS the left rows are gathered from a channels-last picture: row m is
// an output pixel, k counts taps, then channels; a workgroup's z is the group of the convolution. Without, z is the matrix of a batch.
//
// Before this stand: TILE_M, TILE_N, THREADS; TAPS, ENLARGE, LEFT_FOURS, TRANSPOSED; PER, 4 or 1 elements written together, and OUT, their
// type; the bindings; four_left(), one_left(), right_row() or right_column(); ending(), written().

const TILE_K = 16u;
const COLUMNS = TILE_N / 4u;
const ROWS = TILE_M / 4u;
const LEFT_LOADS = TILE_M * TILE_K / 4u / THREADS;
const RIGHT_LOADS = TILE_N * TILE_K / 4u / THREADS;

struct Params {
    rows: u32,
    columns: u32,
    depth: u32,
    // Elements: first of left, from row to row; the same of right and out.
    left_first: u32,
    left_stride: u32,
    right_first: u32,
    right_stride: u32,
    out_first: u32,
    out_stride: u32,
    bias_first: u32,
    shift_first: u32,
    // Rows that a row of the shift is added to, and elements of such a row.
    shift_rows: u32,
    shift_stride: u32,
    residual_first: u32,
    residual_stride: u32,
    // Elements of out from matrix to matrix.
    out_batch: u32,
    // A picture's height, width and channels of a group, the output's height and width; without TAPS three lengths of the batch, then three
    // strides of left and three of right, innermost last.
    extra: array<u32, 13>,
    // Tiles of rows that other launches do.
    first_tile: u32,
}

var<immediate> params: Params;
var<workgroup> left: array<vec4f, TILE_K * ROWS>;
var<workgroup> right: array<vec4f, TILE_K * COLUMNS>;

struct Batch { left: u32, right: u32 }

fn batch(z: u32) -> Batch {
    if TAPS {
        return Batch(params.left_first + z * params.extra[2], params.right_first + z * params.depth * params.right_stride);
    }
    let inner = z % params.extra[2];
    let rest = z / params.extra[2];
    let middle = rest % params.extra[1];
    let outer = rest / params.extra[1];
    return Batch(params.left_first + outer * params.extra[3] + middle * params.extra[4] + inner * params.extra[5],
        params.right_first + outer * params.extra[6] + middle * params.extra[7] + inner * params.extra[8]);
}

// Where a row of left begins; of a picture, the element of its first channel and the place of the filter's upper left corner.
struct Row { first: u32, y: i32, x: i32, inside: bool }

fn row(m: u32, first: u32) -> Row {
    let inside = m < params.rows;
    if !TAPS { return Row(first + m * params.left_stride, 0, 0, inside); }
    let width = params.extra[4];
    let pixels = params.extra[3] * width;
    let picture = m / pixels;
    let pixel = m % pixels;
    let y = i32(pixel / width * params.extra[6]) - i32(params.extra[8]);
    let x = i32(pixel % width * params.extra[7]) - i32(params.extra[9]);
    return Row(first + picture * params.extra[0] * params.extra[1] * params.left_stride, y, x, inside);
}

// The element of left in row and column k, or that there is none.
struct Place { at: u32, inside: bool }

fn place(row: Row, k: u32) -> Place {
    let inside = row.inside && k < params.depth;
    if !TAPS { return Place(row.first + k, inside); }
    let channels = params.extra[2];
    let tap = k / channels;
    let y = row.y + i32(tap / params.extra[12] * params.extra[10]);
    let x = row.x + i32(tap % params.extra[12] * params.extra[11]);
    var height = i32(params.extra[0]);
    var width = i32(params.extra[1]);
    var pixel = y * width + x;
    if ENLARGE {
        pixel = (y >> 1u) * width + (x >> 1u);
        height *= 2;
        width *= 2;
    }
    let seen = inside && y >= 0 && y < height && x >= 0 && x < width;
    return Place(row.first + u32(max(pixel, 0)) * params.left_stride + k % channels, seen);
}

fn load_left(row: Row, k: u32) -> vec4f {
    var values = vec4f();
    if LEFT_FOURS {
        let p = place(row, k);
        if p.inside { values = four_left(p.at); }
    } else {
        for (var c = 0u; c < 4u; c++) {
            let p = place(row, k + c);
            if p.inside { values[c] = one_left(p.at); }
        }
    }
    return values;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let start = batch(group.z);
    let first_row = (params.first_tile + group.y) * TILE_M;
    let first_column = group.x * TILE_N;
    let column = lane % COLUMNS;
    let line = lane / COLUMNS;
    var rows: array<Row, LEFT_LOADS>;
    for (var i = 0u; i < LEFT_LOADS; i++) {
        rows[i] = row(first_row + (lane + i * THREADS) / (TILE_K / 4u), start.left);
    }
    var sum0 = vec4f();
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    for (var k0 = 0u; k0 < params.depth; k0 += TILE_K) {
        for (var i = 0u; i < LEFT_LOADS; i++) {
            let slot = lane + i * THREADS;
            let m = slot / (TILE_K / 4u);
            let k = slot % (TILE_K / 4u) * 4u;
            let values = load_left(rows[i], k0 + k);
            for (var c = 0u; c < 4u; c++) { left[(k + c) * ROWS + m / 4u][m % 4u] = values[c]; }
        }
        for (var i = 0u; i < RIGHT_LOADS; i++) {
            let slot = lane + i * THREADS;
            if TRANSPOSED {
                let n = slot / (TILE_K / 4u);
                let k = slot % (TILE_K / 4u) * 4u;
                let values = load_right(start.right, k0 + k, first_column + n);
                for (var c = 0u; c < 4u; c++) { right[(k + c) * COLUMNS + n / 4u][n % 4u] = values[c]; }
            } else {
                let n = slot % COLUMNS;
                let k = slot / COLUMNS;
                right[slot] = load_right(start.right, k0 + k, first_column + n * 4u);
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k++) {
            let a = left[k * ROWS + line];
            let b = right[k * COLUMNS + column];
            sum0 = fma(vec4f(a.x), b, sum0);
            sum1 = fma(vec4f(a.y), b, sum1);
            sum2 = fma(vec4f(a.z), b, sum2);
            sum3 = fma(vec4f(a.w), b, sum3);
        }
        workgroupBarrier();
    }
    let m = first_row + line * 4u;
    let n = first_column + column * 4u;
    store(group.z, m, n, sum0);
    store(group.z, m + 1u, n, sum1);
    store(group.z, m + 2u, n, sum2);
    store(group.z, m + 3u, n, sum3);
}

fn store(z: u32, m: u32, n: u32, sum: vec4f) {
    if m >= params.rows { return; }
    if PER == 4u {
        if n < params.columns { write_four(z, m, n, sum); }
    } else {
        for (var c = 0u; c < 4u; c++) {
            if n + c < params.columns { write_one(z, m, n + c, sum[c]); }
        }
    }
}
