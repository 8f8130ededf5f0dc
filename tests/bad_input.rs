//! Broken models, graphs and arrays: each gets an error that names the place and says what to do, and nothing panics.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::Axis::{Fixed, Named};
use support::*;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;
use undiffuse::engine::{self, Backend, Threads};
use undiffuse::model::{Graph, Model, Role};
use undiffuse::value::Tensor;
use undiffuse::{ErrorKind, npy};

/// A graph `y = x · w` that runs.
fn sound() -> Builder {
    Builder::new(18)
        .input("x", DataType::Float, &[Named("n"), Fixed(2)])
        .weight(floats("w", &[2, 3], &numbers(1, 6)))
        .node("MatMul", &["x", "w"], "y")
        .output("y", DataType::Float, &[Named("n"), Fixed(3)])
}

fn refused(file: impl AsRef<Path>) -> (ErrorKind, String) {
    let error = Graph::open(file).expect_err("must be refused");
    (error.kind(), error.to_string())
}

fn refused_builder(builder: &Builder) -> (ErrorKind, String) {
    let folder = tempfile::tempdir().unwrap();
    let (kind, message) = refused(builder.save(folder.path().join("m.onnx")));
    assert!(message.contains("m.onnx: "), "names the file: {message}");
    (kind, message)
}

fn run(graph: Graph, inputs: &[(&str, &Tensor)]) -> undiffuse::Result<engine::Outputs> {
    run_on(Backend::Auto, graph, inputs)
}

fn run_on(backend: Backend, graph: Graph, inputs: &[(&str, &Tensor)]) -> undiffuse::Result<engine::Outputs> {
    engine::load(graph, backend, &Threads::new(std::num::NonZeroUsize::new(1))?)?.run(inputs)
}

fn assert_contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn files_that_are_no_onnx() {
    let folder = tempfile::tempdir().unwrap();
    let whole = sound().bytes();
    let cases: [(&str, &[u8], &str); 5] = [
        ("empty", b"", "is empty (0 bytes); fetch or export it again"),
        ("garbage", b"\xff\xfe not protobuf at all \x00\x01", "is not an ONNX file"),
        ("cut", &whole[..whole.len() - 9], "is not an ONNX file, or is cut short"),
        ("nothing", b"\x08\x08", "is not an ONNX file: it holds no graph"),
        (
            "pointer",
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a git-lfs pointer, not the model itself; run `git lfs pull`",
        ),
    ];
    for (name, bytes, expected) in cases {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let (kind, message) = refused(&file);
        assert_eq!(kind, ErrorKind::Malformed);
        assert_contains(&message, &[name, expected]);
    }
    assert_eq!(refused(folder.path().join("absent")).0, ErrorKind::NotFound);
    assert_contains(&refused(folder.path()).1, &["is a directory, not an ONNX file"]);
}

#[test]
fn every_unsupported_operator_is_listed_with_its_nodes() {
    let mut builder =
        sound().node("Frobnicate", &["y"], "a").node("Frobnicate", &["a"], "b").node("LpPoolish", &["b"], "c");
    builder.graph().node[3].domain = "com.microsoft".into();
    let (kind, message) = refused_builder(&builder);
    assert_eq!(kind, ErrorKind::Unsupported);
    assert_contains(&message, &["2 unsupported operator(s): Frobnicate (/a, /b); com.microsoft.LpPoolish (/c)"]);
}

#[test]
fn element_types_that_are_no_numbers() {
    let weight = sound().weight(tract_onnx::pb::TensorProto {
        name: "words".into(),
        data_type: DataType::String as i32,
        dims: vec![1],
        string_data: vec![b"cat".to_vec()],
        ..Default::default()
    });
    assert_contains(&refused_builder(&weight).1, &["`words`: element type STRING where numbers belong"]);
    let raw_words = sound().weight(raw("words", DataType::String, &[1], vec![1, 2, 3]));
    assert_contains(&refused_builder(&raw_words).1, &["`words`: element type STRING"]);
    let input = sound().input("text", DataType::String, &[Fixed(1)]);
    assert_contains(&refused_builder(&input).1, &["`text`: element type STRING where numbers belong"]);
    let constant =
        sound().node_with("Constant", &[], "c", vec![tensor("value", raw("", DataType::Complex64, &[1], vec![0; 8]))]);
    assert_contains(&refused_builder(&constant).1, &["node \"/c\": ", "element type COMPLEX64 where numbers belong"]);
}

