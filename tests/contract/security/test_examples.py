"""The examples of `docs/security.md` are run as they stand there, with addresses and folders put in."""

from __future__ import annotations

import re
import threading
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.security.secure_kafka import KEY_PASSWORD, PLAIN_PASSWORD, PLAIN_USER, SecureKafka
from tests.contract.security.token_endpoint import OIDC_SECRET, TokenEndpoint
from tests.contract.security.users import SECRET, User, refusal
from worker.config import KafkaSettings
from worker.errors import TopicError
from worker.kafka import topics

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.timeout(300)]
PAGE = (Path(__file__).parents[3] / "docs" / "security.md").read_text("utf-8")


def examples() -> dict[str, str]:
    """TOML by the heading that it stands under."""
    found = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        if block := re.search(r"```toml\n(.*?)```", text, re.DOTALL):
            found[heading.strip()] = block[1]
    return found


@pytest.fixture
def token_endpoint(kafka: SecureKafka) -> Iterator[str]:
    server = TokenEndpoint(kafka.certificates)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://localhost:{server.server_address[1]}/token"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def example(kafka: SecureKafka, token_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Settings of an example, with the addresses and folders of this machine put in."""
    monkeypatch.setenv("KAFKA_PASSWORD", PLAIN_PASSWORD)
    secrets = {"password": SECRET, "key-password": KEY_PASSWORD}
    for name, value in secrets.items():
        (tmp_path / name).write_text(value + "\n")
    (tmp_path / "oidc.properties").write_text(f"client.secret = {OIDC_SECRET}\n")
    tls_folder = kafka.certificates.folder
    (tls_folder / "winnow.key").write_bytes((tls_folder / "winnow.key").read_bytes())

    def settings(heading: str) -> KafkaSettings:
        places = {
            "/etc/winnow/tls/winnow.key": kafka.certificates["winnow.locked.key"],
            "/etc/winnow/tls": str(tls_folder),
            "/run/secrets/winnow": str(tmp_path),
            "https://login.example.com/token": token_endpoint,
        }
        text = examples()[heading]
        for place, here in places.items():
            text = text.replace(place, here)
        given = tomllib.loads(text)["kafka"]
        listener = "MTLS" if "ssl.key.location" in given["properties"] else given["properties"]["security.protocol"]
        assert re.fullmatch(r"kafka\.example\.com:\d+", given["bootstrap_servers"])
        return KafkaSettings(**given | {"bootstrap_servers": kafka.address(listener), "connect_timeout_ms": 30_000})

    return settings


EXAMPLES = {
    "TLS": "User:ANONYMOUS",
    "Mutual TLS": "User:CN=winnow",
    "SASL PLAIN": f"User:{PLAIN_USER}",
    "SASL SCRAM": f"User:{PLAIN_USER}",
    "SASL OAUTHBEARER": f"User:{PLAIN_USER}",
}


def test_every_example_of_the_page_is_run():
    """None is left out, and none that is run is missing."""
    assert set(examples()) == set(EXAMPLES)


@pytest.mark.parametrize("heading", EXAMPLES)
def test_an_example_works_as_it_stands(kafka: SecureKafka, user: User, example, heading: str):
    """With these settings the login succeeds, as the principal that the page says."""
    kafka.set_password(PLAIN_USER, SECRET)
    settings = example(heading).model_copy(
        update={"input_topics": (user.input,), "output_topic": user.output, "dead_letter_topic": user.dead}
    )
    principal = EXAMPLES[heading]
    assert principal in PAGE or principal == "User:ANONYMOUS"
    if principal != "User:ANONYMOUS":  # who may do everything on this Kafka
        with pytest.raises(TopicError, match="this user may not describe"):
            topics.prepare(settings)
    kafka.allow(principal, *user.rights)
    topics.prepare(settings)


def test_a_wrong_client_secret_is_refused(kafka: SecureKafka, example):
    """What the token endpoint says reaches the user, the secret does not. Exit code 4."""
    settings = example("SASL OAUTHBEARER")
    wrong = settings.properties | {"sasl.oauthbearer.client.secret": "hunter2"}
    code, said = refusal(settings.model_copy(update={"properties": wrong}))
    assert code == 4
    assert "The brokers refused the login" in said
    assert "unknown client or wrong secret" in said
    assert "hunter2" not in said
