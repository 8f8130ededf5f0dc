//! What engines keep between starts: a hit gives the same bytes, and whatever is not exactly what this program wrote for this very model is
//! made anew, without a word.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use support::{Axis, Builder, floats, int, ints, numbers};
use tract_onnx::pb::tensor_proto::DataType;
use undiffuse::engine::{self, Backend, Cache, Engine, Threads, Weights};
use undiffuse::model::Graph;
use undiffuse::value::Tensor;

/// What a graph gave; too long to be shown.
#[derive(Clone, PartialEq)]
struct Made(Vec<Tensor>);

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} outputs from {:?}", self.0.len(), &self.0[0].as_f32().unwrap()[..3])
    }
}

/// A small model in a file, and a folder for a cache.
struct Place {
    folder: tempfile::TempDir,
}

/// Weights that are packed (two convolutions, one with groups, and a product), widened (a sum) and looked up (a table), all large enough to stay
/// in the file until they are needed, and a small one.
fn model(seed: u64) -> Builder {
    use Axis::{Fixed, Named};
    Builder::new(18)
        .input("x", DataType::Float, &[Fixed(1), Fixed(32), Named("height"), Named("width")])
        .input("ids", DataType::Int64, &[Fixed(3)])
        .weight(floats("k", &[64, 32, 3, 3], &numbers(seed, 64 * 32 * 9)))
        .weight(floats("bias", &[64], &numbers(seed + 1, 64)))
        .weight(floats("groups", &[1024, 16, 1, 1], &numbers(seed + 2, 1024 * 16)))
        .weight(floats("table", &[8, 4096], &numbers(seed + 3, 8 * 4096)))
        .weight(floats("sum", &[3, 4096], &numbers(seed + 4, 3 * 4096)))
        .weight(floats("w", &[4096, 24], &numbers(seed + 5, 4096 * 24)))
        .node_with("Conv", &["x", "k", "bias"], "wide", vec![ints("pads", &[1, 1, 1, 1])])
        .node_with("Conv", &["wide", "groups"], "y", vec![int("group", 4)])
        .node("Gather", &["table", "ids"], "rows")
        .node("Add", &["rows", "sum"], "moved")
        .node("MatMul", &["moved", "w"], "z")
        .output("y", DataType::Float, &[Fixed(1), Fixed(1024), Named("height"), Named("width")])
        .output("z", DataType::Float, &[Fixed(3), Fixed(24)])
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        model(1).save(place.file());
        place
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("model.onnx")
    }

    fn cache(&self) -> Cache {
        Cache::new(self.folder.path().join("cache"))
    }

    fn engine(&self, weights: Weights) -> Box<dyn Engine> {
        load(&self.file(), weights, Some(&self.cache()))
    }

    /// What a fresh engine makes of a picture with sides of `side` pixels.
    fn run(&self, side: usize) -> Made {
        run(&mut *self.engine(Weights::Stored), side)
    }

    /// The same of one that keeps nothing and finds nothing.
    fn run_alone(&self, side: usize) -> Made {
        run(&mut *load(&self.file(), Weights::Stored, None), side)
    }

    /// Everything in the cache, by name.
    fn kept(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.cache().folder()).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
    }

    fn write(&self, kept: &BTreeMap<String, Vec<u8>>) {
        kept.iter().for_each(|(name, bytes)| fs::write(self.cache().folder().join(name), bytes).unwrap());
    }

    /// Dates everything in the cache back; gives the date.
    fn age(&self) -> SystemTime {
        let date = SystemTime::now() - Duration::from_hours(1);
        for name in self.kept().keys() {
            File::options().append(true).open(self.cache().folder().join(name)).unwrap().set_modified(date).unwrap();
        }
        date
    }

    /// Endings of the files that were written since `date`.
    fn written_since(&self, date: SystemTime) -> Vec<String> {
        let is_new = |name: &&String| {
            let modified = fs::metadata(self.cache().folder().join(name)).unwrap().modified().unwrap();
            modified > date + Duration::from_secs(60)
        };
        self.kept().keys().filter(is_new).map(|name| ending(name).to_owned()).collect()
    }
}

