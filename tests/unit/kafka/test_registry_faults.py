"""A schema registry that is none, refuses, is away or is set up wrongly: what the worker says at start."""

from __future__ import annotations

import base64
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.unit.kafka.test_registry import SECRET, Down, _mock_has_types, add, client_of, opened  # noqa: F401
from worker.errors import BrokerError, ConfigError


@contextmanager
def answering(status: int, body: bytes, content_type="application/json"):
    """A web server that says the same to everything, and keeps what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, dict(self.headers)))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (401, b'{"error_code": 401, "message": "no"}', "refuses the worker"),
        (403, b"", "refuses the worker"),
        (404, b"<html>not here</html>", "has registry.url a path"),
        (404, b'{"status": 404, "name": "NotFoundException"}', "has registry.url a path"),
        (500, b'{"error_code": 50001, "message": "the store is away"}', "HTTP 500: the store is away"),
        (200, b"<html>welcome</html>", "does not answer"),
    ],
)
def test_what_is_no_registry_or_refuses_is_told_at_start(status, body, sentence):
    """With the address, and what to look at."""
    with answering(status, body) as (url, _):
        registry = opened(url)
        with pytest.raises(BrokerError, match=sentence) as caught:
            registry.deserializer("avro")
        registry.close()
    assert url in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_registry_without_a_format_is_told_at_start():
    """Not with the first message."""
    with answering(200, b'["AVRO"]') as (url, _):
        registry = opened(url)
        with pytest.raises(ConfigError, match="PROTOBUF"):
            registry.serializer("protobuf", "out")
        registry.close()


def test_nobody_there_is_told_at_start():
    """The sentence has the address."""
    with answering(200, b"") as (url, _):
        pass
    registry = opened(url)
    with pytest.raises(BrokerError, match=f"{url} does not answer"):
        registry.serializer("avro", "out")
    registry.close()


def test_the_login_is_used_and_never_told():
    """Properties are confluent-kafka's own."""
    with answering(500, b'{"error_code": 50001, "message": "no"}') as (url, asked):
        registry = opened(url, {"basic.auth.user.info": f"me:{SECRET}"})
        with pytest.raises(BrokerError) as caught:
            registry.deserializer("avro")
        registry.close()
    assert asked[0][1]["Authorization"] == "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert SECRET not in str(caught.value)
    assert SECRET not in opened(f"http://me:{SECRET}@127.0.0.1:1/a").client.address


@pytest.mark.parametrize(
    "properties",
    [{"no.such": 1}, {"cache.capacity": "many"}, {"ssl.key.location": __file__}],
)
def test_wrong_properties_are_told(properties):
    """As mistakes in the settings."""
    with pytest.raises(ConfigError, match=r"registry\.properties") as caught:
        opened(properties=properties)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location"])
def test_a_missing_file_is_named(name):
    """With the setting, the property and the path."""
    with pytest.raises(ConfigError, match=rf"registry\.properties: {name} is /no/such/file, which cannot be read"):
        opened(properties={name: "/no/such/file"})


def test_certificates_are_always_verified():
    """The client would take `false` without a word, and send its login to whoever answers."""
    with pytest.raises(ConfigError, match=r"registry\.properties: ssl\.ca\.location is false.*always verified"):
        opened("https://registry", {"ssl.ca.location": False})


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("url", "registry.url"),
        ("timeout", "registry.timeout_ms"),
        ("max.retries", "registry.timeout_ms"),
        ("retries.wait.ms", "registry.timeout_ms"),
        ("retries.max.wait.ms", "registry.timeout_ms"),
    ],
)
def test_properties_that_are_not_the_users_are_refused(name, mend):
    """How long a registry is waited for is promised."""
    with pytest.raises(ConfigError, match=rf"registry\.properties: {name} cannot be set here: set {mend}\."):
        opened(properties={name: 8})


@pytest.mark.parametrize(
    ("missing", "call"),
    [
        ("confluent_kafka.schema_registry", lambda: opened()),
        ("fastavro", lambda: opened().serializer("avro", "out")),
        ("google.protobuf", lambda: opened().deserializer("protobuf")),
    ],
)
def test_the_extra_is_named_where_it_is_missing(monkeypatch, missing, call):
    """With the command that installs it."""
    for name in [name for name in sys.modules if name.startswith("worker.kafka.registry.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(sys.modules["worker.kafka.registry"], name.rpartition(".")[2])
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"pip install 'winnow-worker\[registry\]'"):
        call()
