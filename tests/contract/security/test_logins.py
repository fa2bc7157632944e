"""SASL on a real Apache Kafka: wrong and rotated passwords, and secrets that nobody may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.security.secure_kafka import KEY_PASSWORD, SecureKafka
from tests.contract.security.users import (
    GOOD,
    SECRET,
    User,
    refusal,
)
from worker.kafka import topics

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.timeout(300)]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_wrong_password_is_refused(kafka: SecureKafka, user: User, mechanism: str, protocol: str):
    """The sentence is the brokers' own, and where to look; it does not show the password. Exit code 4."""
    wrong = user.properties(mechanism, "hunter2", ssl_ca_location=kafka.certificates["ca.crt"])
    code, said = refusal(user.settings(protocol, **wrong | {"security.protocol": protocol}))
    assert code == 4
    assert "The brokers refused the login" in said
    assert "uthentication failed" in said
    assert "sasl.*" in said
    assert "hunter2" not in said


def test_a_mechanism_that_the_brokers_do_not_have_is_refused_with_those_they_have(user: User):
    """Exit code 4."""
    code, said = refusal(user.settings(**user.properties("SCRAM-SHA-1")))
    assert code == 4
    assert "supported mechanisms: PLAIN,SCRAM-SHA" in said


def test_a_rotated_password(kafka: SecureKafka, user: User, tmp_path: Path):
    """With the old one the worker ends with exit code 4; the new one in the file, it runs and delivers."""
    user.allow()
    (tmp_path / "password").write_text(SECRET + "\n")
    properties = user.properties(password=f"${{directory:{tmp_path}:password}}")
    assert topics.prepare(user.settings(**properties)) is None
    kafka.set_password(user.name, "rotated-secret")
    code, said = user.fails(tmp_path, properties)
    assert code == 4
    assert "The brokers refused the login" in said
    (tmp_path / "password").write_text("rotated-secret\n")
    kafka.write(user.input, GOOD)
    with user.ready(tmp_path, properties) as worker:
        worker.until(lambda: worker.metric("winnow_end_to_end_seconds_count") > 0)
        assert worker.terminate() == 0
    assert kafka.committed(user.group, user.input) == 1


def test_no_log_shows_a_secret(kafka: SecureKafka, user: User, tmp_path: Path):
    """Not even with the client's whole debug log, which lists its configuration."""
    user.allow()
    locked = {
        "security.protocol": "SASL_SSL", "debug": "all", "ssl.ca.location": kafka.certificates["ca.crt"],
        "ssl.certificate.location": kafka.certificates["winnow.crt"],
        "ssl.key.location": kafka.certificates["winnow.locked.key"], "ssl.key.password": KEY_PASSWORD,
    }  # fmt: skip
    with user.ready(tmp_path, user.properties() | locked, logging__level="debug") as worker:
        assert worker.terminate() == 0
        said = worker.said
    assert "sasl.mechanism" in said, "the client did not list its configuration"
    assert SECRET not in said
    assert KEY_PASSWORD not in said
