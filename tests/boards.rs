//! Plans under the limits of every board, made and checked without a device.

#![cfg(all(feature = "cli", feature = "vulkan"))]

#[path = "boards/cost.rs"]
mod cost;
#[path = "boards/spirv.rs"]
mod spirv;
mod support;

use rspirv::spirv::Capability;
use serde_json::Value;
use spirv::Demands;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use undiffuse::board::Board;
use undiffuse::engine::{Limits, Precision, VulkanPlanned, plan_vulkan};
use undiffuse::error::ErrorKind;
use undiffuse::model::{Graph, Port};

const STICKER: &str = "models/sticker-64";
/// Pipelines of a stage: a Pi takes tens of milliseconds for each.
const PIPELINES: usize = 64;
/// Of the operations of products, in tiles.
const TILED: f64 = 0.95;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All stages of the small pipelines and of the shipped model.
fn graphs() -> Vec<PathBuf> {
    let pipelines = std::fs::read_dir(root().join("tests/golden/pipelines")).expect("the fixtures");
    let mut folders: Vec<PathBuf> = pipelines.map(|entry| entry.expect("a fixture").path()).collect();
    folders.extend([root().join(STICKER), root().join("tests/golden/upscaler")]);
    folders.sort();
    let stages = ["text_encoder", "unet", "transformer", "vae_decoder", "vae_encoder", "upscaler"];
    let files = folders.iter().flat_map(|folder| stages.map(|stage| folder.join(stage).join("model.onnx")));
    files.filter(|file| file.exists()).collect()
}

/// Shapes for a graph: what the file leaves open is 2 pictures of 16x16, or 7 words.
fn shapes(graph: &Graph) -> Vec<Vec<usize>> {
    let open = |port: &Port, axis: usize| match (axis, port.rank()) {
        (0, _) => 2,
        (1, Some(4)) => 4,
        (_, Some(4)) => 16,
        _ => 7,
    };
    let of = |port: &Port| {
        (0..port.rank().unwrap_or(0)).map(|axis| port.fixed(axis).unwrap_or_else(|| open(port, axis))).collect()
    };
    graph.inputs().iter().map(of).collect()
}

fn plan(graph: &Graph, limits: &Limits) -> undiffuse::Result<VulkanPlanned> {
    plan_in(graph, limits, Precision::F32)
}

fn plan_in(graph: &Graph, limits: &Limits, precision: Precision) -> undiffuse::Result<VulkanPlanned> {
    let shapes = shapes(graph);
    let named: Vec<_> = graph.inputs().iter().zip(&shapes).map(|(port, shape)| (&*port.name, &**shape)).collect();
    plan_vulkan(graph, &named, limits, precision)
}

/// What SPIR-V asks for, read once for each module.
#[derive(Default)]
struct Seen(HashMap<Vec<u32>, Demands>);

impl Seen {
    /// Fails where `planned` breaks `limits`.
    fn check(&mut self, planned: &VulkanPlanned, limits: &Limits, what: &str) {
        let VulkanPlanned { pipelines, dispatches, flops, tiled_flops, .. } = planned;
        assert!(pipelines.len() <= PIPELINES, "{what}: {} pipelines", pipelines.len());
        let tiled = *tiled_flops as f64;
        assert!(tiled >= TILED * *flops as f64, "{what}: {tiled} of {flops} operations in tiles");
        for pipeline in pipelines {
            let demands = self.0.entry(pipeline.words.clone()).or_insert_with(|| Demands::of(&pipeline.words));
            let what = format!("{what}: {} {}: {demands:?}", pipeline.shader, pipeline.variant);
            assert_eq!(demands.capabilities, [Capability::Shader], "{what}");
            assert_eq!(demands.extensions, 0, "{what}");
            assert!(demands.shared <= limits.shared, "{what}");
            assert!(demands.size.iter().product::<u32>() <= limits.invocations, "{what}");
            assert!(demands.size.iter().zip(limits.size).all(|(own, most)| *own <= most), "{what}");
            assert!(demands.buffers <= limits.buffers as usize && demands.push <= limits.push, "{what}");
        }
        for dispatch in dispatches {
            assert!(dispatch.groups.iter().zip(limits.groups).all(|(own, most)| *own <= most), "{what}: {dispatch:?}");
            assert!(dispatch.buffers <= limits.buffers as usize && dispatch.push <= limits.push as usize, "{what}");
        }
    }
}

