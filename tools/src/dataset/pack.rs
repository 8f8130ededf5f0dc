//! The packed file: every drawing as 64x64 straight-alpha RGBA, with its style, concept, sampling weight and held-out flag, in one
//! [safetensors](https://docs.rs/safetensors) file that is mapped, not read.
//!
//! | tensor | type | shape | meaning |
//! |---|---|---|---|
//! | `rgba` | U8 | `[N, 64, 64, 4]` | row by row, red green blue alpha, alpha not multiplied in |
//! | `style` | U8 | `[N]` | index into the metadata entry `styles` |
//! | `concept` | U32 | `[N]` | index into the metadata entry `concepts` |
//! | `held_out` | U8 | `[N]` | 1: never trained on |
//! | `weight` | F32 | `[N]` | how often it is drawn, relative to the others |
//!
//! Metadata entries are strings: `format`, `styles` and `concepts` (JSON arrays in index order), `packages`, `counts` and `seed`.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

/// Width and height of a picture in pixels.
pub const SIDE: usize = 64;
/// Bytes of one picture.
pub const PICTURE_BYTES: usize = SIDE * SIDE * 4;
/// The metadata entry `format` of files that this module reads and writes.
pub const FORMAT: &str = "undiffuse-stickers-1";

/// What a drawing shows, whatever its style.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concept {
    /// The short name of CLDR in lower case, such as "red apple"; for a drawing that CLDR does not know, the name in its own set.
    pub name: String,
    /// Search words, as CLDR lists them.
    pub keywords: Vec<String>,
    /// Group of the Unicode emoji list, such as "food-drink"; empty if unknown.
    pub group: String,
    /// Subgroup of the Unicode emoji list, such as "food-fruit"; empty if unknown.
    pub subgroup: String,
}

/// One drawing on its way into a packed file.
#[derive(Clone, Debug, PartialEq)]
pub struct Sticker {
    /// [`PICTURE_BYTES`] bytes.
    pub rgba: Vec<u8>,
    /// Index into the list of styles.
    pub style: u8,
    /// Index into the list of concepts.
    pub concept: u32,
    /// Never trained on.
    pub held_out: bool,
    /// Relative sampling weight, finite and not negative.
    pub weight: f32,
}

/// Writes a packed file. The file appears whole or not at all: it is written beside `path` and renamed.
///
/// `notes` are further metadata entries; `format`, `styles` and `concepts` are written by this function.
///
/// # Errors
/// If `stickers` is empty, a sticker is inconsistent with the lists (see [`Stickers::open`]), or the file cannot be written.
pub fn write(
    path: &Path,
    styles: &[&str],
    concepts: &[Concept],
    stickers: &[Sticker],
    notes: &[(&str, String)],
) -> Result<()> {
    ensure!(!stickers.is_empty(), "{}: there is no picture to pack", path.display());
    let style: Vec<u8> = stickers.iter().map(|s| s.style).collect();
    let concept: Vec<u32> = stickers.iter().map(|s| s.concept).collect();
    let weight: Vec<f32> = stickers.iter().map(|s| s.weight).collect();
    check_indices(&style, styles.len(), &concept, concepts.len(), &weight)?;
    if let Some(i) = stickers.iter().position(|s| s.rgba.len() != PICTURE_BYTES) {
        bail!("picture {i} has {} bytes, not {PICTURE_BYTES}", stickers[i].rgba.len());
    }

    let mut metadata: HashMap<String, String> = notes.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    metadata.insert("format".to_owned(), FORMAT.to_owned());
    metadata.insert("styles".to_owned(), serde_json::to_string(styles)?);
    metadata.insert("concepts".to_owned(), serde_json::to_string(concepts)?);

    let n = stickers.len();
    let rgba: Vec<u8> = stickers.iter().flat_map(|s| &s.rgba).copied().collect();
    let held_out: Vec<u8> = stickers.iter().map(|s| u8::from(s.held_out)).collect();
    let concept: Vec<u8> = concept.iter().flat_map(|c| c.to_le_bytes()).collect();
    let weight: Vec<u8> = weight.iter().flat_map(|w| w.to_le_bytes()).collect();
    let tensors = [
        ("rgba", TensorView::new(Dtype::U8, vec![n, SIDE, SIDE, 4], &rgba)?),
        ("style", TensorView::new(Dtype::U8, vec![n], &style)?),
        ("concept", TensorView::new(Dtype::U32, vec![n], &concept)?),
        ("held_out", TensorView::new(Dtype::U8, vec![n], &held_out)?),
        ("weight", TensorView::new(Dtype::F32, vec![n], &weight)?),
    ];
    let temporary = beside(path)?;
    safetensors::serialize_to_file(tensors, Some(metadata), temporary.path())
        .with_context(|| format!("cannot write {}", path.display()))?;
    temporary.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// A temporary file in the folder of `path`, so that renaming it to `path` is atomic.
fn beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    tempfile::NamedTempFile::new_in(folder).with_context(|| format!("cannot write into {}", folder.display()))
}

