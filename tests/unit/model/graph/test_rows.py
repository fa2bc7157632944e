"""A row's logits in INT8 are the same bits in whatever company, and however far padded."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.model import families
from tests.unit.model.families import KINDS, TASKS, network_of, ranges_of, session_of
from worker.model.assemble import Encode
from worker.model.bundle import load
from worker.model.graph.observe import observe
from worker.model.graph.silu import with_silu
from worker.model.session import feeds, open_session, run
from worker.model.spam.making import DEFAULT

LENGTHS = [*range(1, 36), 47, 48, 49, 63, 64, 65, 100, 127, 128, 129, 200, 255, 256, 257, 311, 400, 511, 512]
NETWORKS = [f"{kind} {task}" for kind in KINDS for task in TASKS]


@pytest.fixture(scope="module", params=NETWORKS)
def small(request):
    network = network_of(*request.param.split())
    return session_of(network, ranges_of(network))


@pytest.fixture(scope="module")
def default():
    """Logits of rows, padded to a length; those of the early head beside them, where the default bundle has one."""
    sessions = [open_session(str(path)) for path in load(DEFAULT).graph_paths]
    if len(sessions) == 1:
        return partial(run, sessions[0])
    first, rest = sessions

    def both(rows, length=None):
        given = feeds(first, rows, length)
        early, hidden = first.run(["logits", "hidden"], given)
        (last,) = rest.run(["logits"], {"hidden": hidden, "attention_mask": given["attention_mask"]})
        return np.concatenate([last, early], 1)

    return both


def assert_bits_equal(session, rows, length=None):
    """Alone and unpadded, or beside each other and padded to the longest or to `length`: the same bits."""
    together = run(session, rows, length)
    for found, row in zip(together, rows, strict=True):
        alone = run(session, [row])[0]
        np.testing.assert_array_equal(found[: len(row)] if found.ndim == 2 else found, alone)


@pytest.mark.parametrize("batch", [2, 16, 32])
def test_rows_are_bit_equal_in_any_batch(small, batch):
    rows = families.rows(LENGTHS)
    order = np.random.default_rng(batch).permutation(len(rows))
    for start in range(0, len(order), batch):
        assert_bits_equal(small, [rows[i] for i in order[start : start + batch]])


@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 130), min_size=1, max_size=12), extra=st.integers(0, 70), seed=st.integers(0, 99)
)
def test_rows_are_bit_equal_for_any_lengths_and_padding(small, lengths, extra, seed):
    assert_bits_equal(small, families.rows(lengths, seed), max(lengths) + extra)


OTHERS = {
    "widths of a base size": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 1,
    },
    "widths that no vector divides": {"hidden_size": 40, "intermediate_size": 72},
    "heads of four": {"num_attention_heads": 16},
    "one head": {"num_attention_heads": 1},
    "the widest heads": {"hidden_size": 256, "num_attention_heads": 2},
    "one layer": {"num_hidden_layers": 1},
    "one label": {"labels": 1},
    "forty labels": {"labels": 40},
    "another activation": {"hidden_act": "gelu_new"},
    "a third activation": {"hidden_act": "silu"},
    "this one and widths that no vector divides": {"hidden_size": 40, "intermediate_size": 72, "hidden_act": "silu"},
}


def equalized_of(network):
    return observe(network, families.rows([5, 60, 130])).equalized()


@pytest.mark.parametrize("ranges", [ranges_of, equalized_of])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("other", OTHERS)
def test_rows_are_bit_equal_in_networks_of_other_sizes(other, task, ranges):
    network = network_of("bert", task, **OTHERS[other])
    session = session_of(network, ranges(network))
    rows = families.rows(range(1, 67))
    for start in (0, 20, 40):
        assert_bits_equal(session, rows[start : start + 23], 70)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_bit_equal_with_silu_in_gelus_place(kind, task):
    network = network_of(kind, task)
    other, seen = with_silu(network, observe(network, families.rows([5, 60, 130])))
    session = session_of(other, seen.equalized())
    rows = families.rows(range(1, 67))
    for start in (0, 20, 40):
        assert_bits_equal(session, rows[start : start + 23])
        assert_bits_equal(session, rows[start : start + 23], 70)


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_bit_equal_with_one_head_in_fp32(task):
    """Nothing is rounded to codes behind the last layer's mean, which one head makes a matrix of one row."""
    session = session_of(network_of("bert", task, num_attention_heads=1))
    rows = families.rows(LENGTHS[:50])
    for start in (0, 25):
        assert_bits_equal(session, rows[start : start + 25], 512)


def parts(ranges, without):
    return {name: found for name, found in ranges.items() if not any(part in name for part in without)}


@pytest.mark.parametrize("ranges", [ranges_of, equalized_of])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["bert", "electra", "mpnet"])
@pytest.mark.parametrize("without", ["input", "context", "intermediate", "activation", "head", "layer.2", "e"])
def test_rows_are_bit_equal_with_products_left_in_fp32(kind, task, without, ranges):
    """Whichever parts stay FP32; `e` is in the name of every part."""
    network = network_of(kind, task)
    session = session_of(network, parts(ranges(network), [without]), int8_words=without != "e")
    rows = families.rows(range(1, 40))
    assert_bits_equal(session, rows)
    assert_bits_equal(session, rows[::7], 64)


TEXTS = [
    "ok",
    "see you at 8 then :)",
    "Your code is 482 913, it expires in ten minutes.",
    "WIN a FREE phone!!! txt WIN to 80086 now, £1.50/msg, www.example.test",
    "nächste Woche wieder? 👍🏽 e\u0301 \u200b zero width",
    "",
    "Subject: minutes\n" + "we talked about the plan for the spring and who does what . " * 9,
    "the quick brown fox " * 70,
    "buy now " * 260,
]


@pytest.mark.parametrize("padded", [None, 256, 300])
def test_default_bundle_rows_are_bit_equal_in_any_batch(default, padded):
    """Texts as they come, of 2 to 256 tokens."""
    encode = Encode(load(DEFAULT).tokenizer_json.encode(), 256)
    rows = encode([text[cut:] for text in TEXTS for cut in (0, 1, 5)])
    alone = np.concatenate([default([row]) for row in rows])
    np.testing.assert_array_equal(default(rows, padded), alone)
    np.testing.assert_array_equal(default(rows[::-1])[::-1], alone)


def test_default_bundle_rows_are_bit_equal_at_every_short_length(default):
    """Every remainder that a vector loop can leave."""
    rng = np.random.default_rng(5)
    rows = [[101, *rng.integers(1000, 30000, n).tolist(), 102] for n in range(67)]
    np.testing.assert_array_equal(default(rows), np.concatenate([default([row]) for row in rows]))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_bit_equal_with_equalized_channels(kind, task):
    network = network_of(kind, task)
    session = session_of(network, equalized_of(network))
    rows = families.rows(LENGTHS[:40])
    for start in (0, 20):
        assert_bits_equal(session, rows[start : start + 20], 140)
