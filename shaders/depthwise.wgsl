// A depthwise convolution of channels-last pictures, an invocation a channel of an output pixel; filters lie (taps, channels).
//
// Before this stand: ENLARGE; activate(); bias_at(), shift_at(), residual_at() and what they are bound to.

struct Params {
    count: u32,
    channels: u32,
    filter_stride: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_y: u32,
    stride_x: u32,
    top: u32,
    left: u32,
    dilation_y: u32,
    dilation_x: u32,
    first: u32,
    out_first: u32,
    bias_first: u32,
    shift_first: u32,
    residual_first: u32,
}

var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> picture: array<f32>;
@group(0) @binding(1) var<storage, read> filters: array<f32>;
@group(0) @binding(2) var<storage, read_write> written: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= params.count { return; }
    let channel = index % params.channels;
    let pixel = index / params.channels;
    let pixels = params.out_height * params.out_width;
    let number = pixel / pixels;
    let y0 = i32(pixel % pixels / params.out_width * params.stride_y) - i32(params.top);
    let x0 = i32(pixel % params.out_width * params.stride_x) - i32(params.left);
    let first = params.first + number * params.height * params.width * params.channels + channel;
    let shrink = select(0u, 1u, ENLARGE);
    let height = i32(params.height << shrink);
    let width = i32(params.width << shrink);
    var sum = 0.0;
    for (var i = 0u; i < params.kernel_height; i++) {
        let y = y0 + i32(i * params.dilation_y);
        if y < 0 || y >= height { continue; }
        for (var j = 0u; j < params.kernel_width; j++) {
            let x = x0 + i32(j * params.dilation_x);
            if x < 0 || x >= width { continue; }
            let at = (u32(y) >> shrink) * params.width + (u32(x) >> shrink);
            let filter_value = filters[(i * params.kernel_width + j) * params.filter_stride + channel];
            sum = fma(picture[first + at * params.channels], filter_value, sum);
        }
    }
    sum += bias_at(params.bias_first + channel) + shift_at(params.shift_first + number * params.channels + channel);
    written[params.out_first + index] = activate(sum) + residual_at(params.residual_first + index);
}
