"""`winnow dlq` and `winnow audit` without a broker: times, what is shown, and mistakes."""

from __future__ import annotations

import re
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from jsonschema import Draft202012Validator

from tests.kit import MODEL, record
from worker import cli
from worker.commands import showing_letters as showing
from worker.commands.dlq import OPEN, Found, How, Stretch, _left, _offsets, _Replay, _stretches
from worker.commands.moments import moment, precise, shown
from worker.commands.run import Stop
from worker.errors import ConfigError
from worker.kafka.reading import Extent
from worker.letters import ENOUGH, NO_REASON, Selection, read
from worker.pipeline.encode import Encoder
from worker.pipeline.messages import Record, Rejection

if TYPE_CHECKING:
    from worker.letters import Letter

NOW = datetime(2026, 11, 21, 13, 0, tzinfo=UTC).timestamp()
HEADERS = [
    ("own", b"a header of the message"),
    ("__connect.errors.topic", b"in"),
    ("__connect.errors.partition", b"1"),
    ("__connect.errors.offset", b"7"),
    ("__connect.errors.stage", b"VALUE_CONVERTER"),
    ("__connect.errors.class.name", b"worker.pipeline.decode"),
    ("__connect.errors.exception.message", b"The value is not JSON at character 3."),
    ("winnow.errors.reason", b"invalid-json"),
]


def letter(offset: int = 0, **fields: object) -> Letter:
    made = Record("dead", 2, offset, b"key", b'{"text": "private"}', HEADERS, 1_700_000_000_000)
    return read(made._replace(**fields))


def counted(*some: Letter) -> dict[str, showing.Counted]:
    found: dict[str, showing.Counted] = {}
    for one in some:
        found.setdefault(one.named_reason, showing.Counted()).add(one)
    return found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", -90), ("15m", -900), ("2h", -7_200), ("3d", -259_200), ("2026-11-21T13:00:00Z", 0),
        ("2026-11-21T14:00:00+01:00", 0), ("2026-11-21 13:00", 0), ("2026-11-21", -46_800),
    ],
)  # fmt: skip
def test_times(text: str, seconds: int):
    """ISO 8601, in UTC where it has no zone, or so long ago."""
    assert moment("--since", text, NOW) == (NOW + seconds) * 1000


@pytest.mark.parametrize("text", ["", "yesterday", "2h30", "-1h", "2026-13-01", "99999999999d"])
def test_what_is_no_time_is_named(text: str):
    """With the flag, and what can be written."""
    with pytest.raises(ConfigError, match=r"--until: .* is no time; write 2026"):
        moment("--until", text, NOW)


def test_no_time_is_none():
    """A flag that is not given."""
    assert moment("--since", None, NOW) is None


def test_times_that_are_shown_can_be_written():
    """To the millisecond; and a timestamp that is no time is shown as the number it is."""
    assert moment("--since", precise(1_700_000_000_123), NOW) == 1_700_000_000_123
    assert shown(1_700_000_000_123) == "2023-11-14 22:13:20Z"
    assert (shown(None), shown(10**17)) == ("-", str(10**17))


@pytest.mark.parametrize(("text", "offsets"), [("17", [17]), ("3-5", [3, 4, 5]), (" 0 ", [0])])
def test_offsets(text: str, offsets: list[int]):
    """One, or from one to another, both meant."""
    assert list(_offsets(text)) == offsets


def test_offsets_to_the_end():
    """With a dash and no second one."""
    assert _offsets("3-") == range(3, OPEN)


@pytest.mark.parametrize("text", ["", "x", "-", "-1", "5-3", "x-", "1-2-3", "²", "9" * 30])
def test_what_is_no_offset_is_named(text: str):
    """In a sentence, without a traceback."""
    with pytest.raises(ConfigError, match="--offset"):
        _offsets(text)