/// A packed file, mapped and checked.
pub struct Stickers {
    map: Mmap,
    /// Where the pictures lie in `map`.
    rgba: Range<usize>,
    style: Vec<u8>,
    concept: Vec<u32>,
    held_out: Vec<bool>,
    weight: Vec<f32>,
    styles: Vec<String>,
    concepts: Vec<Concept>,
    metadata: HashMap<String, String>,
}

impl Stickers {
    /// Maps the file and checks all of it but the pixels.
    ///
    /// # Errors
    /// If the file cannot be read, is not of [`FORMAT`], lacks a tensor, has one of another type or shape, or holds an index out of
    /// range, a flag other than 0 and 1, or a weight that is negative or not finite. The message names file and tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::read(path).with_context(|| {
            format!("{} is not a packed sticker file; make one with `undiffuse-tools dataset`", path.display())
        })
    }

    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the file is made once, by rename, and not written again; who truncates it while it is mapped gets a SIGBUS.
        let map = unsafe { Mmap::map(&file)? };
        let (header, metadata) = SafeTensors::read_metadata(&map)?;
        let file = Parts { bytes: &map, start: header + 8, metadata: &metadata };
        file.check_format()?;

        let styles: Vec<String> = file.json("styles")?;
        let concepts: Vec<Concept> = file.json("concepts")?;
        let n = match file.info("rgba")?.shape[..] {
            [n, SIDE, SIDE, 4] => n,
            ref other => bail!("tensor `rgba` has shape {other:?}, not [N, {SIDE}, {SIDE}, 4]"),
        };
        ensure!(n > 0, "tensor `rgba` holds no picture");
        let rgba = file.range("rgba", Dtype::U8, &[n, SIDE, SIDE, 4])?;
        let style = file.tensor("style", Dtype::U8, &[n])?.to_vec();
        let concept = words(file.tensor("concept", Dtype::U32, &[n])?).map(u32::from_le_bytes).collect::<Vec<_>>();
        let held_out = flags(file.tensor("held_out", Dtype::U8, &[n])?)?;
        let weight = words(file.tensor("weight", Dtype::F32, &[n])?).map(f32::from_le_bytes).collect::<Vec<_>>();
        check_indices(&style, styles.len(), &concept, concepts.len(), &weight)?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        Ok(Self { map, rgba, style, concept, held_out, weight, styles, concepts, metadata })
    }

    /// How many pictures.
    pub fn len(&self) -> usize {
        self.style.len()
    }

    /// Never true: an empty file is not opened.
    pub fn is_empty(&self) -> bool {
        self.style.is_empty()
    }

    /// Picture `i`: [`PICTURE_BYTES`] bytes, straight alpha.
    pub fn rgba(&self, i: usize) -> &[u8] {
        &self.map[self.rgba.clone()][i * PICTURE_BYTES..(i + 1) * PICTURE_BYTES]
    }

    /// Index into [`Self::styles`] of picture `i`.
    pub fn style(&self, i: usize) -> usize {
        usize::from(self.style[i])
    }

    /// Index into [`Self::concepts`] of picture `i`.
    pub fn concept(&self, i: usize) -> usize {
        self.concept[i] as usize
    }

    /// Whether picture `i` must not be trained on.
    pub fn held_out(&self, i: usize) -> bool {
        self.held_out[i]
    }

    /// Sampling weight of picture `i`, relative to the others.
    pub fn weight(&self, i: usize) -> f32 {
        self.weight[i]
    }

    /// Style words in index order.
    pub fn styles(&self) -> &[String] {
        &self.styles
    }

    /// Concepts in index order.
    pub fn concepts(&self) -> &[Concept] {
        &self.concepts
    }

    /// A further metadata entry, such as `seed` or `packages`.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }
}

