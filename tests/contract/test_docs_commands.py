"""Every command and program of the documentation runs as it stands there, but for those that a marker gives to others.

A page is a session (tests/docs_session.py). Commands reach the tests' Kafka by the environment, which is stronger than
a file; see tests/documents.py for markers. docs/getting-started.md runs with what its first block has installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from tests import docs_session, documents
from tests.docs_session import HAM, SECONDS, SPAM, Session
from tests.documents import ROOT, Block
from worker.broker.ports import free_port
from worker.kafka.tools import Feeder, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.broker import Broker

TOPICS = {"input_topics": "messages", "output_topic": "messages.labelled", "dead_letter_topic": "messages.dead"}
NEEDS_KAFKA = re.compile(r"\bwinnow (run|broker|doctor|dry-run|audit|dlq)\b|worker\.(audit|broker)|confluent_kafka")
ALL_WAITS = {"tools.md"}
"""Pages whose group has committed nothing; elsewhere it has done with everything."""
OWN_BROKER = {"getting-started.md"}
"""Pages that start one themselves."""
INSTALLS = {"getting-started.md"}
"""Pages that begin with installing Winnow, and run what they have installed."""
PATIENCE = {"getting-started.md": 400.0, "tuning.md": 150.0, "broker.md": 120.0}
"""Seconds a block may take, where it installs, measures or asks a registry for each jar."""
GOOD = 20


def runnable() -> Iterator:
    for page in documents.PAGES:
        found = [block for block in documents.blocks(page) if block.runs] if page.exists() else []
        if found:
            kafka = any(NEEDS_KAFKA.search(block.script) for block in found)
            name = str(page.relative_to(ROOT))
            yield pytest.param(page, found, id=name, marks=[pytest.mark.kafka] if kafka else [])


@pytest.mark.docs
@pytest.mark.timeout(900)  # a page; each of its blocks has its own
@pytest.mark.parametrize(("page", "found"), list(runnable()))
def test_a_page_runs(page: Path, found: list[Block], open_session: Callable[[Path], Session]):
    """From its first block to its last; what is in the background lives until then."""
    open_session(page).in_order(found)


@pytest.fixture
def open_session(
    request: pytest.FixtureRequest, tmp_path: Path, topics_of: Callable[[Path], dict[str, str]]
) -> Callable[[Path], Session]:
    def create(page: Path) -> Session:
        environment = docs_session.environment(tmp_path)
        replaced = {f"port={port}": f"port={free_port()}" for port in (19092,)}
        if page.name in OWN_BROKER:
            request.getfixturevalue("kafka")  # where none can be had this is skipped, too
            port = free_port()
            replaced |= {"localhost:9092": f"127.0.0.1:{port}", "winnow broker": f"winnow broker --port {port}"}
        elif request.node.get_closest_marker("kafka"):
            names = topics_of(page)
            environment |= {f"WINNOW_KAFKA__{name.upper()}": value for name, value in names.items()}
            replaced |= {f'"{TOPICS[name]}"': f'"{value}"' for name, value in names.items() if name in TOPICS}
            replaced["localhost:9092"] = names["bootstrap_servers"]
        session = Session(tmp_path, environment, replaced, PATIENCE.get(page.name, SECONDS))
        files(session, page)
        return session

    return create


def files(session: Session, page: Path) -> None:
    """What the page speaks of: texts, bundles, its own settings, and the commands."""
    folder = session.folder
    docs_session.write_texts(folder)
    docs_session.write_models(folder, page.read_text("utf-8"))
    named = [block.text for block in documents.blocks(page) if block.text.startswith("# winnow.toml")]
    settings = named[0] if named else '[kafka]\ninput_topics = ["messages"]\n'
    (folder / "winnow.toml").write_text(session.here(settings), "utf-8")
    docs_session.commands(folder)
    (folder / "worker" / "broker").mkdir(parents=True)
    if page.name in INSTALLS:
        docs_session.write_checkout(folder)
        (folder / "bin" / "winnow").unlink()
        session.environment["PATH"] = f"{folder / 'venv' / 'bin'}{os.pathsep}{session.environment['PATH']}"
        del session.environment["PYTHONPATH"]


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
