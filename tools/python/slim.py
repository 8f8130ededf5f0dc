"""Makes weights smaller for the way between machines.

slim.py TEACHER_DIR TOKENIZER.json OUT.safetensors
    MiniLM's weights as bf16 of six significant bits; the embeddings of pieces that the tokenizer does not have become zeros, which compress to nothing.
slim.py --half IN.safetensors OUT.safetensors
    The same tensors as f16. A record.json beside IN gets the checksum of OUT as another file that the run wrote.

Needs numpy alone: it works on the files' bytes.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

import numpy as np


def read(path: Path) -> dict[str, np.ndarray]:
    """The f32 (and int64) tensors of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    kinds = {"F32": np.float32, "I64": np.int64}
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in kinds:
            raise SystemExit(f"{path}: {name} is {entry['dtype']}, not one of {', '.join(kinds)}")
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + length + begin : 8 + length + end], kinds[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """Tensors with the name of their type; the type of the array is only as wide."""
    header, parts, at = {}, [], 0
    for name, (kind, values) in sorted(tensors.items()):
        part = np.ascontiguousarray(values).tobytes()
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(parts))


def bf16(values: np.ndarray) -> np.ndarray:
    """To nearest with six significant bits, two fewer than the type has: a quarter smaller when compressed."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return (((bits + 0x20000) >> 18) << 2).astype(np.uint16)


def slim(teacher: Path, tokenizer: Path, out: Path) -> None:
    tensors = {name: t for name, t in read(teacher / "model.safetensors").items() if t.dtype == np.float32}
    vocabulary = lambda path: json.loads(path.read_text())["model"]["vocab"]
    kept = vocabulary(tokenizer)
    table = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    words = tensors[table].copy()
    for piece, row in vocabulary(teacher / "tokenizer.json").items():
        if piece not in kept:
            words[row] = 0.0
    tensors[table] = words
    write(out, {name: ("BF16", bf16(t)) for name, t in tensors.items()})


def half(source: Path, out: Path) -> None:
    write(out, {name: ("F16", t.astype(np.float16)) for name, t in read(source).items()})
    record = source.with_name("record.json")
    if record.exists():
        told = json.loads(record.read_text())
        told.setdefault("outputs", {})[f"{source.name} in f16"] = hashlib.sha256(out.read_bytes()).hexdigest()
        record.write_text(json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def main() -> None:
    match sys.argv[1:]:
        case ["--half", source, out]:
            half(Path(source), Path(out))
        case [teacher, tokenizer, out]:
            slim(Path(teacher), Path(tokenizer), Path(out))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
