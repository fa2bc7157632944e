"""What a worker would write, without a broker: which messages are meant, what becomes of them, how it is shown."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kit import MODEL, record
from worker import cli, rehearsal
from worker.commands.dry_run import _why, document, start_of
from worker.config import load
from worker.errors import ConfigError
from worker.kafka.reading import Extent
from worker.pipeline.encode import Encoder, Topics
from worker.pipeline.messages import Classification, Forward, Rejection, Request, Result, Skip
from worker.rehearsal import Moment, Offset, Rehearsed, rehearse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.pipeline.messages import Partition, Record

NOW = 1_700_000_000.0
ENCODE = Encoder(MODEL, False, ("kept",), 100_000, topics=Topics("out", "dead"))
HAM = Result(Request("1", "Lunch?", False), Classification("ham", 0.9, {"ham": 0.9, "spam": 0.1}), False, 3)
INVALID = Rejection("decode", "invalid-json", "The value is not JSON at character 1.", "InvalidMessage")


def rehearsed(outcome: Result | Rejection | Skip | Forward) -> Rehearsed:
    message = record(7, b"{nope", key=b"key")._replace(headers=[("kept", b"1"), ("other", b"2")])
    outgoing, rejection = ENCODE(message, outcome)
    said = outcome.classification if isinstance(outcome, Result) else None
    return Rehearsed(message, outgoing, None, said, rejection, "Lunch?" if said else "")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("committed", "committed"), ("beginning", "beginning"), ("end", "end"), ("0", Offset(0)), ("17", Offset(17)),
        ("2h", Moment(1_699_992_800_000)), ("2023-11-14T22:13:20Z", Moment(1_700_000_000_000)),
    ],
)  # fmt: skip
def test_where_to_begin(text: str, start: object):
    """A word, an offset, a time or how long ago."""
    assert start_of(text, NOW) == start


@pytest.mark.parametrize("text", ["", "start", "-1", "1.5", "12parsecs", "9" * 19])
def test_where_nobody_can_begin(text: str):
    """The sentence says what can be written."""
    with pytest.raises(ConfigError, match="neither committed, beginning, end, an offset, nor a time"):
        start_of(text, NOW)


def test_a_result_as_json():
    """What would be written, byte for byte, and the result itself for reading."""
    said = document(rehearsed(HAM))
    assert (said["outcome"], said["topic"], said["partition"]) == ("result", "out", None)
    assert said["source"] == {"topic": "in", "partition": 0, "offset": 7, "timestamp": said["source"]["timestamp"]}
    assert json.loads(base64.b64decode(said["record"]["value"])) == said["result"]
    assert base64.b64decode(said["record"]["key"]) == b"key"
    assert said["record"]["headers"] == {"kept": "1"}
    assert said["result"]["label"] == "ham"


def test_a_dead_letter_as_json():
    """Why, and the record with the message's own bytes and headers."""
    said = document(rehearsed(INVALID))
    assert (said["outcome"], said["reason"], said["stage"]) == ("dead-letter", "invalid-json", "decode")
    assert said["topic"] == "dead"
    assert base64.b64decode(said["record"]["value"]) == b"{nope"
    assert said["record"]["headers"]["other"] == "2"
    assert said["record"]["headers"]["winnow.errors.reason"] == "invalid-json"
    assert "result" not in said


def test_why_a_dead_letter_is_one_for_people():
    """The headers that it gets, and those alone: not the message's, nor those of a letter that it was before."""
    message = record(7, b"{nope")._replace(headers=[("winnow.errors.reason", b"old"), ("other", b"2")])
    outgoing, rejection = ENCODE(message, INVALID)
    assert outgoing is not None
    found = _why(Rehearsed(message, outgoing, None, None, rejection), outgoing)
    assert [name for name, _ in found][:1] == ["__connect.errors.topic"]
    assert dict(found)["winnow.errors.reason"] == b"invalid-json"
    assert "other" not in dict(found)


def test_tombstones_as_json():
    """Passed on, or nothing at all."""
    assert document(rehearsed(Forward()))["outcome"] == "tombstone"
    nothing = document(rehearsed(Skip()))
    assert (nothing["outcome"], nothing["topic"], "record" in nothing) == ("nothing", None, False)


