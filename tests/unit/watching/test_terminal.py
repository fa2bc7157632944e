"""A view in a terminal: wide, narrow, well and not."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.unit.watching.looks import Looked
from worker.watching.history import Point
from worker.watching.terminal import BLOCKS, bar, course, overview, render
from worker.watching.words import plural

URL = "http://127.0.0.1:9464"


def drawn(renderable: object, width: int, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(renderable)
    return console.file.getvalue()


def worked(**options: object) -> Looked:
    looked = Looked(**options)
    looked.scene.assign(12)
    looked.scene.work(300, dead={"invalid-json": 2})
    looked.look()
    looked.scene.work(300, dead={"invalid-json": 1})
    looked.scene.lag({number: number for number in range(12)})
    return looked


@pytest.mark.parametrize("width", [30, 60, 100, 200])
def test_it_fits_its_terminal(width: int):
    """No line is wider, however narrow it is, and the figures are there."""
    view = worked().after(10.0)
    text = drawn(render(URL, view, width, None), width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "Ctrl-C" not in text
    assert " more" not in text.replace("partitions more", "")
    for word in ("Well.", "30/s", "66", "ham"):
        assert word in text


PANELS = ("─ now ", "─ lag by partition ", "─ dead letters ", "─ labels ", "─ latency ", "─ scores ", "─ batches ")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 50), (40, 30), (100, 24)])
def test_what_does_not_fit_is_left_out_whole_and_said(width: int, height: int):
    """The state first, then lag and dead letters; the last line says how much more there is."""
    text = drawn(render(URL, worked().after(10.0), width, height), width)
    assert len(text.splitlines()) <= height
    missing = [name for name in PANELS if name not in text]
    assert text.count("╭") == text.count("╰") == len(PANELS) - len(missing) + 1
    assert PANELS[0] not in missing
    assert f"{plural(len(missing), 'panel')} more: a taller window, or --once." in " ".join(text.split())
    assert "Ctrl-C ends." in " ".join(text.split())


@pytest.mark.parametrize(("width", "height"), [(80, 80), (100, 40), (160, 30)])
def test_what_fits_is_there(width: int, height: int):
    """Then nothing is said of more."""
    text = drawn(render(URL, worked().after(10.0), width, height), width)
    assert len(text.splitlines()) <= height
    assert all(name in text for name in PANELS)
    assert "taller" not in text


def test_what_is_wrong_stands_above_with_its_runbook():
    """In words, not by colour alone."""
    looked = worked()
    looked.metrics.connected(False)
    text = drawn(render(URL, looked.after(10.0), 100, 40), 100)
    assert "✖ No broker is there." in text
    assert "docs/operations.md#no-broker" in text
    assert "WinnowBrokerDisconnected" in text


def test_a_worker_that_has_gone_is_said_at_once():
    """Above the last figures."""
    text = drawn(render(URL, worked().after(10.0), 100, 40, "Nothing answers. Heard last 5 s ago."), 100)
    assert "✖ No answer. Nothing answers. Heard last 5 s ago." in text
    assert "Well." not in text
    assert "30/s" in text


def test_long_lists_end_with_a_number():
    """Of partitions and labels those that do not fit."""
    looked = Looked([f"label-{number}" for number in range(30)])
    looked.scene.assign(200)
    looked.scene.lag({number: number for number in range(200)})
    looked.scene.work(3_000)
    text = drawn(render(URL, looked.look(), 120, 40), 120)
    assert "messages 199" in text
    assert "and 188 partitions more" in text


def test_a_view_without_anything_is_drawn():
    """Of a worker that loads its model."""
    assert "Starting." in drawn(render(URL, Looked(empty=True, up=1.0).look(), 100, 24), 100)


def test_a_lag_that_is_not_known_is_not_none():
    """Of a worker that has partitions, before the first of them is known."""
    looked = Looked()
    looked.scene.health.assigned(3)
    looked.scene.metrics.rebalanced("assigned", [("messages", number) for number in range(3)], 0, 0.0)
    view = looked.look()
    assert (view.lag.messages, view.lag.partitions) == (None, [])
    text = drawn(render(URL, view, 100, None), 100)
    assert "It is not known yet." in text
    assert "no partitions" not in text
    assert drawn(overview([(URL, view, "")]), 120).count(" – ") >= 2
    assert Looked().look().lag.messages == 0


def test_names_are_no_markup():
    """A topic or a label in brackets is shown as it is."""
    looked = Looked(["[red]", "[/]"])
    looked.scene.assign(1, topic="[bold]x")
    looked.scene.lag({0: 5}, topic="[bold]x")
    looked.scene.work(50)
    text = drawn(render(URL, looked.look(), 100, 40), 100)
    assert "[red]" in text
    assert "[bold]x 0" in text


def test_what_answers_cannot_end_the_picture():
    """Reasons, stages and layers in brackets, as only somebody else's `/metrics` has them, are shown as they are."""
    looked = Looked(exits=(2, 6))
    looked.scene.work(50, dead={"invalid-json": 2})
    view = looked.look()
    odd = replace(
        view,
        exits=[replace(one, name="[/a]") for one in view.exits],
        stages={f"[/{name}]": one for name, one in view.stages.items()},
        batches=replace(view.batches, closed=[replace(one, name="[/b]") for one in view.batches.closed]),
        dead_letters=replace(
            view.dead_letters, reasons=[replace(one, reason="[/c]", stage="[/d]") for one in view.dead_letters.reasons]
        ),
    )
    text = drawn(render(URL, odd, 100, 40), 100)
    for name in ("after [/a]", "[/b]", "[/c]", "[/d]", *odd.stages):
        assert name in text


def test_a_worker_by_ipv6_has_its_address():
    """Its brackets are no markup."""
    text = drawn(
        overview([("http://[fd00::1]:9464", worked().after(10.0), ""), ("http://[fd00::2]:1", None, "No.")]), 120
    )
    assert "[fd00::1]:9464" in text
    assert "[fd00::2]:1" in text


def test_no_name_is_a_command_to_the_terminal():
    """What a label of a bundle has of escape sequences is spelt out."""
    looked = Looked(["a\x1b]0;x\x07\x1b[2Jb", "ham"])
    looked.scene.assign(1, topic="t\x9b2J")
    looked.scene.lag({0: 5}, topic="t\x9b2J")
    looked.scene.work(50)
    text = drawn(render(URL, looked.look(), 160, 40), 160)
    assert not set(text) & {"\x1b", "\x07", "\x9b"}
    assert r"\x1b" in text


def test_the_course_is_drawn_in_blocks():
    """The largest is full; nothing is drawn of nothing."""
    assert course([Point(1.0, 0.0), Point(2.0, 5.0), Point(3.0, 10.0)]) == f"{BLOCKS[0]}{BLOCKS[4]}{BLOCKS[-1]}"
    assert course([]) == course([Point(1.0, 0.0)]) == ""
    assert bar(0.5, 4).plain == "━━──"


def test_several_workers_have_a_line_each():
    """Those that do not answer, too; the last line has them together."""
    view = worked().after(10.0)
    text = drawn(
        overview([(URL, view, ""), ("http://a:1", None, "Nothing answers."), ("http://b:2", view, "Gone.")]), 120
    )
    assert "1 of 3 workers answer; 30/s, 66 messages wait." in text
    assert "✖ Nothing answers." in text
    assert "✖ Gone." in text
