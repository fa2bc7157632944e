"""What a made-up control group allows of memory; of cores, see test_cpu.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from worker.cgroup import memory_limit

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = 8 << 30


@pytest.mark.parametrize(
    ("files", "bytes_"),
    [({}, MACHINE), ({"memory.max": "max\n"}, MACHINE), ({"memory.max": "536870912\n"}, 536_870_912),
     ({"memory.max": "nonsense"}, MACHINE), ({"memory/memory.limit_in_bytes": "1048576"}, 1_048_576),
     ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE)],
)  # fmt: skip
def test_the_bound_of_either_version_is_read(tmp_path: Path, monkeypatch, files: dict[str, str], bytes_: int):
    """In bytes; the machine's where there is none, by the word or by the largest number there is."""
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": MACHINE // 4096}.__getitem__)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == bytes_
