//! Cards of small made-up directories, and those in this repository.

use super::*;
use crate::net::onnx::proto::{FLOAT16, Graph, Model, Tensor};
use crate::net::onnx::write_model;
use crate::record::files::{graphs, sha256};
use crate::record::{Record, Records};
use crate::table::Table;
use serde_json::json;

const PROSE_OF_IT: &str = "{%- set draws = \"dots\" -%}\n# {{ name }}\n\n{{ parameters }} parameters, {{ figure(\"evaluate-cells\", \"top5\") }}.\n\n{{ rest() }}\n{{ stages() }}\n{{ files() }}";

/// A model whose only graph has six parameters.
fn model(folder: &Path) -> PathBuf {
    let dots = folder.join("dots");
    fs::create_dir_all(dots.join("unet")).unwrap();
    fs::write(dots.join("model_index.json"), "{}").unwrap();
    let weight = Tensor { dims: vec![2, 3], data_type: FLOAT16, name: "w".into(), raw_data: vec![0; 12] };
    let graph = Graph { initializer: vec![weight], ..Graph::default() };
    write_model(&Model { graph: Some(graph), ..Model::default() }, &dots.join("unet/model.onnx")).unwrap();
    let mut trained =
        Record { stage: "train denoiser".into(), command: "train denoiser --out a".into(), ..Record::default() };
    trained = trained.setting("batch", 32).setting("seed", 1).figure("steps", 1500).figure("loss", 0.25);
    (trained.seconds, trained.notes) = (Some(90.0), vec!["In one part".into()]);
    let exported = Record { stage: "export".into(), outputs: graphs(&dots).unwrap(), ..Record::default() };
    let mut cells =
        Record { stage: "evaluate cells".into(), command: "evaluate --what cells".into(), ..Record::default() };
    cells = cells.setting("seeds", [0]).figure("top5", json!({ "percent": 50.0, "low": 23.7, "high": 76.3 }));
    (cells.title, cells.table) = ("Cells".into(), Table::new(["cells", "n"]).row(["trained", "10"]));
    cells.inputs = graphs(&dots).unwrap();
    cells.inputs.insert("data.safetensors".into(), "0123456789abcdef0123".into());
    let mut records = Records::default();
    [trained, exported].into_iter().for_each(|record| records.add(record));
    records.put("evaluate-cells", cells);
    records.write(&dots).unwrap();
    fs::write(dots.join(PROSE), PROSE_OF_IT).unwrap();
    dots
}

fn card(models: &[&Path], all: Option<&Path>, check: bool) -> Result<()> {
    let models = models.iter().map(|path| path.to_path_buf()).collect();
    run(&Args { models, all: all.map(Path::to_owned), check })
}

fn refused(dots: &Path, prose: &str) -> String {
    fs::write(dots.join(PROSE), prose).unwrap();
    format!("{:#}", card(&[dots], None, false).unwrap_err())
}

#[test]
fn a_card_is_made_of_records_files_and_sentences() {
    let folder = tempfile::tempdir().unwrap();
    let dots = model(folder.path());
    card(&[], Some(folder.path()), false).unwrap();
    let hash = |file: &str| sha256(&dots.join(file)).unwrap()[..16].to_owned();
    let bytes = fs::metadata(dots.join("unet/model.onnx")).unwrap().len();
    let kilobytes = |bytes: u64| format!("{:.1} kB", bytes as f64 / 1e3);
    let want = format!(
        "# dots\n\n6 parameters, 50.0 % (23.7 to 76.3).\n\n\
         **Cells**\n\n| cells | n |\n|---|---|\n| trained | 10 |\n\n\
         Measured on this directory's files; `undiffuse-tools evaluate --what cells`; seed 0; data.safetensors `0123456789abcdef`.\n\n\
         | stage | parameters | trained | took | result |\n|---|---|---|---|---|\n\
         | `train denoiser` |  | 1,500 steps of 32, seed 1 | 90 s | loss 0.25. In one part |\n| `export` |  |  |  |  |\n\n\
         The commands, with files' names without their folders:\n\n```\nundiffuse-tools train denoiser --out a\n```\n\n\
         | file | size | parameters | SHA-256 |\n|---|---|---|---|\n\
         | `model_index.json` | 0.0 kB |  | `{}…` |\n| `unet/model.onnx` | {} | 6 | `{}…` |\n| all | {} | 6 |  |\n",
        hash("model_index.json"),
        kilobytes(bytes),
        hash("unet/model.onnx"),
        kilobytes(bytes + 2),
    );
    let got = fs::read_to_string(dots.join(CARD)).unwrap();
    assert_eq!(got, want);
    let index = fs::read_to_string(folder.path().join(CARD)).unwrap();
    assert!(index.contains(&format!("| [dots](dots/README.md) | dots | 6 | {} |\n", kilobytes(bytes + 2))), "{index}");
    check_all(folder.path()).unwrap();
}