/// A mapped safetensors file, by name.
struct Parts<'a> {
    bytes: &'a [u8],
    /// Where the tensors begin.
    start: usize,
    metadata: &'a Metadata,
}

impl Parts<'_> {
    fn check_format(&self) -> Result<()> {
        let found = self.entry("format")?;
        ensure!(found == FORMAT, "its format is {found:?}, not {FORMAT:?}");
        Ok(())
    }

    fn entry(&self, key: &str) -> Result<&str> {
        let entries = self.metadata.metadata().as_ref();
        let entry = entries.and_then(|m| m.get(key));
        entry.map(String::as_str).with_context(|| format!("its metadata has no entry `{key}`"))
    }

    fn json<T: for<'d> Deserialize<'d>>(&self, key: &str) -> Result<T> {
        serde_json::from_str(self.entry(key)?).with_context(|| format!("its metadata entry `{key}` is malformed"))
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.metadata.info(name).with_context(|| format!("it has no tensor `{name}`"))
    }

    fn range(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Range<usize>> {
        let info = self.info(name)?;
        ensure!(info.dtype == dtype, "tensor `{name}` is of type {:?}, not {dtype:?}", info.dtype);
        ensure!(info.shape == shape, "tensor `{name}` has shape {:?}, not {shape:?}", info.shape);
        let range = self.start + info.data_offsets.0..self.start + info.data_offsets.1;
        ensure!(range.end <= self.bytes.len(), "tensor `{name}` runs over the end of the file: it is truncated");
        Ok(range)
    }

    fn tensor(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&[u8]> {
        Ok(&self.bytes[self.range(name, dtype, shape)?])
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]])
}

fn flags(bytes: &[u8]) -> Result<Vec<bool>> {
    match bytes.iter().position(|b| *b > 1) {
        Some(i) => bail!("picture {i} has the flag {} in tensor `held_out`, not 0 or 1", bytes[i]),
        None => Ok(bytes.iter().map(|b| *b == 1).collect()),
    }
}

