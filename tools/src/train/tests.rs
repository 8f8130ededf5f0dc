//! Train, export, and go on from what was exported, through the commands as they are typed.

use super::Train;
use super::examples::{Batch, Examples, Sourced};
use crate::dataset::pack::{self, Concept, PICTURE_BYTES, Sticker, Stickers};
use crate::dataset::said;
use crate::draws::Draws;
use crate::export;
use crate::net::bert::Bert;
use crate::net::onnx::Weights;
use crate::net::params::{Params, generator_lock, write_safetensors};
use crate::net::torch::Torch;
use crate::record::{Record, Records, files};
use crate::train::run::no_grad;
use crate::train::text::TextEncoder;
use crate::trained::{self, AUTOENCODER, DENOISER, TEXT};
use crate::words::{SPECIAL, describe};
use clap::Parser;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

#[derive(Parser)]
enum Command {
    #[command(subcommand)]
    Train(Train),
    Export(export::Args),
}

struct Desk(tempfile::TempDir);

impl Desk {
    /// Runs a command line whose words beginning with `@` are files of the desk.
    fn run(&self, line: &str) -> anyhow::Result<()> {
        let word = |w: &str| w.strip_prefix('@').map_or(w.to_owned(), |file| self.path(file));
        // One thread: the nets are small, and the other tests run beside.
        let threads = if line.starts_with("train") { " --threads 1" } else { "" };
        let line = format!("{line}{threads}");
        let words = line.split_whitespace().map(word);
        match Command::try_parse_from(std::iter::once("tools".into()).chain(words)).unwrap_or_else(|e| panic!("{e}")) {
            Command::Train(train) => train.run(),
            Command::Export(args) => export::run(&args),
        }
    }

    fn path(&self, file: &str) -> String {
        self.0.path().join(file).display().to_string()
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap()
    }

    fn weights(&self, path: &str, stages: &[&str]) -> Weights {
        trained::weights(Path::new(&self.path(path)), stages).unwrap()
    }
}

fn data(path: &str) {
    let concepts = ["fox", "red apple"].map(|name| Concept { name: name.into(), ..Concept::default() });
    let sticker = |i: usize| {
        let rgba =
            (0..PICTURE_BYTES).map(|at| if at % 4 == 3 { 255 } else { (at * (7 + i) / 64 % 251) as u8 }).collect();
        Sticker { rgba, style: (i % 2) as u8, concept: (i / 2 % 2) as u32, held_out: i == 5, weight: 1.0 }
    };
    let stickers: Vec<Sticker> = (0..6).map(sticker).collect();
    pack::write(Path::new(path), &["3d", "flat"], &concepts, &stickers, &[]).unwrap();
}

/// Words that the teacher does not spell.
const WHOLE: &str = "fox apple zebra wild animal red , and background next to the left right on of picture";

/// A MiniLM of random weights with a small vocabulary.
fn teacher(folder: &str) {
    std::fs::create_dir(folder).unwrap();
    let letters: Vec<String> = ('a'..='z').flat_map(|c| [c.to_string(), format!("##{c}")]).collect();
    let pieces = SPECIAL.iter().map(|s| (*s).to_owned()).chain(letters).chain(WHOLE.split(' ').map(String::from));
    let vocabulary = pieces.enumerate().map(|(id, piece)| (piece, id)).collect();
    std::fs::write(format!("{folder}/tokenizer.json"), describe(&vocabulary)).unwrap();
    let params = Params::fresh(9, Device::Cpu);
    let ids = Tensor::zeros([1, 4], (Kind::Int64, Device::Cpu));
    let _ = no_grad(|| Bert::minilm().forward(&Torch(&params), &ids, 4));
    write_safetensors(Path::new(&format!("{folder}/model.safetensors")), &params.map()).unwrap();
}

/// Nouns in WordNet's format, five times each, as only common words enter the vocabulary.
fn nouns(path: &str, word: &str) {
    let line = |i: usize| format!("0000000{i} 05 n 01 {word} 0 000 | a {word} of kind {i}; \"here\"");
    std::fs::write(path, (0..200).map(line).collect::<Vec<_>>().join("\n")).unwrap();
}

