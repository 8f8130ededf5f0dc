"""Golden numbers of torch's CPU generator, for tests/noise.rs.

    python tools/python/goldens_noise.py [OUT]          (default: tests/golden/sampler/noise_torch.json)

Draws of more than 100 values are stored in part: the first and last 20, and every 97th between.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

SEEDS = [0, 1, 42, 123456789, 2**32 - 1, 2**32 + 42, 2**63 - 1]
SIZES = [1, 7, 15, 16, 17, 31, 64, 1000, 4 * 64 * 64]
# Small draws keep half of a pair for the next small draw, large ones leave it alone.
SEQUENCES = [[3, 20, 4, 1, 16, 5, 17, 2, 1000, 7], [16, 16, 16], [1, 1, 1, 1, 1], [15, 15, 33, 15], [700, 700, 700]]


def kept(n):
    return list(range(n)) if n <= 100 else sorted({*range(20), *range(0, n, 97), *range(n - 20, n)})


def draw(generator, n):
    values = torch.randn(n, generator=generator, dtype=torch.float32)
    return [float(np.format_float_positional(np.float32(values[i]), unique=True)) for i in kept(n)]


def single(seed, n):
    return {"seed": seed, "sizes": [n], "draws": [draw(torch.Generator("cpu").manual_seed(seed), n)]}


def sequence(seed, sizes):
    generator = torch.Generator("cpu").manual_seed(seed)
    return {"seed": seed, "sizes": sizes, "draws": [draw(generator, n) for n in sizes]}


def main():
    torch.set_num_threads(1)
    # Large draws in full for the first seeds only.
    rows = [single(seed, n) for i, seed in enumerate(SEEDS) for n in SIZES if n < 1000 or i < 3]
    rows += [sequence(seed, sizes) for seed in (0, 42) for sizes in SEQUENCES]
    # A tensor's shape does not matter, only its number of values.
    shaped = torch.randn(1, 4, 4, 4, generator=torch.Generator("cpu").manual_seed(42))
    assert [float(v) for v in shaped.flatten()] == [float(v) for v in torch.randn(64, generator=torch.Generator("cpu").manual_seed(42))]
    head = {"made_by": "tools/python/goldens_noise.py", "versions": {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}}
    default = Path(__file__).resolve().parents[2] / "tests/golden/sampler/noise_torch.json"
    path = Path(sys.argv[1] if len(sys.argv) > 1 else default)
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    path.write_text(json.dumps(head)[:-1] + f', "runs": [\n{lines}\n]}}\n')
    assert path.stat().st_size <= 64 * 1024, path.stat().st_size
    print(f"{path.name}: {path.stat().st_size} bytes, {len(rows)} runs")


if __name__ == "__main__":
    main()
