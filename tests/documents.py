"""The documentation as tests see it: pages, their fenced blocks, and what is to be done with each.

What tests/contract/test_docs_commands.py does not simply run is marked in an HTML comment on the line before its fence,
which readers never see:

    <!-- docs: run by tests/contract/test_docs_peers.py -->    that test takes it from the page, by `run_by(__file__)`
    <!-- docs: run by .ci/run -->                              no test: each of its lines stands there, and is run
    <!-- docs: part of bench/peers/programs/loop.py -->        a program's lines, which stand there one after the other
    <!-- docs: in the background -->                           started, and stopped by SIGTERM at the page's end
    <!-- docs: not run: needs Kubernetes -->                   the reason; what is cheap is still checked
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/helm/winnow/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*.md")),
]
SCRIPTS = ("sh", "console")
"""Commands; those of `console` stand behind `$ `, and what they say below them."""
PROGRAMS = ("python",)
DOCUMENTS = ("toml", "json", "yaml", "dockerfile")
PLAIN = ("text",)
"""Neither run nor parsed: pictures, listings."""
KINDS = (*SCRIPTS, *PROGRAMS, *DOCUMENTS, *PLAIN)

_FENCE = re.compile(r"^( *)(`{3,})(.*)$")
_MARKER = re.compile(r"^ *<!-- docs: (.*) -->$")
_OPERATORS = {"|", "||", "&&", ";", "&"}
_INLINE = re.compile(r"(?<!`)`((?:winnow|\./dev) [^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `said` is its marker."""

    page: Path
    line: int
    kind: str
    text: str
    said: str = ""

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def not_run(self) -> str:
        """The reason why it is not run; empty where it is."""
        return _behind("not run: ", self.said)

    @property
    def run_by(self) -> str:
        """What runs it instead: a test, a page that is run, or a file of CI."""
        return _behind("run by ", self.said)

    @property
    def part_of(self) -> str:
        """The program that it is a part of: no command of a reader's."""
        return _behind("part of ", self.said)

    @property
    def in_background(self) -> bool:
        return self.said == "in the background"

    @property
    def runs(self) -> bool:
        """Whether it is for tests/contract/test_docs_commands.py."""
        return self.is_code and not (self.not_run or self.run_by or self.part_of)

    @property
    def is_code(self) -> bool:
        """Commands or a program."""
        return self.kind in (*SCRIPTS, *PROGRAMS)

    @property
    def script(self) -> str:
        """What a shell is to run."""
        if self.kind != "console":
            return self.text
        return "".join(f"{line.removeprefix('$ ')}\n" for line in self.text.splitlines() if line.startswith("$ "))


@dataclass
class Open:
    """A block that has begun."""

    line: int
    indent: str
    fence: str
    kind: str
    said: str
    lines: list[str] = field(default_factory=list)


def blocks(page: Path) -> list[Block]:
    """The page's fenced blocks, in order."""
    found, opened, before = [], None, ""
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                marker = _MARKER.match(before)
                opened = Open(number, fence[1], fence[2], fence[3].strip(), marker[1] if marker else "")
            before = line
        elif fence and fence[2] == opened.fence and not fence[3]:
            text = "".join(f"{each}\n" for each in opened.lines)
            found.append(Block(page, opened.line, opened.kind, text, opened.said))
            opened = None
        else:
            opened.lines.append(line.removeprefix(opened.indent))
    assert opened is None, f"{page.name}:{opened.line}: the block does not end"
    return found


def prose(page: Path) -> str:
    """The page without its fenced blocks; lines keep their numbers."""
    lines, inside = [], ""
    for line in page.read_text("utf-8").splitlines():
        fence = _FENCE.match(line)
        if fence and (not inside or (fence[2] == inside and not fence[3])):
            inside = "" if inside else fence[2]
            lines.append("")
        else:
            lines.append("" if inside else line)
    return "\n".join(lines)


def all_blocks() -> list[Block]:
    return [block for page in PAGES if page.exists() for block in blocks(page)]


def run_by(test: str) -> list[Block]:
    """The blocks that are this test's to run: those that name it. A test gives its `__file__`."""
    name = str(Path(test).resolve().relative_to(ROOT))
    found = [block for block in all_blocks() if block.run_by == name]
    assert found, f"no block of the documentation says that {name} runs it"
    return found


def inline_commands(page: Path) -> Iterator[str]:
    """Commands within sentences, and in tables, where a `|` is written `\\|`."""
    for found in _INLINE.finditer(prose(page)):
        yield found[1].replace("\\|", "|")


def commands(script: str) -> Iterator[list[str]]:
    """The simple commands of a script as words, without what is redirected and without variables in front."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if word in _OPERATORS:
                yield from _simple(words)
                words = []
            else:
                words.append(word)
        yield from _simple(words)


def _simple(words: list[str]) -> Iterator[list[str]]:
    kept, skip = [], False
    for word in words:
        if skip or word in {"<", ">", ">>"}:
            skip = not skip
        elif kept or not re.match(r"\w+=", word):
            kept.append(word)
    if kept:
        yield kept


def _behind(prefix: str, said: str) -> str:
    return said.removeprefix(prefix) if said.startswith(prefix) else ""