fn check_indices(style: &[u8], styles: usize, concept: &[u32], concepts: usize, weight: &[f32]) -> Result<()> {
    if let Some(i) = style.iter().position(|s| usize::from(*s) >= styles) {
        bail!("picture {i} has style {}, but there are {styles} styles", style[i]);
    }
    if let Some(i) = concept.iter().position(|c| *c as usize >= concepts) {
        bail!("picture {i} has concept {}, but there are {concepts} concepts", concept[i]);
    }
    if let Some(i) = weight.iter().position(|w| !w.is_finite() || *w < 0.0) {
        bail!("picture {i} has weight {}: it must be finite and not negative", weight[i]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concepts() -> Vec<Concept> {
        let fox = Concept { name: "fox".into(), keywords: vec!["animal".into()], ..Concept::default() };
        let apple = Concept { name: "red apple".into(), group: "food-drink".into(), ..Concept::default() };
        vec![fox, apple]
    }

    fn sticker(style: u8, concept: u32, held_out: bool, weight: f32) -> Sticker {
        let rgba = (0..PICTURE_BYTES).map(|i| (i % 251) as u8 ^ style).collect();
        Sticker { rgba, style, concept, held_out, weight }
    }

    fn packed(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("stickers.safetensors");
        let stickers = [sticker(0, 1, false, 2.0), sticker(1, 0, true, 0.25), sticker(1, 1, false, 1.0)];
        write(&path, &["3d", "flat"], &concepts(), &stickers, &[("seed", "7".to_owned())]).unwrap();
        path
    }

    fn refusal(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        format!("{:#}", Stickers::open(file.path()).err().expect("the file was opened"))
    }

    /// The packed file with one text in its header replaced by another of the same length.
    fn edited(from: &str, to: &str) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(packed(folder.path())).unwrap();
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect("no such text in the header");
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    }

    #[test]
    fn round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let file = Stickers::open(packed(folder.path())).unwrap();
        assert_eq!((file.len(), file.is_empty()), (3, false));
        assert_eq!(file.styles(), ["3d", "flat"]);
        assert_eq!(file.concepts(), concepts());
        assert_eq!(file.note("seed"), Some("7"));
        let rows: Vec<_> = (0..3).map(|i| (file.style(i), file.concept(i), file.held_out(i), file.weight(i))).collect();
        assert_eq!(rows, [(0, 1, false, 2.0), (1, 0, true, 0.25), (1, 1, false, 1.0)]);
        assert_eq!(file.rgba(1), sticker(1, 0, true, 0.25).rgba);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file was left behind");
    }

    #[test]
    fn refuses_what_is_inconsistent() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |stickers: &[Sticker]| {
            let path = folder.path().join("no.safetensors");
            let error = write(&path, &["3d"], &concepts(), stickers, &[]).unwrap_err();
            assert!(!path.exists());
            format!("{error:#}")
        };
        assert!(refusal(&[]).contains("there is no picture"));
        assert!(refusal(&[sticker(1, 0, false, 1.0)]).contains("picture 0 has style 1, but there are 1 styles"));
        assert!(refusal(&[sticker(0, 2, false, 1.0)]).contains("picture 0 has concept 2, but there are 2 concepts"));
        assert!(refusal(&[sticker(0, 0, false, f32::NAN)]).contains("picture 0 has weight NaN"));
        let short = Sticker { rgba: vec![0; 5], ..sticker(0, 0, false, 1.0) };
        assert!(refusal(&[short]).contains("picture 0 has 5 bytes"));
    }

    #[test]
    fn refuses_what_is_no_packed_file() {
        let folder = tempfile::tempdir().unwrap();
        let whole = std::fs::read(packed(folder.path())).unwrap();
        let missing = Stickers::open(folder.path().join("nothing")).err().expect("opened a file that is not there");
        assert!(format!("{missing:#}").contains("nothing is not a packed sticker file; make one with"));
        for bytes in [&b""[..], b"garbage", &whole[..100], &whole[..whole.len() - 1]] {
            assert!(refusal(bytes).contains("is not a packed sticker file"));
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let cases = [
            ("undiffuse-stickers-1", "undiffuse-stickers-9", "its format is \"undiffuse-stickers-9\""),
            ("\"styles\"", "\"sturge\"", "its metadata has no entry `styles`"),
            ("[\\\"3d\\\",\\\"flat\\\"]", "[\\\"3d\\\",\\\"flat\\\";", "its metadata entry `styles` is malformed"),
            ("[\\\"3d\\\",\\\"flat\\\"]", "[\\\"3d_____flat\\\"]", "picture 1 has style 1, but there are 1 styles"),
            ("\"weight\"", "\"height\"", "it has no tensor `weight`"),
            ("\"dtype\":\"U32\"", "\"dtype\":\"F32\"", "tensor `concept` is of type F32, not U32"),
            ("[3,64,64,4]", "[3,64,32,8]", "tensor `rgba` has shape [3, 64, 32, 8]"),
        ];
        for (from, to, message) in cases {
            let found = refusal(&edited(from, to));
            assert!(found.contains(message), "{from} -> {to}: {found}");
        }
    }
}
