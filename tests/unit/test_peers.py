"""`bench.peers`: what is said of peers, and that one which fails harms no other."""

from __future__ import annotations

import os
import re
import select
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.peers import compare, environments, faults, flow, jars
from bench.peers.adapters import PEERS
from bench.peers.flow import Measured
from bench.peers.peer import Peer, UnavailableError
from bench.peers.running import Running
from worker.pipeline.messages import Record

REQUIREMENTS = Path(__file__).parent.parent.parent / "requirements"


class Fake(Peer):
    """A peer in name only, or one of a single command."""

    def __init__(self, name: str, *command: str) -> None:
        self.name, self.what, self.command = name, f"what {name} is", list(command)

    def set_up(self) -> None:
        if self.name == "missing":
            raise UnavailableError("it is not sold here")

    def commands(self, stage) -> list[list[str]]:
        return [self.command]


class Way:
    """Topics that hold what a peer has written."""

    def __init__(self, *results: Record, others=(), letters=()) -> None:
        self._results, self._others, self._letters = results, others, letters
        self.stage = SimpleNamespace(dead_letter_topic="dead")

    def results(self) -> list[Record]:
        return [*self._results]

    def everything(self, topic: str | None = None) -> list[Record]:
        return [*(self._letters if topic == "dead" else (*self._results, *self._others))]


def record(key: bytes, value: bytes = b'{"score":0.5}') -> Record:
    return Record(topic="out", partition=0, offset=0, key=key, value=value, headers=(), timestamp=0)


NEIGHBOURS = [record(str(number).encode()) for number in range(faults.GOOD)]


@pytest.fixture
def measured(monkeypatch):
    """Rates by peer; those that have none fail."""
    rates = {"winnow": [100.0, 300.0, 200.0], "slow": [10.0, 20.0, 25.0]}

    def measure(peer, *_):
        if peer.name not in rates:
            raise RuntimeError("it fell over")
        return Measured(rates[peer.name].pop(0), 2.0, 50)

    monkeypatch.setattr(flow, "measure", measure)


@pytest.mark.usefixtures("measured")
def test_ratios_are_taken_round_by_round():
    """The row of a peer holds the median of Winnow's lead in each round, and its own rate and spread."""
    comparison = compare.Comparison([Fake("winnow"), Fake("slow")])
    for number in (1, 2, 3):
        comparison.round(number, None, Path(), [], 1.0)
    row = comparison.figures()["slow"]
    assert row["winnow_is_faster_by"] == 10.0
    assert (row["messages_per_s"], row["min"], row["max"], row["rounds"]) == (20.0, 10.0, 25.0, 3)
    assert row["cpu_ms_per_message"] == 2.0


@pytest.mark.usefixtures("measured")
def test_a_peer_that_fails_is_a_row_with_its_reason():
    """Whether it cannot be set up or falls over, the others are measured and its row says why."""
    comparison = compare.Comparison([Fake("winnow"), Fake("missing"), Fake("broken"), Fake("slow")])
    comparison.set_up()
    comparison.round(1, None, Path(), [], 1.0)
    rows = comparison.figures()
    assert rows["missing"] == {"what": "what missing is", "reason": "it is not sold here"}
    assert rows["broken"] == {"what": "what broken is", "reason": "it fell over"}
    assert rows["slow"]["messages_per_s"] == 10.0


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (Way(*NEIGHBOURS, record(faults.BAD_KEY)), "answered; 20 of 20 neighbours answered"),
        (
            Way(*NEIGHBOURS, record(faults.BAD_KEY, b'{"score":1,"truncated":true}')),
            "answered and marked as cut; 20 of 20 neighbours answered",
        ),
        (Way(*NEIGHBOURS, letters=[record(faults.BAD_KEY)]), "a dead letter; 20 of 20 neighbours answered"),
        (
            Way(*NEIGHBOURS[:10], others=[record(faults.BAD_KEY, b"text")]),
            "written out unclassified; 10 of 20 neighbours answered",
        ),
        (Way(*NEIGHBOURS[:10], *NEIGHBOURS[:10]), "no result; 10 of 20 neighbours answered"),
    ],
)
def test_what_became_of_a_record(way, said):
    """A fault is told by what is in the topics: the record's own fate, and how many neighbours have an answer."""
    assert faults._outcome(way) == said


