"""TLS on a real Apache Kafka: what is refused, and with which sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.contract.security.users import (
    GOOD,
    User,
    refusal,
)
from worker.errors import BrokerError
from worker.kafka import topics
from worker.kafka.tools import Reader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.security.secure_kafka import SecureKafka

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.timeout(300)]


def tls(kafka: SecureKafka, authority: str = "ca.crt", **more: str) -> dict[str, str]:
    return {"security__protocol": "SSL", "ssl__ca__location": kafka.certificates[authority], **more}


def mutual(kafka: SecureKafka, name: str) -> dict[str, str]:
    certificate, key = kafka.certificates[f"{name}.crt"], kafka.certificates[f"{name}.key"]
    return tls(kafka, ssl__certificate__location=certificate, ssl__key__location=key)


@pytest.mark.parametrize("authority", ["other-ca.crt", None])
def test_brokers_that_an_unknown_authority_vouches_for_are_refused(kafka: SecureKafka, user: User, authority):
    """Verification is on without a setting; another CA, or the system's, does not do. Exit code 4."""
    properties = tls(kafka, authority) if authority else {"security__protocol": "SSL"}
    code, said = refusal(user.settings("SSL", **properties))
    assert code == 4
    assert f"The certificate of {kafka.address('SSL')} is refused" in said
    assert "ssl.ca.location" in said


def test_brokers_with_a_certificate_for_another_name_are_refused(kafka: SecureKafka, user: User):
    """The host is checked without a setting: the certificate names localhost, not 127.0.0.1. Exit code 4."""
    code, said = refusal(user.settings("SSL", "127.0.0.1", **tls(kafka)))
    assert code == 4
    assert f"The certificate of {kafka.address('SSL', '127.0.0.1')} is refused" in said
    assert "does not name that host" in said


def test_it_is_the_name_alone_that_was_refused(kafka: SecureKafka, user: User):
    """With the host check switched off by the user, the same address passes."""
    topics.prepare(user.settings("SSL", "127.0.0.1", **tls(kafka, ssl__endpoint__identification__algorithm="none")))


@pytest.mark.parametrize("name", [None, "stranger"])
def test_without_a_certificate_that_the_brokers_trust_there_is_no_mutual_tls(kafka: SecureKafka, user: User, name):
    """The sentence names the two properties. Exit code 4."""
    code, said = refusal(user.settings("MTLS", **(mutual(kafka, name) if name else tls(kafka))))
    assert code == 4
    assert f"{kafka.address('MTLS')} refused the TLS handshake" in said
    assert "ssl.certificate.location and ssl.key.location" in said


@pytest.mark.parametrize(("listener", "protocol"), [("SSL", "PLAINTEXT"), ("PLAINTEXT", "SSL")])
def test_the_wrong_protocol_is_named(kafka: SecureKafka, user: User, listener: str, protocol: str):
    """Plain text to a door of TLS, and TLS to a door of plain text: there is no answer, and what to check is said."""
    settings = user.settings(listener, **(tls(kafka) | {"security__protocol": protocol}))
    with pytest.raises(BrokerError, match=r"Check kafka\.bootstrap_servers, and security\.protocol"):
        topics.prepare(settings.model_copy(update={"connect_timeout_ms": 1_500}))


def test_results_reach_readers_through_every_door(kafka: SecureKafka, user: User, tmp_path: Path):
    """A worker that logs in over TLS delivers results that a reader of the plain door gets."""
    user.allow()
    kafka.write(user.input, GOOD)
    door = {"security.protocol": "SASL_SSL", "ssl.ca.location": kafka.certificates["ca.crt"]}
    with user.ready(tmp_path, user.properties("SCRAM-SHA-256") | door) as worker:
        reader = Reader(kafka.address("PLAINTEXT"), [user.output])
        found = []
        worker.until(lambda: found.extend(reader.poll()) or found)
        reader.close()
        assert worker.terminate() == 0
    assert json.loads(found[0].value)["source"]["topic"] == user.input
