"""Dead letters on a real Kafka: listed whatever they hold, and sent again each once."""

from __future__ import annotations

import random
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest
from confluent_kafka import Producer

from tests.contract.test_headers import produce_raw
from tests.e2e.process import winnow
from tests.kit import MODEL, record
from worker import cli
from worker.commands.run import Stop
from worker.kafka.tools import Reader
from worker.letters import REPLAYS
from worker.pipeline.encode import Encoder
from worker.pipeline.error_headers import spring_headers
from worker.pipeline.messages import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker import Broker
    from worker.pipeline.messages import Headers, Record

pytestmark = pytest.mark.kafka
SECONDS = 20.0
REASONS = {
    reason: Rejection("decode", reason, f"The message is {reason}.", "InvalidMessage")
    for reason in ("invalid-json", "empty", "model-error")
}


class Desk:
    """Topics of one test's own, and the command line before them."""

    def __init__(self, kafka: Broker, topics: Callable[..., str], monkeypatch, capsys) -> None:
        self.bootstrap_servers = kafka.bootstrap_servers
        self.input, self.dead, self.other = topics("in", 3), topics("dead", 2), topics("other")
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self._producer = Producer({"bootstrap.servers": self.bootstrap_servers, "linger.ms": 0, "log_level": 0})
        # The signals of the process that runs the tests are not for a command to take.
        monkeypatch.setattr(Stop, "install", lambda self: None)

    @property
    def flags(self) -> list[str]:
        values = {"bootstrap_servers": self.bootstrap_servers, "dead_letter_topic": self.dead}
        return [part for name, value in values.items() for part in ("--set", f"kafka.{name}={value}")]

    def letter(self, number: int, reason: str = "invalid-json", **more: Any) -> None:
        """A dead letter as a worker writes it, of the message `number` of partition 1 of the input."""
        kind = [spring_headers("group")] if more.pop("spring", False) else []
        encode = Encoder(MODEL, False, (), more.pop("max_bytes", 100_000), *kind)
        partition = more.pop("partition", 0)
        headers = more.pop("headers", [("own", b"%d" % number)])
        fields = {"key": b"key", "topic": self.input, "partition": 1, "headers": headers, "timestamp": 17} | more
        source = record(number, fields.pop("value", b"value %d" % number), **fields)
        outgoing, _ = encode(source, REASONS[reason])
        assert outgoing is not None
        self._producer.produce(
            self.dead, outgoing.value, outgoing.key, headers=outgoing.headers, partition=partition,
            timestamp=1_700_000_000_000 + number,
        )  # fmt: skip
        assert self._producer.flush(SECONDS) == 0

    def winnow(self, *arguments: str) -> tuple[int, Any, str]:
        """Exit code, JSON, and what was said on stderr."""
        self._monkeypatch.setattr(sys, "argv", ["winnow", *arguments, "--json", *self.flags])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = self._capsys.readouterr()
        return int(ended.value.code or 0), orjson.loads(shown.out) if shown.out else None, shown.err

    def stored(self, topic: str, count: int) -> list[Record]:
        """What a topic holds once there are `count`, and whatever came by then."""
        reader = Reader(self.bootstrap_servers, [topic])
        found: list[Record] = []
        deadline = monotonic() + SECONDS
        while len(found) < count and monotonic() < deadline:
            found += reader.poll(timeout=0.1)
        found += reader.poll(timeout=0.3)
        reader.close()
        return found


@pytest.fixture
def desk(kafka: Broker, topics: Callable[..., str], monkeypatch, capsys) -> Desk:
    return Desk(kafka, topics, monkeypatch, capsys)


def seen(records: list[Record]) -> list[tuple[bytes | None, bytes | None, Headers]]:
    return [(one.key, one.value, one.headers) for one in records]