class Stored:
    """Partitions of `dead` in memory, for what only asks how far they reach."""

    def __init__(self, *extents: Extent) -> None:
        self._extents = {("dead", number): extent for number, extent in enumerate(extents)}

    def partitions(self, topics: list[str]) -> list[tuple[str, int]]:
        assert topics == ["dead"]
        return list(self._extents)

    def extents(self, partitions: list[tuple[str, int]]) -> dict[tuple[str, int], Extent]:
        return {partition: self._extents[partition] for partition in partitions}


TWO = Stored(Extent(2, 10), Extent(0, 4))


def test_an_open_range_reaches_to_the_end():
    """Of what the partition holds now."""
    selection = Selection(partition=0, offsets=(_offsets("4"), _offsets("7-")))
    assert _stretches(TWO, "dead", selection) == [Stretch(("dead", 0), 4, 10)]
    assert selection(letter(9)._replace(record=letter(9).record._replace(partition=0)))


@pytest.mark.parametrize(
    ("partition", "text", "said"),
    [
        (2, "0", "'dead' has no partition 2; it has 2"),
        (None, "3", "--offset needs a --partition"),
        (0, "1", "holds the offsets from 2 to before 10; --offset asks for 1"),
        (0, "8-10", "--offset asks for 10"),
        (0, "10-", "--offset asks for 10"),
        (0, "0-", "--offset asks for 0"),
    ],
)
def test_a_partition_or_an_offset_that_is_not_there_is_named(partition: int | None, text: str, said: str):
    """A mistake of the command line."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        _stretches(TWO, "dead", Selection(partition=partition, offsets=(_offsets(text),)))


def test_what_is_left_is_counted_from_the_first_one_that_was_not_looked_at():
    """The rest of its partition, and all later ones."""
    stretches = _stretches(TWO, "dead", Selection())
    first = letter(7)._replace(record=letter(7).record._replace(partition=0))
    assert _left(stretches, first) == 3 + 4
    assert _left(stretches, first._replace(record=first.record._replace(partition=1, offset=3))) == 1


def test_letters_without_a_reason_can_be_chosen():
    """By the word that the list shows in its place."""
    bare = letter(headers=[])
    assert Selection(frozenset({NO_REASON}))(bare)
    assert not Selection(frozenset({NO_REASON}))(letter())


def test_the_list_shows_no_payload(capsys: pytest.CaptureFixture[str]):
    """Where, when, why and how large, by letter and by reason; key, value and the message's headers only when asked."""
    one = letter(5)
    showing.table("dead", [one], counted(one, letter(6)), {}, values=False)
    out = capsys.readouterr().out
    for part in (
        "dead: 2 dead letters, the 1 newest",
        "2/5",
        "2023-11-14 22:13:20Z",
        "decode",
        "in/1/7",
        "invalid-json",
    ):
        assert part in out
    assert "private" not in out
    assert "own" not in out
    showing.table("dead", [one], counted(one), {}, values=True)
    out = capsys.readouterr().out
    assert "dead: 1 dead letter\n" in out
    assert 'value {"text": "private"}' in out
    assert "header own: a header of the message" in out
    assert "__connect" not in out


def test_a_letter_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]):
    """Control characters and bytes that are no text are shown as what they are, in every part."""
    evil = "\x1b[31m\x07[bold]\r\n"
    headers = [(evil, evil.encode()), *((name, evil.encode()) for name, _ in HEADERS[4:])]
    one = letter(value=evil.encode() + b"\xff", key=b"\x00", headers=headers)
    for values in (False, True):
        showing.table("dead", [one], counted(one), {}, values=values)
    out = capsys.readouterr().out
    assert not set("\x1b\x07\r\x00") & set(out)
    assert "\\x1b[31m" in out
    assert "[bold]" in out
    assert "\\xff" in out


def test_large_values_are_shown_in_part(capsys: pytest.CaptureFixture[str]):
    """The beginning, and a sign that there is more."""
    one = letter(value=b"v" * 1_000_000)
    showing.table("dead", [one], counted(one), {}, values=True)
    out = capsys.readouterr().out
    assert len(out) < 4_000
    assert "v…" in out