/// A trained desk: runs `ae`, `text` and `denoiser`, exported to `model`.
fn trained_desk() -> Desk {
    let desk = Desk(tempfile::tempdir().unwrap());
    data(&desk.path("data"));
    teacher(&desk.path("teacher"));
    nouns(&desk.path("nouns"), "fox");
    desk.run("train autoencoder --data @data --out @ae --steps 1 --batch 2").unwrap();
    desk.run("train text --data @data --teacher @teacher --wordnet @nouns --out @text --steps 0").unwrap();
    desk.run("train denoiser --scenes 0 --data @data --autoencoder @ae/weights.safetensors --text @text --out @denoiser --steps 0")
        .unwrap();
    desk.run("export --denoiser @denoiser --autoencoder @ae --text @text --out @model").unwrap();
    desk
}

/// Every weight of `want` is in `got`, as far apart as rounding to f16 takes it.
fn same_up_to_f16(got: &Weights, want: &Weights) {
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (name, (shape, values)) in want {
        assert_eq!(&got[name].0, shape, "{name}");
        for (g, w) in got[name].1.iter().zip(values) {
            // Half a unit in the last place: 2^-11 of the value, and 2^-25 where f16 is subnormal.
            let allowed = (w.abs() / 2048.0).max(0.5f32.powi(25));
            assert!((g - w).abs() <= allowed, "{name}: {g} for {w}");
        }
    }
}

#[test]
fn training_goes_on_from_an_exported_model_and_from_a_run() {
    let _lock = generator_lock();
    let desk = trained_desk();
    nouns(&desk.path("others"), "zebra");
    let autoencoder = "train autoencoder --data @data --steps 0 --seed 5";
    let text = "train text --data @data --teacher @teacher --wordnet @others --steps 0 --seed 5";
    let denoiser = "train denoiser --scenes 0 --data @data --steps 0 --seed 5 --autoencoder @model --text @model";

    desk.run(&format!("{autoencoder} --from @ae/weights.safetensors --out @ae-run")).unwrap();
    assert!(desk.weights("ae-run", &AUTOENCODER) == desk.weights("ae", &AUTOENCODER));
    desk.run(&format!("{autoencoder} --from @model --out @ae-model")).unwrap();
    same_up_to_f16(&desk.weights("ae-model", &AUTOENCODER), &desk.weights("ae", &AUTOENCODER));

    desk.run(&format!("{text} --out @text-own")).unwrap();
    let differ = desk.read("text-own/tokenizer.json") != desk.read("text/tokenizer.json");
    assert!(differ, "other nouns need other pieces");
    desk.run(&format!("{text} --from @text/weights.safetensors --out @text-run")).unwrap();
    assert!(desk.weights("text-run", &TEXT) == desk.weights("text", &TEXT));
    assert!(desk.read("text-run/tokenizer.json") == desk.read("text/tokenizer.json"));
    desk.run(&format!("{text} --from @model --out @text-model")).unwrap();
    same_up_to_f16(&desk.weights("text-model", &TEXT), &desk.weights("text", &TEXT));
    assert!(desk.read("text-model/tokenizer.json") == desk.read("text/tokenizer.json"));
    let error = desk.run(&format!("{text} --from @model --out @text-own")).unwrap_err().to_string();
    assert!(error.contains("give --out a new folder"), "{error}");

    desk.run(&format!("{denoiser} --from @model --out @denoiser-model")).unwrap();
    same_up_to_f16(&desk.weights("denoiser-model", &DENOISER), &desk.weights("denoiser", &DENOISER));
    desk.run("export --denoiser @denoiser-model --autoencoder @model --text @model --out @again").unwrap();
    for file in ["text_encoder/model.onnx", "unet/model.onnx", "vae_decoder/model.onnx", "tokenizer/tokenizer.json"] {
        assert!(desk.read(&format!("again/{file}")) == desk.read(&format!("model/{file}")), "{file}");
    }
    assert!(desk.weights("again", &AUTOENCODER) == desk.weights("model", &AUTOENCODER));
}

/// `Examples` of the desk's model with `copies` of each of its five drawings that may be trained on.
fn examples(desk: &Desk, copies: usize, state_noise: f64) -> Examples {
    let [data, model] = ["data", "model"].map(|file| desk.path(file).into());
    let text = PathBuf::clone(&model);
    let sourced =
        Sourced { data, autoencoder: model, text, scenes: 0, composed: 0.0, captions: 2, copies, state_noise };
    let out = tempfile::tempdir().unwrap();
    Examples::open(&sourced, 3, Device::Cpu, out.path()).unwrap()
}

