//! A pipeline of the fixtures with an upscaler laid over it.

use super::Axis::{Fixed, Named};
use super::{Builder, floats, int, numbers};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tract_onnx::pb::tensor_proto::DataType;

/// A model directory that is gone when it is dropped: `tiny-vae`, whose pictures of 64x64 are shown at 128x128, and an upscaler.
pub struct Upscaled {
    folder: TempDir,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A file beside the golden upscaler.
pub fn beside(file: &str) -> PathBuf {
    golden().join("upscaler").join(file)
}

impl Upscaled {
    /// With the upscaler of `tests/golden/upscaler`, which makes a picture twice as large.
    pub fn new() -> Self {
        let upscaled = Self { folder: tempfile::tempdir().unwrap() };
        copy(&golden().join("pipelines/tiny-vae"), upscaled.root());
        copy(&beside("upscaler"), &upscaled.root().join("upscaler"));
        upscaled.show_at(128);
        upscaled
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Shows pictures of the model's own size with sides of `side`.
    pub fn show_at(&self, side: usize) {
        let text = format!(r#"{{"display_size": {side}}}"#);
        std::fs::write(self.root().join("undiffuse.json"), text).unwrap();
    }

    /// Puts another graph in the upscaler's place, with this `config.json`, or none.
    pub fn replace(&self, graph: &Builder, config: Option<&str>) {
        graph.save(self.root().join("upscaler/model.onnx"));
        let file = self.root().join("upscaler/config.json");
        match config {
            Some(text) => std::fs::write(file, text).unwrap(),
            None => drop(std::fs::remove_file(file)),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// An upscaler, twice, of two convolutions of 1x1 over `width` channels and, where `deep`, one of `width`² weights between them; it repeats the picture.
pub fn wide(width: i64, deep: bool) -> Builder {
    let picture = [Named("batch"), Fixed(3), Named("height"), Named("width")];
    // To the channels and back: 3, then 12, is three times the identity.
    let into: Vec<f32> = (0..width * 3).map(|i| f32::from(u8::from(i / 3 == i % 3))).collect();
    let back: Vec<f32> = (0..12 * width).map(|i| f32::from(u8::from(i / width / 4 == i % width))).collect();
    let builder = Builder::new(17)
        .input("sample", DataType::Float, &picture)
        .weight(floats("into", &[width, 3, 1, 1], &into))
        .weight(floats("back", &[12, width, 1, 1], &back))
        .node("Conv", &["sample", "into"], "wide");
    let (builder, last) = if deep {
        let noise = numbers(5, (width * width) as usize).into_iter().map(|x| x * 1e-5).collect::<Vec<_>>();
        let builder = builder.weight(floats("mixed", &[width, width, 1, 1], &noise));
        (builder.node("Conv", &["wide", "mixed"], "noise").node("Add", &["wide", "noise"], "deep"), "deep")
    } else {
        (builder, "wide")
    };
    builder
        .node("Conv", &[last, "back"], "narrow")
        .node_with("DepthToSpace", &["narrow"], "out_sample", vec![int("blocksize", 2), mode("CRD")])
        .output("out_sample", DataType::Float, &[Named("batch"), Fixed(3), Named("rows"), Named("columns")])
}

fn mode(text: &str) -> tract_onnx::pb::AttributeProto {
    use tract_onnx::pb::{AttributeProto, attribute_proto::AttributeType};
    AttributeProto { name: "mode".into(), r#type: AttributeType::String as i32, s: text.into(), ..Default::default() }
}
