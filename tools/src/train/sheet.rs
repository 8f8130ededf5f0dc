//! Contact sheets of tensors.

use anyhow::{Context, Result, ensure};
use image::{Rgb, RgbImage};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Writes pictures `(N, 3, H, W)` in [-1, 1] as a PNG, `columns` a row, enlarged `zoom` times, a white gap between.
pub fn write(path: &Path, pictures: &Tensor, columns: usize, zoom: u32) -> Result<()> {
    let size = pictures.size();
    ensure!(size.len() == 4 && size[1] == 3, "a sheet needs (N, 3, H, W), not {size:?}");
    let (count, height, width) = (size[0] as usize, size[2] as u32, size[3] as u32);
    let bytes =
        ((pictures.detach().to_device(Device::Cpu) + 1.0) * 127.5).round().clamp(0.0, 255.0).to_kind(Kind::Uint8);
    let bytes: Vec<u8> = Vec::try_from(bytes.permute([0, 2, 3, 1]).contiguous().flatten(0, -1))?;
    let (w, h) = (width * zoom + 4, height * zoom + 4);
    let rows = count.div_ceil(columns);
    let mut sheet = RgbImage::from_pixel(w * columns.min(count) as u32, h * rows as u32, Rgb([255; 3]));
    for (i, picture) in bytes.chunks_exact((3 * height * width) as usize).enumerate() {
        let (left, top) = ((i % columns) as u32 * w + 2, (i / columns) as u32 * h + 2);
        for (y, x) in (0..height * zoom).flat_map(|y| (0..width * zoom).map(move |x| (y, x))) {
            let at = (3 * ((y / zoom) * width + x / zoom)) as usize;
            sheet.put_pixel(left + x, top + y, Rgb([picture[at], picture[at + 1], picture[at + 2]]));
        }
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    sheet.save(path).with_context(|| format!("cannot write {}", path.display()))
}