#[test]
fn dimensions_that_are_absurd() {
    let absurd = "are absurd: more than 2147483648 elements";
    let weight = sound().weight(raw("huge", DataType::Float, &[1 << 40, 1 << 40], vec![0; 4]));
    assert_contains(&refused_builder(&weight).1, &["`huge`: ", absurd]);
    let negative = sound().weight(raw("odd", DataType::Float, &[-3], vec![0; 4]));
    assert_contains(&refused_builder(&negative).1, &["`odd`: the declared dimensions [-3] are negative"]);
    let input = sound().input("z", DataType::Float, &[Fixed(1 << 20), Fixed(1 << 20)]);
    assert_contains(&refused_builder(&input).1, &["`z`: ", absurd]);
    let made = sound().weight(integers("size", &[1 << 30, 1 << 10])).node("ConstantOfShape", &["size"], "c");
    assert_contains(&refused_builder(&made).1, &["node \"/c\": ConstantOfShape asks for absurd dimensions"]);
    let short = sound().weight(raw("short", DataType::Float, &[4], vec![0; 12]));
    assert_contains(&refused_builder(&short).1, &["`short`: FLOAT [4] takes 16 bytes, the file has 12"]);
}

#[test]
fn values_that_grow_absurd_inside_the_graph() {
    let folder = tempfile::tempdir().unwrap();
    let file = Builder::new(18)
        .input("x", DataType::Float, &[Fixed(1 << 20), Fixed(1)])
        .node_with("Transpose", &["x"], "t", vec![ints("perm", &[1, 0])])
        .node("MatMul", &["x", "t"], "y")
        .output("y", DataType::Float, &[Fixed(1 << 20), Fixed(1 << 20)]);
    // declared as it is, the output is refused; undeclared, it is found when shapes are known
    assert_contains(&refused_builder(&file).1, &["`y`: ", "are absurd"]);
    let mut silent = file.clone();
    silent.graph().output[0] = value("y", DataType::Float, &[Named("a"), Named("b")]);
    let graph = Graph::open(silent.save(folder.path().join("m.onnx"))).unwrap();
    let x = Tensor::new(&[1 << 20, 1], vec![0f32; 1 << 20]).unwrap();
    let message = run(graph, &[("x", &x)]).unwrap_err().to_string();
    assert_contains(&message, &["m.onnx: node ", "absurd dimensions"]);
}

#[test]
fn operator_sets_outside_of_what_is_known() {
    for (opset, advice) in [(8, "export it again with opset_version=14"), (28, "opset_version=18")] {
        let mut builder = sound();
        builder.model.opset_import[0].version = opset;
        let (kind, message) = refused_builder(&builder);
        assert_eq!(kind, ErrorKind::Unsupported);
        assert_contains(&message, &[&format!("operator set {opset}; 9 to 27 are known"), advice]);
    }
    let mut silent = sound();
    silent.model.opset_import.clear();
    assert_contains(&refused_builder(&silent).1, &["does not say which operator set"]);
}

#[test]
fn graphs_that_are_wired_wrongly() {
    let dangling = sound().node("Relu", &["nowhere"], "z");
    assert_contains(&refused_builder(&dangling).1, &["node \"/z\": reads \"nowhere\", which nothing before it makes"]);
    let circle = sound().node("Add", &["y", "p"], "q").node("Relu", &["q"], "p");
    assert_contains(&refused_builder(&circle).1, &["node \"/q\": reads \"p\", which nothing before it makes"]);
    let twice = sound().node("Relu", &["x"], "y");
    assert_contains(&refused_builder(&twice).1, &["node \"/y\": makes \"y\", which is made already"]);
    let unmade = sound().output("z", DataType::Float, &[]);
    assert_contains(&refused_builder(&unmade).1, &["`z`: no node makes this output of the graph"]);
}

