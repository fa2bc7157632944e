"""`/metrics`, `/healthz` and `/readyz` on one port; reads only."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder

from worker.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from worker.health import Health

_PLAIN = "text/plain; charset=utf-8"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that hangs up is no news, and a traceback between JSON lines no log."""


class HttpServer:
    """Serves probes and metrics from a daemon thread.

    Raises:
        ConfigError: the address cannot be had.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        try:
            self._server = _Server((host, port), _handler(registry, health))
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on {host}:{port}: {error.strerror}. Set serving.port to a free port (0 picks one)."
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(registry: CollectorRegistry, health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds for a client to send its request

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(registry))
            elif path == "/healthz":
                self._probe(health.alive, "alive", "the loop has not turned for a while")
            elif path == "/readyz":
                self._probe(health.ready, f"ready, {health.partitions} partitions", f"not ready: {health.obstacle}")
            else:
                self._answer(404, _PLAIN, b"There are /metrics, /healthz and /readyz.\n")

        def _probe(self, well: bool, yes: str, no: str) -> None:
            self._answer(200 if well else 503, _PLAIN, f"{yes if well else no}\n".encode())

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds; they are not news."""

    return Handler
