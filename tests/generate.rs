//! `undiffuse generate` as a user runs it: files, exit codes, messages.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::sketch::Sketch;
use tempfile::TempDir;
use undiffuse::npy;
use undiffuse::value::Tensor;

/// A folder for what is made, and the command that makes it.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// `undiffuse generate` in the folder, with `model` and `arguments`.
    fn command(&self, model: &Path, arguments: &[&str]) -> Command {
        let mut command = bare();
        command.current_dir(self.dir.path()).arg("generate").args(arguments).arg("--model").arg(model);
        command
    }

    fn run(&self, model: &Sketch, arguments: &[&str]) -> Output {
        self.command(model.root(), arguments).output().unwrap()
    }

    /// Runs with `--json` and reads what is printed.
    fn json(&self, model: &Sketch, arguments: &[&str]) -> Value {
        let output = self.run(model, &[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stdout)))
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(Result::unwrap);
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    command.env_remove("UNDIFFUSE_MODEL").env("UNDIFFUSE_CACHE", "").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn error_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    let message = text(&output.stderr);
    assert!(!message.contains("panicked"), "{message}");
    message
}

fn decode(file: &Path) -> (png::Info<'static>, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(file).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    (reader.info().clone(), pixels)
}

fn parameters(file: &Path) -> String {
    let (info, _) = decode(file);
    let latin = info.uncompressed_latin1_text.iter().map(|chunk| chunk.text.clone());
    latin.chain(info.utf8_text.iter().map(|chunk| chunk.get_text().unwrap())).next().unwrap()
}

