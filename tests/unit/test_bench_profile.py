"""The arithmetic of `bench profile`: what stacks are made of samples, what they come to, and how they are drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("onnx", reason="the benchmarks need the extra [import]")

from bench import profile
from bench.plot import flame
from worker.model.session import open_session
from worker.model.spam.making import DEFAULT

RAW = [
    "main (a.py:1);run (cli.py:3);Loop.run (worker/loop.py:132);Loop.turn (worker/loop.py:141);poll (x.py:7) 6",
    "main (a.py:1);run (cli.py:3);Loop.run (worker/loop.py:132);Loop.turn (worker/loop.py:142);poll (x.py:9) 2",
    "main (a.py:1);run (cli.py:3);Loop.run (worker/loop.py:132);Loop.turn (worker/loop.py:142) 1",
    "_bootstrap (threading.py:1);Lanes._work (worker/lanes.py:1);Session.run (ort.py:395) 10",
    "_bootstrap (threading.py:1);serve (http.py:1) 1",
]
STACKS = {
    ("poll thread", "Loop.turn", "poll"): 8,
    ("poll thread", "Loop.turn"): 1,
    ("lanes", "Session.run"): 10,
    ("other",): 1,
}


def test_stacks_begin_where_the_work_of_a_thread_does():
    """How a thread was started is the same for all; lines of a function are one."""
    assert profile.stacks(RAW) == STACKS


def test_functions_have_what_was_in_them_and_in_what_they_called():
    """As shares of all samples, the largest first, those of a hundredth and more."""
    rows = profile.functions({**STACKS, ("lanes", "rare"): 0})
    assert rows[0] == {"thread": "lanes", "function": "Session.run", "itself": 0.5, "with_callees": 0.5}
    assert [row["function"] for row in rows] == ["Session.run", "poll", "Loop.turn", "other"]
    assert rows[2]["itself"] == pytest.approx(0.05)
    assert rows[2]["with_callees"] == pytest.approx(0.45)


def test_what_is_too_thin_to_be_drawn_ends_earlier():
    """It counts for the function that called it, so that the shares still come to all."""
    drawn = profile.drawable({**STACKS, ("lanes", "Session.run", "thin"): 1}, least=0.1)
    assert drawn == {
        "lanes;Session.run": pytest.approx(11 / 21, abs=1e-5),
        "poll thread;Loop.turn;poll": pytest.approx(8 / 21, abs=1e-5),
        "poll thread;Loop.turn": pytest.approx(1 / 21, abs=1e-5),
        "other": pytest.approx(1 / 21, abs=1e-5),
    }


def test_a_flame_is_as_wide_as_its_share_and_stands_under_what_called_it():
    """One rectangle a function and place, its name behind it."""
    svg = ET.fromstring(flame("title", {"a;b": 0.6, "a;c<d>": 0.2, "e": 0.2}))
    boxes = {
        rect.findtext("{*}title"): (float(rect.get("x", 0)), float(rect.get("y", 0)), float(rect.get("width", 0)))
        for rect in svg.findall(".//{*}rect")
        if rect.find("{*}title") is not None
    }
    assert boxes.keys() == {"a", "b", "c<d>", "e"}
    (a_x, a_y, a_width), (b_x, b_y, b_width) = boxes["a"], boxes["b"]
    assert (b_x, b_width) == (a_x, pytest.approx((a_width + 1) * 0.75 - 1, abs=0.2))
    assert b_y > a_y == boxes["e"][1]
    assert boxes["c<d>"][0] == pytest.approx(b_x + b_width + 1, abs=0.2)


def test_operators_of_both_stages_have_shares():
    """The second stage is fed with states instead of ids."""
    for path in (DEFAULT / "early.onnx", DEFAULT / "rest.onnx"):
        assert {each.shape[:2] for each in profile.full_batch(open_session(str(path))).values()} == {(16, 32)}
        rows = profile.operators(path)
        assert rows[0]["operator"] == "MatMulIntegerToFloat"
        assert sum(row["share"] for row in rows) == pytest.approx(1.0, abs=0.05)
