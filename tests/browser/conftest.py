"""A browser, and workers' pages to look at with it."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import axe
from tests.scenes import Scene
from worker.http import HttpServer
from worker.model import bundle as bundles
from worker.opening import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

DESKTOP, PHONE = (1180, 900), (360, 780)
_figures = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    reason = "needs playwright (./dev page installs it)"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed (./dev tools)")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def axe_source() -> str:
    """The script of axe-core."""
    try:
        return axe.source()
    except axe.Missing as missing:
        pytest.skip(f"axe-core cannot be had: {missing}")


class Site:
    """A page that is served of a scene, and that can go away and come back."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.server = self._serve(0)
        self.url = f"http://127.0.0.1:{self.server.port}"

    def _serve(self, port: int) -> HttpServer:
        server = HttpServer("127.0.0.1", port, self.scene.registry, self.scene.health)
        server.describe(bundles.load(DEFAULT_BUNDLE))
        server.start()
        return server

    def go(self) -> None:
        self.server.close()

    def come_back(self) -> None:
        self.server = self._serve(self.server.port)


@pytest.fixture
def served() -> Iterator[Callable[[Scene], Site]]:
    """`served(scene)` gives the site of a scene."""
    sites: list[Site] = []

    def serve(scene: Scene) -> Site:
        sites.append(Site(scene))
        return sites[-1]

    yield serve
    for site in sites:
        site.go()


SOON = 10.0
"""Seconds for a page to notice something: it looks every two seconds."""


def until(page: Page, true: str, seconds: float = SOON) -> None:
    """Wait for an expression; Playwright's own waiting needs `eval`, which the page's policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(true):
        assert time.monotonic() < deadline, f"never true: {true}; the page says {page.locator('#title').inner_text()!r}"
        page.wait_for_timeout(50)


class Visitor:
    """Opens pages, and notes whatever a page asks for or complains of."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._contexts: list[Any] = []

    def open(self, url: str, size: tuple[int, int] = DESKTOP, *, wait: bool = True, **options: Any) -> Page:
        context = self._browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        self._contexts.append(context)
        context.on("request", lambda request: self.requests.append(request.url))
        page = context.new_page()
        page.on("console", lambda said: self.complaints.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.goto(url)
        if wait:
            until(page, "document.getElementById('title').textContent !== 'Looking.'")
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    made = Visitor(browser)
    yield made
    made.close()


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Callable[[str, str], None]:
    """`figure(name, value)` is told at the end of the report."""

    def tell(name: str, value: str) -> None:
        pytestconfig.stash.setdefault(_figures, {})[name] = value

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, value in config.stash.get(_figures, {}).items():
        terminalreporter.write_line(f"page: {name}: {value}")


@pytest.fixture
def scene() -> Scene:
    """A worker that is well and has worked."""
    made = Scene(clock=time.time)
    made.assign(6)
    made.work(600, dead={"invalid-json": 5})
    made.lag({0: 3, 1: 250, 2: 17})
    return made
