//! Where the input pixels of every output pixel lie.

use super::super::matrix::cpu::Rows;
use super::{Call, Conv};
use std::ops::Range;

/// Channels below which a pixel is copied: to follow an address costs as much as to copy so few.
const SHORT: usize = 16;

/// Floats that the copied pixels of `rows` output pixels take.
pub(super) fn gathered(conv: &Conv, rows: usize) -> usize {
    let channels = conv.inputs / conv.groups;
    if channels < SHORT { rows * conv.taps() * channels } else { 0 }
}

/// Addresses of the pixels under every tap, of one group's channels.
pub(super) struct Taps<'a> {
    conv: &'a Conv,
    size: [usize; 2],
    output: [usize; 2],
    input: &'a [f32],
    padding: &'a [f32],
    first: usize,
    channels: usize,
}

/// An output pixel: its picture's first row in the input, and the place of its first tap.
#[derive(Clone, Copy, Default)]
struct Corner {
    base: usize,
    y: isize,
    x: isize,
}

impl<'a> Taps<'a> {
    pub(super) fn new(call: &Call<'a>, padding: &'a [f32], group: usize) -> Taps<'a> {
        let Call { conv, picture, output, input, .. } = *call;
        let channels = conv.inputs / conv.groups;
        assert!(padding.len() >= channels, "floats of padding");
        Taps { conv, size: [picture.height, picture.width], output, input, padding, first: group * channels, channels }
    }

    pub(super) fn is_short(&self) -> bool {
        self.channels < SHORT
    }

    fn corners(&self, rows: Range<usize>) -> impl Iterator<Item = Corner> {
        let Conv { stride, pads, .. } = *self.conv;
        let [height, width] = self.output;
        let (mut x, y) = (rows.start % width, rows.start / width);
        let (mut y, mut picture) = (y % height, y / height);
        rows.map(move |_| {
            let corner = Corner {
                base: picture * self.size[0] * self.size[1],
                y: (y * stride[0]) as isize - pads[0] as isize,
                x: (x * stride[1]) as isize - pads[1] as isize,
            };
            x += 1;
            if x == width {
                (x, y) = (0, y + 1);
            }
            if y == height {
                (y, picture) = (0, picture + 1);
            }
            corner
        })
    }

    /// The channels of the pixel under a tap.
    #[inline]
    fn pixel(&self, corner: Corner, [down, right]: [usize; 2]) -> &'a [f32] {
        let Conv { dilation, enlarge, .. } = *self.conv;
        let y = corner.y + (down * dilation[0]) as isize;
        let x = corner.x + (right * dilation[1]) as isize;
        match pixel(self.size, enlarge, y, x) {
            Some(index) => &self.input[(corner.base + index) * self.conv.inputs + self.first..][..self.channels],
            None => &self.padding[..self.channels],
        }
    }
}

impl<'a> Taps<'a> {
    /// The pixels under a row of taps where they lie side by side.
    #[inline]
    fn across(&self, corner: Corner, down: usize) -> Option<&'a [f32]> {
        let Conv { kernel, dilation, groups, enlarge, .. } = *self.conv;
        if enlarge || groups > 1 || dilation[1] > 1 {
            return None;
        }
        let y = usize::try_from(corner.y + (down * dilation[0]) as isize).ok().filter(|y| *y < self.size[0])?;
        let x = usize::try_from(corner.x).ok().filter(|x| x + kernel[1] <= self.size[1])?;
        let first = (corner.base + y * self.size[1] + x) * self.channels;
        Some(&self.input[first..][..kernel[1] * self.channels])
    }
}

/// The number of the pixel at `(y, x)` of a picture of `size`, which may be seen enlarged; `None` outside.
#[inline]
pub(super) fn pixel([height, width]: [usize; 2], enlarge: bool, y: isize, x: isize) -> Option<usize> {
    let shift = u32::from(enlarge);
    let (y, x) = (usize::try_from(y).ok()? >> shift, usize::try_from(x).ok()? >> shift);
    (y < height && x < width).then_some(y * width + x)
}

impl Rows for Taps<'_> {
    fn segments(&self) -> usize {
        self.conv.taps()
    }

    fn length(&self) -> usize {
        self.channels
    }

    fn addresses(&self, rows: Range<usize>, _: &mut [f32], table: &mut Vec<*const f32>) {
        for down in 0..self.conv.kernel[0] {
            for right in 0..self.conv.kernel[1] {
                table.extend(self.corners(rows.clone()).map(|corner| self.pixel(corner, [down, right]).as_ptr()));
            }
        }
    }
}

/// The same with the pixels of all taps copied side by side.
pub(super) struct Gathered<'a>(pub(super) Taps<'a>);

impl Rows for Gathered<'_> {
    fn segments(&self) -> usize {
        1
    }

    fn length(&self) -> usize {
        self.0.conv.taps() * self.0.channels
    }

    fn buffer(&self, rows: usize) -> usize {
        rows * self.length()
    }

    fn addresses(&self, rows: Range<usize>, buffer: &mut [f32], table: &mut Vec<*const f32>) {
        let width = self.0.conv.kernel[1] * self.0.channels;
        for (corner, buffer) in self.0.corners(rows).zip(buffer.chunks_mut(self.length())) {
            for (down, taps) in buffer.chunks_mut(width).enumerate() {
                match self.0.across(corner, down) {
                    Some(pixels) => taps.copy_from_slice(pixels),
                    None => self.copy(corner, down, taps),
                }
            }
            table.push(buffer.as_ptr());
        }
    }
}

impl Gathered<'_> {
    /// The pixels under a row of taps, one by one.
    fn copy(&self, corner: Corner, down: usize, taps: &mut [f32]) {
        for (right, tap) in taps.chunks_mut(self.0.channels).enumerate() {
            let pixel = self.0.pixel(corner, [down, right]);
            tap.iter_mut().zip(pixel).for_each(|(to, from)| *to = *from);
        }
    }
}