#[test]
fn a_card_that_was_written_by_hand_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let dots = model(folder.path());
    card(&[], Some(folder.path()), false).unwrap();
    let path = dots.join(CARD);
    let edited = fs::read_to_string(&path).unwrap().replace("50.0 %", "90.0 %");
    fs::write(&path, edited).unwrap();
    let error = check_all(folder.path()).unwrap_err().to_string();
    assert!(error.contains("dots/README.md") && !error.contains("index"), "{error}");
    assert!(fs::read_to_string(&path).unwrap().contains("90.0 %"), "--check writes nothing");
    card(&[&dots], None, false).unwrap();
    check_all(folder.path()).unwrap();
}

#[test]
fn figures_of_other_weights_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let dots = model(folder.path());
    let before = sha256(&dots.join("unet/model.onnx")).unwrap();
    let mut other = crate::net::onnx::read_model(&dots.join("unet/model.onnx")).unwrap();
    other.graph.as_mut().unwrap().initializer[0].raw_data[0] = 1;
    write_model(&other, &dots.join("unet/model.onnx")).unwrap();
    card(&[&dots], None, false).unwrap();
    let text = fs::read_to_string(dots.join(CARD)).unwrap();
    assert!(text.contains(&format!("**Measured on other weights: unet/model.onnx `{}`**", &before[..16])), "{text}");
    assert!(text.contains("50.0 % (23.7 to 76.3) (of other weights)"), "{text}");
    assert!(text.contains("**Not written by any stage on record:** unet/model.onnx."), "{text}");
}

#[test]
fn what_a_placeholder_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dots = model(folder.path());
    let said = "{% set draws = \"dots\" %}";
    for (prose, named) in [
        (format!("{said}{{{{ measured(\"kid\") }}}}"), "evaluate-kid"),
        (format!("{said}{{{{ rest() }}}}\n{{{{ figure(\"export\", \"parity\") }}}}"), "\"parity\""),
        (format!("{said}{{{{ rest() }}}}{{{{ colour }}}}"), "\"colour\""),
        (format!("{said}nothing"), "has no place for what was measured: cells"),
        ("{{ rest() }}".to_owned(), "set draws"),
    ] {
        let error = refused(&dots, &prose);
        assert!(error.contains("card.md") && error.contains(named), "{error}");
    }
    assert!(!dots.join(CARD).exists());
}

#[test]
fn a_model_of_which_nothing_was_said_gets_a_first_card() {
    let folder = tempfile::tempdir().unwrap();
    let dots = model(folder.path());
    fs::remove_file(dots.join(PROSE)).unwrap();
    let error = format!("{:#}", card(&[&dots], None, true).unwrap_err());
    assert!(error.contains("card.md") && !dots.join(PROSE).exists(), "{error}");
    card(&[&dots], None, false).unwrap();
    let text = fs::read_to_string(dots.join(CARD)).unwrap();
    assert!(text.contains("Not said yet") && text.contains("**Cells**") && text.contains("1,500 steps"), "{text}");
}

/// The shipped cards are what their records and files give.
#[test]
fn the_cards_of_this_repository_are_true() {
    check_all(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models"))).unwrap();
}
