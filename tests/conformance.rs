//! ONNX's own node conformance data on every engine: a few cases stand in the repository and must pass, the whole set is fetched by
//! `tools/python/onnx_conformance.py` and gives the table `tests/CONFORMANCE.md`.

#[path = "conformance/case.rs"]
mod case;
#[path = "conformance/table.rs"]
mod table;

use case::Outcome;
use std::path::{Path, PathBuf};
use undiffuse::engine::{self, Backend, Threads};
use undiffuse::model::Graph;

/// Where the script puts the whole set, unless `UNDIFFUSE_CONFORMANCE` names another folder.
fn fetched() -> PathBuf {
    let folder = std::env::var_os("UNDIFFUSE_CONFORMANCE").map(PathBuf::from);
    folder.unwrap_or_else(|| root().join("target/onnx-conformance/node"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_committed_cases_pass_on_both_engines() {
    let cases = case::all(&root().join("tests/golden/onnx")).unwrap();
    assert!(cases.len() >= 30, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        for backend in [Backend::Cpu, Backend::Tract] {
            match case.outcome(backend) {
                Outcome::Passed => {}
                other => wrong.push(format!("{} on {backend}: {other:?}", case.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs a Vulkan device"]
fn the_committed_cases_pass_on_vulkan() {
    let cases = case::all(&root().join("tests/golden/onnx")).unwrap();
    let outcomes = cases.iter().map(|case| (&case.name, case.outcome(Backend::Vulkan)));
    let wrong: Vec<String> = outcomes
        .filter(|(_, outcome)| *outcome != Outcome::Passed)
        .map(|(name, outcome)| format!("{name}: {outcome:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs a Vulkan device; fetch the cases with tools/python/onnx_conformance.py first; tools/check.sh does"]
fn the_whole_set_gives_the_committed_table() {
    let folder = fetched();
    let cases = case::all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    // One device for all cases: it is closed when no engine holds it.
    let held = Graph::open(root().join("models/sticker-64/vae_decoder/model.onnx")).unwrap();
    let _device =
        engine::load(held, Backend::Vulkan, &Threads::new(None).unwrap()).unwrap_or_else(|error| panic!("{error}"));
    let run = table::Run::of(&cases);
    let file = root().join("tests/CONFORMANCE.md");
    if std::env::var_os("UNDIFFUSE_BLESS").is_some() {
        std::fs::write(&file, run.to_string()).unwrap();
    }
    assert!(run.failed().is_empty(), "{}", run.failed().join("\n"));
    let committed = std::fs::read_to_string(&file).unwrap();
    assert!(
        committed == run.to_string(),
        "{} is not what the run gives; write it with UNDIFFUSE_BLESS=1",
        file.display()
    );
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&run.summary()), "README.md does not say: {}", run.summary());
}