#[test]
fn a_picture_that_says_how_it_was_made() {
    let (desk, model) = (Desk::new(), Sketch::new());
    let output = desk.run(&model, &["a red apple", "--seed", "7", "-o", "apple.png"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("apple.png: seed 7, 4 steps of euler, "), "{}", text(&output.stdout));
    assert_eq!(text(&output.stderr), "", "quiet when piped");
    assert_eq!(desk.files(), ["apple.png"]);
    let (info, pixels) = decode(&desk.path("apple.png"));
    assert_eq!((info.width, info.height, pixels.len()), (16, 16, 768));
    assert!(pixels.iter().any(|p| *p != pixels[0]));
    let name = model.root().file_name().unwrap().to_str().unwrap();
    let expected = format!(
        "a red apple\nSteps: 4, Sampler: euler, CFG scale: 0, Seed: 7, Size: 16x16, Model: {name}, Version: undiffuse {}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(parameters(&desk.path("apple.png")), expected);
}

#[test]
fn json_is_one_object_with_everything() {
    let (desk, model) = (Desk::new(), Sketch::new());
    let json =
        desk.json(&model, &["ein 🍎", "--seed", "3", "--steps", "3", "--save-latents", "z.npy", "--threads", "2"]);
    assert_eq!((&json["prompt"], &json["seed"], &json["sampler"]), (&json!("ein 🍎"), &json!(3), &json!("euler")));
    assert_eq!(json["timesteps"], json!([999.0, 666.0, 332.0]));
    assert_eq!(json["model"], json!(model.root().file_name().unwrap().to_str()));
    let stages: Vec<_> =
        json["stages"].as_array().unwrap().iter().map(|s| (s["stage"].clone(), s["engine"].clone())).collect();
    assert_eq!(stages, ["text_encoder", "unet", "vae_decoder"].map(|name| (json!(name), json!("cpu"))));
    for stage in json["stages"].as_array().unwrap() {
        assert_eq!((&stage["device"], &stage["dispatches"], &stage["variants"]), (&json!(null), &json!(0), &json!({})));
        assert!(stage["cpu_nodes"].as_u64() > Some(0) && stage["why"].as_str() > Some(""), "{stage}");
    }
    assert!(
        json["stages"]
            .as_array()
            .unwrap()
            .iter()
            .all(|s| s["load_ms"].as_f64() > Some(0.0) && s["run_ms"].as_f64() > Some(0.0))
    );
    assert_eq!(json["steps_ms"].as_array().unwrap().len(), 3);
    assert_eq!(json["threads"], json!(2));
    assert_eq!((&json["output"], &json["latents"]), (&json!("out.png"), &json!("z.npy")));
    #[cfg(target_os = "linux")]
    assert!(json["peak_rss_bytes"].as_u64() > Some(1 << 20));
    assert!(parameters(&desk.path("out.png")).starts_with("ein 🍎\n"));
    assert_eq!(npy::read(desk.path("z.npy")).unwrap().shape(), [1, 4, 8, 8]);
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let (desk, model) = (Desk::new(), Sketch::of_width(64));
    let made: Vec<Vec<u8>> = ["1", "2", "2"]
        .iter()
        .map(|threads| {
            desk.json(
                &model,
                &["a cat", "--seed", "5", "--threads", threads, "--guidance", "3", "--save-latents", "z.npy"],
            );
            [fs::read(desk.path("out.png")).unwrap(), fs::read(desk.path("z.npy")).unwrap()].concat()
        })
        .collect();
    assert!(made[0] == made[1] && made[1] == made[2]);
    desk.json(&model, &["a cat", "--seed", "6", "--guidance", "3"]);
    assert!(!made[0].starts_with(&fs::read(desk.path("out.png")).unwrap()));
}

#[test]
fn without_a_seed_one_is_drawn_and_told() {
    let (desk, model) = (Desk::new(), Sketch::new());
    let seeds = [(); 2].map(|()| desk.json(&model, &["a", "--steps", "1"])["seed"].as_u64().unwrap());
    assert_ne!(seeds[0], seeds[1]);
    let again = fs::read(desk.path("out.png")).unwrap();
    desk.json(&model, &["a", "--steps", "1", "--seed", &seeds[1].to_string()]);
    assert!(again == fs::read(desk.path("out.png")).unwrap());
}

#[test]
fn several_pictures_take_the_next_seeds() {
    let (desk, model) = (Desk::new(), Sketch::new());
    let json = desk.json(&model, &["a", "--seed", "8", "--count", "3", "-o", "a.png", "--save-latents", "z.npy"]);
    let told: Vec<_> =
        json.as_array().unwrap().iter().map(|one| (one["seed"].as_u64().unwrap(), one["output"].clone())).collect();
    assert_eq!(told, [(8, json!("a-0001.png")), (9, json!("a-0002.png")), (10, json!("a-0003.png"))]);
    let names = ["a-0001.png", "a-0002.png", "a-0003.png", "z-0001.npy", "z-0002.npy", "z-0003.npy"];
    assert_eq!(desk.files(), names);
    desk.json(&model, &["a", "--seed", "9", "-o", "one.png"]);
    assert!(fs::read(desk.path("one.png")).unwrap() == fs::read(desk.path("a-0002.png")).unwrap());
}

#[test]
fn the_picture_follows_prompt_negative_and_guidance() {
    let (desk, model) = (Desk::new(), Sketch::new());
    let latents = |arguments: &[&str]| {
        desk.json(&model, &[arguments, &["--seed", "1", "--save-latents", "z.npy"]].concat());
        npy::read(desk.path("z.npy")).unwrap().into_f32()
    };
    let plain = latents(&["a cat"]);
    assert_ne!(plain, latents(&["a dog"]));
    assert_eq!(plain, latents(&["a cat", "--negative", "a dog"]), "no guidance, no negative prompt");
    assert_eq!(plain, latents(&["a cat", "--guidance", "1"]), "guidance of 1 is none");
    let guided = latents(&["a cat", "--guidance", "5"]);
    assert_ne!(plain, guided);
    assert_ne!(guided, latents(&["a cat", "--guidance", "5", "--negative", "a dog"]));
    let same = latents(&["a cat", "--guidance", "5", "--negative", "a cat"]);
    assert!(
        plain.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-4),
        "guidance from the prompt to itself changes nothing"
    );
    assert_ne!(plain, latents(&["a cat", "--rng", "philox"]));
    assert_ne!(plain, latents(&["a cat", "--sampler", "euler_a"]));
}

#[test]
fn noise_of_ones_own_is_scaled_as_the_samplers() {
    let (desk, model) = (Desk::new(), Sketch::new());
    let mut noise = vec![0f32; 256];
    undiffuse::sampler::Noise::fill(&mut undiffuse::sampler::TorchNoise::new(4), &mut noise);
    npy::write(desk.path("noise.npy"), &Tensor::new(&[1, 4, 8, 8], noise).unwrap()).unwrap();
    desk.json(
        &model,
        &["a", "--init-noise", "noise.npy", "--seed", "99", "-o", "given.png", "--save-latents", "given.npy"],
    );
    desk.json(&model, &["a", "--seed", "4", "-o", "drawn.png", "--save-latents", "drawn.npy"]);
    assert!(fs::read(desk.path("given.npy")).unwrap() == fs::read(desk.path("drawn.npy")).unwrap());
}

#[test]
fn the_model_directory_chooses_where_the_user_does_not() {
    let (desk, model) = (Desk::new(), Sketch::new());
    for (class, more, steps, guidance) in [
        ("LCMScheduler", json!({}), 4, 0.0),
        ("TCDScheduler", json!({}), 4, 0.0),
        ("EulerDiscreteScheduler", json!({"timestep_spacing": "leading"}), 20, 7.5),
        ("DDIMScheduler", json!({"clip_sample": false}), 20, 7.5),
    ] {
        model.scheduler(class, more);
        let json = desk.json(&model, &["a", "--seed", "1"]);
        assert_eq!((&json["steps"], &json["guidance"]), (&json!(steps), &json!(guidance)), "{class}");
    }
    model.write("undiffuse.json", json!({"steps": 6, "guidance": 2.5, "negative": "blurry", "display_size": 40}));
    let json = desk.json(&model, &["a", "--seed", "1"]);
    assert_eq!((&json["steps"], &json["guidance"], &json["negative"]), (&json!(6), &json!(2.5), &json!("blurry")));
    let (info, _) = decode(&desk.path("out.png"));
    assert_eq!((info.width, info.height), (40, 40));
    assert!(parameters(&desk.path("out.png")).contains("\nNegative prompt: blurry\nSteps: 6, "));
    let json = desk.json(&model, &["a", "--steps", "2", "--guidance", "0", "--native", "--size", "24x8"]);
    assert_eq!(
        (&json["steps"], &json["guidance"], &json["display_size"]),
        (&json!(2), &json!(0.0), &json!({"width": 24, "height": 8}))
    );
    let json = desk.json(&model, &["a", "--size", "24x8"]);
    assert_eq!(
        (&json["size"], &json["display_size"]),
        (&json!({"width": 24, "height": 8}), &json!({"width": 60, "height": 20}))
    );
}

#[test]
fn a_scheduler_that_is_missing_is_replaced_with_a_warning() {
    let (desk, model) = (Desk::new(), Sketch::new());
    model.scheduler("PNDMScheduler", json!({}));
    let output = desk.run(&model, &["a", "--json", "--steps", "2"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["sampler"], "dpm++2m");
    assert!(text(&output.stderr).contains("PNDMScheduler"), "{}", text(&output.stderr));
    assert!(json["warnings"][0].as_str().unwrap().contains("PNDMScheduler"));
}

#[test]
fn a_flow_model_keeps_predicting_a_flow() {
    let (desk, model) = (Desk::new(), Sketch::new());
    model.write(
        "scheduler/scheduler_config.json",
        json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 1.82}),
    );
    assert_eq!(desk.json(&model, &["a", "--steps", "4"])["sampler"], "flow");
    assert_eq!(desk.json(&model, &["a", "--steps", "4", "--sampler", "dpm++2m"])["sampler"], "dpm++2m");
    let refused = error_of(&desk.run(&model, &["a", "--steps", "4", "--sampler", "ddim"]));
    assert!(refused.contains("the ddim sampler does not run models of prediction type flow"), "{refused}");
}

