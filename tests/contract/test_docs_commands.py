"""Every command and program of the documentation runs as it stands there, but for those that a marker excuses.

A page is a session: its blocks run in order, in a folder of the page's own that has the files they speak of.
Commands reach the tests' Kafka by the environment, which is stronger than a file; see tests/documents.py for markers.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from tests import documents
from tests.documents import ROOT, Block
from worker.broker.ports import free_port
from worker.kafka.tools import Feeder, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.broker import Broker

SECONDS = 60.0
TOPICS = {"input_topics": "messages", "output_topic": "messages.labelled", "dead_letter_topic": "messages.dead"}
NEEDS_KAFKA = re.compile(r"\bwinnow (run|broker|doctor|dry-run|audit|dlq)\b|worker\.(audit|broker)|confluent_kafka")
ALL_WAITS = {"tools.md"}
"""Pages whose group has committed nothing; elsewhere it has done with everything."""
OWN_BROKER = {"getting-started.md"}
"""Pages that start one themselves."""
READY = ("listens on", "partitions assigned")
"""What commands in the background say when others may go on."""
SPAM, HAM = "Claim your prize now, text WIN to 80011", "Lunch at noon?"
GOOD = 20
DEV = """#!/bin/sh
# What ./dev does without setting up an environment: the tests have one.
command=$1
shift
case $command in
run) exec winnow "$@" ;;
*) exec winnow "$command" "$@" ;;
esac
"""


def runnable() -> Iterator:
    for page in documents.PAGES:
        found = [block for block in documents.blocks(page) if block.runs] if page.exists() else []
        if found:
            kafka = any(NEEDS_KAFKA.search(block.script) for block in found)
            name = str(page.relative_to(ROOT))
            yield pytest.param(page, found, id=name, marks=[pytest.mark.kafka] if kafka else [])


@dataclass
class Session:
    """Where a page's blocks run."""

    folder: Path
    environment: dict[str, str]
    replaced: dict[str, str]

    def run(self, block: Block) -> None:
        """To its end; fails with what it said."""
        if block.kind in documents.PROGRAMS:
            (self.folder / "program.py").write_text(self.here(block.text), "utf-8")
            command = [sys.executable, "-W", "error", "program.py"]
        else:
            command = self.shell(block)
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=SECONDS,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{block.name} ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr, f"{block.name}:\n{ran.stderr}"
        assert block.kind != "console" or ran.stdout, f"{block.name} says nothing"
        assert block.kind in documents.SCRIPTS or not ran.stderr, f"{block.name}:\n{ran.stderr}"

    @contextmanager
    def background(self, block: Block) -> Iterator[subprocess.Popen[bytes]]:
        """Until the page's end; then SIGTERM ends it well."""
        log = self.folder / f"background-{block.line}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                self.shell(block), cwd=self.folder, env=self.environment, stdout=said, stderr=said,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        try:
            _until(lambda: any(word in log.read_text("utf-8") for word in READY) or process.poll() is not None)
            yield process
            assert process.poll() is None, f"{block.name} has ended:\n{log.read_text('utf-8')}"
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(SECONDS) == 0, f"{block.name}:\n{log.read_text('utf-8')}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def shell(self, block: Block) -> list[str]:
        return ["bash", "-eo", "pipefail", "-c", self.here(block.script)]

    def here(self, text: str) -> str:
        """The page's addresses and topics as those of the tests."""
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        return text


@pytest.mark.docs
@pytest.mark.timeout(300)  # a page, and each of its blocks at most 60
@pytest.mark.parametrize(("page", "found"), list(runnable()))
def test_a_page_runs(page: Path, found: list[Block], open_session: Callable[[Path], Session]):
    """From its first block to its last; what is in the background lives until then."""
    _in_order(open_session(page), found)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def _in_order(session: Session, found: list[Block]) -> None:
    for number, block in enumerate(found):
        if block.in_background:
            with session.background(block):
                _in_order(session, found[number + 1 :])
            return
        session.run(block)