#[test]
fn external_data_that_is_missing_short_or_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("model");
    let at = |location: &str, offset: u64| {
        let mut builder = sound();
        externalise(&mut builder.graph().initializer[0], location, offset);
        builder.save(inner.join("m.onnx"))
    };
    assert_contains(&refused(at("w.bin", 0)).1, &["w.bin: `w`: no such file", "fetch it into the same folder"]);
    std::fs::write(inner.join("w.bin"), [0; 20]).unwrap();
    let short = refused(at("w.bin", 0));
    assert_eq!(short.0, ErrorKind::Mismatch);
    let expected = "`w`: external data needs 24 bytes at offset 0 of w.bin, which has 20 bytes; the file is cut short";
    assert_contains(&short.1, &["m.onnx: ", expected]);
    assert_contains(&refused(at("w.bin", u64::MAX)).1, &["needs 24 bytes at offset 18446744073709551615"]);
    std::fs::write(folder.path().join("secret"), [0; 64]).unwrap();
    let secret = folder.path().join("secret");
    for location in ["../secret", secret.to_str().unwrap(), "", "a/../../secret"] {
        assert_contains(&refused(at(location, 0)).1, &["`w`: ", "which is not inside the model's folder"]);
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&secret, inner.join("link")).unwrap();
        assert_contains(&refused(at("link", 0)).1, &["links to outside of the model's folder"]);
    }
    let mut wrong = sound();
    let weight = &mut wrong.graph().initializer[0];
    externalise(weight, "w.bin", 0);
    weight.external_data[2].value = "12".into();
    assert_contains(&refused(wrong.save(inner.join("m.onnx"))).1, &["takes 24 bytes, its external data declares 12"]);
    wrong.graph().initializer[0].external_data[1].value = "0x10".into();
    assert_contains(&refused(wrong.save(inner.join("m.onnx"))).1, &["offset is \"0x10\", not a number of bytes"]);
}

#[test]
fn arrays_that_do_not_fit_their_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let file = sound().save(folder.path().join("m.onnx"));
    let message = |inputs: &[(&str, &Tensor)]| run(Graph::open(&file).unwrap(), inputs).unwrap_err().to_string();
    let x = Tensor::new(&[1, 3], vec![0f32; 3]).unwrap();
    assert_contains(&message(&[("x", &x)]), &["`x`: the array has the shape [1, 3], the graph declares [n, 2]"]);
    let whole = Tensor::new(&[1, 2], vec![0i64; 2]).unwrap();
    assert_contains(&message(&[("x", &whole)]), &["`x`: the array is int64, the graph takes float32"]);
    assert_contains(&message(&[]), &["`x`: the input is not given; the graph takes x"]);
    assert_contains(&message(&[("y", &x)]), &["`y`: the graph has no such input; it takes x"]);
}

#[test]
fn what_no_engine_can_compute_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    // A division by zero among whole numbers: tract evaluates it while it runs.
    let file = Builder::new(18)
        .input("a", DataType::Int64, &[Fixed(1)])
        .input("b", DataType::Int64, &[Fixed(1)])
        .node("Div", &["a", "b"], "y")
        .output("y", DataType::Int64, &[Fixed(1)])
        .save(folder.path().join("m.onnx"));
    let (a, b) = (Tensor::new(&[1], vec![1i64]).unwrap(), Tensor::new(&[1], vec![0i64]).unwrap());
    for (backend, expected) in [
        (Backend::Tract, "m.onnx: tract panicked while running the graph: attempt to divide by zero"),
        (Backend::Cpu, "a whole number is divided by zero"),
    ] {
        let error = run_on(backend, Graph::open(&file).unwrap(), &[("a", &a), ("b", &b)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Engine);
        assert_contains(&error.to_string(), &["m.onnx", expected]);
    }
}

fn directory(change: impl FnOnce(&Path)) -> (ErrorKind, String) {
    let folder = tempfile::tempdir().unwrap();
    pipeline(folder.path());
    change(folder.path());
    let error = Model::open(folder.path()).expect_err("must be refused");
    (error.kind(), error.to_string())
}

fn write(root: &Path, file: &str, text: &str) {
    std::fs::write(root.join(file), text).unwrap();
}