#[test]
fn a_long_prompt_is_cut_with_a_warning_that_quotes_it() {
    let (desk, model) = (Desk::new(), Sketch::new());
    let prompt = format!("{}and a great dog", "a cat ".repeat(37));
    let output = desk.run(&model, &[&prompt, "--json"]);
    let expected = "the prompt is longer than the 77 tokens that the model reads; this was cut: \"a great dog\"";
    assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["warnings"], json!([expected]));
}

#[test]
fn what_cannot_be_is_said() {
    let (desk, model) = (Desk::new(), Sketch::new());
    fs::write(desk.path("broken.npy"), b"\x93NUMPY").unwrap();
    npy::write(desk.path("small.npy"), &Tensor::new(&[1, 4, 4, 4], vec![0f32; 64]).unwrap()).unwrap();
    npy::write(desk.path("nan.npy"), &Tensor::new(&[1, 4, 8, 8], vec![f32::NAN; 256]).unwrap()).unwrap();
    let before = desk.files();
    for (arguments, expected) in [
        (&[""][..], "the prompt is empty; say what the picture should show"),
        (&["  \n "], "the prompt is empty; say what the picture should show"),
        (&["a", "--steps", "0"], "0 steps make no picture"),
        (&["a", "--steps", "1001"], "1001 steps are more than the 1000 that num_train_timesteps allows"),
        (&["a", "--eta", "2", "--sampler", "ddim"], "eta is 2; it must be between 0 and 1"),
        (&["a", "--guidance", "inf"], "the guidance must be a number"),
        (
            &["a", "--size", "18x16"],
            "the model cannot make a picture of 18x16; width and height must be multiples of 4, 20x16 for instance",
        ),
        (&["a", "-o", "no/such/dir/a.png"], "no/such/dir: the output directory does not exist; create it first"),
        (&["a", "-o", "a.jpg"], "a.jpg: pictures are written as PNG; give the file a name that ends in .png"),
        (&["a", "--save-latents", "no/z.npy"], "no: the output directory does not exist"),
        (&["a", "--init-noise", "missing.npy"], "missing.npy: no such file"),
        (&["a", "--init-noise", "broken.npy"], "broken.npy: is not a .npy file, or is cut short"),
        (
            &["a", "--init-noise", "small.npy"],
            "`init_noise`: has the shape [1, 4, 4, 4], the latents of this picture [1, 4, 8, 8]",
        ),
        (&["a", "--init-noise", "nan.npy"], "the initial noise [1, 4, 8, 8] holds NaN"),
    ] {
        let message = error_of(&desk.run(&model, arguments));
        assert!(message.starts_with("error: ") && message.contains(expected), "{arguments:?}: {message}");
    }
    assert_eq!(desk.files(), before);
}

