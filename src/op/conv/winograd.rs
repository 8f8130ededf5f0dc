//! Winograd's minimal filtering for 3x3 filters of stride 1 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015):
//! `Y = A' [(G g G') * (B' d B)] A`, the product taken for every place of a tile by matrices over channels.
//!
//! Tiles are worked off in chunks. First all tiles of a chunk are transformed, then every task takes one panel of sixteen output channels:
//! it transforms that panel's weights (again for every chunk, so nothing is kept; dear where a chunk has few tiles), multiplies, and transforms
//! back into the output.

mod multiply;
mod spread;
mod transform;

pub(super) use transform::{F2, F4};

use super::super::matrix::pack::{STRETCH, even};
use super::super::tasks::{Shared, lines, split};
use super::{Call, Conv, Method, PANEL, Packed, Picture};
use transform::Filter;

/// Most tiles of a task.
const BLOCK: usize = 128;
/// Transformed input floats of a chunk, 6 MiB, unless that were too few tiles.
const CHUNK: usize = 3 << 19;
/// Tiles below which transforming the weights again for every chunk would be felt.
const FEWEST: usize = 64;
/// Input channels below which the transforms are most of the work.
const FEW: usize = 16;
/// Tasks that a chunk is cut into where its panels alone do not give as many.
const TASKS: usize = 8;

/// The cheapest way for a 3x3 filter of stride 1, by counting cycles for one input channel and a panel of outputs. The constants are estimates, not fitted to measurements.
pub(super) fn method(conv: &Conv, picture: Picture) -> Method {
    let Some([height, width]) = conv.output(picture.height, picture.width).filter(|_| conv.inputs >= FEW) else {
        return Method::Taps;
    };
    let (inputs, outputs) = (conv.inputs as f64, conv.outputs as f64);
    let tiles = |edge: usize| (picture.count * height.div_ceil(edge) * width.div_ceil(edge)) as f64;
    let rows = |count: f64| count.max(3.0);
    let taps = 9.0 * rows((picture.count * height * width) as f64);
    let spread = 16.0 / outputs.max(16.0);
    let two = 16.0 * rows(tiles(2)) + 50.0 + tiles(2) * (12.0 * spread + 160.0 / inputs);
    let four = 36.0 * rows(tiles(4)) + 110.0 + tiles(4) * (30.0 * spread + 400.0 / inputs);
    if taps <= two && taps <= four {
        Method::Taps
    } else if two <= four {
        Method::Winograd2
    } else {
        Method::Winograd4
    }
}

/// Bytes of scratch for tiles of `M` x `M` outputs, `A = M + 2`.
pub(super) fn scratch_bytes<const A: usize, const M: usize>(conv: &Conv, picture: Picture, threads: usize) -> usize {
    let sizes = Sizes::of::<A, M>(conv, picture);
    super::scratch_bytes(sizes.shared(), sizes.each(), threads)
}

/// How tiles, channels and buffers are cut.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    inputs: usize,
    /// `A * A`.
    places: usize,
    /// Height and width in tiles.
    grid: [usize; 2],
    tiles: usize,
    chunk: usize,
    block: usize,
    /// Floats between tiles, between places of transformed tiles, weights and sums.
    tile: usize,
    tile_plane: usize,
    weight_plane: usize,
    sum_plane: usize,
}

impl Sizes {
    fn of<const A: usize, const M: usize>(conv: &Conv, picture: Picture) -> Sizes {
        let [height, width] = conv.output(picture.height, picture.width).expect("a filter no larger than its input");
        let grid = [height.div_ceil(M), width.div_ceil(M)];
        let tiles = picture.count * grid[0] * grid[1];
        let (places, tile) = (A * A, lines(conv.inputs));
        let chunk = longest(tiles, (CHUNK / (places * tile)).max(FEWEST));
        let block = longest(chunk, BLOCK.min(chunk.div_ceil(TASKS.div_ceil(conv.outputs.div_ceil(PANEL)))));
        let depth = longest(conv.inputs, STRETCH);
        Sizes {
            inputs: conv.inputs,
            places,
            grid,
            tiles,
            chunk,
            block,
            tile,
            tile_plane: apart(chunk * tile),
            weight_plane: apart(depth * PANEL),
            sum_plane: apart(block * PANEL),
        }
    }

    /// Floats for all threads: a pixel of padding and the transformed tiles of a chunk.
    fn shared(&self) -> usize {
        self.tile + self.places * self.tile_plane
    }

    /// Floats a thread: widened weights, transformed weights, sums.
    fn each(&self) -> usize {
        9 * STRETCH * PANEL + self.places * (self.weight_plane + self.sum_plane)
    }
}

/// The longest of the parts that [`even`] cuts.
fn longest(total: usize, most: usize) -> usize {
    total.div_ceil(total.div_ceil(most).max(1))
}

/// An odd number of cache lines, so that the same place of every plane falls into another set of the cache.
fn apart(floats: usize) -> usize {
    (floats.div_ceil(16) | 1) * 16
}

pub(super) fn run<F: Filter<A, M>, const A: usize, const M: usize>(
    call: &Call,
    packed: &Packed,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let conv = call.conv;
    let fits = conv.kernel == [3; 2] && conv.stride == [1; 2] && conv.dilation == [1; 2] && conv.groups == 1;
    assert!(fits, "no 3x3 filter of stride 1: {conv:?}");
    let sizes = Sizes::of::<A, M>(conv, call.picture);
    let (shared, each) = split(scratch, sizes.shared(), sizes.each(), call.cpu.threads.count());
    let (padding, spread) = shared.split_at_mut(sizes.tile);
    padding.fill(0.0);
    let (spread, out) = (Shared::new(spread), Shared::new(out));
    let (threads, arch) = (call.cpu.threads, call.cpu.arch);
    for chunk in even(sizes.tiles, sizes.chunk) {
        let parts: Vec<_> = even(chunk.len(), chunk.len().div_ceil(TASKS)).collect();
        each.run(threads, parts.len(), |index, _| {
            let tiles = chunk.start + parts[index].start..chunk.start + parts[index].end;
            let task = spread::Task { call, sizes: &sizes, padding, first: chunk.start, tiles, to: spread };
            arch.dispatch(spread::Spread::<F, A, M>(task, std::marker::PhantomData));
        });
        let blocks: Vec<_> = even(chunk.len(), sizes.block).collect();
        each.run(threads, blocks.len() * packed.panels(), |index, scratch| {
            let tiles = blocks[index / packed.panels()].clone();
            let panel = index % packed.panels();
            let first = chunk.start;
            let task = multiply::Task { call, sizes: &sizes, packed, panel, first, tiles, from: spread, out, scratch };
            arch.dispatch(multiply::Multiply::<F, A, M>(task, std::marker::PhantomData));
        });
    }
}