#[test]
fn directories_that_are_no_models() {
    let message = Model::open("no/such/place").unwrap_err().to_string();
    assert_contains(&message, &["no/such/place: no such directory; give a directory in the diffusers ONNX layout"]);
    let (kind, message) = directory(|root| std::fs::remove_file(root.join("model_index.json")).unwrap());
    assert_eq!(kind, ErrorKind::NotFound);
    assert_contains(&message, &["model_index.json: no such file", "as optimum-onnx exports it"]);
    let (kind, message) = directory(|root| std::fs::remove_dir_all(root.join("vae_decoder")).unwrap());
    assert_eq!(kind, ErrorKind::NotFound);
    assert_contains(&message, &["the model has no decoder; vae_decoder/ with a model.onnx is missing"]);
    let (_, message) = directory(|root| {
        std::fs::rename(root.join("unet/model.onnx"), root.join("unet/diffusion_pytorch_model.safetensors")).unwrap();
    });
    assert_contains(&message, &["unet: has no ONNX file, only diffusion_pytorch_model.safetensors; export the model"]);
    let (_, message) = directory(|root| {
        std::fs::rename(root.join("unet/model.onnx"), root.join("unet/a.onnx")).unwrap();
        std::fs::copy(root.join("unet/a.onnx"), root.join("unet/b.onnx")).unwrap();
    });
    assert_contains(&message, &["unet: has 2 ONNX files and none is called model.onnx"]);
}

