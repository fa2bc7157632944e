"""An Apache Kafka with every kind of door: TLS, mutual TLS, SASL, rights by ACL."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.docs_session import until
from tests.kafka_fixtures import QUICK_TO_NOTICE, apache_or_skip
from worker.broker import admin
from worker.broker.ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from pathlib import Path

PLAIN_USER, PLAIN_PASSWORD = "winnow", "plain-secret"
KEY_PASSWORD = "key-secret"
LISTENERS = ("PLAINTEXT", "SSL", "MTLS", "SASL_PLAINTEXT", "SASL_SSL", "CONTROLLER")
_PROTOCOLS = {"MTLS": "SSL", "CONTROLLER": "PLAINTEXT"}
_SECURITY = "org.apache.kafka.common.security"
_LOGINS = {
    "plain": f'{_SECURITY}.plain.PlainLoginModule required user_{PLAIN_USER}="{PLAIN_PASSWORD}";',
    "scram-sha-256": f"{_SECURITY}.scram.ScramLoginModule required;",
    "scram-sha-512": f"{_SECURITY}.scram.ScramLoginModule required;",
    # It takes tokens that nobody signed: what is tried is how the worker gets and sends them.
    "oauthbearer": f"{_SECURITY}.oauthbearer.OAuthBearerLoginModule required;",
}


class Certificates:
    """Two authorities, a server of the first, a client of each; the brokers trust the first."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("needs the command openssl, to make certificates")
        self.folder = folder
        for authority in ("ca", "other-ca"):
            self._run("req", "-x509", *self._key(authority), "-days", "2", "-subj", f"/CN={authority}", out=authority)
        self._issue("localhost", "ca", "subjectAltName=DNS:localhost")
        self._issue("winnow", "ca", "basicConstraints=CA:FALSE")
        self._issue("stranger", "other-ca", "basicConstraints=CA:FALSE")
        self._lock("winnow")
        (folder / "server.pem").write_text(self._text("localhost.key") + self._text("localhost.crt"))

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def _key(self, name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self[f"{name}.key"]]

    def _issue(self, name: str, authority: str, extension: str) -> None:
        (self.folder / "extensions").write_text(extension + "\n")
        request = self[f"{name}.csr"]
        subprocess.run(
            ["openssl", "req", *self._key(name), "-subj", f"/CN={name}", "-out", request],
            check=True, capture_output=True,
        )  # fmt: skip
        self._run(
            "x509", "-req", "-in", request, "-CA", self[f"{authority}.crt"], "-CAkey", self[f"{authority}.key"],
            "-CAcreateserial", "-days", "2", "-extfile", self["extensions"], out=name,
        )  # fmt: skip

    def _lock(self, name: str) -> None:
        """The same key, encrypted."""
        key, locked = self[f"{name}.key"], self[f"{name}.locked.key"]
        command = ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", f"pass:{KEY_PASSWORD}"]
        subprocess.run(command, check=True, capture_output=True)

    def _run(self, *arguments: str, out: str) -> None:
        subprocess.run(["openssl", *arguments, "-out", self[f"{out}.crt"]], check=True, capture_output=True)

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text()


class Right(NamedTuple):
    """What an ACL allows."""

    kind: ResourceType
    name: str
    operation: AclOperation


class SecureKafka:
    """Its PLAINTEXT listener lets everybody do everything, for the tests' own clients."""

    def __init__(self, certificates: Certificates) -> None:
        self.certificates = certificates
        self._ports = {name: free_port() for name in LISTENERS}
        self._broker = apache_or_skip(port=self._ports["PLAINTEXT"], properties=self._properties())
        self._admin = admin.connect(self.address("PLAINTEXT"))

    def stop(self) -> None:
        self._broker.stop()

    def address(self, listener: str, host: str = "localhost") -> str:
        return f"{LOOPBACK if listener == 'PLAINTEXT' else host}:{self._ports[listener]}"

    def create_topic(self, name: str, **config: str) -> str:
        self._broker.create_topics({name: 1}, {key.replace("_", "."): value for key, value in config.items()})
        return name

    def set_password(self, user: str, password: str) -> None:
        """Of SCRAM."""
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            credential = ScramCredentialInfo(mechanism, 4096)
            change = UserScramCredentialUpsertion(user, credential, password.encode())
            self._admin.alter_user_scram_credentials([change])[user].result(10)

    def allow(self, principal: str, *rights: Right) -> None:
        acls = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, principal, "*", operation, AclPermissionType.ALLOW)
            for kind, name, operation in rights
        ]
        for future in self._admin.create_acls(acls).values():
            future.result(10)
        # The controller has them; the broker learns of them a moment later.
        anything = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, principal, None, AclOperation.ANY, AclPermissionType.ANY
        )
        until(lambda: set(acls) <= set(self._admin.describe_acls(anything).result(10)), 10)

    def write(self, topic: str, *values: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.address("PLAINTEXT")})
        for value in values:
            producer.produce(topic, value)
        assert producer.flush(10) == 0

    def committed(self, group: str, topic: str) -> int:
        """The committed offset of the only partition; negative where there is none."""
        consumer = Consumer({"bootstrap.servers": self.address("PLAINTEXT"), "group.id": group})
        try:
            return int(consumer.committed([TopicPartition(topic, 0)], timeout=10)[0].offset)
        finally:
            consumer.close()

    def _properties(self) -> dict[str, str]:
        doors = {name: name for name in LISTENERS if name != "CONTROLLER"}
        tls = self.certificates
        return QUICK_TO_NOTICE | {
            "listeners": ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in self._ports.items()),
            "advertised.listeners": ",".join(f"{name}://{self.address(name)}" for name in doors),
            "listener.security.protocol.map": ",".join(f"{name}:{_PROTOCOLS.get(name, name)}" for name in LISTENERS),
            "controller.quorum.voters": f"1@{LOOPBACK}:{self._ports['CONTROLLER']}",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": tls["server.pem"],
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": tls["ca.crt"],
            "listener.name.mtls.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            # An answer to a refused login is held back this long, against guessing: 100 ms by default.
            "connection.failed.authentication.delay.ms": "10",
            **{
                f"listener.name.{door}.{mechanism}.sasl.jaas.config": login
                for door in ("sasl_plaintext", "sasl_ssl")
                for mechanism, login in _LOGINS.items()
            },
        }


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid4().hex[:8]}"