#[test]
fn drawings_have_shifted_copies_and_prompts_noise() {
    let _lock = generator_lock();
    let desk = trained_desk();
    let batch = |copies, noise| examples(&desk, copies, noise).batch(300, &mut Draws::new(1)).unwrap();
    let different = |batch: &Batch| {
        let rows = Vec::<f32>::try_from(batch.latents.sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float));
        rows.unwrap().into_iter().map(f32::to_bits).collect::<BTreeSet<_>>()
    };
    let (plain, shifted) = (batch(1, 0.0), batch(4, 0.0));
    assert_eq!(different(&plain).len(), 5);
    let found = different(&shifted);
    assert!((11..=20).contains(&found.len()), "{}", found.len());
    assert!(different(&plain).is_subset(&found), "the first copy of a drawing is the drawing");

    let noise = batch(1, 0.5).states - &plain.states;
    let deviation = noise.square().mean_dim([1i64, 2].as_slice(), false, Kind::Float).sqrt();
    let [least, most] = [deviation.min(), deviation.max()].map(|d| d.double_value(&[]));
    assert!(least < 0.05 && (0.45..0.52).contains(&most), "{least} {most}");
}

#[test]
fn a_student_of_a_denoiser_is_exported_with_few_steps_and_no_guidance() {
    let _lock = generator_lock();
    let desk = trained_desk();
    let sources = "--scenes 6 --composed 0.5 --copies 2 --state-noise 0.2 --data @data --autoencoder @ae/weights.safetensors --text @text --batch 4";
    desk.run(&format!("train denoiser {sources} --steps 1 --out @teacher-run")).unwrap();
    assert!(desk.weights("teacher-run", &DENOISER) != desk.weights("denoiser", &DENOISER), "a step changes weights");
    let student = format!("train student {sources} --teacher @teacher-run --solver-steps 3");
    desk.run(&format!("{student} --points 2 --steps 0 --out @copy")).unwrap();
    assert!(desk.weights("copy", &DENOISER) == desk.weights("teacher-run", &DENOISER), "it starts as its teacher");
    desk.run(&format!("{student} --points 2 --steps 1 --out @student --precision bf16")).unwrap();
    desk.run("export --denoiser @student --autoencoder @ae --text @text --out @few").unwrap();
    let scheduler = String::from_utf8(desk.read("few/scheduler/scheduler_config.json")).unwrap();
    assert!(scheduler.contains("\"stochastic_sampling\": true"), "{scheduler}");
    let own = String::from_utf8(desk.read("few/undiffuse.json")).unwrap();
    assert!(own.contains("\"steps\": 4") && own.contains("\"guidance\": 1.0"), "{own}");
    for teacher in ["student", "few"] {
        let line = format!("train student {sources} --teacher @{teacher} --points 2 --steps 0 --out @none");
        let error = desk.run(&line).unwrap_err().to_string();
        assert!(error.contains("is a student itself"), "{error}");
    }
    let error = desk.run(&format!("{student} --points 4 --steps 1 --out @none")).unwrap_err().to_string();
    assert!(error.contains("--points"), "{error}");
}

/// A vixen, which is a fox, and a pippin, which is a red apple, things all of them, in WordNet's formats.
fn related_nouns(desk: &Desk) -> String {
    let data = "00000001 05 n 01 fox 0 000 | a wild animal  \n00000002 05 n 01 vixen 0 001 @ 00000001 n 0000 | a female fox  \n\
        00000003 13 n 01 apple 0 000 | a fruit  \n00000004 13 n 01 pippin 0 001 @ 00000003 n 0000 | an apple  \n\
        00000005 03 n 01 physical_entity 0 004 ~ 00000001 n 0000 ~ 00000002 n 0000 ~ 00000003 n 0000 ~ 00000004 n 0000 | a thing  \n";
    let index = "fox n 1 0 1 0 00000001  \nvixen n 1 1 @ 1 0 00000002  \napple n 1 0 1 0 00000003  \npippin n 1 1 @ 1 0 00000004  \n\
        physical_entity n 1 1 ~ 1 0 00000005  \n";
    std::fs::create_dir(desk.path("wordnet")).unwrap();
    std::fs::write(desk.path("wordnet/data.noun"), data).unwrap();
    std::fs::write(desk.path("wordnet/index.noun"), index).unwrap();
    "@wordnet/data.noun".to_owned()
}