#[test]
fn configs_that_are_broken() {
    let (kind, message) =
        directory(|root| write(root, "scheduler/scheduler_config.json", "{\"beta_start\": 0.1,\n oops}"));
    assert_eq!(kind, ErrorKind::Malformed);
    assert_contains(&message, &["scheduler_config.json: is not JSON: ", "line 2"]);
    let (_, message) = directory(|root| write(root, "model_index.json", "[1, 2]"));
    assert_contains(&message, &["model_index.json: is not a JSON object"]);
    let (_, message) = directory(|root| write(root, "vae_decoder/config.json", r#"{"scaling_factor": "big"}"#));
    assert_contains(&message, &["config.json: `scaling_factor`: is \"big\", not a number"]);
    let (_, message) = directory(|root| write(root, "unet/config.json", r#"{"sample_size": -8}"#));
    assert_contains(&message, &["`sample_size`: is -8, not a whole number, or a list of two"]);
    let (kind, message) =
        directory(|root| write(root, "scheduler/scheduler_config.json", r#"{"_class_name": "MagicScheduler"}"#));
    assert_eq!(kind, ErrorKind::Unsupported);
    assert_contains(
        &message,
        &["`_class_name`: MagicScheduler is not a scheduler that is known; known are EulerDiscreteScheduler, "],
    );
    let (_, message) = directory(|root| write(root, "scheduler/scheduler_config.json", "{}"));
    assert_contains(&message, &["does not say which scheduler it is for"]);
    let (_, message) = directory(|root| write(root, "undiffuse.json", r#"{"step": 3}"#));
    assert_contains(
        &message,
        &["undiffuse.json: `step`: is not a setting; known are steps, guidance, display_size, negative"],
    );
    let (_, message) = directory(|root| write(root, "undiffuse.json", r#"{"steps": 0}"#));
    assert_contains(&message, &["`steps`: is 0; at least one step is needed"]);
}

#[test]
fn a_name_in_the_schedule_that_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    pipeline(folder.path());
    let text = r#"{"_class_name": "DDIMScheduler", "beta_schedule": "wavy"}"#;
    write(folder.path(), "scheduler/scheduler_config.json", text);
    let model = Model::open(folder.path()).unwrap();
    let message = model.scheduler().schedule(model.scheduler().sampler()).unwrap_err().to_string();
    assert_contains(&message, &["scheduler_config.json: `beta_schedule`: is \"wavy\": "]);
}

#[test]
fn the_wrong_graph_in_a_stage_s_place() {
    let swap = |from: &str, to: &str, role: Role| {
        let folder = tempfile::tempdir().unwrap();
        pipeline(folder.path());
        std::fs::copy(folder.path().join(from).join("model.onnx"), folder.path().join(to).join("model.onnx")).unwrap();
        let error = Model::open(folder.path()).unwrap().stage(role).unwrap().open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        error.to_string()
    };
    let message = swap("text_encoder", "unet", Role::Denoiser);
    assert_contains(
        &message,
        &["unet/model.onnx: is not a denoiser: it takes input_ids, but no sample; put the denoiser's own"],
    );
    let message = swap("unet", "text_encoder", Role::TextEncoder);
    assert_contains(
        &message,
        &["is not a text encoder: it takes sample, timestep, encoder_hidden_states, but no input_ids"],
    );
    let message = swap("text_encoder", "vae_decoder", Role::Decoder);
    assert_contains(&message, &["is not a decoder: it takes input_ids, but no latent_sample"]);
}

#[test]
fn an_encoder_in_the_decoder_s_place() {
    let folder = tempfile::tempdir().unwrap();
    pipeline(folder.path());
    let four = |channels| [Named("batch"), Fixed(channels), Named("height"), Named("width")];
    Builder::new(18)
        .input("sample", DataType::Float, &four(3))
        .weight(floats("k", &[4, 3, 1, 1], &numbers(3, 12)))
        .node("Conv", &["sample", "k"], "latent_sample")
        .output("latent_sample", DataType::Float, &four(4))
        .save(folder.path().join("vae_decoder/model.onnx"));
    let error = Model::open(folder.path()).unwrap().stage(Role::Decoder).unwrap().open().unwrap_err();
    assert_contains(&error.to_string(), &["is not a decoder: it gives latent_sample, as an encoder does"]);
}

#[test]
fn model_families_that_need_more_say_what() {
    let cases: [(&[&str], &[&str]); 3] = [
        (
            &["text_embeds", "time_ids"],
            &["`text_embeds` (the pooled text states of SDXL", "`time_ids` (the picture and crop sizes"],
        ),
        (&["pooled_projections"], &["`pooled_projections` (the pooled text states of SD3 and Flux)"]),
        (
            &["txt_ids", "img_ids", "guidance"],
            &["`txt_ids` (", "`img_ids` (", "`guidance` (the guidance input of Flux)"],
        ),
    ];
    for (extra, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        pipeline(folder.path());
        let latents = [Named("batch"), Fixed(4), Named("height"), Named("width")];
        let mut builder = Builder::new(18)
            .input("sample", DataType::Float, &latents)
            .input("timestep", DataType::Float, &[])
            .input("encoder_hidden_states", DataType::Float, &[Named("batch"), Named("tokens"), Fixed(8)]);
        for name in extra {
            builder = builder.input(name, DataType::Float, &[Named("batch"), Fixed(6)]);
        }
        builder
            .node("Relu", &["sample"], "out_sample")
            .output("out_sample", DataType::Float, &latents)
            .save(folder.path().join("unet/model.onnx"));
        let error = Model::open(folder.path()).unwrap().stage(Role::Denoiser).unwrap().open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_contains(&error.to_string(), expected);
        assert_contains(&error.to_string(), &["this denoiser also needs ", "which this version cannot give"]);
    }
}

#[test]
fn arrays_on_disk_that_are_broken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.npy");
    npy::write(&file, &Tensor::new(&[4, 4], vec![1f32; 16]).unwrap()).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let message = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let message = npy::read(&file).unwrap_err().to_string();
        assert!(message.contains("a.npy: "), "names the file: {message}");
        message
    };
    assert_contains(&message(b""), &["is not a .npy file, or is cut short", "write it with numpy.save"]);
    assert_contains(&message(b"PK\x03\x04 a zip"), &["is not a .npy file"]);
    assert_contains(&message(&whole[..60]), &["is not a .npy file, or is cut short"]);
    assert_contains(&message(&whole[..whole.len() - 80]), &["cut short"]);
    assert_contains(&message(&whole[..whole.len() - 1]), &["cut short"]);
    let mut complex = whole.clone();
    let position = complex.windows(3).position(|window| window == b"<f4").unwrap();
    complex[position..position + 3].copy_from_slice(b"<c8");
    assert_contains(&message(&complex), &["element type", "c8", "is not supported"]);
    assert_eq!(npy::read(folder.path().join("absent.npy")).unwrap_err().kind(), ErrorKind::NotFound);
}

fn undiffuse(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    let Output { status, stdout, stderr } = command.env("UNDIFFUSE_CACHE", "").args(args).output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn the_command_fails_with_1_and_a_bad_command_line_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let model = sound().save(folder.path().join("m.onnx"));
    let model = model.to_str().unwrap();
    let x = folder.path().join("x.npy");
    npy::write(&x, &Tensor::new(&[1, 2], vec![1f32, f32::NAN]).unwrap()).unwrap();
    let input = format!("x={}", x.display());
    let missing: PathBuf = folder.path().join("absent/y.npy");
    let cases: [(&[&str], i32, &str); 8] = [
        (&["run", "absent.onnx"], 1, "error: absent.onnx: no such file"),
        (&["run", model], 1, "`x`: the input is not given; the graph takes x"),
        (
            &["run", model, "--random", "1"],
            1,
            "`x`: the axis n has no fixed length; give it with --input x=F.npy or --axis n=N",
        ),
        (&["run", model, "--input", &input], 1, "y [1, 3] holds NaN at index 0 of 3"),
        (&["run", model, "--input", &input, "--output", "z=z.npy"], 1, "the graph has no output \"z\"; it gives y"),
        (&["run", model, "--output", &format!("y={}", missing.display())], 1, "absent: no such directory; create it"),
        (&["run", model, "--backend", "gpu"], 2, "unknown backend \"gpu\"; use one of auto, cpu, tract"),
        (&["run", model, "--input", "x"], 2, "write it as NAME=FILE.npy"),
    ];
    for (args, code, expected) in cases {
        let (status, text) = undiffuse(args);
        assert_eq!(status, Some(code), "{args:?}: {text}");
        assert_contains(&text, &[expected]);
    }
}

/// Small xorshift generator (Marsaglia 2003), so that a failure can be repeated.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

/// One to three truncations, flipped bits, overwritten or lost bytes.
fn mutate(original: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = original.to_vec();
    for _ in 0..1 + next(&mut state) % 3 {
        let at = next(&mut state) % bytes.len();
        match next(&mut state) % 4 {
            0 => bytes.truncate(at.max(1)),
            1 => bytes[at] ^= 1 << (next(&mut state) % 8),
            2 => bytes[at] = next(&mut state) as u8,
            _ if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => (),
        }
    }
    bytes
}

#[test]
fn mutated_graphs_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    let picture = [Fixed(1), Fixed(2), Fixed(4), Fixed(4)];
    let original = Builder::new(18)
        .input("x", DataType::Float, &picture)
        .weight(floats("k", &[2, 2, 3, 3], &numbers(1, 36)))
        .weight(integers("size", &[2, 16]))
        .weight(halves("h", &[16, 2], &numbers(2, 32)))
        .node_with("Conv", &["x", "k"], "c", vec![ints("pads", &[1, 1, 1, 1]), ints("strides", &[1, 1])])
        .node("Reshape", &["c", "size"], "r")
        .node_with("Cast", &["h"], "wide", vec![int("to", DataType::Float as i64)])
        .node("MatMul", &["r", "wide"], "y")
        .output("y", DataType::Float, &[Fixed(2), Fixed(2)])
        .bytes();
    let x = Tensor::new(&[1, 2, 4, 4], numbers(3, 32)).unwrap();
    let mut ran = 0;
    for seed in 1..=1500u64 {
        std::fs::write(&file, mutate(&original, seed)).unwrap();
        // Whatever comes, it comes as a value: the test fails by a panic, an abort or by never ending.
        let outcome = Graph::open(&file).and_then(|graph| run(graph, &[("x", &x)]));
        ran += usize::from(outcome.is_ok());
    }
    assert!((1..1500).contains(&ran), "{ran} of 1500 ran: the mutations are too weak or too strong to say anything");
}

#[test]
fn mutated_configs_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    pipeline(folder.path());
    write(
        folder.path(),
        "undiffuse.json",
        r#"{"steps": 3, "guidance": 1.5, "display_size": [64, 32], "negative": "x"}"#,
    );
    let files = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "vae_decoder/config.json",
        "undiffuse.json",
    ];
    let mut opened = 0;
    for name in files {
        let file = folder.path().join(name);
        let original = std::fs::read(&file).unwrap();
        for seed in 1..=200u64 {
            std::fs::write(&file, mutate(&original, seed)).unwrap();
            if let Ok(model) = Model::open(folder.path()) {
                opened += 1;
                let _ = model.scheduler().schedule(model.scheduler().sampler());
            }
        }
        std::fs::write(&file, original).unwrap();
    }
    assert!((1..1000).contains(&opened), "{opened} of 1000 opened");
}

#[test]
fn mutated_arrays_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.npy");
    npy::write(&file, &Tensor::new(&[3, 2], vec![1i64; 6]).unwrap()).unwrap();
    let original = std::fs::read(&file).unwrap();
    let mut read = 0;
    for seed in 1..=2000u64 {
        std::fs::write(&file, mutate(&original, seed)).unwrap();
        read += usize::from(npy::read(&file).is_ok());
    }
    assert!((1..2000).contains(&read), "{read} of 2000 were read");
}

/// A graph whose weight is dequantised, four numbers in two columns, with what a case puts in the place of something sound.
fn dequantized(codes: Option<TensorProto>, scale: TensorProto, zero: Option<TensorProto>, axis: i64) -> Builder {
    let codes = codes.unwrap_or_else(|| raw("q", DataType::Int8, &[2, 2], vec![1, 2, 3, 4]));
    let inputs = if zero.is_some() { vec!["q", "s", "z"] } else { vec!["q", "s"] };
    let builder = zero.into_iter().fold(sound().weight(codes).weight(scale), Builder::weight);
    builder
        .node_with("DequantizeLinear", &inputs, "v", vec![int("axis", axis)])
        .node("MatMul", &["x", "v"], "t")
        .output("t", DataType::Float, &[Named("n"), Fixed(2)])
}

#[test]
fn scales_and_zero_points_that_do_not_fit_name_the_node() {
    let scales = |values: &[f32]| floats("s", &[values.len() as i64], values);
    let sound = || scales(&[0.5, 0.25]);
    let zeros = |data_type, count: usize| raw("z", data_type, &[count as i64], vec![1; count]);
    let int32 = raw("q", DataType::Int32, &[2, 2], vec![0; 16]);
    let offset = raw("z", DataType::Int32, &[2], vec![1; 8]);
    let cases = [
        (dequantized(None, scales(&[1.0; 3]), None, 1), "scales [3] for axis 1 of a weight [2, 2]"),
        (dequantized(None, floats("s", &[1, 2], &[1.0; 2]), None, 1), "scales [1, 2] for axis 1 of a weight [2, 2]"),
        (dequantized(None, sound(), None, 2), "axis 2 of a weight [2, 2]"),
        (dequantized(None, sound(), None, -3), "axis -3 of a weight [2, 2]"),
        (dequantized(None, scales(&[1.0, f32::NAN]), None, 1), "`s`: a scale is NaN"),
        (dequantized(None, integers("s", &[1, 2]), None, 1), "`s`: scales of INT64"),
        (dequantized(None, sound(), Some(zeros(DataType::Uint8, 2)), 1), "`z`: zero points of UINT8 for INT8"),
        (dequantized(None, sound(), Some(zeros(DataType::Int8, 3)), 1), "`z`: 3 zero points for 2 scales"),
        (dequantized(Some(int32), sound(), Some(offset), 1), "`z`: INT32 has no zero points other than 0"),
        (dequantized(Some(floats("q", &[2, 2], &[1.0; 4])), sound(), None, 1), "`q`: it dequantises FLOAT"),
    ];
    for (builder, expected) in cases {
        assert_contains(&refused_builder(&builder).1, &["node \"/v\": ", expected]);
    }
    let mut old = dequantized(None, sound(), None, 1);
    old.model.opset_import[0].version = 12;
    assert_contains(&refused_builder(&old).1, &["node \"/v\": ", "operator set 12 knows one for all"]);
    let mut blocks = dequantized(None, floats("s", &[2, 1], &[1.0; 2]), None, 1);
    blocks.graph().node[1].attribute.push(int("block_size", 2));
    let (kind, message) = refused_builder(&blocks);
    assert_eq!(kind, ErrorKind::Unsupported);
    assert_contains(&message, &["node \"/v\": ", "scales of blocks are not supported"]);
}