def test_letters_come_back_as_the_messages_they_were(desk: Desk):
    """Each chosen letter once, in order, to the partition it came from; key, value and own headers, and the count."""
    desk.letter(3)
    desk.letter(4, "empty", value=None, key=None, headers=[("a", None), ("a", b"\xff"), (REPLAYS, b"1")])
    desk.letter(5, "model-error", spring=True)
    desk.letter(6, partition=1)
    code, said, _ = desk.winnow("dlq", "replay")
    assert code == 0
    assert (said["replayed"], said["chosen"], said["refused"], said["complete"]) == (4, 4, {}, True)
    found = desk.stored(desk.input, 4)
    assert {one.partition for one in found} == {1}
    assert seen(found) == [
        (b"key", b"value 3", [("own", b"3"), (REPLAYS, b"1")]),
        (None, None, [("a", None), ("a", b"\xff"), (REPLAYS, b"2")]),
        (b"key", b"value 5", [("own", b"5"), (REPLAYS, b"1")]),
        (b"key", b"value 6", [("own", b"6"), (REPLAYS, b"1")]),
    ]


def test_only_those_that_are_chosen(desk: Desk):
    """By reason, by time, by place; at most so many; elsewhere if it is said so."""
    for number, reason in enumerate(("invalid-json", "empty", "model-error", "empty", "empty")):
        desk.letter(number, reason)
    more = ["--since", "2023-11-14T22:13:20.001Z", "--until", "2023-11-14T22:13:20.004Z", "--to", desk.other]
    assert desk.winnow("dlq", "replay", "--reason", "empty", *more)[1]["topics"] == {desk.other: 2}
    assert (
        desk.winnow("dlq", "replay", "--partition", "0", "--offset", "0", "--offset", "2-3", "--to", desk.other)[0] == 0
    )
    code, said, _ = desk.winnow("dlq", "replay", "--limit", "1", "--to", desk.other)
    assert (code, said["replayed"], said["complete"], said["left"]) == (0, 1, False, 4)
    assert desk.winnow("dlq", "replay", "--partition", "0", "--offset", "4-", "--to", desk.other)[1]["replayed"] == 1
    values = [one.value for one in desk.stored(desk.other, 7)]
    assert values == [b"value 1", b"value 3", b"value 0", b"value 2", b"value 3", b"value 0", b"value 4"]
    none = desk.winnow("dlq", "peek", "--reason", "no-such")[1]
    assert (none["total"], none["other_reasons"]) == (0, {"invalid-json": 1, "empty": 3, "model-error": 1})


def test_a_dry_run_sends_nothing(desk: Desk):
    """It says of each letter where it would go."""
    desk.letter(3)
    desk.letter(4, topic=desk.other)
    code, said, _ = desk.winnow("dlq", "replay", "--dry-run")
    assert (code, said["replayed"], said["topics"]) == (0, 0, {desk.input: 1, desk.other: 1})
    aims = [(one["to"], one["to_partition"]) for one in said["would_replay"]]
    # The other topic has no partition 1, so there the key decides.
    assert aims == [(desk.input, 1), (desk.other, None)]
    assert desk.stored(desk.input, 0) == []


def test_what_cannot_come_back_is_refused_and_counted(desk: Desk):
    """Cut letters, those sent again often enough, those that do not say where from, those whose topic is gone."""
    desk.letter(1, value=b"v" * 9_000, max_bytes=4_096)
    desk.letter(2, headers=[(REPLAYS, b"3")])
    desk.letter(3, topic="gone-for-good")
    desk.letter(4, topic=desk.dead)
    desk.letter(5)
    produce_raw(desk.bootstrap_servers, desk.dead, [(b"foreign", b"fine"), (b"strange", b"caf\xe9\xff")])
    code, said, _ = desk.winnow("dlq", "replay")
    refused = {"cut": 1, "replayed": 1, "no-topic": 1, "circle": 1, "no-source": 1, "unreadable": 1}
    assert (code, said["replayed"], said["refused"]) == (0, 1, refused)
    assert [one.value for one in desk.stored(desk.input, 1)] == [b"value 5"]
    assert desk.winnow("dlq", "replay", "--max-replays", "4", "--dry-run")[1]["topics"] == {desk.input: 2}