#[test]
fn a_text_encoder_hears_other_words_and_says_of_captions_what_it_said_bit_for_bit() {
    let _lock = generator_lock();
    let desk = trained_desk();
    let nouns = related_nouns(&desk);
    let line =
        format!("train synonyms --data @data --teacher @teacher --wordnet {nouns} --from @text --add=-9 --batch 4");
    desk.run(&format!("{line} --steps 0 --out @start")).unwrap();
    desk.run(&format!("{line} --steps 30 --rate 1e-2 --warmup 1 --out @heard")).unwrap();
    let open = |run: &str| TextEncoder::open(Path::new(&desk.path(run)), Device::Cpu).unwrap();
    let (before, start, after) = (open("text"), open("start"), open("heard"));
    // Vixen, pippin, and foxes.
    assert_eq!(after.net.vocabulary, before.net.vocabulary + 3);

    let captions = said::texts(&Stickers::open(Path::new(&desk.path("data"))).unwrap());
    assert!(before.ids(&captions).unwrap().equal(&after.ids(&captions).unwrap()));
    let texts = ["fox", "a picture of a red apple, flat", "fox on the left and red apple on the right"];
    assert!(before.states(&texts).unwrap().equal(&after.states(&texts).unwrap()));

    // One piece for one piece is exact from the start; one for two is learned.
    assert!(start.states(&["a vixen"]).unwrap().equal(&before.states(&["a fox"]).unwrap()));
    let leading = |encoder: &TextEncoder, text: &str| encoder.states(&[text]).unwrap().narrow(1, 0, 2);
    let wanted = leading(&before, "red apple");
    let away =
        |encoder: &TextEncoder| (leading(encoder, "pippin") - &wanted).square().mean(Kind::Double).double_value(&[]);
    assert!(away(&after) < 0.5 * away(&before), "{} {}", away(&after), away(&before));
    assert!(away(&after) != away(&start), "nothing is learned");
    desk.run("export --denoiser @denoiser --autoencoder @ae --text @heard --out @hearing").unwrap();
    assert!(open("hearing").states(&["a vixen"]).unwrap().equal(&open("hearing").states(&["a fox"]).unwrap()));

    // The teacher has no row for what was added: who goes on teaching leaves it behind.
    let taught = "train text --data @data --teacher @teacher --wordnet @nouns --steps 0 --from @hearing --out @taught";
    desk.run(taught).unwrap();
    assert!(desk.read("taught/tokenizer.json") == desk.read("text/tokenizer.json"));
    assert_eq!(open("taught").net, before.net);
}

#[test]
fn a_text_encoder_hears_descriptions_and_says_of_captions_what_it_said_bit_for_bit() {
    let _lock = generator_lock();
    let desk = trained_desk();
    let nouns = related_nouns(&desk);
    let line = format!("train reader --data @data --teacher @teacher --wordnet {nouns} --width 4 --steps 3 --batch 4");
    desk.run(&format!("{line} --from @text --out @reading")).unwrap();
    let open = |run: &str| TextEncoder::open(Path::new(&desk.path(run)), Device::Cpu).unwrap();
    let (before, after) = (open("text"), open("reading"));
    let captions = said::texts(&Stickers::open(Path::new(&desk.path("data"))).unwrap());
    assert!(before.states(&captions).unwrap().equal(&after.states(&captions).unwrap()));

    // What is no caption is told in the words of a concept.
    let names = Stickers::open(Path::new(&desk.path("data"))).unwrap();
    let names: Vec<Tensor> = names.concepts().iter().map(|c| before.states(&[&c.name]).unwrap()).collect();
    let heard = after.states(&["fox apple"]).unwrap();
    assert_eq!(names.iter().filter(|name| name.equal(&heard)).count(), 1);

    // The shipped graph hears as the trained encoder does, and is read back whole.
    desk.run("export --denoiser @denoiser --autoencoder @ae --text @reading --out @reads").unwrap();
    same_up_to_f16(&desk.weights("reads", &TEXT), &desk.weights("reading", &TEXT));
    desk.run(&format!("{line} --from @reads --out @again")).unwrap();
    same_up_to_f16(&desk.weights("again", &TEXT), &desk.weights("reading", &TEXT));

    // What words mean can be decided anew with the vectors as they are.
    desk.run(&format!("{line} --seed 9 --from @reading --keep-vectors --out @kept")).unwrap();
    let (kept, reading) = (desk.weights("kept", &TEXT), desk.weights("reading", &TEXT));
    assert_eq!(kept, reading);
    assert_eq!(Record::read(Path::new(&desk.path("kept/record.json"))).unwrap().figures["steps"], 0);
    let refused = format!("{:#}", desk.run(&format!("{line} --from @text --keep-vectors --out @no")).unwrap_err());
    assert!(refused.contains("has no reader"), "{refused}");
    let heard =
        format!("train synonyms --data @data --teacher @teacher --wordnet {nouns} --from @reads --add=-9 --batch 4");
    desk.run(&format!("{heard} --steps 0 --out @words")).unwrap();
    let left = desk.weights("words", &TEXT);
    assert!(left.keys().all(|name| !name.starts_with("reader.")), "the tables of a reader are of one tokenizer");
}

