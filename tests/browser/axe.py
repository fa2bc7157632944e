"""axe-core as npm packs it: the version and digest of axe.json, fetched once into the cache folder."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from worker.broker.artifacts import cache_folder

PINNED = json.loads(Path(__file__).with_name("axe.json").read_text("utf-8"))
SCRIPT = "package/axe.min.js"
FETCH_SECONDS = 100


class Missing(Exception):
    """It cannot be had here: why."""


def source() -> str:
    """The script that a page is given to look at itself.

    Raises:
        Missing: npm is not here, or does not get it.
    """
    packed = cache_folder() / f"axe-core-{PINNED['version']}.tgz"
    if not packed.exists():
        _fetch(packed)
    content = packed.read_bytes()
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    assert f"sha512-{digest}" == PINNED["integrity"], f"{packed} is not what tests/browser/axe.json names: remove it"
    with tarfile.open(packed) as archive:
        member = archive.extractfile(SCRIPT)
        assert member is not None
        return member.read().decode()


def _fetch(packed: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm is not installed")
    packed.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=packed.parent) as folder:
        wanted = f"{PINNED['package']}@{PINNED['version']}"
        command = [npm, "pack", wanted, "--silent", "--ignore-scripts"]
        try:
            ran = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise Missing(f"npm did not get {wanted} within {FETCH_SECONDS} s") from None
        found = list(Path(folder).glob("*.tgz"))
        if ran.returncode or not found:
            raise Missing(f"npm does not get {wanted}: {ran.stderr.strip()[:200]}")
        found[0].rename(packed)