def test_only_results_count_as_answers():
    """A text that was passed on as it came is no result."""
    assert PEERS[0].answered(b'{"label":"ham","score":0.9}')
    assert PEERS[0].answered(b'[{"Label":"ham","Score":0.9}]')
    assert not PEERS[0].answered(b"Lunch at noon?")
    assert not PEERS[0].answered(None)


def test_names_of_peers_differ():
    """Rows are found by name."""
    assert len({peer.name for peer in PEERS}) == len(PEERS)


def test_a_process_that_ends_says_why(tmp_path):
    """The reason is the last line that it printed."""
    stage = SimpleNamespace(folder=tmp_path)
    with Running(Fake("short", "sh", "-c", "echo first; echo the reason; exit 3"), stage) as running:
        running._processes[0].wait(10)
        assert not running.alive
        assert running.why() == "the reason"


def test_ending_reaches_what_a_peer_started(tmp_path):
    """The whole process group is ended, so no child outlives the benchmark."""
    stage = SimpleNamespace(folder=tmp_path)
    command = ("sh", "-c", "sleep 600 & echo $!; wait")
    with Running(Fake("parent", *command), stage) as running:
        while not (said := running.log.read_text("ascii")):
            pass
        child = os.pidfd_open(int(said))
        running.kill()
    assert select.select([child], [], [], 10)[0] == [child]
    os.close(child)


def test_a_step_that_fails_says_its_last_line(tmp_path):
    """Setting up a peer tells what its tool said, and which tool is missing."""
    with pytest.raises(UnavailableError, match="sh failed: no such mirror"):
        environments.run(["sh", "-c", "echo trying; echo no such mirror; exit 1"], tmp_path)
    with pytest.raises(UnavailableError, match="no-such-tool is not installed"):
        environments.run(["no-such-tool"])


def test_every_jar_is_locked_by_its_digest():
    """The lock names each jar once, with its SHA-256."""
    lines = [line for line in jars.LOCK.read_text("ascii").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+ [0-9a-f]{64}", line) for line in lines)
    assert len({line.split()[0] for line in lines}) == len(lines)


def test_the_lock_is_made_of_what_maven_lists(tmp_path):
    """Every jar that is listed is looked up in the folder of copies."""
    (tmp_path / "a-1.0.jar").write_bytes(b"")
    text = jars.lock("The following:\n   org.x:a:jar:1.0:compile -- module a\n   org.x:b:pom:1.0:compile\n", tmp_path)
    assert text.splitlines()[1:] == ["org.x:a:1.0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]


def test_empty_classes_are_class_files():
    """The magic number, Java 8's version, and the name are where the virtual machine looks for them."""
    made = jars.empty_class("org/x/A")
    assert struct.unpack_from(">IHHH", made) == (0xCAFEBABE, 0, 52, 5)
    assert b"\x01\x00\x07org/x/A" in made


@pytest.mark.parametrize("name", ["arroyo", "mlserver", "quix", "spark"])
def test_environments_are_locked_with_hashes(name):
    """Every package of a peer's environment is pinned, and has its hashes."""
    text = (REQUIREMENTS / f"peers-{name}.txt").read_text("utf-8")
    pinned = re.findall(r"^[a-z][\w.-]*(?:\[[\w,-]+\])?==", text, re.M)
    assert pinned
    assert text.count(" \\\n    --hash=sha256:") >= len(pinned)


@pytest.mark.parametrize("name", ["arroyo", "mlserver", "quix"])
def test_peers_have_the_engine_of_winnow(name):
    """ONNX Runtime and the tokenizer are of the same version, so that neither makes the difference."""
    ours, theirs = ((REQUIREMENTS / f"{each}.txt").read_text("utf-8") for each in ("runtime", f"peers-{name}"))
    for package in ("onnxruntime", "tokenizers"):
        pinned = re.compile(rf"^{package}==(\S+)", re.M)
        assert pinned.findall(ours) == pinned.findall(theirs)
