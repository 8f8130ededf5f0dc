//! What `--backend auto` makes of every answer of a probe. All but one need a device, which is named, so they are `ignored`:
//! `UNDIFFUSE_DEVICE=llvmpipe cargo test --release --test auto -- --ignored --test-threads 1`.

#![cfg(all(feature = "vulkan", unix))]

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const STAGES: usize = 3;

/// A folder with a cache, and a program that stands in for the one that probes.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a folder"))
    }

    /// Devices are listed by the program itself, once; its verdicts go.
    fn listed() -> Place {
        let place = Place::new();
        place.picture(None);
        place.forget();
        place
    }

    fn forget(&self) {
        for file in self.files("verdict") {
            fs::remove_file(file).expect("a verdict goes");
        }
    }

    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path().join("cache")).expect("a cache");
        let files = entries.map(|entry| entry.expect("an entry").path());
        files.filter(|file| file.extension().is_some_and(|own| own == ending)).collect()
    }

    fn run(&self, arguments: &[&str], probe: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
        command.env("UNDIFFUSE_CACHE", self.0.path().join("cache")).args(arguments);
        if let Some(text) = probe {
            let script = self.0.path().join("probe.sh");
            fs::write(&script, format!("#!/bin/sh\ncat > /dev/null\n{text}\n")).expect("a script");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it may run");
            command.env("UNDIFFUSE_PROBE", script);
        }
        command.output().expect("the program starts")
    }

    /// What `--json` says of a picture's stages, and what stood on stderr. It is made whatever the probe does.
    fn picture(&self, probe: Option<&str>) -> (Vec<Value>, String) {
        self.picture_in(&["--precision", "f32"], probe)
    }

    fn picture_in(&self, precision: &[&str], probe: Option<&str>) -> (Vec<Value>, String) {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64").display().to_string();
        let out = self.0.path().join("picture.png").display().to_string();
        let arguments = ["generate", "a red apple", "--model", &model, "-o", &out, "--seed", "1", "--native", "--json"];
        let output = self.run(&[&arguments[..], precision].concat(), probe);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        assert_eq!(image::open(&out).expect("a PNG").to_rgb8().dimensions(), (64, 64));
        (report["stages"].as_array().expect("stages").clone(), said)
    }
}

fn each(stages: &[Value], engine: &str, why: &str) {
    assert_eq!(stages.len(), STAGES);
    for stage in stages {
        assert_eq!(stage["engine"], *engine, "{stage}");
        assert!(stage["why"].as_str().expect("a reason").contains(why), "{stage}");
    }
}

/// A probe that says `last` after ten runs of no time.
fn answer(last: &str) -> String {
    let runs = "echo '{\"ran\":0.000001}'\n".repeat(10);
    format!("echo '\"ready\"'\n{runs}echo '{last}'")
}

#[test]
#[ignore = "needs a Vulkan device"]
fn every_stage_is_measured_and_listed() {
    let place = Place::new();
    place.picture(None);
    assert_eq!((place.files("verdict").len(), place.files("devices").len()), (STAGES, 1));
    let (stages, said) = place.picture(Some("exit 1"));
    assert!(
        stages.iter().all(|stage| stage["why"].as_str().expect("a reason").starts_with("measured: ")),
        "{stages:?}"
    );
    assert_eq!(said, "", "verdicts are kept: nobody was asked again");
    let listed: Value = serde_json::from_slice(&place.run(&["devices", "--json"], None).stdout).expect("devices");
    let verdicts =
        listed.as_array().expect("devices").iter().map(|device| device["verdicts"].as_array().unwrap().len());
    assert_eq!(verdicts.sum::<usize>(), STAGES, "{listed}");
}

#[test]
#[ignore = "needs a Vulkan device"]
fn a_device_that_is_faster_and_right_is_taken() {
    let place = Place::listed();
    let faster = answer("{\"right\":0.000001}");
    let (first, _) = place.picture(Some(&faster));
    each(&first, "vulkan", "measured");
    let (second, said) = place.picture(Some("exit 1"));
    each(&second, "vulkan", "10 runs of the same bits");
    assert!(second.iter().all(|stage| stage["cpu_nodes"] == 0 && stage["dispatches"].as_u64() > Some(0)), "{second:?}");
    assert_eq!(said, "");
}

