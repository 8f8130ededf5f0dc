//! A decoded picture to a larger one, where the model has a stage for it.

use super::request::Size;
use super::stage::{Machine, StageRunner, batch_size, split, stack};
use super::tiles::{Grid, fitted};
use crate::cancel::CancelToken;
use crate::engine::Footprint;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::model::{Graph, Stage, UPSCALES, UpscalerPorts};
use crate::value::Tensor;

/// Longest side, in pixels of the decoded picture, of what is enlarged in one piece. What is larger goes in tiles, which do not change it visibly
/// (71 dB for tiles of 64 of the shipped one): enlarged sixteen times, its feature maps would be the largest thing of the run.
pub(super) const TILE: usize = 320;
/// Pixels that neighbouring tiles share: of 18 convolutions of 3x3 a pixel sees 18 around it, the outermost hardly.
const OVERLAP: usize = 32;
/// Side of the picture that a graph is asked about where nothing else says how much it enlarges.
const ASKED: usize = 16;

pub(super) struct Upscaler {
    pub runner: StageRunner,
    ports: UpscalerPorts,
    factor: usize,
    /// What black and white are for the graph.
    range: (f32, f32),
}

impl Upscaler {
    /// # Errors
    /// Those of the graph; `Mismatch` where it does not enlarge, or nothing says how much.
    pub fn open(stage: &Stage, machine: &Machine) -> Result<Self> {
        let graph = stage.open()?;
        let ports = UpscalerPorts::of(&graph)?;
        let factor = factor(stage, &graph, &ports)?;
        let (black, white) = stage.config.value_range.unwrap_or((0.0, 1.0));
        let range = (black as f32, white as f32);
        Ok(Self { runner: StageRunner::new(stage, graph, machine), ports, factor, range })
    }

    /// Size of what becomes of a decoded picture.
    pub fn enlarged(&self, Size { width, height }: Size) -> Size {
        Size { width: width * self.factor, height: height * self.factor }
    }

    /// `(1, 3, factor H, factor W)` for `(1, 3, H, W)`, both from -1 to 1, in tiles of at most `tile` pixels a side.
    ///
    /// # Errors
    /// `Cancelled` between tiles, when `cancel` says so; `NotFinite` for NaN or infinity in what goes in or comes out; those of running the stage.
    pub fn enlarge(&mut self, picture: &Tensor, tile: usize, cancel: &CancelToken) -> Result<Tensor> {
        picture.check_finite("the decoded picture")?;
        let &[1, 3, height, width] = picture.shape() else { return fail!(Engine, "a picture is (1, 3, H, W)") };
        let (black, white) = self.range;
        let given = mapped(picture.clone(), |x| black + (x.clamp(-1.0, 1.0) + 1.0) / 2.0 * (white - black))?;
        let window = self.window([height, width], tile)?;
        let enlarged = if window == [height, width] {
            self.whole(given)?
        } else {
            let overlap = window.map(overlap);
            let grid = Grid::new([height, width], window, overlap, [self.factor; 2]);
            grid.play(&given, cancel, |tile| self.whole(tile))?
        };
        enlarged.check_finite("the enlarged picture")?;
        mapped(enlarged, |y| (y - black) / (white - black) * 2.0 - 1.0)
    }

    fn whole(&mut self, picture: Tensor) -> Result<Tensor> {
        let picture = [picture];
        let inputs = stack(&picture, self.batch(&picture))?;
        let enlarged = self.runner.run(&[(&self.ports.picture.name, &inputs)])?.take(&self.ports.enlarged.name)?;
        let made = split(enlarged, 1)?.swap_remove(0);
        let wanted: Vec<usize> = picture[0]
            .shape()
            .iter()
            .enumerate()
            .map(|(axis, n)| if axis < 2 { *n } else { n * self.factor })
            .collect();
        if made.shape() == wanted { Ok(made) } else { Err(other_size(made.shape(), &wanted)) }
    }

    fn batch(&self, picture: &[Tensor]) -> usize {
        batch_size(&[&self.ports.picture, &self.ports.enlarged], picture)
    }

    /// Height and width of the tiles of a picture: its own where it is small enough, and what the graph is fixed at.
    fn window(&self, size: [usize; 2], most: usize) -> Result<[usize; 2]> {
        let fixed = [2, 3].map(|axis| self.ports.picture.fixed(axis));
        let window = [0, 1].map(|axis| fixed[axis].unwrap_or_else(|| fitted(size[axis], most, overlap(most))));
        if window[0] <= size[0] && window[1] <= size[1] {
            return Ok(window);
        }
        let [height, width] = size;
        let message =
            format!("the upscaler takes {}, the decoded picture is {width}x{height}", self.ports.picture.shape_text());
        Err(Error::new(ErrorKind::Mismatch, message).in_field(&self.ports.picture.name).in_file(self.runner.file()))
            .map_err(|error| error.advise("leave it out (--no-upscaler), or ask for a larger picture"))
    }