fn ending(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

fn load(file: &Path, weights: Weights, cache: Option<&Cache>) -> Box<dyn Engine> {
    let threads = Threads::new(std::num::NonZeroUsize::new(2)).unwrap();
    engine::load_with(Graph::open(file).unwrap(), Backend::Cpu, weights, None, &threads, cache).unwrap()
}

fn run(engine: &mut dyn Engine, side: usize) -> Made {
    let x = Tensor::new(&[1, 32, side, side], numbers(7, 32 * side * side)).unwrap();
    let ids = Tensor::new(&[3], vec![5i64, 7, 0]).unwrap();
    let outputs = engine.run(&[("x", &x), ("ids", &ids)]).unwrap();
    assert_eq!(engine.name(), "cpu");
    Made(outputs.iter().map(|(_, tensor)| tensor.clone()).collect())
}

#[test]
fn a_second_start_finds_all_and_gives_the_same_bytes() {
    let place = Place::new();
    let alone = place.run_alone(8);
    assert!(!place.cache().folder().exists());
    assert_eq!(place.run(8), alone);
    let endings: Vec<String> = place.kept().keys().map(|name| ending(name).to_owned()).collect();
    assert_eq!(endings.len(), 2, "{endings:?}");
    let date = place.age();
    assert_eq!(place.run(8), alone);
    assert_eq!(place.written_since(date), [""; 0]);
    // That they are used shows where they are other than the model's.
    let mut kept = place.kept();
    let weights = kept.iter_mut().find(|(name, _)| ending(name) == "weights").unwrap().1;
    let half = weights.len() / 2;
    weights[half..].fill(0);
    place.write(&kept);
    assert_ne!(place.run(8), alone);
}

#[test]
fn another_size_uses_the_same_weights() {
    let place = Place::new();
    place.run(8);
    let date = place.age();
    assert_eq!(place.run(12), place.run_alone(12));
    assert_eq!(place.written_since(date), ["plan"]);
    assert_eq!(place.kept().len(), 3);
}

#[test]
fn other_ways_to_keep_weights_have_files_of_their_own() {
    let place = Place::new();
    let stored = place.run(8);
    let date = place.age();
    let int8 = run(&mut *place.engine(Weights::Int8), 8);
    assert_eq!(int8, run(&mut *load(&place.file(), Weights::Int8, None), 8));
    assert_ne!(int8, stored);
    let mut written = place.written_since(date);
    written.sort();
    assert_eq!(written, ["plan", "weights"]);
    assert_eq!((place.run(8), run(&mut *place.engine(Weights::Int8), 8)), (stored, int8));
}

/// Engines that are told to stream read the file during every run, and give the same.
#[test]
fn streamed_weights_give_the_same_bytes() {
    let place = Place::new();
    let alone = place.run_alone(8);
    for _ in 0..2 {
        let mut engine = place.engine(Weights::Stored);
        engine.stream(true);
        assert_eq!([run(&mut *engine, 8), run(&mut *engine, 8)], [alone.clone(), alone.clone()]);
        engine.stream(false);
        assert_eq!(run(&mut *engine, 8), alone);
    }
}

#[test]
fn one_engine_packs_once_for_all_sizes() {
    for cache in [None, Some(())] {
        let place = Place::new();
        let mut engine = load(&place.file(), Weights::Stored, cache.map(|()| place.cache()).as_ref());
        let alone: Vec<_> = [8, 12, 8].map(|side| place.run_alone(side)).into();
        for (side, alone) in [8, 12, 8].into_iter().zip(alone) {
            assert_eq!(run(&mut *engine, side), alone);
        }
        let shapes: [(&str, &[usize]); 2] = [("x", &[1, 32, 16, 16]), ("ids", &[3])];
        let planned = engine.plan(&shapes).unwrap().unwrap();
        assert_eq!(
            (planned.memory.packing, planned.streamed.is_some()),
            (0, cache.is_some()),
            "nothing is left to pack"
        );
        assert_eq!(planned.held > 0, cache.is_none());
    }
}

#[test]
fn another_model_in_the_same_place_is_not_taken_for_the_first() {
    let place = Place::new();
    let before = fs::metadata(place.file()).unwrap();
    let first = place.run(8);
    // The same size, the same date; longer than the ticks that file systems count in apart.
    std::thread::sleep(Duration::from_millis(50));
    model(2).save(place.file());
    let file = File::options().append(true).open(place.file()).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(place.file()).unwrap().len(), before.len());
    let second = place.run(8);
    assert_eq!(second, place.run_alone(8));
    assert_ne!(second, first);
    assert_eq!(place.kept().len(), 2, "what is of no use any more is written over");
}