def test_nothing_to_list_is_said(capsys: pytest.CaptureFixture[str]):
    """And no empty table; where only the reason does not fit, the reasons that there are."""
    showing.table("dead", [], {}, {}, values=False)
    assert capsys.readouterr().out == "dead holds no such dead letters.\n"
    showing.table("dead", [], {}, {"empty": 1_200, "a\x1b": 1}, values=False)
    assert capsys.readouterr().out == (
        "dead holds no such dead letters; of other reasons there are 1,200 empty, 1 a\\x1b.\n"
    )


def test_json_holds_payload_only_when_asked(capsys: pytest.CaptureFixture[str]):
    """With it as `schemas/dead-letter.schema.json` writes a dead letter down."""
    one = letter(5)
    showing.json_list("dead", [one], counted(one), {"empty": 2}, values=False)
    document = orjson.loads(capsys.readouterr().out)
    assert document["other_reasons"] == {"empty": 2}
    assert document["reasons"]["invalid-json"]["letters"] == 1
    (entry,) = document["letters"]
    assert entry["source"] == {"topic": "in", "partition": 1, "offset": 7}
    assert "record" not in entry
    showing.json_list("dead", [one], counted(one), {}, values=True)
    (entry,) = orjson.loads(capsys.readouterr().out)["letters"]
    assert entry["record"]["key"] == "a2V5"
    assert entry["record"]["headers"]["own"] == "a header of the message"


def test_a_letter_with_its_payload_is_as_the_schema_has_it(capsys: pytest.CaptureFixture[str]):
    """What `--values --json` writes of a worker's letter is valid."""
    rejected = Rejection("decode", "invalid-json", "The value is not JSON at character 3.", "InvalidMessage")
    outgoing, _ = Encoder(MODEL, False, (), 100_000)(
        record(3, b"{,\xff", key=b"\x00", headers=[("own", b"\xff")]), rejected
    )
    assert outgoing is not None
    one = letter(key=outgoing.key, value=outgoing.value, headers=outgoing.headers)
    showing.json_list("dead", [one], counted(one), {}, values=True)
    (entry,) = orjson.loads(capsys.readouterr().out)["letters"]
    schema = orjson.loads((Path(__file__).parents[2] / "schemas" / "dead-letter.schema.json").read_bytes())
    Draft202012Validator(schema).validate(entry["record"])


def found(**fields: object) -> Found:
    made = Found("dead", dry_run=False, chosen=3, last=letter(9), newest=1_700_000_000_000)
    made.topics["in"] = 2
    made.refused[ENOUGH] = 1
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_replay_says_what_it_did(capsys: pytest.CaptureFixture[str]):
    """How many of how many, where to, what was refused and why, and how to go on."""
    showing.replay(found())
    out = capsys.readouterr().out
    assert "dead: 2 of 3 chosen dead letters sent again and acknowledged (2 to in)." in out
    assert "Refused 1 (replayed): " in out
    assert "--since 2023-11-14T22:13:20.001Z" in out
    showing.replay(found(left=87, unacknowledged=["2/8"]))
    out = capsys.readouterr().out
    assert "dead: 1 of at most 90 chosen dead letters sent again" in out
    assert "Not acknowledged: 2/8." in out
    assert "Ended after 2/9: what follows, 87 at most, was not looked at." in out
    assert "--since" not in out
    showing.json_replay(found(left=87))
    document = orjson.loads(capsys.readouterr().out)
    assert (document["complete"], document["left"]) == (False, 87)


def test_a_replay_that_ended_before_it_began_says_so(capsys: pytest.CaptureFixture[str]):
    """A signal came first: that is not a topic without letters."""
    showing.replay(Found("dead", dry_run=False, left=1))
    assert capsys.readouterr().out == (
        "dead: 0 of at most 1 chosen dead letter sent again and acknowledged.\n"
        "Ended before the first one: what follows, 1 at most, was not looked at.\n"
    )


