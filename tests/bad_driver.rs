//! What becomes of a picture when the driver fails, one fault at a time, injected by a Vulkan layer of our own (`bad_driver/layer.rs`):
//! `UNDIFFUSE_DEVICE=llvmpipe cargo test --release --test bad_driver -- --ignored --test-threads 1`.
//!
//! Whether a stage is measured faster must not depend on the machine, so where `auto` is to use the device, a script stands in for the probe.

#![cfg(all(feature = "vulkan", unix))]

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

const STAGES: [&str; 3] = ["text_encoder", "unet", "vae_decoder"];
const LAYER: &str = "VK_LAYER_UNDIFFUSE_faulty";

/// The folder of the layer and its manifest.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad_driver");
    fs::create_dir_all(&folder).expect("a folder");
    let library = folder.join("layer.so");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "--crate-type", "cdylib", "-D", "warnings", "-o"]).arg(&library);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_driver/layer.rs"));
    assert!(command.status().expect("rustc starts").success(), "the layer does not compile");
    let manifest = serde_json::json!({
        "file_format_version": "1.1.2",
        "layer": {
            "name": LAYER, "type": "GLOBAL", "library_path": library, "api_version": "1.3.0",
            "implementation_version": "1", "description": "fails on demand",
        },
    });
    fs::write(folder.join("layer.json"), manifest.to_string()).expect("a manifest");
    folder
});

/// A folder with a cache, a picture, and a program that stands in for the one that probes.
struct Place(tempfile::TempDir);

/// What a run of the program left.
struct Made {
    said: String,
    code: Option<i32>,
    /// The PNG's pixels, where one was written.
    picture: Option<image::RgbImage>,
    stages: Vec<Value>,
}

impl Made {
    /// `auto` promises a picture whatever the driver does: the CPU's byte for byte, or, where a stage was the device's before it failed, but for
    /// rounding.
    fn is_the_cpus(&self, fault: &str) {
        assert_eq!(self.code, Some(0), "{fault}: {}", self.said);
        assert!(!self.said.contains("panicked"), "{fault}: {}", self.said);
        let [Some(picture), Some(wanted)] = [&self.picture, &*CPU] else { panic!("{fault}: no picture") };
        let apart = picture.as_raw().iter().zip(wanted.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        let most = u8::from(self.stages.iter().any(|stage| stage["engine"] == "vulkan"));
        assert!(apart <= Some(most), "{fault}: bytes are {apart:?} off, {most} is allowed");
    }

    fn why(&self, stage: usize) -> &str {
        self.stages[stage]["why"].as_str().expect("a reason")
    }
}

static CPU: LazyLock<Option<image::RgbImage>> = LazyLock::new(|| {
    let picture = Place::new().made("cpu", "", None).picture;
    assert!(picture.is_some());
    picture
});

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Calls of `what` that the last run made.
    fn calls(&self, what: &str) -> usize {
        let calls = fs::read_to_string(self.path("calls")).expect("the layer was loaded");
        calls.lines().filter(|call| *call == what).count()
    }

    /// Of each stage that compiled shaders in the last run, the last of these: whatever a stage begins with, its outputs hang on its end.
    fn last_shaders(&self) -> Vec<usize> {
        let calls = fs::read_to_string(self.path("calls")).expect("the layer was loaded");
        // A stage uploads its weights, compiles its shaders, and is run.
        let of_stages = calls.split("submit\n").map(|calls| calls.lines().filter(|call| *call == "shader").count());
        let up_to = of_stages.filter(|count| *count > 0).scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        up_to.collect()
    }

    fn made(&self, backend: &str, fault: &str, probe: Option<&str>) -> Made {
        self.made_in(&["--precision", "f32"], backend, fault, probe)
    }

