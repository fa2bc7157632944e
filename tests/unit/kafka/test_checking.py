"""What `config lint` asks of the client: as much as the worker, and nothing of anybody else."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaException, Producer

from worker.config import Settings
from worker.errors import ConfigError
from worker.kafka import checking, clients, topics
from worker.kafka.checking import check

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

OIDC = {
    "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.client.id": "me", "sasl.oauthbearer.client.secret": "hunter2",
}  # fmt: skip


def refused(**kafka: object) -> str:
    with pytest.raises(ConfigError) as caught:
        check(Settings(kafka=kafka))
    return str(caught.value)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Takes connections, and answers none."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        yield listening


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_what_the_worker_takes_passes(delivery: str, protocol: str, capfd):
    """Without brokers, and without a word of the client's."""
    check(Settings(kafka={"delivery": delivery, "group_protocol": protocol, "properties": {"debug": "all"}}))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kafka", "named"),
    [
        ({"properties": {"nope": 1}}, 'No such configuration property: "nope"'),
        ({"consumer_properties": {"isolation.level": "bogus"}}, '"bogus" for configuration property "isolation.level"'),
        ({"producer_properties": {"compression.type": "zip"}}, '"zip" for configuration property "compression.codec"'),
        ({"consumer_properties": {"client.rack": "${env:WINNOW_NOWHERE}"}}, "no environment variable 'WINNOW_NOWHERE'"),
        ({"producer_properties": {"sasl.password": "${vault:a:b}"}}, "there is no provider 'vault'"),
        ({"properties": {"ssl.ca.location": "/no/such.pem"}}, "/no/such.pem, which cannot be read"),
        ({"properties": OIDC}, "sasl.oauthbearer.token.endpoint.url"),
        ({"delivery": "exactly-once", "properties": {"socket.timeout.ms": 60_000}}, "socket.timeout.ms"),
    ],
)
def test_what_a_client_refuses_is_refused(kafka: dict[str, object], named: str):
    """Each of the three tables, the secrets behind references, and what transactions do not allow."""
    assert named in refused(**kafka)


def test_the_sentence_is_the_workers():
    """In the words that the start of a worker ends with."""
    settings = Settings(kafka={"properties": {"nope": 1}})
    with pytest.raises(ConfigError) as started:
        topics.prepare(settings.kafka)
    assert refused(properties={"nope": 1}) == str(started.value)


def test_nobody_is_asked(listener: socket.socket):
    """Neither brokers nor whoever gives tokens: to end a client that waits for an answer takes 20 s."""
    host, port = listener.getsockname()
    url = {"sasl.oauthbearer.token.endpoint.url": f"http://{host}:{port}/token"}
    check(Settings(kafka={"bootstrap_servers": f"{host}:{port}", "properties": OIDC | url}))
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_the_clients_are_ended(monkeypatch: pytest.MonkeyPatch):
    """None is alive when the check returns: the consumer is closed, and nothing holds on to the others."""
    made: list[str] = []
    ended: list[str] = []

    class Counted:
        def __init__(self, properties: clients.Properties, logger: logging.Logger) -> None:
            made.append(type(self).__name__)

        def __del__(self) -> None:
            ended.append(type(self).__name__)

    class Consumer(Counted):
        def close(self) -> None:
            ended.append("closed")

    for name, kind in {"AdminClient": Counted, "Producer": Counted, "Consumer": Consumer}.items():
        monkeypatch.setattr(checking, name, kind)
    check(Settings())
    assert (made, ended) == (["Counted", "Counted", "Consumer"], ["Counted", "Counted", "closed", "Consumer"])


def test_transactions_are_checked_as_they_are_made():
    """A producer of the properties that are checked has the id that the worker takes."""
    settings = Settings(kafka={"delivery": "exactly-once", "instance_id": "a"})
    properties = checking._transactional(settings.kafka)
    assert properties["transactional.id"] == "winnow-a"
    try:
        Producer(properties | {"log_level": 0})
    except KafkaException as error:
        pytest.fail(str(error))
