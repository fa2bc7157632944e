"""Tables where nobody looks at a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import orjson
import pytest
from rich.table import Table

from worker import cli
from worker.commands import consoles

if TYPE_CHECKING:
    from pathlib import Path


def test_a_terminal_gets_tables_as_wide_as_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Rich's own console; elsewhere long cells are not wrapped at 80 columns."""
    table = Table("", "what")
    table.add_row("a", "word " * 30)
    consoles.console().print(table)
    assert len(capsys.readouterr().out.splitlines()) == 5
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    consoles.console().print(table)
    assert len(capsys.readouterr().out.splitlines()) > 5


@pytest.mark.parametrize(
    "arguments",
    [
        ["model", "show"],
        ["evaluate", "default", "texts.jsonl"],
        ["threshold", "default", "texts.jsonl", "--label", "spam", "--precision", "0.9"],
    ],
)
def test_no_line_ends_in_spaces(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Rich fills tables and titles up to their width, which is noise in a file or behind a pipe."""
    rows = [("Claim your prize now, text WIN to 80011", "spam"), ("Lunch at noon?", "ham")] * 6
    lines = [orjson.dumps({"text": f"{text} {i}", "label": label}) for i, (text, label) in enumerate(rows)]
    (tmp_path / "texts.jsonl").write_bytes(b"\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["winnow", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    assert len(said.out.splitlines()) > 5
    assert [line for line in said.out.splitlines() if line.endswith(" ")] == []