    fn made_in(&self, precision: &[&str], backend: &str, fault: &str, probe: Option<&str>) -> Made {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64");
        let out = self.path("picture.png");
        for left in [&out, &self.path("calls")] {
            let _ = fs::remove_file(left);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
        command.args(["generate", "a red apple", "--seed", "1", "--native", "--json", "--steps", "2"]);
        command.args(precision).args(["--backend", backend, "--model"]).arg(model).arg("-o").arg(&out);
        command.env("UNDIFFUSE_CACHE", self.path("cache")).env("FAULTY", fault).env("FAULTY_CALLS", self.path("calls"));
        // A layer that lies about its driver breaks rules on purpose.
        command.env_remove("UNDIFFUSE_VULKAN_VALIDATION");
        command.env("VK_LAYER_PATH", &*FOLDER).env("VK_INSTANCE_LAYERS", LAYER);
        if let Some(text) = probe {
            let script = self.path("probe.sh");
            fs::write(&script, format!("#!/bin/sh\ncat > /dev/null\n{text}\n")).expect("a script");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it may run");
            command.env("UNDIFFUSE_PROBE", script);
        }
        let Output { status, stdout, stderr } = command.output().expect("the program starts");
        let report: Value = serde_json::from_slice(&stdout).unwrap_or_default();
        Made {
            said: String::from_utf8_lossy(&stderr).into_owned(),
            code: status.code(),
            picture: image::open(&out).ok().map(|picture| picture.to_rgb8()),
            stages: report["stages"].as_array().cloned().unwrap_or_default(),
        }
    }

    /// Devices are listed, and a probe that is a script finds every stage faster and right.
    fn believed() -> Place {
        let place = Place::new();
        place.made("auto", "", None);
        for entry in fs::read_dir(place.path("cache")).expect("a cache").flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "verdict") {
                fs::remove_file(entry.path()).expect("a verdict goes");
            }
        }
        place
    }
}

/// Ten runs of no time, and right.
fn faster() -> String {
    let runs = "echo '{\"ran\":0.000001}'\n".repeat(10);
    format!("echo '\"ready\"'\n{runs}echo '{{\"right\":0.000001}}'")
}

/// The first, the middle and the last call of a kind that a run makes; a small model takes its memory at once.
fn some(calls: usize) -> BTreeSet<usize> {
    assert!(calls > 0, "no call");
    [1, calls.div_ceil(2), calls].into()
}

#[test]
#[ignore = "needs a Vulkan device"]
fn vulkan_says_which_stage_failed_and_how() {
    let place = Place::new();
    // The first start tests the device, and plays more than those after it.
    for _ in 0..2 {
        let right = place.made("vulkan", "", None);
        right.is_the_cpus("no fault");
        assert!(
            right.said.is_empty() && right.stages.iter().all(|stage| stage["engine"] == "vulkan"),
            "{}",
            right.said
        );
    }
    let calls = ["allocate", "submit", "pipeline"].map(|what| (what, place.calls(what)));
    let words = ["bytes on the device", "submit to the device", "cannot make a pipeline"];
    for ((what, calls), words) in calls.into_iter().zip(words) {
        for number in some(calls) {
            let fault = format!("{what} {number}");
            let made = place.made("vulkan", &fault, None);
            let said = &made.said;
            assert!(made.code == Some(1) && made.picture.is_none(), "{fault}: {said}");
            assert!(said.starts_with("error: ") && said.lines().count() == 1, "{fault}: {said}");
            assert!(said.contains(words) && STAGES.iter().any(|stage| said.contains(stage)), "{fault}: {said}");
        }
    }
}

#[test]
#[ignore = "needs a Vulkan device"]
fn vulkan_with_wrong_numbers_makes_no_picture() {
    let place = Place::new();
    place.made("vulkan", "", None);
    let shaders = place.last_shaders();
    assert_eq!(shaders.len(), STAGES.len());
    for (number, stage) in shaders.into_iter().zip(STAGES) {
        let place = Place::new();
        for start in ["first", "second, which knows"] {
            let fault = format!("shader {number}");
            let made = place.made("vulkan", if start == "first" { &fault } else { "" }, None);
            let said = &made.said;
            assert!(made.code == Some(1) && made.picture.is_none(), "{fault}, {start}: {said}");
            assert!(
                said.contains("gives wrong numbers: in f32 ") && said.contains("from the CPU's"),
                "{fault}: {said}"
            );
            assert!(said.lines().count() == 1 && said.contains(stage), "{fault} of {stage}: {said}");
        }
    }
}