#[test]
fn plans_keep_within_every_board() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = graphs();
    assert!(files.len() > 20, "{files:?}");
    files.push(support::turbo::write(folder.path()));
    let mut seen = Seen::default();
    for file in files {
        let graph = Graph::open(&file).expect("a graph");
        for name in Board::names() {
            let limits = Board::open(name).expect("a board").vulkan.limits();
            let what = format!("{} on {name}", file.display());
            let [full, halved] = Precision::ALL.map(|precision| {
                let what = format!("{what} in {}", precision.name());
                let planned = plan_in(&graph, &limits, precision).unwrap_or_else(|error| panic!("{what}: {error}"));
                seen.check(&planned, &limits, &what);
                planned
            });
            assert!(halved.memory.arena <= full.memory.arena && halved.memory.weights <= full.memory.weights, "{what}");
        }
    }
    let largest = |of: fn(&Demands) -> u32| seen.0.values().map(of).max().unwrap_or_default();
    assert!(seen.0.len() > 50, "{} modules", seen.0.len());
    // That nothing comes near would be a reader that reads nothing.
    assert!(largest(|demands| demands.shared) > 8_192 && largest(|demands| demands.size[0]) == 256);
}

#[test]
fn the_shape_is_sd_turbos() {
    let folder = tempfile::tempdir().expect("a folder");
    let graph = Graph::open(support::turbo::write(folder.path())).expect("a graph");
    let parameters = graph.summary().parameters;
    assert!((865_000_000..867_000_000).contains(&parameters), "{parameters}");
    let [planned, fused] = [Limits::PROMISED, Limits::LEAST].map(|limits| plan(&graph, &limits).expect("a plan"));
    // Steps that are split need little more room.
    assert!(planned.memory.arena < fused.memory.arena * 5 / 4, "{:?} {:?}", planned.memory, fused.memory);
    let halved = plan_in(&graph, &Limits::LEAST, Precision::F16).expect("a plan");
    assert!(halved.memory.arena * 10 < fused.memory.arena * 6, "{:?} {:?}", halved.memory, fused.memory);
    let steps = |name: &str| planned.steps.get(name).copied().unwrap_or_default();
    assert_eq!((steps("Attention"), steps("Gated"), steps("Conv")), (32, 16, 66), "{:?}", planned.steps);
}

#[test]
fn limits_that_hold_nothing_are_errors() {
    let graph = Graph::open(root().join(STICKER).join("unet/model.onnx")).expect("a graph");
    let least = Limits::PROMISED;
    for (limits, why) in [
        (Limits { shared: 64, ..least }, "maxComputeSharedMemorySize"),
        (Limits { invocations: 8, ..least }, "maxComputeWorkGroupInvocations"),
        (Limits { size: [1, 1, 1], ..least }, "maxComputeWorkGroupSize"),
        (Limits { groups: [1, 1, 1], ..least }, "more than a dispatch takes"),
        (Limits { range: 256, ..least }, "the device binds 256"),
        (Limits { push: 4, ..least }, "pushes"),
        (Limits { buffers: 1, ..least }, "binds"),
    ] {
        let error = plan(&graph, &limits).expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(why) && !error.to_string().contains("panicked"), "{error}");
    }
}

fn undiffuse(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    command.env_remove("UNDIFFUSE_DEVICE").current_dir(root()).args(arguments).output().expect("the program starts")
}