#[test]
fn what_this_program_did_not_write_is_made_anew() {
    let place = Place::new();
    let alone = place.run(8);
    let sound = place.kept();
    let names: Vec<&String> = sound.keys().collect();
    let of_another_size = {
        place.run(12);
        let mut all = place.kept();
        all.retain(|name, _| !sound.contains_key(name));
        all.into_values().next().unwrap()
    };
    for name in names {
        let bytes = &sound[name];
        let cut = |length: usize| bytes[..length].to_vec();
        let mut longer = bytes.clone();
        longer.push(0);
        let mut other_version = bytes.clone();
        other_version[20] ^= 1;
        let mut foreign = b"PK\x03\x04".to_vec();
        foreign.resize(bytes.len(), 0x55);
        let zeros = vec![0; bytes.len()];
        let bad = [
            vec![],
            cut(1),
            cut(60),
            cut(bytes.len() - 1),
            longer,
            other_version,
            foreign,
            zeros,
            of_another_size.clone(),
        ];
        for (index, content) in bad.into_iter().enumerate() {
            let mut kept = sound.clone();
            kept.insert(name.clone(), content);
            place.write(&kept);
            let date = place.age();
            let is_sound = ending(name) == "plan" && index == 8;
            assert_eq!(place.run(8), alone, "{name} {index}");
            // The plan of another size is a sound one, of something else.
            assert!(!is_sound || place.written_since(date) == ["plan"], "{name} {index}");
            assert_eq!(place.kept()[name].len(), bytes.len(), "{name} {index} was mended");
        }
    }
    // A file in the way of the folder, and one that is a folder.
    fs::remove_dir_all(place.cache().folder()).unwrap();
    fs::write(place.cache().folder(), b"no folder").unwrap();
    assert_eq!(place.run(8), alone);
    fs::remove_file(place.cache().folder()).unwrap();
    sound.keys().for_each(|name| fs::create_dir_all(place.cache().folder().join(name).join("below")).unwrap());
    assert_eq!(place.run(8), alone);
}

/// Seeded damage anywhere: numbers may be wrong where weights were hit, nothing else ever is.
#[test]
fn no_damage_is_fatal() {
    let place = Place::new();
    let alone = place.run(8);
    let sound = place.kept();
    let names: Vec<&String> = sound.keys().collect();
    let mut state = 5u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % end
    };
    for round in 0..200 {
        let mut kept = sound.clone();
        let name = names[below(2)];
        let bytes = kept.get_mut(name).unwrap();
        // The head of the file of weights is but a few of its bytes.
        let end = if below(2) == 0 { bytes.len().min(80) } else { bytes.len() };
        for _ in 0..=below(8) {
            let at = below(end);
            match below(8) {
                0 if bytes.len() > at + 1 => bytes.truncate(at + 1),
                1 => bytes.insert(at.min(bytes.len()), 0xff),
                _ => {
                    let at = at.min(bytes.len() - 1);
                    bytes[at] ^= 1 << below(8);
                }
            }
        }
        place.write(&kept);
        let made = place.run(8);
        assert!(ending(name) == "weights" || made == alone, "round {round}: {name}");
        assert_eq!(made.0.len(), alone.0.len());
    }
}

#[test]
fn writers_do_not_disturb_each_other() {
    let place = Place::new();
    let alone = place.run_alone(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(place.run(8), alone));
        }
    });
    assert_eq!(place.kept().len(), 2);
    let date = place.age();
    assert_eq!(place.run(8), alone);
    assert_eq!(place.written_since(date), [""; 0]);
}

#[cfg(feature = "cli")]
mod command {
    use super::*;
    use std::process::{Command, Output};

    /// `generate` in a home folder of its own.
    fn generate(home: &Path, arguments: &[&str], variable: Option<&Path>) -> Output {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker-64");
        let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
        command.args(["generate", "a red apple", "--seed", "1", "--steps", "1", "--model"]).arg(model).args(arguments);
        command.arg("-o").arg(home.join("out.png")).env_remove("UNDIFFUSE_CACHE").env_remove("XDG_CACHE_HOME");
        command.env("HOME", home).envs(variable.map(|folder| ("UNDIFFUSE_CACHE", folder)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn picture(home: &Path) -> Vec<u8> {
        fs::read(home.join("out.png")).unwrap()
    }

    fn files(folder: PathBuf) -> usize {
        fs::read_dir(folder).map_or(0, Iterator::count)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_folder_is_the_users_unless_another_is_named() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        generate(home, &["--no-cache"], Some(&home.join("unused")));
        let alone = picture(home);
        generate(home, &[], Some(Path::new("")));
        assert_eq!((files(home.join(".cache")), files(home.join("unused"))), (0, 0));
        for (arguments, variable, folder) in [
            (vec![], None, ".cache/undiffuse"),
            (vec![], Some(home.join("variable")), "variable"),
            (vec!["--cache", home.join("option").to_str().unwrap()], Some(home.join("unused")), "option"),
        ] {
            for _ in 0..2 {
                generate(home, &arguments, variable.as_deref());
                assert_eq!((picture(home) == alone, files(home.join(folder))), (true, 8), "{folder}");
            }
        }
        assert_eq!(files(home.join("unused")), 0);
    }
}
