"""What stands in the documentation: commands that there are, settings that load, documents that parse, links that lead.

That the commands run is tests/contract/test_docs_*.py; that nothing is left out is tested here.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator

from bench.__main__ import NAMES
from tests import documents
from tests.documents import ROOT, Block
from worker import distribution, errors
from worker.cli import NOBODY_READS, app
from worker.commands.configuration import lint
from worker.config import load
from worker.errors import Fatal
from worker.metrics import REASONS

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKS = documents.all_blocks()
CLI = typer.main.get_command(app)
DEV = (ROOT / "dev").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DEV_COMMANDS = {name for found in re.findall(r"^([a-z][a-z |-]*)\)$", DEV, re.M) for name in found.split(" | ")}
OF_WINNOW = {"demo": ["demo"], "train": ["train"], "run": []}
"""Commands of ./dev whose arguments go to winnow, and in front of what."""
LINTED = {"README.md", "getting-started.md", "tools.md"}
NOT_RUN: dict[str, str] = {}
"""Pages with a block that no test can run, and the reason that it gives."""
PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in documents.PAGES if page.exists()]


def of_kind(*kinds: str) -> list:
    return [pytest.param(block, id=block.name) for block in BLOCKS if block.kind in kinds]


def test_there_are_blocks():
    """They have not been lost to another way of writing."""
    assert sum(block.runs for block in BLOCKS) >= 25
    assert sum(len(list(documents.commands(block.script))) for block in BLOCKS if block.kind == "sh") >= 50


@pytest.mark.parametrize("block", of_kind(*{block.kind for block in BLOCKS}))
def test_a_block_is_run_or_says_what_it_is(block: Block):
    """Its kind is one that is run, checked or plain; there are no other markers than those of tests/documents.py."""
    if block.said:
        known = block.not_run or block.run_by or block.part_of or block.in_background
        assert known, f"unknown marker: {block.said!r}"
        assert not block.not_run or len(block.not_run.split()) >= 3, "the reason, in words"
    assert block.kind in documents.KINDS, f"{block.kind or 'a block without a kind'} is neither run nor checked"
    if block.kind in documents.PLAIN:
        assert not re.search(r"^(\$|winnow|\./dev|pip) ", block.text, re.M), "a command: make it `sh` or `console`"


def test_nothing_is_left_that_nobody_runs():
    """Each command and program of the documentation is run by a test, but for those named here."""
    assert {page_of(block): block.not_run for block in BLOCKS if block.not_run} == NOT_RUN
    assert not [block.name for block in BLOCKS if block.run_by.startswith(".github/")]


@pytest.mark.parametrize("block", [param for param in of_kind(*documents.KINDS) if param.values[0].run_by])
def test_what_is_run_elsewhere_is_run_there(block: Block):
    """A test takes it from the page; elsewhere each of its lines stands as it is, on a page in a block that runs."""
    path = ROOT / block.run_by
    if path.suffix == ".py":
        assert block.run_by.startswith("tests/"), "no test: say which part of it this is"
        assert takes_its_blocks(path.read_text("utf-8")), f"{block.run_by} does not call documents.run_by(__file__)"
        assert block in documents.run_by(str(path))
        return
    there = {line for text in texts_that_run(path) for line in plain_lines(text)}
    for line in plain_lines(block.script):
        assert any(line in each for each in there), f"{block.run_by} has no line with {line!r}"


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ("(block,) = documents.run_by(__file__)", True),
        ("# documents.run_by(__file__)", False),
        ("documents.run_by('tests/other.py')", False),
        ("documents.blocks(__file__)", False),
    ],
)
def test_a_claim_is_no_call(source: str, takes: bool):
    """Only a test that asks for its own blocks counts, not one that speaks of it."""
    assert takes_its_blocks(source) == takes


@pytest.mark.parametrize("block", [param for param in of_kind(*documents.KINDS) if param.values[0].part_of])
def test_a_part_of_a_program_stands_there(block: Block):
    """Line by line; a blank line in the block stands for what is left out."""
    assert block.kind in documents.PROGRAMS, "commands are run"
    there = "\n".join(line.strip() for line in text_of(block.part_of).splitlines())
    for paragraph in block.text.strip().split("\n\n"):
        assert "\n".join(line.strip() for line in paragraph.splitlines()) in there, (
            f"not so in {block.part_of}:\n{paragraph}"
        )


@pytest.mark.parametrize("block", of_kind("dockerfile"))
def test_dockerfiles_pass_the_linter(block: Block, tmp_path: Path):
    """hadolint finds nothing in them."""
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("needs hadolint, of the group check")
    path = tmp_path / "Dockerfile"
    path.write_text(block.text, "utf-8")
    ran = subprocess.run([linter, path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("page", PAGES)
def test_no_commands_by_indentation(page: Path):
    """Blocks are fenced, or nobody would find them."""
    text = documents.prose(page)
    found = re.findall(r"(?:^|\n)\n {4}((?:\$ |winnow |\./dev |pip |python |FROM )[^\n]*)", text)
    assert not found, f"{page.name}: fence these: {found}"


@pytest.mark.parametrize("block", of_kind(*documents.SCRIPTS))
def test_commands_and_options_exist(block: Block):
    """Of winnow by its own parser; of ./dev, of modules and of extras by name."""
    found = list(documents.commands(block.script))
    assert found
    for words in found:
        check(words)


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_sentences_exist(page: Path):
    """The same of `winnow …` and `./dev …` within a line; arguments may be missing there."""
    for text in documents.inline_commands(page):
        first, *others = [part.split() for part in text.split("|")]
        for words in [first, *([*first[: -len(other)], *other] for other in others)]:
            check([word for word in words if word != "…"], complete=False)


@pytest.mark.parametrize("block", of_kind("toml"))
def test_settings_load(block: Block, tmp_path: Path):
    """As a configuration file; bundles and secrets need not be there."""
    path = tmp_path / "winnow.toml"
    path.write_text(block.text, "utf-8")
    assert load(path, []).kafka.input_topics


@pytest.mark.parametrize("block", [p for p in of_kind("toml") if p.values[0].page.name in LINTED])
def test_what_is_shown_first_is_taken_by_lint(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Whoever copies it gets a configuration that the client takes, too, once the secrets that it names are there."""
    for name in re.findall(r"\$\{env:(\w+)\}", block.text):
        monkeypatch.setenv(name, "secret")
    path = tmp_path / "winnow.toml"
    path.write_text(block.text, "utf-8")
    lint(path, [])
    assert capsys.readouterr().out.startswith("The configuration is valid")