#[test]
fn inspect_plans_for_a_board_without_a_device() {
    let arguments = ["inspect", STICKER, "--plan", "--backend", "vulkan", "--board", "raspberry-pi-5"];
    let output = undiffuse(&[&arguments[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for stage in report["stages"].as_array().expect("stages") {
        let plan = &stage["plan"];
        let (pipelines, dispatches) = (plan["pipelines"].as_array().unwrap(), plan["dispatches"].as_array().unwrap());
        assert_eq!(plan["board"], "Raspberry Pi 5 (V3D 7.1)");
        assert!(plan["limits"]["invocations"] == 256 && plan["peak_bytes"].as_u64() > Some(0), "{plan}");
        let launched: u64 = pipelines.iter().map(|pipeline| pipeline["dispatches"].as_u64().unwrap()).sum();
        assert!(launched as usize == dispatches.len() && dispatches[0]["waits"] == true, "{plan}");
    }
    let text = String::from_utf8(undiffuse(&arguments).stdout).expect("text");
    assert!(text.contains("for        Raspberry Pi 5 (V3D 7.1)") && text.contains(" % of them in tiles"), "{text}");
}

#[test]
fn a_board_that_is_none_is_an_error_that_names_file_and_field() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tiny.toml");
    let text = "name = \"tiny\"\n[vulkan]\nsource = \"none\"\nmaxComputeSharedMemorySize = 64\n";
    std::fs::write(&file, text).expect("a file");
    let file = file.display().to_string();
    for (board, why) in [
        (&*file, "tiny.toml: `vulkan.maxComputeSharedMemorySize`: 64 is under 16384"),
        ("commodore-64", "name a file, or one of generic, "),
    ] {
        let output = undiffuse(&["inspect", STICKER, "--plan", "--backend", "vulkan", "--board", board]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "{said}");
    }
}

/// Bytes changed, left out and doubled, always the same ones.
#[test]
fn broken_boards_are_errors_or_keep_the_promise() {
    let (mut refused, mut taken) = (0, 0);
    for (index, name) in Board::names().enumerate() {
        let text = std::fs::read(root().join("boards").join(name).with_extension("toml")).expect("a board");
        for draw in support::numbers(index as u64, 1200).chunks(3) {
            let mut text = text.clone();
            let at = ((draw[0] + 1.0) / 2.0 * text.len() as f32) as usize % text.len();
            match (draw[1] * 3.0) as i32 {
                0 => text[at] = b' ' + ((draw[2] + 1.0) * 47.0) as u8,
                1 | 2 => drop(text.drain(at..(at + 12).min(text.len()))),
                _ => text.insert(at, text[at]),
            }
            let Ok(text) = String::from_utf8(text) else { continue };
            match Board::parse(&text, Path::new("b.toml")) {
                Ok(board) => {
                    let (own, least) = (board.vulkan.limits(), Limits::PROMISED);
                    assert!(own.both(least) == least, "{own:?}: {text}");
                    taken += 1;
                }
                Err(error) => {
                    assert!(error.to_string().starts_with("b.toml: "), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 200 && taken > 200, "{refused} refused, {taken} taken");
}

/// `boards/COST.md` is what the plans and the boards' files give.
#[test]
fn the_cost_table_is_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = [
        ("sticker-64, denoiser, 16x16 latents", root().join(STICKER).join("unet/model.onnx")),
        ("SD-Turbo's shape, 64x64 latents, weights f16", support::turbo::write(folder.path())),
    ];
    let table = cost::table(&models.map(|(name, file)| (name, Graph::open(file).expect("a graph"))));
    let file = root().join("boards/COST.md");
    if std::env::var_os("UNDIFFUSE_BLESS").is_some() {
        std::fs::write(&file, &table).expect("a file");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == table, "{} is not what the plans give; write it with UNDIFFUSE_BLESS=1", file.display());
}