/// Every stage is measured in f32 and, as that is near the CPU's time, in f16.
#[test]
#[ignore = "needs a Vulkan device"]
fn halves_are_taken_where_they_are_right_and_faster() {
    let runs = |ms: &str, last: &str| {
        format!("echo '\"ready\"'\n{}echo '{last}'", format!("echo '{{\"ran\":{ms}}}'\n").repeat(10))
    };
    let right = "{\"right\":0.000001}";
    let f32 = runs("0.00002", right);
    for (f16, taken) in [
        (runs("0.00001", right), "f16"),
        (runs("0.00003", right), "f32"),
        (runs("0.00001", "{\"wrong\":\"y is far away\"}"), "f32"),
    ] {
        let place = Place::listed();
        let probe = format!(
            "count=\"$(dirname \"$0\")/count\"\necho >> \"$count\"\nif [ $(($(wc -l < \"$count\") % 2)) = 1 ]; then\n{f32}\nelse\n{f16}\nfi"
        );
        let (stages, said) = place.picture_in(&[], Some(&probe));
        each(&stages, "vulkan", "measured");
        assert!(stages.iter().all(|stage| stage["precision"] == taken), "{taken}: {stages:?}");
        assert_eq!((said.as_str(), place.files("verdict").len()), ("", 2 * STAGES));
    }
}

/// Halves move half as much: they are not tried on a device that is far slower.
#[test]
#[ignore = "needs a Vulkan device"]
fn halves_are_not_measured_on_a_slow_device() {
    let place = Place::listed();
    let slow = "echo '\"ready\"'\necho '{\"ran\":1e9}'\necho '{\"right\":0.0}'";
    let (stages, _) = place.picture_in(&[], Some(slow));
    each(&stages, "cpu", "measured");
    assert_eq!(place.files("verdict").len(), STAGES);
}

#[test]
#[ignore = "needs a Vulkan device"]
fn wrong_slow_and_failing_devices_are_not_taken() {
    let place = Place::listed();
    for (probe, why) in [
        (answer("{\"wrong\":\"y is far away\"}"), "wrong numbers on the device: y is far away"),
        (answer("{\"failed\":\"no memory\"}"), "it failed on the device: no memory"),
        ("exit 3".into(), "without an answer"),
        ("echo '\"ready\"'; exec sleep 100".into(), "not done on the device after"),
    ] {
        let (stages, said) = place.picture(Some(&probe));
        each(&stages, "cpu", why);
        assert_eq!((said.as_str(), place.files("verdict").len()), ("", STAGES));
        place.forget();
    }
}

#[test]
#[ignore = "needs a Vulkan device"]
fn three_drivers_that_died_in_a_probe_disable_the_device() {
    let place = Place::listed();
    let (stages, said) = place.picture(Some("kill -SEGV $$"));
    each(&stages, "cpu", "died (signal 11");
    assert_eq!((said.as_str(), place.files("verdict").len()), ("", 0));
    let (stages, _) = place.picture(Some(&answer("{\"right\":0.0}")));
    each(&stages, "cpu", "not tried again until its driver changes");
}

/// Naming no device where there is no GPU starts no probe, and lists nothing.
#[test]
fn a_machine_without_a_gpu_is_not_probed() {
    let has_gpu =
        ["dri", "nvidia0", "nvidiactl", "mali0", "dxg"].iter().any(|node| Path::new("/dev").join(node).exists());
    if has_gpu || std::env::var_os("UNDIFFUSE_DEVICE").is_some() || !cfg!(target_os = "linux") {
        return;
    }
    let place = Place::new();
    let (stages, _) = place.picture(Some("touch \"$(dirname \"$0\")\"/asked"));
    each(&stages, "cpu", "no GPU");
    assert!(!place.0.path().join("asked").exists() && place.files("devices").is_empty());
}