    /// What enlarging a picture of `size` in tiles of at most `tile` pixels would take.
    ///
    /// # Errors
    /// `Mismatch` when its graph is fixed at a larger picture; those of planning.
    pub fn plan(&mut self, size: Size, tile: usize) -> Result<Option<Footprint>> {
        let [height, width] = self.window([size.height, size.width], tile)?;
        let batch = self.batch(&[Tensor::new(&[1, 3, height, width], vec![0f32; 3 * height * width])?]);
        self.runner.plan(&[(self.ports.picture.name.clone(), vec![batch, 3, height, width])])
    }

    /// Whether a picture of `size` is enlarged in more than one tile, where they are at most `tile` pixels.
    ///
    /// # Errors
    /// As [`Upscaler::plan`].
    pub fn tiles(&self, size: Size, tile: usize) -> Result<bool> {
        let size = [size.height, size.width];
        Ok(self.window(size, tile)? != size)
    }
}

fn overlap(tile: usize) -> usize {
    OVERLAP.min(tile / 2)
}

fn mapped(tensor: Tensor, f: impl Fn(f32) -> f32) -> Result<Tensor> {
    let shape = tensor.shape().to_vec();
    let mut values = tensor.into_f32();
    values.iter_mut().for_each(|x| *x = f(*x));
    Tensor::new(&shape, values)
}

/// What the config says, else what the graph's ports say, else what the graph makes of a small picture.
fn factor(stage: &Stage, graph: &Graph, ports: &UpscalerPorts) -> Result<usize> {
    let length = |axis, open| ports.picture.fixed(axis).unwrap_or(open);
    let ratio = |small: usize, large: usize| (small > 0 && large.is_multiple_of(small)).then(|| large / small);
    let declared = || ratio(ports.picture.fixed(2)?, ports.enlarged.fixed(2)?);
    let inferred = || {
        let shape = vec![length(0, 1), 3, length(2, ASKED), length(3, ASKED)];
        let facts = graph.facts(std::slice::from_ref(&shape)).ok()?;
        ratio(shape[2], *facts.get(&ports.enlarged.name)?.shape.get(2)?)
    };
    let factor = stage.config.upscale.or_else(declared).or_else(inferred);
    factor.filter(|factor| UPSCALES.contains(factor)).ok_or_else(|| {
        let found = factor.map_or("it is not known how much the upscaler enlarges".into(), |found| {
            format!("the upscaler enlarges {found} times; {} to {} make sense", UPSCALES.start(), UPSCALES.end())
        });
        let file = stage.file.with_file_name("config.json");
        Error::new(ErrorKind::Mismatch, found).in_field("upscale").in_file(file)
    })
}

fn other_size(shape: &[usize], wanted: &[usize]) -> Error {
    let message = format!("the upscaler made {shape:?} where {wanted:?} was expected");
    Error::new(ErrorKind::Mismatch, message).advise("upscale in upscaler/config.json says how much it enlarges")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Backend, Threads, Weights};
    use crate::model::Model;
    use std::path::Path;

    /// The shipped one, whose pixels see 18 around them.
    #[test]
    fn tiles_are_not_seen() {
        let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64")).unwrap();
        let stage = model.stages().iter().find(|stage| stage.role == crate::model::Role::Upscaler).unwrap();
        let machine = Machine {
            backend: Backend::Cpu,
            weights: Weights::Stored,
            precision: None,
            threads: Threads::new(None).unwrap(),
            cache: None,
            low_memory: false,
            streamed: false,
            cancel: CancelToken::new(),
        };
        let mut upscaler = Upscaler::open(stage, &machine).unwrap();
        let size = Size { width: 100, height: 80 };
        assert_eq!(upscaler.enlarged(size), Size { width: 400, height: 320 });
        assert!(upscaler.tiles(size, 64).unwrap() && !upscaler.tiles(size, TILE).unwrap());
        // Discs with edges, as drawings have them.
        let picture = (0..3 * 80 * 100).map(|i| {
            let (c, y, x) = ((i / 8000) as f32, (i / 100 % 80) as f32 - 40.0, (i % 100) as f32 - 50.0);
            let ring = ((x * x + y * y).sqrt() / (6.0 + c)) as usize % 2;
            ring as f32 * 1.6 - 0.8
        });
        let picture = Tensor::new(&[1, 3, 80, 100], picture.collect::<Vec<_>>()).unwrap();
        let mut enlarged = |tile| upscaler.enlarge(&picture, tile, &machine.cancel).unwrap().into_f32();
        let (whole, tiled) = (enlarged(TILE), enlarged(64));
        let squares = whole.iter().zip(&tiled).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let psnr = 10.0 * (4.0 * whole.len() as f64 / squares).log10();
        println!("tiles of 64: {psnr:.1} dB");
        assert!((50.0..200.0).contains(&psnr), "{psnr:.1} dB");
    }
}
