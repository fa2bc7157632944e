"""A page of the documentation as a session: a folder with what the page speaks of, in which its blocks run in order."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from tests import documents
from tests.documents import ROOT, Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SECONDS = 60.0
"""A block, where its test says nothing else."""
READY = ("listens on", "partitions assigned", "Installed features")
"""What commands in the background say when others may go on."""
SPAM, HAM = "Claim your prize now, text WIN to 80011", "Lunch at noon?"
SMS = "data/sms_spam/test.jsonl"
BUNDLES = ("intents/bundle", "spam/bundle", "quick/bundle", "my-bundle")
DEV = """#!/bin/sh
# What ./dev does without setting up an environment: the tests have one.
command=$1
shift
case $command in
run) exec winnow "$@" ;;
bench) exec python -m bench "$@" ;;
*) exec winnow "$command" "$@" ;;
esac
"""
_OF_THE_NETWORK = re.compile(r"(PIP|UV|SSL|CURL|REQUESTS)_|\w+_proxy$", re.IGNORECASE)
"""Variables by which this machine reaches package indexes."""


@dataclass
class Session:
    """Where blocks run; `replaced` are the page's names, addresses for instance, with what they are here."""

    folder: Path
    environment: dict[str, str]
    replaced: Mapping[str, str] = field(default_factory=dict)
    seconds: float = SECONDS

    def run(self, block: Block) -> str:
        """To its end, and what it wrote to stdout; fails with what it said."""
        if block.kind in documents.PROGRAMS:
            (self.folder / "program.py").write_text(self.here(block.text), "utf-8")
            command = ["python", "-W", "error", "program.py"]
        else:
            command = self.shell(block)
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=self.seconds,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{block.name} ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr, f"{block.name}:\n{ran.stderr}"
        assert block.kind != "console" or ran.stdout, f"{block.name} says nothing"
        assert block.kind in documents.SCRIPTS or not ran.stderr, f"{block.name}:\n{ran.stderr}"
        return ran.stdout

    @contextmanager
    def background(self, block: Block, ended: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """Until the page's end; then SIGTERM ends it, with this exit code."""
        log = self.folder / f"background-{block.line}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                self.shell(block), cwd=self.folder, env=self.environment, stdout=said, stderr=said,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        try:
            until(
                lambda: any(word in log.read_text("utf-8") for word in READY) or process.poll() is not None,
                self.seconds,
            )
            yield process
            assert process.poll() is None, f"{block.name} has ended:\n{log.read_text('utf-8')}"
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(self.seconds) == ended, f"{block.name}:\n{log.read_text('utf-8')}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def in_order(self, blocks: Sequence[Block]) -> None:
        """All of them; those in the background live until the last one has ended."""
        for number, block in enumerate(blocks):
            if block.in_background:
                with self.background(block):
                    self.in_order(blocks[number + 1 :])
                return
            self.run(block)

    def shell(self, block: Block) -> list[str]:
        return ["bash", "-eo", "pipefail", "-c", self.here(block.script)]

    def here(self, text: str) -> str:
        """The page's addresses and topics as those of the tests."""
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        return text


def until(true: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for it; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def environment(folder: Path) -> dict[str, str]:
    """Of a session in this folder: its commands, a home of its own, and this machine's way to the network."""
    config, cache = Path.home() / ".config", Path.home() / ".cache"
    return {name: value for name, value in os.environ.items() if _OF_THE_NETWORK.match(name)} | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(cache)),
        "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(config)),
        "PYTHONPATH": str(ROOT),
        "DATA": "data",
        "OUT": "out",
        "WINNOW_SERVING__ENABLED": "false",
    }


def commands(folder: Path) -> None:
    """`winnow`, `python` and `./dev`, by the interpreter that runs the tests."""
    _program(folder / "bin" / "winnow", f'#!/bin/sh\nexec {sys.executable} -m worker "$@"\n')
    for name in ("python", "python3"):
        _program(folder / "bin" / name, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    _program(folder / "dev", DEV)


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o755)


def labelled(number: int = 12) -> bytes:
    """Texts with labels, so many of each, as JSON lines."""
    texts = [(f"{SPAM} {n}", "spam") for n in range(number)] + [(f"{HAM} {n}", "ham") for n in range(number)]
    return b"".join(orjson.dumps({"text": text, "label": label}) + b"\n" for text, label in texts)


def write_texts(folder: Path) -> None:
    """Texts under the names that pages give them."""
    for name in ("texts.jsonl", "my-texts.jsonl", "sms.jsonl", "test.jsonl", "validation.jsonl", SMS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(labelled())
    (folder / "my-texts.txt").write_text(f"{SPAM}\n{HAM}\n", "utf-8")
    (folder / "mail.txt").write_text("Dear customer,\n\nclaim your prize now.\n" * 3, "utf-8")
    (folder / "out").mkdir()


def write_models(folder: Path, text: str) -> None:
    """The bundles that a page names and does not make, and the models that it imports."""
    for bundle in BUNDLES:
        if bundle in text and f"--out {bundle}" not in text:
            shutil.copytree(ROOT / "worker" / "model" / "default", folder / bundle)
    if "winnow model import" in text:
        _write_foreign(folder)


def _write_foreign(folder: Path) -> None:
    """Small models of others: checkpoints, and a graph as torch exports it."""
    from tests.unit.model import checkpoints
    from tests.unit.model.importing import making

    config = checkpoints.CONFIG | {"id2label": {"0": "ham", "1": "spam"}}
    for name in ("my-distilbert", "SOURCE"):
        checkpoints.write(folder / name, config)
    making.traced(folder / "model")


def write_checkout(folder: Path) -> None:
    """What of this repository is needed to install it."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "worker", folder / "worker", ignore=ignored, dirs_exist_ok=True)