#[test]
fn every_run_leaves_a_record_and_a_model_brings_its_history() {
    let _lock = generator_lock();
    let desk = trained_desk();
    let own = Record::read(Path::new(&desk.path("ae/record.json"))).unwrap();
    assert_eq!(
        (own.stage.as_str(), &own.settings["batch"], &own.settings["seed"]),
        ("train autoencoder", &2.into(), &1.into())
    );
    assert_eq!((&own.figures["steps"], own.seconds.unwrap() > 0.0), (&1.into(), true));
    assert!(own.figures["loss"].is_f64() && own.figures["held_out_psnr"].is_f64(), "{own:?}");
    assert_eq!(
        own.outputs["weights.safetensors"],
        files::sha256(Path::new(&desk.path("ae/weights.safetensors"))).unwrap()
    );
    assert_eq!(own.inputs["data"], files::sha256(Path::new(&desk.path("data"))).unwrap());

    // A second part of a run takes the place of the first, and adds to its time.
    desk.run("train autoencoder --data @data --out @ae --steps 3 --batch 2").unwrap();
    let longer = Record::read(Path::new(&desk.path("ae/record.json"))).unwrap();
    assert_eq!(longer.figures["steps"], 3);
    assert!(longer.seconds > own.seconds, "{longer:?}");

    // Who goes on from a run has its record; a model has those of all parts, in order, and no other's.
    desk.run("train autoencoder --data @data --out @ae2 --from @ae/weights.safetensors --steps 1 --batch 2 --seed 5")
        .unwrap();
    let nets = "--data @data --autoencoder @ae2/weights.safetensors --text @text";
    desk.run(&format!("train denoiser --scenes 0 {nets} --out @next --from @denoiser/weights.safetensors --steps 0"))
        .unwrap();
    desk.run("export --denoiser @next --autoencoder @ae2 --text @text --out @whole").unwrap();
    let records = Records::open(Path::new(&desk.path("whole"))).unwrap();
    let names: Vec<&str> = records.ordered().into_iter().map(|(name, _)| name).collect();
    let autoencoders = ["dataset", "train-autoencoder", "train-autoencoder-2"];
    let others = ["train-text", "train-denoiser", "train-denoiser-2", "export"];
    assert_eq!(names, [&autoencoders[..], &others].concat());
    assert_eq!(records.get("train-autoencoder"), Some(&longer));
    let exported = records.get("export").unwrap();
    let weights = files::sha256(Path::new(&desk.path("next/weights.safetensors"))).unwrap();
    assert_eq!(exported.inputs["denoiser/weights.safetensors"], weights);
    assert_eq!(records.get("train-denoiser-2").unwrap().outputs["weights.safetensors"], weights);
    assert!(exported.figures["from_the_trained_net"]["unet"].is_f64(), "{exported:?}");
    for (name, record) in records.ordered() {
        let told = serde_json::to_string(record).unwrap();
        assert!(!told.contains(&desk.path("")), "{name} names a folder of the machine: {told}");
    }

    // Another export takes the place of this history.
    desk.run("export --denoiser @next --autoencoder @ae --text @text --out @whole").unwrap();
    assert!(Records::open(Path::new(&desk.path("whole"))).unwrap().get("train-autoencoder-2").is_none());

    // What was learned in the model's name goes with its parts alone.
    let text =
        "train text --data @data --teacher @teacher --wordnet @nouns --steps 0 --seed 5 --from @whole --out @told";
    desk.run(text).unwrap();
    let told = Records::open(Path::new(&desk.path("told"))).unwrap();
    assert_eq!(told.ordered().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["dataset", "train-text"]);
}
