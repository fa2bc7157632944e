"""The files and the command line of one KRaft node that is broker and controller at once."""

from __future__ import annotations

import os
import shutil
import uuid
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from worker.broker.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from worker.broker.artifacts import Kafka

# They would change the JVM behind our back, and make it talk.
_JAVA_VARIABLES = {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH"}

_SERVER_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # What people replay here may bear any date, and by the default a week old is deleted within minutes.
    "log.retention.ms": "-1",
    # A killed broker is let in again when its old session has ended: 4 s instead of 9 in every test of that.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
    # One node holds every replica, and few partitions come up fast.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "2",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # It shares its cores with the worker; the defaults are for a machine of its own.
    "num.network.threads": "2",
    "num.io.threads": "2",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": str(16 * 2**20),
}


def lay_out(folder: Path, kafka: Kafka, port: int, controller_port: int, properties: Mapping[str, str]) -> None:
    """Fill a fresh folder as Kafka's storage tool would leave it, which takes a second for a JVM to do."""
    data = folder / "data"
    data.mkdir()
    shutil.copyfile(kafka.bootstrap_checkpoint, data / "bootstrap.checkpoint")
    _write_properties(
        data / "meta.properties",
        {"version": "1", "cluster.id": _kafka_id(), "directory.id": _kafka_id(), "node.id": "1"},
    )
    listener = f"PLAINTEXT://{LOOPBACK}:{port}"
    own = {
        "log.dirs": str(data),
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"{listener},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": listener,
    }
    _write_properties(folder / "server.properties", _SERVER_PROPERTIES | own | dict(properties))


def java_command(kafka: Kafka, folder: Path, heap_mb: int, long_running: bool) -> list[str]:
    """The broker's command line."""
    # Without C2 it starts half a second sooner, takes some 50 MB less, and less CPU up to half a million messages.
    quick = [] if long_running else ["-XX:TieredStopAtLevel=1"]
    return [
        str(kafka.java),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        *quick,
        "-XX:-UsePerfData",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        f"-Djava.io.tmpdir={folder}",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-cp",
        kafka.class_path,
        "kafka.Kafka",
        str(folder / "server.properties"),
    ]


def environment() -> dict[str, str]:
    """This process's, without what would change the JVM behind our back."""
    return {name: value for name, value in os.environ.items() if name not in _JAVA_VARIABLES}


def _kafka_id() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")


def _write_properties(path: Path, values: Mapping[str, str]) -> None:
    # In this format a backslash escapes, also in a value.
    lines = [f"{name}={value}".replace("\\", "\\\\") for name, value in values.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
