"""`winnow doctor` on a Kafka with access rights: each that is missing by its name, without trying it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.contract.security.users import SECRET, User
from worker.config import Settings
from worker.doctor import Finding, Status, remote

if TYPE_CHECKING:
    from tests.contract.security.secure_kafka import SecureKafka

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.timeout(300)]


def examined(user: User, password: str = SECRET, **kafka: object) -> dict[str, Finding]:
    properties = {name.replace(".", "__"): value for name, value in user.properties(password=password).items()}
    settings = Settings(kafka=user.settings(**properties).model_copy(update=kafka))
    return {one.check: one for one in remote(settings, 1, time.time() * 1000)}


def test_who_may_do_what_a_worker_needs(kafka: SecureKafka, user: User):
    """Its rights are enough; settings of the topics that it may not read are not checked, and said to be so."""
    kafka.write(user.input, b"{}")
    found = examined(user.allow())
    assert [one for one in found.values() if one.status not in (Status.OK, Status.NOT_CHECKED)] == []
    assert {check.split()[0] for check, one in found.items() if one.status is Status.NOT_CHECKED} == {
        "size", "retention",
    }  # fmt: skip
    assert found[f"right {user.group}"].status is found["lag"].status is Status.OK


@pytest.mark.parametrize("what", ["input", "output", "dead", "group"])
def test_a_right_that_is_missing(user: User, what: str):
    """The resource and the operation."""
    name = getattr(user, what)
    found = examined(user.allow(without=name))[f"right {name}"]
    operation = "READ" if what in ("input", "group") else "WRITE"
    assert found.status is Status.PROBLEM
    assert found.mend == f"Grant {operation} on the {'group' if what == 'group' else 'topic'} {name}."


def test_without_any_right(user: User):
    """Topics look as if they were missing, which the line says; the group is not told of."""
    found = examined(user)
    assert found[f"topic {user.input}"].status is Status.PROBLEM
    assert "or this user may not describe it" in found[f"topic {user.input}"].found
    assert found[f"right {user.group}"].status is Status.NOT_CHECKED
    assert f"Grant READ on the group {user.group}" in found[f"right {user.group}"].mend


def test_a_login_that_is_refused(user: User):
    """One problem, and what depends on it is not checked; the password is not shown."""
    found = examined(user, password="wrong-secret")
    assert "refused the login" in found["brokers"].found
    assert found["brokers"].status is Status.PROBLEM
    assert "sasl.*" in found["brokers"].mend
    assert {one.status for check, one in found.items() if check != "brokers"} == {Status.NOT_CHECKED}
    assert "wrong-secret" not in str(found)
