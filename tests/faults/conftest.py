"""The faults run on their own, by `./dev faults`; each leaves a row of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import report, size
from tests.faults.faulty_cluster import FaultyCluster
from tests.faults.report import Row
from tests.faults.stage import Stage
from tests.kafka_fixtures import apache_or_skip
from tests.rows import pytest_runtest_makereport, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.broker import Broker

__all__ = ["pytest_runtest_makereport"]
_rows = pytest.StashKey[list[Row]]()
SECONDS = {"reduced": 300, "full": 5_400}
"""One fault may take so long."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    faults = [item for item in items if item.get_closest_marker("faults")]
    if not size.ASKED:
        config.hook.pytest_deselected(items=faults)
        items[:] = [item for item in items if item not in faults]
    for item in faults:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(size.pick(**SECONDS)))


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[Callable[..., Row]]:
    """`row(1, "kill -9 …", protocol=…)` makes the row of the test's fault; it is kept however the test ends."""

    def keep(one: Row) -> None:
        report.keep(one)
        request.config.stash.setdefault(_rows, []).append(one)

    with rows_of(request, keep) as made:

        def make(number: int, name: str, **more: object) -> Row:
            made.append(Row(number, name, **more))
            return made[-1]

        yield make


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Stage]]:
    """`stage(row, …)` sets one up, on the session's Kafka unless told another; its workers end with the test."""
    made: list[Stage] = []

    def make(row: Row, broker: Broker | None = None, **settings: object) -> Stage:
        if broker is None:
            broker = request.getfixturevalue("embedded" if size.EMBEDDED else "kafka")
            row.name += " (librdkafka's cluster)" if size.EMBEDDED else ""
        made.append(Stage(broker, tmp_path, row, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def embedded() -> Iterator[FaultyCluster]:
    """librdkafka's cluster in place of the session's Kafka, for faults that can be had on it as well."""
    made = FaultyCluster()
    yield made
    made.stop()


@pytest.fixture
def own_kafka() -> Iterator[Callable[..., Broker]]:
    """A Kafka of the test's own, to be stopped and killed."""
    made: list[Broker] = []

    def make(**options: object) -> Broker:
        made.append(apache_or_skip(**options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_rows, [])
    if rows:
        terminalreporter.write_sep("=", "faults")
        terminalreporter.write_line(report.described(rows))
        terminalreporter.write_line(f"kept in {report.RESULTS}")