def test_a_replay_of_nothing_says_so(capsys: pytest.CaptureFixture[str]):
    """Rather than that none of none was sent."""
    showing.replay(Found("dead", dry_run=False))
    assert capsys.readouterr().out == "dead holds no such dead letters; there is nothing to send.\n"
    showing.replay(Found("dead", dry_run=False, others=Counter({"invalid-json": 2, "tombstone": 1})))
    assert capsys.readouterr().out == (
        "dead holds no such dead letters; of other reasons there are 2 invalid-json, 1 tombstone; there is nothing to "
        "send.\n"
    )


class Letters(Stored):
    """One partition of `dead` with two letters, and the topic that they came from."""

    def topics(self) -> dict[str, int]:
        return {"dead": 1, "in": 2}

    def read(self, partition: tuple[str, int], first: int, end: int) -> list[Record]:
        return [letter(n).record._replace(partition=0) for n in range(first, end)]


def test_a_replay_counts_the_letters_that_only_their_reason_leaves_out():
    """As peek does; those that are meant are counted apart, and a limit that is reached by them leaves nothing."""
    how, stop = How(None, None, 2, 3, True), Stop()
    for reason, others, chosen in (("nope", {"invalid-json": 2}, 0), ("invalid-json", {}, 2)):
        done = _Replay(Letters(Extent(0, 2)), None, how, stop, Found("dead", dry_run=True))(
            Selection(reasons=frozenset({reason}))
        )
        assert (dict(done.others), done.chosen, done.complete) == (others, chosen, True)


def test_what_is_piped_has_no_filling(capsys: pytest.CaptureFixture[str]):
    """Tables are filled up with spaces to their width, which only a terminal needs."""
    some = [letter(7), letter(8, headers=[])]
    showing.table("dead", some, counted(*some), {}, values=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert [line for line in lines if line.endswith(" ")] == []


def test_a_dry_run_says_what_it_would_do(capsys: pytest.CaptureFixture[str]):
    """Each letter with its aim, a few of many; as JSON all."""
    sent = [(letter(n), "in", 1 if n else None) for n in range(30)]
    showing.replay(found(dry_run=True, sent=sent))
    out = capsys.readouterr().out
    assert "would be sent again" in out
    assert "2/0  2023-11-14 22:13:20Z  invalid-json -> in, by its key, replay 1" in out
    assert "-> in, partition 1, replay 1" in out
    assert "and 10 more" in out
    showing.json_replay(found(dry_run=True, sent=sent))
    document = orjson.loads(capsys.readouterr().out)
    assert (document["replayed"], len(document["would_replay"])) == (0, 30)
    assert document["refused"] == {"replayed": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dlq", "replay", "--to", "messages.dead"], "is the dead-letter topic itself"),
        (["dlq", "replay", "--to", "messages.labelled"], "is where results are written"),
        (["dlq", "peek", "--since", "soon"], "--since: 'soon' is no time"),
        (["dlq", "replay", "--offset", "x"], "--offset: 'x' is no offset"),
        (
            ["dlq", "peek", "--since", "2026-11-21", "--until", "2026-11-20"],
            "2026-11-21 is later than --until 2026-11-20",
        ),
        (["audit", "--since", "soon"], "--since: 'soon' is no time"),
        (["audit", "--set", "kafka.topic=x"], "There is no setting 'kafka.topic'"),
    ],
)
def test_mistakes_are_exit_code_2_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    """Before any broker is asked."""
    monkeypatch.setattr(sys, "argv", ["winnow", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize("arguments", [["dlq", "peek"], ["dlq", "replay"], ["audit", "--no-scores"]])
def test_without_a_broker_it_is_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
):
    """Soon, and in words."""
    to_nobody = ["--set", "kafka.bootstrap_servers=127.0.0.1:1", "--set", "kafka.connect_timeout_ms=300"]
    monkeypatch.setattr(sys, "argv", ["winnow", *arguments, *to_nobody])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err
    assert ended.value.code == 4
    assert "No broker answered at 127.0.0.1:1" in error
