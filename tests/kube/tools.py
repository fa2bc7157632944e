"""The programs that these tests use, and how they are run."""

from __future__ import annotations

import subprocess
from pathlib import Path

CLUSTER = str(Path(__file__).with_name("cluster"))
ROOT = Path(__file__).parents[2]


def output(*command: str, seconds: float = 600.0, **options: object) -> str:
    """What a program says; fails with what it complained of."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, **options)  # type: ignore[call-overload]
    said = f"{done.stdout}\n{done.stderr}".strip()[-4_000:]
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{said}"
    return str(done.stdout).strip()