@pytest.fixture
def open_session(
    request: pytest.FixtureRequest, tmp_path: Path, labelled: bytes, topics_of: Callable[[Path], dict[str, str]]
) -> Callable[[Path], Session]:
    def create(page: Path) -> Session:
        environment = {
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
            "PYTHONPATH": str(ROOT),
            "DATA": "data",
            "OUT": "out",
            "WINNOW_SERVING__ENABLED": "false",
        }
        replaced = {}
        if page.name in OWN_BROKER:
            request.getfixturevalue("kafka")  # where none can be had this is skipped, too
            port = free_port()
            replaced = {"localhost:9092": f"127.0.0.1:{port}", "winnow broker": f"winnow broker --port {port}"}
        elif request.node.get_closest_marker("kafka"):
            names = topics_of(page)
            environment |= {f"WINNOW_KAFKA__{name.upper()}": value for name, value in names.items()}
            replaced = {f'"{TOPICS[name]}"': f'"{value}"' for name, value in names.items() if name in TOPICS}
            replaced["localhost:9092"] = names["bootstrap_servers"]
        session = Session(tmp_path, environment, replaced)
        files(session, page, labelled)
        return session

    return create


@pytest.fixture(scope="module")
def labelled() -> bytes:
    """Texts with labels, as JSON lines."""
    texts = [(f"{SPAM} {number}", "spam") for number in range(12)] + [
        (f"{HAM} {number}", "ham") for number in range(12)
    ]
    return b"".join(orjson.dumps({"text": text, "label": label}) + b"\n" for text, label in texts)


def files(session: Session, page: Path, labelled: bytes) -> None:
    """What the page speaks of: texts, bundles, its own settings, and the commands."""
    folder = session.folder
    for name in ("texts.jsonl", "my-texts.jsonl", "test.jsonl", "validation.jsonl", "data/sms_spam/test.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(labelled)
    (folder / "my-texts.txt").write_text(f"{SPAM}\n{HAM}\n", "utf-8")
    (folder / "mail.txt").write_text("Dear customer,\n\nclaim your prize now.\n" * 3, "utf-8")
    (folder / "out").mkdir()
    text = page.read_text("utf-8")
    for bundle in ("intents/bundle", "spam/bundle", "quick/bundle", "my-bundle"):
        if bundle in text:
            shutil.copytree(ROOT / "worker" / "model" / "default", folder / bundle)
    named = [block.text for block in documents.blocks(page) if block.text.startswith("# winnow.toml")]
    settings = named[0] if named else '[kafka]\ninput_topics = ["messages"]\n'
    (folder / "winnow.toml").write_text(session.here(settings), "utf-8")
    command(folder / "bin" / "winnow", f'#!/bin/sh\nexec {sys.executable} -m worker "$@"\n')
    command(folder / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    command(folder / "dev", DEV)


def command(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def topics_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict]:
    """The settings of `kafka` for a page; the topics are shared, and a worker has been through them."""
    answered: list[dict[str, str]] = []

    def settings(page: Path) -> dict[str, str]:
        kafka: Broker = request.getfixturevalue("kafka")
        if not answered:
            answered.append(created(kafka))
            _feed_and_answer(answered[0], tmp_path_factory.mktemp("answered"))
        return answered[0] | ({"group_id": "nobody-yet"} if page.name in ALL_WAITS else {})

    return settings


def created(kafka: Broker) -> dict[str, str]:
    names = {setting: f"{topic}-of-docs" for setting, topic in TOPICS.items()}
    kafka.create_topics(dict.fromkeys(names.values(), 6))
    return {"bootstrap_servers": kafka.bootstrap_servers, "group_id": "group-of-docs", **names}


def _feed_and_answer(names: dict[str, str], folder: Path) -> None:
    """Some good messages and a bad one, and what `winnow run` makes of them."""
    feeder = Feeder(names["bootstrap_servers"], names["input_topics"])
    for number in range(GOOD):
        feeder.send(orjson.dumps({"text": f"{SPAM if number % 2 else HAM} {number}"}), b"k%d" % number)
    feeder.send(b"{nope")
    feeder.flush()
    flags = [part for name, value in names.items() for part in ("--set", f"kafka.{name}={value}")]
    command = [sys.executable, "-m", "worker", "run", *flags, "--set", "serving.enabled=false"]
    with (folder / "log").open("wb") as log:
        worker = subprocess.Popen(
            command, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    reader = Reader(names["bootstrap_servers"], [names["output_topic"], names["dead_letter_topic"]])
    written = 0
    for _ in range(int(SECONDS)):
        written += len(reader.poll(timeout=1.0))
        if written > GOOD or worker.poll() is not None:
            break
    reader.close()
    worker.terminate()
    assert worker.wait(SECONDS) == 0, (folder / "log").read_text("utf-8")
    assert written == GOOD + 1
