"""What the faults are measured with: it finds what is wrong, and nothing where all is well."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from tests import rows
from tests.faults import report
from tests.faults.accounts import Account, Seen, account, out_of_order, recovery
from tests.faults.proxy import END_TXN, Proxy
from worker.broker.ports import LOOPBACK

INPUTS = {(0, 0): "a", (0, 1): "b", (1, 0): "c"}
HEARTBEAT = 12


def record(source, digest=b"x", *, topic="out", partition=0, offset=0, written=0.0, at=0.0, id_=None) -> Seen:
    return Seen(topic, partition, offset, source, digest, written, at, id_)


def test_an_account_in_order():
    """Each message once, results and dead letters together: nothing is wrong."""
    records = [record((0, 0), id_="a"), record((0, 1), topic="dead"), record((1, 0), id_="c")]
    assert account(INPUTS, records) == Account(0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([record((0, 0)), record((1, 0))], Account(1, 0, 0, 0, 0)),
        ([record((0, 0)), record((0, 1)), record((1, 0)), record((0, 1))], Account(0, 1, 0, 0, 0)),
        ([record((0, 0)), record((0, 1)), record((1, 0)), record((0, 1), b"y")], Account(0, 1, 1, 0, 0)),
        ([record((0, 1)), record((0, 0)), record((1, 0))], Account(0, 0, 0, 1, 0)),
        ([record((0, 0), id_="b"), record((0, 1)), record((1, 0)), record((7, 7))], Account(0, 0, 0, 0, 2)),
    ],
    ids=["lost", "doubled", "differing", "out of order", "strange"],
)
def test_an_account_of_what_is_wrong(records, expected):
    """Each kind of wrong is counted as what it is."""
    assert account(INPUTS, records) == expected


def test_a_redelivered_run_is_in_order():
    """What comes again from an earlier offset on is no disorder; what was left out before it is."""
    again = [record((0, offset)) for offset in (0, 1, 2, 3, 1, 2, 3, 4)]
    assert out_of_order(again) == 0
    assert out_of_order([record((0, offset)) for offset in (0, 2, 1, 2)]) == 1


def test_recovery_is_when_the_last_partition_goes_on():
    """Counted from the moment to the first new record of the slowest partition; what was written before is not new."""
    records = [
        record((0, 0), written=9.0, at=11.0),
        record((0, 1), written=10.5, at=12.0),
        record((1, 0), written=14.0, at=14.5),
        record((1, 1), written=20.0, at=20.5),
    ]
    assert recovery(records, [0, 1], 10.0) == 4.5
    assert recovery(records, [0, 1, 2], 10.0) is None


@pytest.fixture
def broker():
    """Answers each request with its number, as often as it is asked."""
    with socket.create_server((LOOPBACK, 0)) as server:
        threading.Thread(target=_answer, args=(server,), daemon=True).start()
        yield server.getsockname()[1]


def _answer(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            while len(request := connection.recv(12, socket.MSG_WAITALL)) == 12:
                connection.sendall(struct.pack(">i", 4) + request[8:])


def ask(connection: socket.socket, api: int, number: int) -> bytes:
    connection.sendall(struct.pack(">ihhi", 8, api, 0, number))
    return connection.recv(8, socket.MSG_WAITALL)


def test_the_proxy_cuts_the_response_it_is_asked_to_cut(broker):
    """Others pass as they are; in place of that one the connection breaks, and a new one is served."""
    proxy = Proxy(broker)
    proxy.cut = lambda api: api == END_TXN
    try:
        with socket.create_connection((LOOPBACK, proxy.port), 10) as connection:
            assert ask(connection, HEARTBEAT, 7) == struct.pack(">ii", 4, 7)
            with pytest.raises(ConnectionResetError):
                ask(connection, END_TXN, 8)
        with socket.create_connection((LOOPBACK, proxy.port), 10) as connection:
            assert ask(connection, HEARTBEAT, 9) == struct.pack(">ii", 4, 9)
        assert proxy.reset == 1
    finally:
        proxy.close()


def test_the_table_has_a_line_a_row():
    """Figures of a fault as the document shows them."""
    row = report.Row(2, "kill -9", protocol="consumer", runs=30, messages=100_000)
    row.add(Account(0, 3, 0, 0, 0), 5)
    row.recovered(3.14)
    assert rows.table(report.HEAD, [row], report.cells).splitlines()[-1] == (
        "| 2 | kill -9 | at-least-once | consumer | 30 | 100,005 | 0 | 3 | 0 | 3.1 s | holds |"
    )