def test_peek_lists_whatever_is_there(desk: Desk):
    """The newest, the whole count by reason, and a header name that is not UTF-8 harms nothing."""
    for number in range(4):
        desk.letter(number, "empty" if number else "invalid-json", spring=number == 2, partition=number % 2)
    produce_raw(desk.bootstrap_servers, desk.dead, [(b"strange", b"caf\xe9\xff")])
    code, said, _ = desk.winnow("dlq", "peek", "--limit", "2")
    assert code == 0
    assert said["total"] == 5
    assert {reason: one["letters"] for reason, one in said["reasons"].items()} == {
        "invalid-json": 1, "empty": 3, "(none)": 1,
    }  # fmt: skip
    newest, strange = said["letters"]
    assert (newest["source"]["offset"], strange["headers_unreadable"]) == (3, True)
    at_two = ["--since", "2023-11-14T22:13:20.002Z", "--until", "2023-11-14T22:13:20.003Z"]
    (spring,) = desk.winnow("dlq", "peek", *at_two)[1]["letters"]
    assert (spring["message"], spring["source"]["partition"]) == ("The message is empty.", 1)


def test_peek_shows_one_letter_by_its_place(desk: Desk):
    """As the table names it: partition and offset, of which the summary counts no other."""
    for number in range(3):
        desk.letter(number, "empty")
    code, said, _ = desk.winnow("dlq", "peek", "--partition", "0", "--offset", "1")
    assert (code, said["total"]) == (0, 1)
    assert [one["source"]["offset"] for one in said["letters"]] == [1]


def test_a_letter_that_is_not_acknowledged_ends_it(desk: Desk, topics: Callable[..., str]):
    """Exit code 6 with the reason; each letter is either on the topic or named as not acknowledged."""
    small = topics("small", max_message_bytes=500)
    for number in range(3):
        desk.letter(number, value=random.Random(number).randbytes(5_000) if number == 1 else b"%d" % number)
    code, said, error = desk.winnow("dlq", "replay", "--to", small)
    assert code == 6
    assert "are not acknowledged, 0/" in error
    assert "Message size too large" in error
    # What travels in one request with it is refused along with it.
    assert "0/1" in said["unacknowledged"]
    written = [f"0/{(one.value or b'').decode()}" for one in desk.stored(small, said["replayed"])]
    assert sorted(written + said["unacknowledged"]) == [
        f"0/{number}" for number in range(len(written) + len(said["unacknowledged"]))
    ]


def test_a_rate_is_kept(desk: Desk):
    """Four letters at 10 a second take at least 0.3 s."""
    for number in range(4):
        desk.letter(number)
    began = monotonic()
    assert desk.winnow("dlq", "replay", "--rate", "10")[1]["replayed"] == 4
    assert monotonic() - began >= 0.3


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["replay", "--offset", "3"], 2, "--offset needs a --partition"),
        (["replay", "--partition", "7"], 2, "has no partition 7"),
        (["replay", "--partition", "0", "--offset", "3"], 2, "holds the offsets from 0 to before 0"),
        (["replay", "--to", f"not-there-{uuid4().hex[:6]}"], 5, "There is no topic 'not-there"),
        (["peek", "--offset", "3", "--partition", "0"], 2, "holds the offsets from 0 to before 0"),
        (["peek", "--topic", "not-there"], 5, "There is no topic 'not-there'"),
    ],
)
def test_mistakes_are_sentences(desk: Desk, flags: list[str], code: int, said: str):
    """Named, with an exit code of their kind, and nothing sent."""
    ended, document, error = desk.winnow("dlq", *flags)
    assert (ended, document) == (code, None)
    assert said in error


def test_as_a_user_types_it(desk: Desk):
    """In a process of its own, with its signals: a sentence for people, no payload."""
    desk.letter(1)
    done = winnow("dlq", "replay", *desk.flags)
    assert done.returncode == 0, done.stderr
    assert f"{desk.dead}: 1 of 1 chosen dead letter sent again and acknowledged".encode() in done.stdout
    assert b"value 1" not in done.stdout + done.stderr
    assert len(desk.stored(desk.input, 1)) == 1
