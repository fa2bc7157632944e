"""A worker from outside: what answers, what does not, and what is no worker."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.kit import FakeClock
from tests.scenes import Scene
from worker.errors import ConfigError
from worker.http import HttpServer
from worker.watching import reading
from worker.watching.conditions import Probe
from worker.watching.reading import Unanswered, Worker, base

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    made.assign(2)
    return made


@pytest.fixture
def worker(scene: Scene) -> Iterator[Worker]:
    server = HttpServer("127.0.0.1", 0, scene.registry, scene.health)
    server.start()
    yield Worker(f"127.0.0.1:{server.port}", FakeClock())
    server.close()


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Something that answers every path so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("localhost:9464", "http://localhost:9464"),
        ("http://[::1]:9464/", "http://[::1]:9464"),
        ("https://example.org/winnow/metrics", "https://example.org/winnow"),
        ("http://10.0.0.7:9464/metrics", "http://10.0.0.7:9464"),
    ],
)
def test_addresses_are_taken_as_people_write_them(given: str, url: str):
    """With or without scheme, and with what a browser shows."""
    assert base(given) == url


@pytest.mark.parametrize(
    "given", ["", "ftp://x", "http://", "http://x:port", "http://a b", "http://x:99999", "file:///etc/passwd"]
)
def test_what_is_no_address_is_a_sentence(given: str):
    """A mistake of the command line."""
    with pytest.raises(ConfigError, match="is no address of a worker"):
        base(given)


def test_a_worker_is_seen_from_outside_as_from_inside(worker: Worker, scene: Scene):
    """Its figures, and what its probes say."""
    scene.work(100)
    view = worker.look()
    assert (view.verdict.state, view.since_start["delivered"], view.worker.partitions) == ("well", 100, 2)
    scene.health.draining()
    worker._clock.advance(5.0)
    assert worker.look().verdict.state == "stopping"


def test_a_worker_that_loads_its_model_is_one():
    """It has no metrics yet, and its probe says that it starts."""
    scene = Scene(empty=True)
    server = HttpServer("127.0.0.1", 0, scene.registry, scene.health)
    server.start()
    try:
        assert Worker(f"127.0.0.1:{server.port}", FakeClock()).look().verdict.state == "starting"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"nothing here"),
        (200, b"<html>hello</html>"),
        (200, b"up 1\n"),
        (200, b""),
        (500, b""),
        (200, b"\xff\xfe\x00"),
    ],
)
def test_what_is_no_worker_is_told_so(status: int, body: bytes):
    """A page, another exporter, an error, nothing at all."""
    with answering(status, body) as url, pytest.raises(Unanswered, match="is no Winnow worker"):
        Worker(url, FakeClock()).look()


def test_where_nothing_answers_is_told_so():
    """With the reason."""
    with answering(200, b"") as url:
        pass
    with pytest.raises(Unanswered, match=r"Nothing answers at http://127\.0\.0\.1:\d+ \(Connection refused\)\."):
        Worker(url, FakeClock()).look()


def test_what_answers_gives_no_commands_to_the_terminal():
    """What it is waiting for, and what it says instead of an answer, have control characters spelt out."""
    assert reading._probe(503, "not ready: a\x1b[2J\n") == Probe(True, False, r"a\x1b[2J", 0)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            asking, _ = listening.accept()
            with asking:
                asking.recv(4_096)
                asking.sendall(b"SSH \x1b[2J\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unanswered) as told:
            Worker(f"127.0.0.1:{listening.getsockname()[1]}", FakeClock()).look()
        thread.join()
    assert r"SSH \x1b[2J" in str(told.value)
    assert "\x1b" not in str(told.value)


def test_who_takes_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch):
    """A worker that hangs does not hang whoever looks."""
    monkeypatch.setattr(reading, "PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unanswered, match="has not answered within"):
        Worker(f"127.0.0.1:{silent.getsockname()[1]}", FakeClock()).look()
