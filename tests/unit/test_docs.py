"""The pages that are written by `docs/generate.py`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from worker.capacity.machine import cpu
from worker.doctor.machine import VNNI

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
    check(generator().pages())


@pytest.mark.skipif(not VNNI.intersection(cpu().instruction_sets), reason="without VNNI scores differ a little")
def test_answers_are_those_of_the_bundle():
    """Scores, digests, tokens and explanations in README.md and docs/tools.md are what the bundle says today."""
    check(generator().answers.pages(ROOT))


def test_answers_are_found_where_they_stand(monkeypatch: pytest.MonkeyPatch):
    """Each kind of them: with wrong ones put in their places, the right ones come back."""
    wrong = [
        (r'"score":0\.\d+', '"score":0.5'), (r"\b(ham|spam)  0\.\d{3}", r"\1  0.500"),
        (r"\([0-9a-f]{12}\)", f"({'0' * 12})"),
        (r'"digest":"\w+"', '"digest":"0"'), (r'"layer":\d+', '"layer":99'), (r"^  [+-]0\.\d{3}  ", "  +0.500  "),
        (r"computes what the bundle's \d+", "computes what the bundle's 0"),
    ]  # fmt: skip
    read = Path.read_text

    def spoilt(path: Path, encoding: str) -> str:
        text = read(path, encoding)
        for pattern, replacement in wrong:
            text = re.sub(pattern, replacement, text, flags=re.M)
        return text

    answers = generator().answers
    right = answers.pages(ROOT)
    pages = {name: ROOT / name for name in ("README.md", "docs/tools.md", "docs/delivery.md")}
    monkeypatch.setattr(Path, "read_text", spoilt)
    assert [name for name, page in pages.items() if spoilt(page, "utf-8") == right[page]] == []
    assert answers.pages(ROOT) == right


def check(pages: dict[Path, str]) -> None:
    for path, text in pages.items():
        assert path.read_text("utf-8") == text, f"{path.name} is not current: run `python docs/generate.py`"