class Stored:
    """Topics of one's own, in the place of a Kafka: three partitions of some messages each."""

    def __init__(self, *_: object) -> None:
        self.stored = {("in", 0): (5, 20), ("in", 1): (0, 2), ("in", 2): (3, 3)}

    def close(self) -> None: ...

    def partitions(self, topics: Sequence[str]) -> list[Partition]:
        return list(self.stored)

    def size_limit(self, topics: Sequence[str]) -> int | None:
        return None

    def extents(self, partitions: Sequence[Partition]) -> dict[Partition, Extent]:
        return {partition: Extent(*self.stored[partition]) for partition in partitions}

    def committed(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return {("in", 0): 18}

    def since(self, partitions: Sequence[Partition], milliseconds: int) -> dict[Partition, int]:
        return {("in", 0): 12}

    def read(self, partition: Partition, first: int, end: int) -> Iterator[Record]:
        for offset in range(first, end):
            yield record(offset, b'{"text": "Lunch at noon?"}', partition=partition[1])


def places(monkeypatch: pytest.MonkeyPatch, start: rehearsal.Start, count: int, *assign: str) -> list[tuple[int, int]]:
    monkeypatch.setattr(rehearsal, "Reading", Stored)
    found = rehearse(load(None, ["kafka.input_topics=in", *assign]), count, start)
    return [(one.record.partition, one.record.offset) for one in found]


def test_which_messages_are_read(monkeypatch: pytest.MonkeyPatch):
    """About as many of each partition; from where the group is, the first, the newest, an offset or a time."""
    assert places(monkeypatch, "committed", 9) == [(0, 18), (0, 19), (1, 0), (1, 1)]
    assert places(monkeypatch, "beginning", 5) == [(0, 5), (0, 6), (0, 7), (1, 0), (1, 1)]
    assert places(monkeypatch, "end", 3) == [(0, 19), (1, 0), (1, 1)]
    assert places(monkeypatch, Offset(1), 3) == [(0, 5), (0, 6), (1, 1)]
    assert places(monkeypatch, Moment(1), 2) == [(0, 12), (0, 13)]
    assert places(monkeypatch, Offset(99), 3) == []


def test_a_group_that_begins_at_the_end_has_nothing_before_it(monkeypatch: pytest.MonkeyPatch):
    """auto.offset.reset counts for partitions where nothing is committed."""
    latest = "kafka.consumer_properties.auto.offset.reset=latest"
    assert places(monkeypatch, "committed", 9, latest) == [(0, 18), (0, 19)]


def test_what_becomes_of_them(monkeypatch: pytest.MonkeyPatch):
    """The worker's own way: results by the key or to the source's partition, letters to their topic."""
    monkeypatch.setattr(rehearsal, "Reading", Stored)
    (one,) = rehearse(load(None, ["kafka.input_topics=in", "kafka.output_partition=source"]), 1, Offset(1))
    assert one.outgoing is not None
    assert (one.outgoing.topic, one.partition, one.rejection) == ("messages.labelled", 1, None)
    assert one.text == "Lunch at noon?"
    (one,) = rehearse(load(None, ["kafka.input_topics=in", "input.text_pointer=/body"]), 1, Offset(1))
    assert one.outgoing is not None
    assert (one.outgoing.topic, one.partition, one.said) == ("messages.dead", None, None)
    assert one.rejection is not None
    assert one.rejection.reason == "missing-field"


def test_results_with_a_route_are_shown_at_its_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The topic of their label; a route that the bundle has no label for is refused, as by a worker."""
    out = run(monkeypatch, capsys, "-n", "1", "--from", "1", "--set", "routing.topics.ham=inbox")
    assert "in/1/1  -> inbox  " in out
    monkeypatch.setattr(rehearsal, "Reading", Stored)
    with pytest.raises(ConfigError, match=r"routing\.topics has 'junk', which is no label of the bundle .* ham, spam"):
        list(rehearse(load(None, ["kafka.input_topics=in", "routing.topics.junk=x"]), 1, Offset(1)))


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(rehearsal, "Reading", Stored)
    monkeypatch.setattr(sys, "argv", ["winnow", "dry-run", "--set", "kafka.input_topics=in", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert (ended.value.code or 0, said.err) == (0, "")
    return said.out


def test_the_command_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A line a message, the headers of dead letters, a sum; with --values all of each record."""
    out = run(monkeypatch, capsys, "-n", "2", "--from", "1")
    assert "in/0/5  -> messages.labelled         ham" in out
    assert "Lunch at noon?" in out
    assert "Read 2 messages: 2 results and 0 dead letters would be written (2 ham)." in out
    assert out.rstrip().endswith("Nothing was written, and nothing committed.")
    assert '"schema":1' not in out
    assert '"schema":1' in run(monkeypatch, capsys, "-n", "1", "--from", "1", "--values")
    out = run(monkeypatch, capsys, "-n", "1", "--from", "1", "--set", "input.text_pointer=/body")
    assert "-> messages.dead  missing-field  The message has no field /body." in out
    assert "header winnow.errors.reason: missing-field" in out
    assert "There is no message to read --from 99" in run(monkeypatch, capsys, "--from", "99")


def test_results_are_shown_whatever_they_are_written_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The record is to the byte what would be written, the result is the result."""
    arguments = ("--json", "-n", "1", "--from", "1")
    plain = json.loads(run(monkeypatch, capsys, *arguments))["result"]
    for setting in ("output.content=enriched", "output.envelope=cloudevents-structured"):
        said = json.loads(run(monkeypatch, capsys, *arguments, "--set", setting))
        assert said["result"] == plain
        assert len(base64.b64decode(said["record"]["value"])) > len(json.dumps(plain, separators=(",", ":")))


def test_the_command_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A document a line."""
    lines = run(monkeypatch, capsys, "--json", "-n", "3", "--from", "beginning").splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["result"] * 3
