"""The pages that are written by `docs/generate.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current():
    """What is committed is what `python docs/generate.py` writes."""
    for path, text in generator().pages().items():
        assert path.read_text("utf-8") == text, f"{path.name} is not current: run `python docs/generate.py`"
