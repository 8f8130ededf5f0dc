"""A small but valid CLIP vocabulary: OpenAI's byte-pair merges, cut to the frequent ones and those of given words."""

import gzip
import json
import zipfile
from pathlib import Path

SOURCE_WHEEL = "imgsearch-0.3.3-py3-none-any.whl"
SOURCE_FILE = "tinyclip/bpe_simple_vocab_16e6.txt.gz"
CLIP_MERGES = 49152 - 256 - 2
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_symbols():
    """The printable stand-ins of the 256 bytes, in the order of CLIP's ids (GPT-2's byte table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(hidden)}}


def clip_merges(wheel):
    lines = gzip.decompress(zipfile.ZipFile(wheel).read(SOURCE_FILE)).decode("utf-8").split("\n")
    return [tuple(line.split()) for line in lines[1 : CLIP_MERGES + 1]]


def merges_of(word, ranks):
    """The merges that byte-pair encoding applies to `word`."""
    table = byte_symbols()
    symbols = [table[b] for b in word.encode("utf-8")]
    symbols[-1] += "</w>"
    used = []
    while True:
        pairs = [pair for pair in zip(symbols, symbols[1:]) if pair in ranks]
        if not pairs:
            return used
        best = min(pairs, key=ranks.get)
        used.append(best)
        symbols = merge(symbols, best)


def merge(symbols, pair):
    merged, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


def cut(merges, frequent, words):
    """The first `frequent` merges and whatever `words` need, in CLIP's order."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    kept = set(merges[:frequent])
    for word in words:
        kept.update(merges_of(word, ranks))
    return [pair for pair in merges if pair in kept]


def vocabulary(merges):
    bytes_ = list(byte_symbols().values())
    tokens = bytes_ + [b + "</w>" for b in bytes_] + ["".join(pair) for pair in merges] + [START, END]
    return {token: i for i, token in enumerate(tokens)}


def write_tokenizer(directory, merges, pad):
    """The four files of SD's `tokenizer/`; `pad` is SD 1's `<|endoftext|>` or SD 2's `!`."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    special = lambda text: {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    names = {"bos_token": special(START), "eos_token": special(END), "pad_token": pad, "unk_token": special(END)}
    config = {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
        **names,
    }
    (directory / "vocab.json").write_text(json.dumps(vocabulary(merges), ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (directory / "special_tokens_map.json").write_text(json.dumps(names, indent=2) + "\n")