def test_nobody_elses_package_is_installed():
    """`winnow` belongs to somebody else in the package index: no page, no sentence and no lock asks to install it."""
    for path in (ROOT / "requirements").glob("*.txt"):
        assert not re.search(r"^winnow\b", path.read_text("utf-8"), re.M), path.name
    for path in [*documents.PAGES, *(ROOT / "worker").rglob("*.py")]:
        found = re.findall(r"(?<![\w-])winnow\[[^]]*\]|pip install winnow(?!-)\b", path.read_text("utf-8"))
        assert found == [], f"{path.relative_to(ROOT)}: worker.distribution has the name"
    assert PROJECT["name"] == distribution.NAME
    extra = next(iter(PROJECT["optional-dependencies"]))
    assert distribution.install(extra) == f"pip install '{PROJECT['name']}[{extra}]'"


@pytest.mark.parametrize("block", of_kind("json", "yaml"))
def test_documents_parse(block: Block):
    """JSON and YAML; what looks like a whole result is one by its schema."""
    document = json.loads(block.text) if block.kind == "json" else list(yaml.safe_load_all(block.text))
    assert document
    if "result_id" in document:
        schema = json.loads((ROOT / "schemas" / "result.schema.json").read_text("utf-8"))
        Draft202012Validator(schema).validate(document)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: Path):
    """Relative ones to a file or folder that is there, and to a heading that it has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", documents.prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target} leads nowhere"
        assert not anchor or anchor in headings(there), f"{page.name}: {target}: there is no such heading"


def test_every_page_is_in_the_site():
    """mkdocs.yml names each page of docs/ once, and others only where docs/site.py lets them join."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    joining = (ROOT / "docs" / "site.py").read_text("utf-8")
    named = leaves(site["nav"])
    there = {str(page.relative_to(ROOT / "docs")) for page in documents.PAGES if ROOT / "docs" in page.parents}
    assert len(named) == len(set(named))
    assert there <= set(named)
    for page in set(named) - there:
        assert f'"{page}"' in joining or (ROOT / page).exists(), f"{page} is no page"


@pytest.mark.parametrize("page", PAGES)
def test_metrics_that_are_named_exist(page: Path):
    """`winnow_…` in prose is a metric, or the beginning of some."""
    known = re.findall(r"^\| `(winnow_\w+)`", text_of("docs/metrics.md"), re.M)
    for name in re.findall(r"`(winnow_[a-z_]+)", documents.prose(page)):
        assert any(metric.startswith(name) for metric in known), f"there is no {name}"


def test_every_reason_has_a_mend():
    """docs/operations.md knows each word of `winnow_dead_letters_total`."""
    table = text_of("docs/operations.md").partition("### Dead letters")[2].partition("\n### ")[0]
    missing = {reason for reasons in REASONS.values() for reason in reasons} - set(re.findall(r"`([a-z0-9-]+)`", table))
    assert not missing


def test_the_picture_of_the_folders_is_whole():
    """docs/architecture.md names each module and package of worker/."""
    listing = next(b.text for b in BLOCKS if b.page.name == "architecture.md" and b.text.startswith("worker/"))
    named = re.findall(r"[\w*]+(?:\.py|/)", listing)
    for path in (ROOT / "worker").iterdir():
        name = f"{path.name}/" if path.is_dir() else path.name
        if not name.startswith("__") and name != "py.typed":
            assert any(fnmatch(name, pattern) for pattern in named), f"worker/{name} is not in the picture"


