"""`winnow top` against workers that a test makes: its output, its sentences, its exit codes."""

from __future__ import annotations

import io
import json
import re
import sys
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests import documents
from tests.kit import FakeClock
from tests.scenes import Scene
from worker import cli
from worker.commands import top as command
from worker.commands.top import Options, Seen, Watching, document, picture
from worker.errors import ConfigError
from worker.http import HttpServer
from worker.watching.reading import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator


class Inline:
    """A pool that does at once what it is told."""

    map = staticmethod(map)


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    made.assign(3)
    return made


@pytest.fixture(scope="module")
def nowhere() -> str:
    """An address at which nothing answers."""
    server = HttpServer("127.0.0.1", 0, Scene().registry, Scene().health)
    server.start()
    server.close()
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def server(scene: Scene) -> Iterator[HttpServer]:
    made = HttpServer("127.0.0.1", 0, scene.registry, scene.health)
    made.start()
    yield made
    made.close()


@pytest.fixture
def url(server: HttpServer) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    """Waiting between two looks takes no time, and messages come meanwhile."""
    clock = FakeClock(1_795_000_000.0)

    def sleep(seconds: float) -> None:
        clock.advance(seconds)
        scene.work(40)

    monkeypatch.setattr(command.time, "sleep", sleep)
    monkeypatch.setattr(command.time, "time", clock)


@pytest.mark.usefixtures("quick")
def test_json_is_what_status_says(url: str, capsys: pytest.CaptureFixture[str]):
    """Of the time between two looks, so that rates are of now."""
    command.top(Options([url], 2.0, once=False, as_json=True))
    (told,) = json.loads(capsys.readouterr().out)["workers"]
    assert (told["url"], told["error"]) == (url, None)
    assert told["status"]["rate"]["delivered"] == 20.0
    assert told["status"]["version"] == 1


@pytest.mark.usefixtures("quick")
def test_where_no_terminal_is_it_looks_once(url: str, capsys: pytest.CaptureFixture[str]):
    """As with --once: a pipe gets one picture and the end."""
    command.top(Options([url], 2.0, once=False, as_json=False))
    out = capsys.readouterr().out
    assert "✔ Well." in out
    assert "20/s" in out
    assert "\x1b" not in out


@pytest.mark.usefixtures("quick")
def test_of_several_those_that_answer_are_shown(url: str, nowhere: str, capsys: pytest.CaptureFixture[str]):
    """And of the others it is said; only where none answers is it a mistake."""
    command.top(Options([url, nowhere], 2.0, once=True, as_json=False))
    assert "1 of 2 workers answer; 20/s" in capsys.readouterr().out
    command.top(Options([nowhere, url], 2.0, once=True, as_json=True))
    gone, there = json.loads(capsys.readouterr().out)["workers"]
    assert (gone["status"], there["error"]) == (None, None)
    assert "Nothing answers at" in gone["error"]
    with pytest.raises(
        ConfigError, match=r"Nothing answers at .* Is the worker running, and is `serving.port` that"
    ) as no:
        command.top(Options([nowhere, f"{nowhere}/x"], 2.0, once=True, as_json=False))
    assert f"at {nowhere} (" in str(no.value)
    assert f"at {nowhere}/x (" in str(no.value)


COMMANDS = [words for block in documents.run_by(__file__) for words in documents.commands(block.script)]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_documented_commands_run(
    words: list[str], url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As they stand in docs/page.md, with this test's worker at each address."""
    words = [re.sub(r"^(http://)?10\.0\.0\.\d:9464$", url, word) for word in words]
    monkeypatch.setattr("worker.cli_operations.TOP_URL", url)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    assert "20" in capsys.readouterr().out


def test_too_many_are_refused(nowhere: str):
    """Before any is asked."""
    with pytest.raises(ConfigError, match="65 workers are too many"):
        command.top(Options([nowhere] * 65, 2.0, once=True, as_json=True))


def test_a_worker_that_goes_and_comes_back(scene: Scene):
    """Its last figures stay, with the reason; when it answers again, all is new."""
    server = HttpServer("127.0.0.1", 0, scene.registry, scene.health)
    server.start()
    clock = FakeClock(1_795_000_000.0)
    watching = Watching([Worker(f"127.0.0.1:{server.port}", clock)], Inline())
    (seen,) = watching.look()
    assert seen.why == ""
    server.close()
    clock.advance(5.0)
    (gone,) = watching.look()
    assert gone.view == seen.view
    assert "Nothing answers" in gone.why
    assert "Heard" not in gone.why
    again = HttpServer("127.0.0.1", server.port, scene.registry, scene.health)
    again.start()
    clock.advance(5.0)
    (back,) = watching.look()
    again.close()
    assert (back.why, back.at - seen.at) == ("", 10.0)


def test_the_picture_of_one_that_has_gone_says_since_when(scene: Scene, url: str, monkeypatch: pytest.MonkeyPatch):
    """And of two it is a line."""
    clock = FakeClock(1_795_000_000.0)
    view = Worker(url, clock).look()
    monkeypatch.setattr(command.time, "time", lambda: view.at + 42)
    console = Console(file=io.StringIO(), width=100)
    seen = Seen(url, view, "Nothing answers.", view.at)
    console.print(picture([seen], console))
    assert "✖ No answer. Nothing answers. It was heard last 42 s ago." in console.file.getvalue()
    assert document([seen])["workers"] == [{"url": url, "error": "Nothing answers.", "status": None}]


def test_where_no_terminal_is_the_picture_is_wide_and_not_filled(url: str, capsys: pytest.CaptureFixture[str]):
    """As all tables that a program or a file gets."""
    command.top(Options([url], 0.0, once=True, as_json=False))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) > 80
    assert [line for line in lines if line.endswith(" ")] == []


def test_the_live_view_ends_with_a_signal(url: str, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C sets what `Stop` says; the screen is given back and the command returns."""
    stops = iter([False, False, False, True, True])

    class Told:
        def __call__(self) -> bool:
            return next(stops, True)

        def install(self) -> None:
            """Signals are the test's."""

    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=40)
    clock = FakeClock(1_795_000_000.0)
    watching = Watching([Worker(url, clock)], Inline())
    seen = watching.look()
    monkeypatch.setattr(command, "Stop", Told)
    monkeypatch.setattr(command.time, "sleep", clock.advance)
    command._watch(watching, seen, console, 1.0)
    drawn = console.file.getvalue()
    assert "Well." in drawn
    assert "Ctrl-C ends." in drawn
    assert drawn.endswith("\x1b[?25h\x1b[?1049l")
