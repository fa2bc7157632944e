"""What `winnow audit` shows, and how it ends."""

from __future__ import annotations

import sys
from dataclasses import replace

import orjson
import pytest

import worker.audit
from worker import cli
from worker.audit import Bounds, Figures, Options, Partition, Report
from worker.commands.audit import show
from worker.config import load
from worker.pipeline.encode import ModelIdentity

BOUNDS = Bounds(0, 0, 10, 10)
WELL = Report(
    (Partition("in", 0, BOUNDS, Figures(messages=6, results=6, checked=6)),
     Partition("in", 1, BOUNDS, Figures(messages=4, results=3, dead_letters=1, checked=4))),
    group="group", committed=True, doubles_allowed=True, bundle=ModelIdentity("spam", "abc"),
    bundles={"abc": 9}, reasons={"invalid-json": 1},
)  # fmt: skip
ILL = replace(
    WELL,
    partitions=(
        Partition(
            "in", 0, BOUNDS,
            Figures(messages=9, results=8, missing=1, doubled=2, copies=3, differing=1, wrong=2, checked=8, curable=1),
            {"missing": [4], "differing": [5], "wrong": [6, 7], "doubled": [1]},
        ),
    ),
    committed=False,
)  # fmt: skip


def shown(report: Report, capsys: pytest.CaptureFixture[str]) -> str:
    show(report)
    return capsys.readouterr().out


def test_all_is_well_is_short(capsys: pytest.CaptureFixture[str]):
    """A row a partition, a total, what was compared; no column that is all 0 but the ones one looks for."""
    out = shown(WELL, capsys)
    assert out.splitlines()[0].split("  ")[0] == "input"
    assert "in/0" in out
    assert "total" in out
    assert "missing" in out
    assert "tombstones" not in out
    assert "10 answers were compared with what spam (abc) gives today; 10 are the same bit by bit." in out
    assert "Dead letters: 1 invalid-json." in out
    assert out.rstrip().endswith("All is well.")


def test_what_is_wrong_is_named(capsys: pytest.CaptureFixture[str]):
    """Each fault with examples, and what one should know of the group, of doubles and of what can be cured."""
    out = shown(ILL, capsys)
    for part in (
        "The group 'group' has committed nothing", "2 messages have 3 answers too many (allowed at least once); 1 of",
        "Missing, for example in/0/4.", "Wrong, for example in/0/6, in/0/7.",
        "Dead letters that would be results today: 1 (", "5 are the same bit by bit",
    ):  # fmt: skip
        assert part in out
    assert "Doubled, for example" not in out
    assert "All is well" not in out


def test_what_else_there_is_to_know(capsys: pytest.CaptureFixture[str]):
    """Others' records, other bundles, open transactions, tombstones, what waits."""
    partition = replace(WELL.partitions[0], figures=Figures(messages=6, waiting=2, other_bundle=3))
    report = replace(
        WELL, partitions=(partition,), bundles={"abc": 1, "fff": 3}, elsewhere=5, foreign=6, forwarded_due=7,
        forwarded=8, held_back={"out/0": 9}, begins={"out/0": 5, "dead/1": 7_000},
    )  # fmt: skip
    out = shown(report, capsys)
    for part in (
        "2 messages wait", "3 results are of other bundles (fff)", "5 answers are to messages of other topics",
        "6 records of output and dead letters are not Winnow's", "Tombstones to be forwarded: 7; on the output: 8",
        "An open transaction hides 9 offsets of out/0",
        "out/0 begins at offset 5, dead/1 begins at offset 7,000: what was there before cannot be seen; --since",
    ):  # fmt: skip
        assert part in out
    assert "not compared" in shown(replace(WELL, bundle=None), capsys)


@pytest.mark.parametrize(("report", "code"), [(WELL, 0), (ILL, 8)])
def test_the_exit_code_says_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], report: Report, code: int
):
    """0 or 8; the report is there either way, and stderr says in a sentence what should not be."""
    asked: list[Options] = []

    def audit(settings: object, options: Options, progress: object) -> Report:
        asked.append(options)
        return report

    monkeypatch.setattr(worker.audit, "audit", audit)
    arguments = [
        "--input",
        "a",
        "--input",
        "b",
        "--output",
        "c",
        "--no-scores",
        "--no-group",
        "--last",
        "5",
        "--no-doubles",
    ]
    monkeypatch.setattr(sys, "argv", ["winnow", "audit", "--json", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert (ended.value.code or 0) == code
    assert orjson.loads(said.out)["ok"] is (code == 0)
    if code:
        assert said.err.endswith(
            "winnow: The audit found messages that should not be: 1 without an answer, 1 answered differently, "
            "2 answered as settings and bundle do not answer today.\n"
        )
    assert asked == [
        Options(inputs=("a", "b"), output="c", all_processed=True, scores=False, last=5, doubles_allowed=False)
    ]


@pytest.mark.parametrize(("delivery", "allowed"), [("at-least-once", True), ("exactly-once", False)])
def test_doubles_are_judged_by_what_the_settings_promise(delivery: str, allowed: bool):
    """Unless the options say otherwise."""
    settings = load(None, [f"kafka.delivery={delivery}"])
    assert worker.audit._scope(settings, Options(), frozenset(), orjson.loads).doubles_allowed is allowed
    assert (
        worker.audit._scope(settings, Options(doubles_allowed=not allowed), frozenset(), orjson.loads).doubles_allowed
        != allowed
    )