def test_the_readme_tells_what_was_measured():
    """How often workers were killed, exactly once, and of how many messages: the sums of faults 2 and 3."""
    told = re.search(r"([\d,]+) × `kill -9`, ([\d,]+) messages: none lost, none twice", text_of("README.md"))
    if told is None:
        return
    table = re.findall(
        r"^\| [23] \| kill -9 [^|]*\| exactly-once \|[^|]*\|(.*)\|$", text_of("docs/reliability.md"), re.M
    )
    rows = [[int(cell.replace(",", "")) for cell in row.split("|")[:4]] for row in table]
    assert [sum(column) for column in zip(*rows, strict=True)] == [
        *(int(n.replace(",", "")) for n in told.groups()),
        0,
        0,
    ]


@pytest.mark.parametrize(
    "line",
    [
        "winnow runn",
        "winnow run --cofig x",
        "winnow classify --lanes",
        "./dev tets",
        "./dev bench nothing",
        "pip install '.[kafka]'",
        "pip install 'winnow[registry]'",
        "pip install 'winnow-worker[registry]'",
    ],
)
def test_what_does_not_exist_is_found(line: str):
    """These checks would see a wrong command, option, benchmark or extra."""
    (words,) = documents.commands(line)
    with pytest.raises(AssertionError):
        check(words)


@pytest.mark.parametrize("page", ["README.md", "docs/tools.md"])
def test_every_exit_code_is_in_the_table(page: str):
    """Those of the errors, and no others but success, a bug, a signal and output that nobody reads."""
    text = (ROOT / page).read_text("utf-8")
    if page == "README.md" and "| exit code |" not in text:
        assert "docs/tools.md#exit-codes" in text
        return
    rows = re.findall(r"^\| (\d+) \| ", text, re.M)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Fatal)]
    assert sorted(map(int, rows)) == sorted({0, 130, NOBODY_READS, *(kind.exit_code for kind in kinds)})


def check(words: Sequence[str], *, complete: bool = True) -> None:
    """Fails for a command or an option that does not exist; of other people's commands nothing is known."""
    program, *arguments = words
    if program == "winnow":
        parse(arguments, complete=complete)
    elif program == "./dev":
        check_dev(arguments, complete=complete)
    elif program.startswith("python") and arguments[:1] == ["-m"]:
        assert importlib.util.find_spec(arguments[1]), f"there is no module {arguments[1]}"
    elif "pip" in words[:2] and "install" in words:
        for name, extras in re.findall(r"([\w.-]+)\[([^]]*)\]", " ".join(words)):
            assert name == ".", f"{name} is not in the package index: install from the checkout"
            known = PROJECT["optional-dependencies"]
            assert set(extras.split(",")) <= set(known), f"there is no extra {extras}"


def check_dev(arguments: Sequence[str], *, complete: bool) -> None:
    command = arguments[0]
    assert command in DEV_COMMANDS, f"./dev has no command {command}"
    if command in OF_WINNOW:
        parse([*OF_WINNOW[command], *arguments[1:]], complete=complete)
    elif command == "bench" and arguments[1:]:
        assert arguments[1] in {*NAMES, "NAME", "[NAME]"}, f"there is no benchmark {arguments[1]}"


def parse(arguments: Sequence[str], *, complete: bool) -> None:
    """As the command line would, without running anything."""
    group, parent, rest, path = CLI, None, list(arguments), ["winnow"]
    while hasattr(group, "commands"):
        if not rest or rest[0].startswith("-"):  # `winnow --help`, and those of completion
            known = {option for parameter in group.params for option in parameter.opts} | {"--help"}
            assert not rest or rest[0] in known, f"{' '.join(path)} has no option {rest[0]}"
            return
        assert rest[0] in group.commands, f"{' '.join(path)} has no command {rest[0]}"
        group, path, rest = group.commands[rest[0]], [*path, rest[0]], rest[1:]
    try:
        group.make_context(" ".join(path), [word for word in rest if word != "--help"], parent=parent)
    except Exception as refused:
        if not complete and "Missing" in type(refused).__name__:
            return
        raise AssertionError(f"{' '.join(map(str, arguments))}: {getattr(refused, 'message', refused)}") from refused


def page_of(block: Block) -> str:
    return str(block.page.relative_to(ROOT))


def takes_its_blocks(source: str) -> bool:
    """Whether a test calls `documents.run_by(__file__)`."""
    return any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"documents.run_by", "run_by"}
        and [ast.unparse(argument) for argument in node.args] == ["__file__"]
        for node in ast.walk(ast.parse(source))
    )


def texts_that_run(path: Path) -> list[str]:
    """Of a page the blocks that run, of any other file all of it."""
    if path.suffix != ".md":
        return [path.read_text("utf-8")]
    return [block.script for block in documents.blocks(path) if block.runs]


def plain_lines(script: str) -> list[str]:
    """Commands as they stand there, without comments and with single spaces."""
    joined = re.sub(r"\s*\\\n\s*", " ", script)
    return [" ".join(line.split()) for line in re.sub(r"(^|\s)#.*", "", joined).splitlines() if line.strip()]


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", documents.prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def leaves(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    return [leaf for each in inner for leaf in leaves(each)]
