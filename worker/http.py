"""`/metrics`, `/healthz`, `/readyz` and the worker's page on one port; reads only."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.exposition import choose_encoder

from worker.errors import ConfigError
from worker.watching.card import card
from worker.watching.site import Site
from worker.watching.view import Probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

    from worker.health import Health
    from worker.model.bundle import Bundle

_ALWAYS: dict[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that hangs up is no news, and a traceback between JSON lines no log."""


class HttpServer:
    """Serves probes, metrics and the page from daemon threads.

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        registry: what `/metrics` and the page show.
        health: what the probes say.
        page: whether there are `/`, `/status` and `/model`.

    Raises:
        ConfigError: the address cannot be had.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health, *, page: bool = True) -> None:
        def probe() -> Probe:
            return Probe(health.alive, health.ready, health.obstacle, health.partitions)

        self._site = Site(registry.collect, probe) if page else None
        try:
            self._server = _Server((host, port), _handler(_Routes(registry, health, self._site)))
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on {host}:{port}: {error.strerror}. Set serving.port to a free port (0 picks one)."
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def describe(self, bundle: Bundle) -> None:
        """Say on the page which model it is, once that is open."""
        if self._site is not None:
            self._site.describe(card(bundle))

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Routes:
    """What is at which path."""

    def __init__(self, registry: CollectorRegistry, health: Health, site: Site | None) -> None:
        self._registry = registry
        self._health = health
        self._site = site
        pages = "" if site is None else "/, /status, /model, "
        self._nothing = _said(404, f"There are {pages}/metrics, /startupz, /healthz and /readyz.")

    def __call__(self, path: str, accept: str) -> _Reply:
        health = self._health
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return _Reply(200, content_type, encode(self._registry))
        if path == "/healthz":
            return _probed(health.alive, "alive", "the loop has not turned for a while")
        if path == "/startupz":
            return _probed(health.started, "started", "starting")
        if path == "/readyz":
            return _probed(health.ready, f"ready, {health.partitions} partitions", f"not ready: {health.obstacle}")
        if self._site is not None and (answer := self._site.answer(path)) is not None:
            return _Reply(200, *answer)
        return self._nothing


class _Reply(NamedTuple):
    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


def _said(status: int, sentence: str) -> _Reply:
    return _Reply(status, "text/plain; charset=utf-8", f"{sentence}\n".encode())


def _probed(well: bool, yes: str, no: str) -> _Reply:
    return _said(200, yes) if well else _said(503, no)


def _handler(routes: _Routes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds for a client to send its request, and to take each part of the answer
        default_request_version = "HTTP/1.0"  # not 0.9, whose answers have no headers

        def do_GET(self) -> None:
            try:
                reply = routes(self.path.partition("?")[0], self.headers.get("Accept", ""))
            except Exception as error:  # noqa: BLE001 - whoever looks is told, and the worker goes on
                reply = _said(500, f"This failed with {type(error).__name__}; the worker itself goes on.")
            self._answer(reply)

        def do_HEAD(self) -> None:
            self.do_GET()

        def send_error(self, code: int, *_: object, **__: object) -> None:
            """What the server refuses before it comes to a path: another method, a request that is none."""
            status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
            refusal = _said(status, f"{status.phrase}. This port takes GET and HEAD alone.")
            self._answer(refusal._replace(headers={"Allow": "GET, HEAD"}))

        def _answer(self, reply: _Reply) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            for name, value in {**_ALWAYS, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        def version_string(self) -> str:
            """Without the interpreter's version, which is nobody's business."""
            return "winnow"

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds; they are not news."""

    return Handler
