"""How long a registry holds up the thread that polls, and how often it is asked for what nobody registered."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from tests.kit import FakeClock
from tests.unit.kafka.test_registry import _mock_has_types, add, client_of, framed, opened, refused  # noqa: F401
from worker import loop
from worker.config import LoggingSettings
from worker.errors import BrokerError
from worker.kafka.registry import ATTEMPTS, SECONDS_BETWEEN, longest_wait
from worker.kafka.registry.client import _RETRIES
from worker.kafka.registry.reading import UNKNOWN_A_SECOND, Reader
from worker.kafka.registry.waiting import READS, Waits
from worker.logs import HTTP_CLIENT, configure


class Slow:
    """A registry that takes its time for each schema, by a clock that is told to."""

    address = "http://slow"

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def schema(self, schema_id: int):
        self._clock.advance(self._seconds)
        return SimpleNamespace(schema_type="JSON", schema_str="{}")


@pytest.mark.parametrize(("url", "seconds"), [("http://a", 31), ("http://a, http://b", 62), ("http://a,b,c", 93)])
def test_the_longest_wait_counts_attempts_and_addresses(url, seconds):
    """Each address is asked three times, for as long as an answer may take, with a second between them in all."""
    assert longest_wait(url, 10) == seconds


def test_the_clients_own_waits_are_within_that():
    """Those between its attempts double."""
    waits = [min(_RETRIES["retries.wait.ms"] * 2**n, _RETRIES["retries.max.wait.ms"]) for n in range(ATTEMPTS - 1)]
    assert sum(waits) <= 1000 * SECONDS_BETWEEN


def test_the_reads_between_two_polls_are_the_loops():
    """What is promised between polls is counted by them."""
    assert READS == loop.POLL_LIMIT


def test_many_slow_lookups_between_two_polls_end_the_worker_and_no_message():
    """Each alone is quick enough; together they would lose the partitions. What is known by then is read."""
    clock = FakeClock()
    read = Reader(Slow(clock, 4), "json-schema", 10, clock, clock.advance)
    for schema_id in range(3):
        assert read(framed(schema_id, b"{}")) == {}
    began = clock()
    with pytest.raises(
        BrokerError, match=r"http://slow is too slow: of 64 messages in a row, schemas took more than 10 s.*timeout_ms"
    ):
        read(framed(3, b"{}"))
    assert clock() == began
    assert read(framed(0, b"{}")) == {}


def test_slow_lookups_with_polls_between_them_are_waited_for():
    """However many there are in the end."""
    clock = FakeClock()
    read = Reader(Slow(clock, 9), "json-schema", 10, clock, clock.advance)
    for schema_id in range(20):
        for _ in range(READS):
            assert read(framed(schema_id, b"{}")) == {}


def test_a_lookup_is_waited_for_no_longer_than_is_left():
    """Whatever it hangs in: the name server, a packet at a time, the compiler. Its own errors come as they are."""
    clock, done = FakeClock(), threading.Event()
    waits = Waits(0.05, clock)
    with pytest.raises(TimeoutError):
        waits.run(done.wait)
    done.set()
    with pytest.raises(ZeroDivisionError):
        waits.run(lambda: 1 // 0)
    assert waits.run(lambda: 7) == 7


def test_made_up_ids_are_asked_for_so_often_in_a_second_and_each_is_asked_for():
    """A flood of them takes a second for a hundred, none is refused unasked, and the registry's schemas are read."""
    clock = FakeClock()
    registry = opened(clock=clock)
    read, known = registry.deserializer("json-schema"), add(registry, "{}", "JSON")
    asked, get_schema = [], client_of(registry).get_schema
    client_of(registry).get_schema = lambda schema_id: asked.append(clock()) or get_schema(schema_id)
    began = clock()
    for schema_id in range(1_000, 1_000 + 3 * UNKNOWN_A_SECOND):
        refused(read, framed(schema_id, b"{}"), "unknown-schema")
    assert len(asked) == 3 * UNKNOWN_A_SECOND
    assert [clock() - began, *sorted({at - began for at in asked})] == [2, 0, 1, 2]
    assert read(framed(known, b"{}")) == {}


def test_requests_to_the_registry_are_not_logged(capsys):
    """Its HTTP client says each of them; what it warns of is said."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure(LoggingSettings(level="info", format="json"))
        for name in HTTP_CLIENT:
            logging.getLogger(name).info("HTTP Request: GET http://registry/schemas/ids/77")
            logging.getLogger(name).warning("a warning")
    finally:
        root.handlers[:], root.level = handlers, level
    said = capsys.readouterr().err
    assert said.count("a warning") == len(HTTP_CLIENT)
    assert "HTTP Request" not in said


def test_the_registrys_client_logs_as_its_http_client_does(caplog):
    """The names of the loggers are those that are really there."""
    registry = opened("http://127.0.0.1:9")
    assert type(client_of(registry)._rest_client.session).__module__.split(".")[0] in HTTP_CLIENT
    registry.close()
