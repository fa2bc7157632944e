"""Environments of the peers under `.peers/`: Python packages from locks with hashes, jars by digest, a Go build."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.peers.peer import HOME, ROOT, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path


def python(name: str) -> Path:
    """The interpreter of the environment that `requirements/peers-NAME.txt` describes; installs when the lock changed.

    Raises:
        UnavailableError: the packages cannot be installed.
    """
    lock, folder = ROOT / "requirements" / f"peers-{name}.txt", HOME / name
    stamp, digest = folder / "lock.sha256", hashlib.sha256(lock.read_bytes()).hexdigest()
    interpreter = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text("ascii") != digest:
        print(f"Installing {lock.name} into {folder.relative_to(ROOT)}.", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(folder)])
        run([str(interpreter), "-m", "pip", "install", "--quiet", "--no-input", "--require-hashes", "-r", str(lock)])
        stamp.write_text(digest, "ascii")
    return interpreter


def run(command: list[str], folder: Path | None = None, variables: dict[str, str] | None = None) -> None:
    """Run a step of a setting up.

    Raises:
        UnavailableError: it fails; holds the last line it printed.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", cwd=folder, env=variables, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise UnavailableError(f"{command[0]} is not installed") from None
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()] or ["it said nothing"]
        raise UnavailableError(f"{command[0].rpartition('/')[2]} failed: {said[-1].strip()[:200]}")
