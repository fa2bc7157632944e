"""Every training of the documentation, as it stands there, on a few dozen texts; needs the extra `train`.

The commands, the encoder and the epochs are those of the pages; the data are made here, so that minutes become seconds.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests import docs_session, documents

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.documents import Block

SECONDS = 300.0
"""A block; on two cores with nothing else to do it is a tenth of that."""
ROWS = 60
SUBJECTS = ("cs.LG", "stat.ML", "math.PR", "hep-th")
INTENTS = ("card_arrival", "card_lost", "exchange_rate")
WORDS = {
    "cs.LG": "learning", "stat.ML": "estimator", "math.PR": "martingale", "hep-th": "supergravity",
    "ham": "lunch", "spam": "prize", "positive": "delightful", "negative": "dull",
    "card_arrival": "arrive", "card_lost": "lost", "exchange_rate": "exchange",
}  # fmt: skip
"""What gives a label away."""
FILL = ("the", "a", "new", "it", "was", "on", "this", "very")


def page_of(block: Block) -> Path:
    return block.page


PAGES = [
    pytest.param(list(blocks), id=str(page.relative_to(documents.ROOT)))
    for page, blocks in itertools.groupby(documents.run_by(__file__), page_of)
]


@pytest.mark.torch
@pytest.mark.timeout(900)
@pytest.mark.parametrize("blocks", PAGES)
def test_a_page_trains(blocks: Sequence[Block], tmp_path: Path):
    """Its commands, one after the other; what they train is a bundle with figures."""
    (tmp_path / "out").mkdir()
    docs_session.commands(tmp_path)
    docs_session.write_checkout(tmp_path)
    write_data(tmp_path)
    environment = docs_session.environment(tmp_path)
    if any("pip install" in block.script for block in blocks):
        write_pip(tmp_path)
    docs_session.Session(tmp_path, environment, seconds=SECONDS).in_order(blocks)
    for out in trained(blocks):
        assert (tmp_path / out / "bundle" / "bundle.json").is_file()
        figures = orjson.loads((tmp_path / out / "training.json").read_bytes())
        assert figures["int8"]["task"] == figures["task"]


def trained(blocks: Sequence[Block]) -> Iterator[str]:
    """The folders that trainings write."""
    for block in blocks:
        for words in documents.commands(block.script):
            if words[:2] == ["winnow", "train"]:
                yield words[words.index("--out") + 1].replace("$OUT", "out")


def write_data(folder: Path) -> None:
    """The pages' data sets, by the names that they have in examples/README.md."""
    for name in ("train", "test", "other"):
        write(folder / f"{name}.jsonl", ("ham", "spam"))
    data = folder / "data"
    for name in ("train", "test"):
        write(data / "arxiv10" / f"{name}.jsonl", SUBJECTS)
        write(data / "arxiv_multilabel" / f"{name}.jsonl", SUBJECTS, several=True)
        write(data / "sst2" / f"{name}.jsonl", ("positive", "negative"))
        write(data / "banking77" / f"{name}.jsonl", INTENTS)
    for name in ("train", "dev", "test"):
        lines(data / "wnut17" / f"{name}.jsonl", tagged(name))


def write(path: Path, labels: Sequence[str], *, several: bool = False) -> None:
    """Texts in which words give their labels away."""
    draw = random.Random(path.name)
    rows = []
    for number in range(ROWS):
        true = [labels[number % len(labels)], *draw.sample(labels, k=int(several))]
        said = [*draw.choices(FILL, k=4), *(WORDS[label] for label in dict.fromkeys(true))]
        draw.shuffle(said)
        text = {"text": " ".join([*said, str(number)])}
        rows.append(text | ({"labels": list(dict.fromkeys(true))} if several else {"label": true[0]}))
    lines(path, rows)


def tagged(seed: str) -> Iterator[dict[str, Any]]:
    draw = random.Random(seed)
    for _ in range(ROWS):
        words = [*draw.choices(FILL, k=5), "london", "anna"]
        draw.shuffle(words)
        tags = {"london": "B-location", "anna": "B-person"}
        yield {"tokens": words, "tags": [tags.get(word, "O") for word in words]}


def lines(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def write_pip(folder: Path) -> None:
    """`pip` of a new environment that sees the packages of this one: what is there is found and not fetched again."""
    fresh = folder / "fresh"
    subprocess.run([sys.executable, "-m", "venv", fresh], check=True)
    (site,) = fresh.glob("lib/python*/site-packages")
    (site / "seen.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    (folder / "bin" / "pip").symlink_to(fresh / "bin" / "pip")
