//! Token ids against `transformers` (tests/golden/tokenizer, made by tools/python/goldens_tokenizer.py).

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;
use undiffuse::ErrorKind;
use undiffuse::pipeline::{Context, Tokenizer, Tokens};

#[derive(Deserialize)]
struct Goldens {
    cases: std::collections::BTreeMap<String, Vec<Golden>>,
}

#[derive(Deserialize)]
struct Golden {
    text: String,
    /// The ids, and the id that repeats at the end with how often.
    ids: (Vec<u32>, (u32, usize)),
    /// How many are not padding.
    tokens: usize,
}

impl Golden {
    fn ids(&self) -> Vec<u32> {
        let (head, (last, times)) = &self.ids;
        head.iter().copied().chain(std::iter::repeat_n(*last, *times)).collect()
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer").join(name)
}

/// A copy of a golden tokenizer that a test may spoil. SD 2's is SD 1's with other configs.
fn copy(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for source in if name == "clip-sd2" { vec!["clip", name] } else { vec![name] } {
        for file in fs::read_dir(golden(source)).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
    }
    dir
}

fn open(dir: &TempDir, context: Context) -> Tokenizer {
    Tokenizer::open(dir.path(), context).unwrap()
}

fn message(dir: &TempDir, context: Context) -> String {
    Tokenizer::open(dir.path(), context).err().expect("an error").to_string()
}

#[test]
fn ids_are_those_of_transformers() {
    let goldens: Goldens = serde_json::from_slice(&fs::read(golden("vectors.json")).unwrap()).unwrap();
    assert_eq!(goldens.cases.len(), 4);
    let mut wrong = vec![];
    for (name, cases) in &goldens.cases {
        assert!(cases.len() > 20);
        let tokenizer = open(&copy(name), Context::default());
        for case in cases {
            let Tokens { ids, mask, .. } = tokenizer.encode(&case.text).unwrap();
            if ids != case.ids() || mask.iter().filter(|m| **m == 1).count() != case.tokens || mask.len() != ids.len() {
                wrong.push(format!("{name}: {:?}\n  is  {ids:?}\n  not {:?}", case.text, case.ids()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_does_not_fit_is_quoted() {
    let tokenizer = open(&copy("clip"), Context { sequence: Some(6), ..Context::default() });
    let tokens = tokenizer.encode("a Red apple and a cat's toy").unwrap();
    assert_eq!(tokens.ids.len(), 6);
    assert_eq!(tokens.cut.as_deref(), Some("a cat's toy"));
    assert_eq!(tokenizer.encode("a red apple and").unwrap().cut, None);
    let wordpiece = open(&copy("wordpiece"), Context { positions: Some(5), ..Context::default() });
    assert_eq!(wordpiece.encode("a red apple, Really").unwrap().cut.as_deref(), Some(", Really"));
}

#[test]
fn the_graph_decides_the_length() {
    let fixed = open(&copy("clip"), Context { sequence: Some(5), ..Context::default() });
    assert_eq!(fixed.encode("").unwrap().ids.len(), 5);
    let unbounded = open(&copy("wordpiece-unbounded"), Context::default());
    assert_eq!(unbounded.encode("a cat").unwrap().ids.len(), 4);
    let padded = open(&copy("wordpiece-unbounded"), Context { sequence: Some(9), ..Context::default() });
    let tokens = padded.encode("a cat").unwrap();
    assert_eq!((tokens.ids.len(), tokens.mask), (9, vec![1, 1, 1, 1, 0, 0, 0, 0, 0]));
}

#[test]
fn padding_may_stand_on_the_left() {
    let dir = copy("wordpiece");
    edit(&dir, "tokenizer_config.json", |json| json["padding_side"] = "left".into());
    let tokens = open(&dir, Context { sequence: Some(6), ..Context::default() }).encode("a cat").unwrap();
    assert_eq!(tokens.mask, [0, 0, 1, 1, 1, 1]);
    assert_eq!(tokens.ids[..3], [0, 0, 2]);
}

#[test]
fn a_tokenizer_that_does_not_fit_the_encoder_is_refused() {
    let few_rows = message(&copy("clip"), Context { vocabulary: Some(100), ..Context::default() });
    assert!(
        few_rows.contains("vocab.json: the tokenizer does not fit the text encoder: token \"<|endoftext|>\" has id"),
        "{few_rows}"
    );
    assert!(few_rows.ends_with("the encoder has 100 embeddings"), "{few_rows}");
    let no_room = message(&copy("clip"), Context { sequence: Some(2), ..Context::default() });
    assert!(no_room.ends_with("it adds 2 special tokens, the context has room for 2"), "{no_room}");
    let absurd = copy("clip");
    edit(&absurd, "tokenizer_config.json", |json| json["model_max_length"] = 100_000_000.into());
    let absurd = message(&absurd, Context::default());
    assert!(absurd.ends_with("a context of 100000000 tokens, more than the 4096 that any encoder reads"), "{absurd}");
    let stranger = copy("clip");
    edit(&stranger, "special_tokens_map.json", |json| json["pad_token"] = "<pad>".into());
    let stranger = message(&stranger, Context::default());
    assert!(stranger.ends_with("special token \"<pad>\" of its configs is not in the vocabulary"), "{stranger}");
}

#[test]
fn broken_files_are_named() {
    let empty = tempfile::tempdir().unwrap();
    let error = Tokenizer::open(empty.path(), Context::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().ends_with("no tokenizer here: expected tokenizer.json, or vocab.json and merges.txt"),
        "{error}"
    );
    for (name, file, bytes, expected) in [
        ("clip", "vocab.json", "{\"a\": -1}", "vocab.json: not a map from tokens to ids"),
        ("clip", "vocab.json", "", "vocab.json: not a map from tokens to ids"),
        ("clip", "vocab.json", "{\"a\": 0}", "no \"<|startoftext|>\" in the vocabulary"),
        ("clip", "merges.txt", "#version: 0.2\n\nin", "merges.txt: line 3, \"in\": expected two tokens"),
        (
            "clip",
            "merges.txt",
            "ein zwei\n",
            "merges.txt: line 1, \"ein zwei\": a merge of tokens that vocab.json does not have",
        ),
        ("clip", "tokenizer_config.json", "{", "tokenizer_config.json: malformed JSON"),
        ("clip", "special_tokens_map.json", "[]", "special_tokens_map.json: malformed JSON"),
        ("wordpiece", "tokenizer.json", "{}", "tokenizer.json: "),
        ("wordpiece", "tokenizer.json", "\u{0}\u{1}", "tokenizer.json: "),
    ] {
        let dir = copy(name);
        fs::write(dir.path().join(file), bytes).unwrap();
        let message = message(&dir, Context::default());
        assert!(message.contains(expected), "{file}: {message}");
    }
}

#[test]
fn a_tokenizer_json_that_makes_the_library_panic_is_an_error() {
    let dir = copy("wordpiece");
    let bpe = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}
    });
    fs::write(dir.path().join("tokenizer.json"), bpe.to_string()).unwrap();
    let message = message(&dir, Context::default());
    assert!(message.contains("tokenizer.json: malformed"), "{message}");
}

/// Every byte of every file in turn set to something else: an error or a tokenizer, never a panic.
#[test]
fn no_single_byte_makes_it_panic() {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for (name, files) in [
        ("clip", vec!["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"]),
        ("wordpiece", vec!["tokenizer.json", "tokenizer_config.json"]),
    ] {
        for file in files {
            let dir = copy(name);
            let path = dir.path().join(file);
            let whole = fs::read(&path).unwrap();
            for _ in 0..60 {
                let mut bytes = whole.clone();
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
                if random(4) == 0 {
                    bytes.truncate(at);
                }
                fs::write(&path, &bytes).unwrap();
                let _ = Tokenizer::open(dir.path(), Context::default()).and_then(|t| t.encode("a red apple, it's"));
            }
        }
    }
}

fn edit(dir: &TempDir, file: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let path = dir.path().join(file);
    let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}
