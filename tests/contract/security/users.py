"""Users of a Kafka with doors: what they log in with, what they may do, and workers that run as they."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from tests.contract.security.secure_kafka import Right, SecureKafka, unique
from tests.e2e.process import WorkerProcess
from worker.config import KafkaSettings
from worker.errors import Fatal
from worker.kafka import topics

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 100.0
"""Seconds for a worker to get ready, or to end, on a machine that does other things as well."""
SECRET = "scram-secret"
GOOD, POISON = b'{"text": "hello"}', b"{"
READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP


class User:
    """A user with a SCRAM password, and topics and a group to have rights on."""

    def __init__(self, kafka: SecureKafka) -> None:
        self.kafka = kafka
        self.name, self.group = unique("user"), unique("group")
        self.input, self.output, self.dead = (kafka.create_topic(unique(prefix)) for prefix in ("in", "out", "dead"))
        self.rights = {
            Right(TOPIC, self.input, READ),
            Right(TOPIC, self.output, WRITE),
            Right(TOPIC, self.dead, WRITE),
            Right(GROUP, self.group, READ),
        }
        kafka.set_password(self.name, SECRET)

    def allow(self, *, without: str | None = None) -> User:
        """Grant everything a worker needs, but on one thing no more than to see it."""
        wanted = [r if r.name != without else r._replace(operation=DESCRIBE) for r in sorted(self.rights, key=str)]
        self.kafka.allow(f"User:{self.name}", *wanted)
        return self

    def properties(self, mechanism: str = "SCRAM-SHA-512", password: str = SECRET, **more: str) -> dict[str, str]:
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": mechanism,
            "sasl.username": self.name,
            "sasl.password": password,
            **{name.replace("_", "."): value for name, value in more.items()},
        }

    def settings(self, listener: str = "SASL_PLAINTEXT", host: str = "localhost", **properties: str) -> KafkaSettings:
        return KafkaSettings(
            bootstrap_servers=self.kafka.address(listener, host),
            group_id=self.group,
            input_topics=(self.input,),
            output_topic=self.output,
            dead_letter_topic=self.dead,
            connect_timeout_ms=30_000,
            properties={name.replace("__", "."): value for name, value in properties.items()},
        )

    def worker(self, folder: Path, properties: dict[str, str], **more: object) -> WorkerProcess:
        """`winnow run` as this user, by SASL; it is not waited for."""
        listener = properties["security.protocol"]
        settings: dict[str, object] = {
            "kafka__bootstrap_servers": self.kafka.address(listener),
            "kafka__group_id": self.group,
            "kafka__input_topics": self.input,
            "kafka__output_topic": self.output,
            "kafka__dead_letter_topic": self.dead,
            "logging__format": "json",
            **{f"kafka__properties.{name}": value for name, value in properties.items()},
        }
        return WorkerProcess(folder, wait=False, **(settings | more))

    def ready(self, folder: Path, properties: dict[str, str], **more: object) -> WorkerProcess:
        """The same, once it is ready."""
        worker = self.worker(folder, properties, **more)
        try:
            worker.until(lambda: worker.get("/readyz"), PATIENCE)
        except BaseException:
            worker.__exit__()
            raise
        return worker

    def fails(self, folder: Path, properties: dict[str, str] | None = None, **more: object) -> tuple[int, str]:
        """The exit code of `winnow run`, and its sentence."""
        with self.worker(folder, properties or self.properties(), **more) as worker:
            worker.process.wait(PATIENCE)
            code, said = worker.wait(), worker.said
        assert "Traceback" not in said
        assert SECRET not in said
        return code, said[said.rindex("winnow: ") :]


def refusal(settings: KafkaSettings) -> tuple[int, str]:
    """How the start ends, and long before the timeout: exit code and sentence."""
    began = time.monotonic()
    with pytest.raises(Fatal) as caught:
        topics.prepare(settings)
    assert time.monotonic() - began < settings.connect_timeout_ms / 2_000
    return caught.value.exit_code, str(caught.value)
