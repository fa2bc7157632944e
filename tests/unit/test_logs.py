"""Logs, as another process shows them on stderr."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import FakeClock
from worker.logs import EVERY, MOST_KINDS, Spared

ROOT = Path(__file__).parents[2]
CODE = """
import logging, structlog
from worker import logs
from worker.config import LoggingSettings
logs.configure(LoggingSettings(level="info", format="{kind}"))
log = structlog.get_logger("winnow")
log.debug("unseen")
log.info("started", lanes=2)
logging.getLogger("librdkafka").warning("from %s", "the client")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def lines(kind: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", CODE.format(kind=kind)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (0, "")
    return ran.stderr.splitlines()


def test_without_a_terminal_each_line_is_json():
    """`auto` into a pipe: one JSON document a line with time, level and logger; below the level nothing."""
    started, client, failed = map(json.loads, lines("auto"))
    assert (started["event"], started["lanes"], started["level"], started["logger"]) == ("started", 2, "info", "winnow")
    assert started["timestamp"].endswith("Z")
    assert (client["event"], client["logger"]) == ("from the client", "librdkafka")
    assert "ZeroDivisionError" in failed["exception"]


def test_the_console_format_is_for_people():
    """`console`: lines that are no JSON, with the same content."""
    shown = lines("console")
    assert "started" in shown[0]
    assert not shown[0].startswith("{")


# What the client repeats

REFUSED = (
    "localhost:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"
)


class Client:
    """librdkafka, as confluent-kafka logs its lines, with the filter of its logger."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.spared = Spared(self.clock)

    def says(self, what: str, facility: str = "FAIL", name: str = "winnow#consumer-3", level: int = 40) -> str | None:
        """What the log has of a line; None: nothing."""
        record = logging.LogRecord("librdkafka", level, "", 0, "%s [%s] %s", (facility, name, what), None)
        return record.getMessage() if self.spared.filter(record) else None


def test_what_the_client_repeats_is_said_twice_a_minute():
    """Sixteen lines a second for a minute are two, the second with the number of those held back; times may change."""
    client = Client()
    said = []
    for number in range(960):
        said.append(client.says(REFUSED.replace("0ms", f"{number}ms")))
        client.clock.advance(1 / 16)
    first, second = [line for line in said if line is not None]
    assert first == f"FAIL [winnow#consumer-3] {REFUSED}"
    assert second.endswith(" (after 480ms in state CONNECT) (and 479 like it since the last one)")


def test_the_clients_own_count_makes_no_other_kind():
    """librdkafka itself leaves out some repeats, and says so within the brackets."""
    client = Client()
    assert client.says(REFUSED) is not None
    assert client.says(REFUSED.replace("CONNECT)", "CONNECT, 5 identical error(s) suppressed)")) is None


def test_what_the_client_says_again_later_is_as_it_was():
    """A line that comes less often than that passes unchanged each time."""
    client = Client()
    for _ in range(3):
        assert client.says("100 % refused") == "FAIL [winnow#consumer-3] 100 % refused"
        client.clock.advance(EVERY)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"facility": "FAIL"}, {"facility": "OFFSET"}),
        ({"name": "winnow#consumer-3"}, {"name": "winnow#producer-4"}),
        ({"what": REFUSED}, {"what": REFUSED.replace("9092", "9093")}),
        ({"what": REFUSED}, {"what": REFUSED.replace("127.0.0.1", "127.0.0.2")}),
        ({"what": REFUSED}, {"what": REFUSED.replace("refused", "reset by peer")}),
        ({"what": "in [0]: offset reset"}, {"what": "in [1]: offset reset"}),
        ({"level": logging.DEBUG}, {"level": logging.DEBUG}),
    ],
)
def test_what_the_client_says_first_passes_at_once(one: dict[str, str], other: dict[str, str]):
    """Another facility, client, broker, partition or mishap is a kind of its own; nothing is held back of debug."""
    client = Client()
    assert client.says(**({"what": REFUSED} | one)) is not None
    assert client.says(**({"what": REFUSED} | other)) is not None


def test_kinds_are_forgotten():
    """Lines that are never the same take no memory without bound; the kind that passed last stays."""
    client = Client()
    for number in range(3 * MOST_KINDS):
        assert client.says(f"broker-{number} refused")
    assert client.says(f"broker-{number} refused") is None
    assert len(client.spared._passed) == MOST_KINDS


def test_the_filter_sits_on_the_clients_logger():
    """`configure` installs it once, however often it is called: of two equal lines, one is in the log."""
    code = CODE.format(kind="json") + "logs.configure(LoggingSettings())\n"
    code += "for _ in range(2): logging.getLogger('librdkafka').error('refused')"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.stderr.count('"refused"') == 1
