"""One Kafka with every door for all of these tests, and a user of its own for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.security.secure_kafka import Certificates, SecureKafka
from tests.contract.security.users import User

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    broker = SecureKafka(Certificates(tmp_path_factory.mktemp("tls")))
    yield broker
    broker.stop()


@pytest.fixture
def user(kafka: SecureKafka) -> User:
    return User(kafka)
