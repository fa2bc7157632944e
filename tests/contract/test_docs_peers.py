"""The comparison of docs/peers.md, with one peer and a few messages; needs the extra `train`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import orjson
import pytest

from tests import docs_session, documents
from tests.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from worker.broker import Broker

SECONDS = 400.0
"""The networks are exported first, once on a machine."""


@pytest.mark.torch
@pytest.mark.kafka
@pytest.mark.timeout(SECONDS + 60)
def test_one_peer_is_measured_beside_winnow(kafka: Broker, tmp_path: Path):
    """The loop and Winnow answer every message; the results file has both rates and their ratio."""
    (block,) = documents.run_by(__file__)
    docs_session.commands(tmp_path)
    docs_session.write_texts(tmp_path)
    # Results go beside the program, and what was made for it on this machine is made no second time.
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__", "results"))
    (ROOT / ".peers").mkdir(exist_ok=True)
    (tmp_path / ".peers").symlink_to(ROOT / ".peers")
    said = docs_session.Session(tmp_path, docs_session.environment(tmp_path), seconds=SECONDS).run(block)
    figures = orjson.loads((tmp_path / "bench" / "results" / "quick.json").read_bytes())["figures"]
    assert set(figures) == {"winnow", "hand-written loop"}, said
    assert all(row["messages_per_s"] > 0 for row in figures.values()), figures
    assert figures["hand-written loop"]["winnow_is_faster_by"] > 0