/// Where nothing is asked for, a stage whose halves are wrong is computed in f32, on this start and on those after it.
#[test]
#[ignore = "needs a Vulkan device"]
fn vulkan_does_not_take_halves_that_are_wrong() {
    let place = Place::new();
    place.made_in(&[], "vulkan", "", None);
    let fault = format!("shader {}", place.last_shaders()[0]);
    let place = Place::new();
    for fault in [&fault, ""] {
        let made = place.made_in(&[], "vulkan", fault, None);
        assert!((made.code, made.said.as_str()) == (Some(0), "") && made.picture.is_some(), "{}", made.said);
        let precisions: Vec<&Value> = made.stages.iter().map(|stage| &stage["precision"]).collect();
        assert!(precisions[0] == "f32" && precisions.iter().any(|precision| *precision == "f16"), "{precisions:?}");
        assert!(made.why(0).contains("runs gave the same bits"), "{:?}", made.stages);
    }
}

/// Where the probe sees the fault, nothing fell: the device is not taken.
#[test]
#[ignore = "needs a Vulkan device"]
fn auto_does_not_take_a_device_that_fails_its_probe() {
    for (fault, why) in [
        ("allocate 1", "bytes on the device"),
        ("submit 1", "submit to the device"),
        ("pipeline 1", "cannot make a pipeline"),
        // A machine on which the first run takes very long does not see the numbers.
        ("shader 1", ""),
    ] {
        let made = Place::new().made("auto", fault, None);
        made.is_the_cpus(fault);
        assert_eq!(made.said, "", "{fault}");
        for (stage, account) in made.stages.iter().enumerate() {
            assert!(account["engine"] == "cpu" && made.why(stage).contains(why), "{fault}: {account}");
        }
    }
}

#[test]
#[ignore = "needs a Vulkan device"]
fn three_drivers_that_abort_disable_the_device() {
    let place = Place::new();
    let made = place.made("auto", "abort 1", None);
    made.is_the_cpus("abort");
    assert_eq!(made.said, "");
    let whys = [0, 1, 2].map(|stage| made.why(stage).to_owned());
    assert!(whys.iter().all(|why| why.contains("died (signal 6")), "{whys:?}");
    assert!(whys[2].contains("3 so far"), "{whys:?}");
    let later = place.made("auto", "", Some(&faster()));
    later.is_the_cpus("after three deaths");
    assert!(
        (0..3).all(|stage| later.why(stage).contains("not tried again until its driver changes")),
        "{:?}",
        later.stages
    );
}

/// The probe passed, and then the device fails: in the first stage, in the midst of the steps, at the end.
#[test]
#[ignore = "needs a Vulkan device"]
fn auto_warns_once_and_finishes_on_the_cpu() {
    let place = Place::believed();
    let first = place.made("auto", "", Some(&faster()));
    assert!(first.said.is_empty() && first.stages.iter().all(|stage| stage["engine"] == "vulkan"), "{}", first.said);
    // Verdicts are kept: from now on every run is the device's.
    let right = place.made("auto", "", Some("exit 1"));
    right.is_the_cpus("no fault");
    let calls = ["allocate", "submit", "pipeline"].map(|what| (what, place.calls(what)));
    for (what, calls) in calls {
        for number in some(calls) {
            let fault = format!("{what} {number}");
            let made = place.made("auto", &fault, Some("exit 1"));
            made.is_the_cpus(&fault);
            assert_eq!(made.said.matches("Vulkan failed, the CPU goes on").count(), 1, "{fault}: {}", made.said);
            assert_eq!(made.said.lines().count(), 1, "{fault}: {}", made.said);
            let fell: Vec<&Value> = made.stages.iter().filter(|stage| !stage["fell"].is_null()).collect();
            assert!(fell.len() == 1 && fell[0]["engine"] == "cpu", "{fault}: {fell:?}");
            assert_eq!(made.stages[2]["engine"], "cpu", "{fault}: a device that failed is not used again");
        }
    }
}