#[test]
fn command_lines_that_make_no_sense_are_usage_errors() {
    let (desk, model) = (Desk::new(), Sketch::new());
    for arguments in [
        &[][..],
        &["a", "--size", "100000x8"],
        &["a", "--size", "big"],
        &["a", "--sampler", "magic"],
        &["a", "--rng", "dice"],
        &["a", "--count", "0"],
        &["a", "--threads", "0"],
        &["a", "--backend", "abacus"],
        &["a", "--seed", "-1"],
    ] {
        let output = desk.run(&model, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
    assert!(desk.files().is_empty());
}

#[test]
#[cfg(unix)]
fn a_prompt_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let (desk, model) = (Desk::new(), Sketch::new());
    let mut command = desk.command(model.root(), &[]);
    command.arg(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    let message = error_of(&command.output().unwrap());
    assert!(message.contains("the prompt is not UTF-8: \"caf\u{fffd}\""), "{message}");
}

#[test]
fn no_number_is_no_picture() {
    let (desk, model) = (Desk::new(), Sketch::new());
    model.spoil();
    let message = error_of(&desk.run(&model, &["a"]));
    assert!(message.contains("the latents hold NaN after step 1"), "{message}");
    assert!(desk.files().is_empty());
}

/// Whoever is root may write anywhere: there this says so and ends.
#[test]
#[cfg(unix)]
fn a_directory_that_may_not_be_written_is_found_at_once() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    fs::create_dir(desk.path("locked")).unwrap();
    fs::set_permissions(desk.path("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    let (path, missing) = if fs::write(desk.path("locked/x"), "").is_ok() {
        ("/proc/self/a.png", "/proc/self")
    } else {
        ("locked/a.png", "locked")
    };
    let message = error_of(&desk.command(Path::new("no-model-is-opened"), &["a", "-o", path]).output().unwrap());
    assert!(message.contains(&format!("{missing}: cannot write to the output directory: ")), "{message}");
}

#[test]
fn the_default_model_is_looked_for_and_the_places_are_told() {
    let (desk, model) = (Desk::new(), Sketch::new());
    let mut command = bare();
    command.current_dir(desk.dir.path()).args(["generate", "a"]).env("UNDIFFUSE_MODEL", model.root());
    assert!(command.output().unwrap().status.success());
    let message = error_of(&command.env("UNDIFFUSE_MODEL", desk.path("gone")).output().unwrap());
    assert!(message.contains("gone: no such directory"), "{message}");
}

#[test]
fn a_model_beside_the_executable_is_found() {
    let (desk, model) = (Desk::new(), Sketch::new());
    let program = desk.path("undiffuse");
    fs::copy(env!("CARGO_BIN_EXE_undiffuse"), &program).unwrap();
    fs::create_dir(desk.path("models")).unwrap();
    copy_dir(model.root(), &desk.path("models/only"));
    let output = Command::new(program)
        .current_dir(desk.dir.path())
        .args(["generate", "a", "--json"])
        .env_remove("UNDIFFUSE_MODEL")
        .env("UNDIFFUSE_CACHE", "")
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["model"], "only");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_dir(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_the_run_without_a_file() {
    let (desk, model) = (Desk::new(), Sketch::of_width(64));
    let arguments = ["a", "--steps", "1000", "--size", "512x512", "-v"];
    let mut child = desk.command(model.root(), &arguments).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&mut child, "step 2 of 1000");
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(desk.files().is_empty());
}

/// Reads what `child` logs up to a line with `text`, and leaves the rest to a thread.
fn wait_for(child: &mut std::process::Child, text: &str) {
    use std::io::BufRead;
    let (sender, receiver) = std::sync::mpsc::channel();
    let log = std::io::BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let found =
        std::iter::from_fn(|| receiver.recv_timeout(Duration::from_secs(60)).ok()).any(|line| line.contains(text));
    assert!(found, "{text:?} was never logged");
}

/// Peaks of child processes: one stage at a time, all of them kept, each alone.
#[test]
#[cfg(target_os = "linux")]
fn low_memory_holds_one_stage_at_a_time() {
    let (desk, model) = (Desk::new(), Sketch::of_width(1024));
    let peak = |more: &[&str]| {
        let json = desk.json(&model, &[&["a", "--seed", "1", "--steps", "2", "--threads", "1"], more].concat());
        json["peak_rss_bytes"].as_u64().unwrap()
    };
    let kept = peak(&[]);
    let picture = fs::read(desk.path("out.png")).unwrap();
    let low = peak(&["--low-memory"]);
    assert!(picture == fs::read(desk.path("out.png")).unwrap());
    let weights = fs::metadata(model.path("unet/model.onnx")).unwrap().len();
    assert!(low + weights < kept, "{low} bytes at the peak with little memory, {kept} without");
    let idle = stages_alone(&desk, &Sketch::new())[0];
    let sum: u64 = idle + stages_alone(&desk, &model).map(|peak| peak - idle).iter().sum::<u64>();
    assert!(low < sum, "{low} bytes at the peak, {sum} in the stages");
}

/// Peak of a process that runs nothing but one stage, for each of the three.
#[cfg(target_os = "linux")]
fn stages_alone(desk: &Desk, model: &Sketch) -> [u64; 3] {
    npy::write(desk.path("ids.npy"), &Tensor::new(&[1, 77], vec![1i32; 77]).unwrap()).unwrap();
    npy::write(desk.path("latents.npy"), &Tensor::new(&[1, 4, 8, 8], vec![0.5f32; 256]).unwrap()).unwrap();
    npy::write(desk.path("time.npy"), &Tensor::new(&[1], vec![9f32]).unwrap()).unwrap();
    npy::write(desk.path("states.npy"), &Tensor::new(&[1, 77, 16], vec![0.1f32; 77 * 16]).unwrap()).unwrap();
    let peak = |stage: &str, inputs: &[&str]| {
        let mut command = bare();
        command.current_dir(desk.dir.path()).arg("run").arg(model.path(&format!("{stage}/model.onnx")));
        for input in inputs {
            command.args(["--input", input]);
        }
        let output = command.args(["--json", "--threads", "1"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["peak_rss_bytes"].as_u64().unwrap()
    };
    [
        peak("text_encoder", &["input_ids=ids.npy"]),
        peak("unet", &["sample=latents.npy", "timestep=time.npy", "encoder_hidden_states=states.npy"]),
        peak("vae_decoder", &["latent_sample=latents.npy"]),
    ]
}
