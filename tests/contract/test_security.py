"""Encryption, logins and rights on a real Apache Kafka: what works, and the sentence a user reads where it does not.

The examples of `docs/security.md` are run as they stand there, with addresses and folders put in.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
import time
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from tests.contract.secure_kafka import (
    KEY_PASSWORD,
    PLAIN_PASSWORD,
    PLAIN_USER,
    Certificates,
    Right,
    SecureKafka,
    unique,
)
from tests.e2e.process import WorkerProcess
from worker.config import KafkaSettings
from worker.errors import BrokerError, Fatal, TopicError
from worker.kafka import topics
from worker.kafka.tools import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.timeout(300)]
PATIENCE = 100.0
"""Seconds for a worker to get ready, or to end, on a machine that does other things as well."""
PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
SECRET = "scram-secret"
OIDC_SECRET = "oidc-secret"
GOOD, POISON = b'{"text": "hello"}', b"{"
READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    broker = SecureKafka(Certificates(tmp_path_factory.mktemp("tls")))
    yield broker
    broker.stop()


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


@pytest.fixture
def user(kafka: SecureKafka) -> User:
    return User(kafka)


def refusal(settings: KafkaSettings) -> tuple[int, str]:
    """How the start ends, and long before the timeout: exit code and sentence."""
    began = time.monotonic()
    with pytest.raises(Fatal) as caught:
        topics.prepare(settings)
    assert time.monotonic() - began < settings.connect_timeout_ms / 2_000
    return caught.value.exit_code, str(caught.value)


# TLS


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


# Logins


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


# Rights


def test_who_has_only_the_rights_that_are_needed_gets_on(kafka: SecureKafka, user: User, tmp_path: Path):
    """READ on input and group, WRITE on output and dead letters: no right on the cluster, none to read settings."""
    user.allow()
    kafka.write(user.input, GOOD, POISON, GOOD)
    with user.ready(tmp_path, user.properties()) as worker:
        worker.until(lambda: worker.metric("winnow_end_to_end_seconds_count") >= 3)
        assert worker.terminate() == 0
    assert kafka.committed(user.group, user.input) == 3


def test_without_any_right_topics_look_as_if_they_were_missing(user: User, tmp_path: Path):
    """The sentence says both. Exit code 5."""
    code, said = user.fails(tmp_path)
    assert code == 5
    assert f"'{user.input}', '{user.output}', '{user.dead}', or this user may not describe them" in said


def test_without_the_right_to_create_topics(user: User, tmp_path: Path):
    """`create_topics` needs CREATE: the topic and the right are named. Exit code 5."""
    code, said = user.fails(tmp_path, kafka__create_topics="true")
    assert code == 5
    assert f"The topic '{user.input}' cannot be created" in said
    assert "Grant CREATE" in said


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_without_the_right_to_read(kafka: SecureKafka, user: User, tmp_path: Path, protocol: str):
    """The topic and the right are named. Exit code 5."""
    kafka.write(user.input, GOOD)
    code, said = user.allow(without=user.input).fails(tmp_path, kafka__group_protocol=protocol)
    assert code == 5
    assert f"Access to the topic '{user.input}' is denied. Grant READ on inputs" in said


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_without_the_right_to_the_group(user: User, tmp_path: Path, protocol: str):
    """The right and the setting that names the group. Exit code 4."""
    code, said = user.allow(without=user.group).fails(tmp_path, kafka__group_protocol=protocol)
    assert code == 4
    assert "Grant READ on the group in kafka.group_id" in said


@pytest.mark.parametrize("message", [GOOD, POISON])
def test_without_the_right_to_write(kafka: SecureKafka, user: User, tmp_path: Path, message: bytes):
    """A result or a dead letter that may not be written stops the worker; its offset is held. Exit code 6."""
    denied, other = (user.output, POISON) if message is GOOD else (user.dead, GOOD)
    user.allow(without=denied)
    kafka.write(user.input, other, other, message, other)
    code, said = user.fails(tmp_path)
    assert code == 6
    assert f"could not be written to '{denied}'" in said
    assert "uthorization failed" in said
    assert "offset was not committed" in said
    assert kafka.committed(user.group, user.input) <= 2


def test_without_the_right_to_write_anything(kafka: SecureKafka, user: User, tmp_path: Path):
    """The brokers refuse an idempotent producer to who may write nowhere: the right is named, and no offset passes."""
    kafka.allow(f"User:{user.name}", Right(TOPIC, user.input, READ), Right(GROUP, user.group, READ))
    kafka.allow(f"User:{user.name}", *(Right(TOPIC, topic, DESCRIBE) for topic in (user.output, user.dead)))
    kafka.write(user.input, GOOD)
    code, said = user.fails(tmp_path)
    assert code in (4, 6)
    assert "WRITE on the output and the dead-letter topic" in said
    assert kafka.committed(user.group, user.input) < 0


EXACTLY_ONCE = {"kafka__delivery": "exactly-once", "kafka__transactional_id_prefix": "secured"}


def test_without_the_right_to_its_transactional_id(user: User, tmp_path: Path):
    """Exactly once needs one more right, which is named. Exit code 4."""
    code, said = user.allow().fails(tmp_path, **EXACTLY_ONCE, kafka__instance_id=user.name)
    assert code == 4
    assert f"Access to the transactional.id 'secured-{user.name}' is denied. Grant WRITE" in said


@pytest.mark.parametrize("message", [GOOD, POISON])
def test_without_the_right_to_write_exactly_once(kafka: SecureKafka, user: User, tmp_path: Path, message: bytes):
    """As at least once: the worker stops, nothing of the transaction counts, its offset is held."""
    denied = user.output if message is GOOD else user.dead
    user.allow(without=denied)
    kafka.allow(f"User:{user.name}", Right(ResourceType.TRANSACTIONAL_ID, f"secured-{user.name}", WRITE))
    kafka.write(user.input, message)
    code, said = user.fails(tmp_path, **EXACTLY_ONCE, kafka__instance_id=user.name)
    # The coordinator is asked first, and does not say of which topic it speaks.
    assert code in (5, 6)
    assert "Grant WRITE on both" in said or f"could not be written to '{denied}'" in said
    assert kafka.committed(user.group, user.input) < 0


def test_who_has_only_the_rights_that_are_needed_gets_on_exactly_once(kafka: SecureKafka, user: User, tmp_path: Path):
    """One transactional id more than at least once, and still no right on the cluster."""
    user.allow()
    kafka.allow(f"User:{user.name}", Right(ResourceType.TRANSACTIONAL_ID, f"secured-{user.name}", WRITE))
    kafka.write(user.input, GOOD, POISON, GOOD)
    with user.ready(tmp_path, user.properties(), **EXACTLY_ONCE, kafka__instance_id=user.name) as worker:
        worker.until(lambda: worker.metric("winnow_end_to_end_seconds_count") >= 3)
        assert worker.terminate() == 0
    assert kafka.committed(user.group, user.input) >= 3  # the transaction's own marker may count


def test_the_size_limit_of_topics_needs_a_right_of_its_own(kafka: SecureKafka, user: User):
    """Without DESCRIBE_CONFIGS it is not known, which is no failure; with it, the least counts."""
    user.allow()
    assert topics.prepare(user.settings(**user.properties())) is None
    small = kafka.create_topic(unique("small"), max_message_bytes="20000")
    may = [Right(TOPIC, name, AclOperation.DESCRIBE_CONFIGS) for name in (user.output, small)]
    kafka.allow(f"User:{user.name}", *may, Right(TOPIC, small, WRITE))
    settings = user.settings(**user.properties()).model_copy(update={"dead_letter_topic": small})
    assert topics.prepare(settings) == 20_000


# The examples of the page


def examples() -> dict[str, str]:
    """TOML by the heading that it stands under."""
    found = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        if block := re.search(r"```toml\n(.*?)```", text, re.DOTALL):
            found[heading.strip()] = block[1]
    return found


class TokenEndpoint(ThreadingHTTPServer):
    """Gives out tokens for the right secret, over TLS; nobody signs them."""

    def __init__(self, certificates: Certificates) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                identity = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
                right = identity == f"{PLAIN_USER}:{OIDC_SECRET}"
                error = {"error": "invalid_client", "error_description": "unknown client or wrong secret"}
                answer = json.dumps({"access_token": token(PLAIN_USER)} if right else error).encode()
                self.send_response(200 if right else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *arguments: object) -> None:
                """It keeps quiet."""

        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates["localhost.crt"], certificates["localhost.key"])
        self.socket = context.wrap_socket(self.socket, server_side=True)


def token(subject: str) -> str:
    now = int(time.time())
    parts = {"alg": "none", "typ": "JWT"}, {"sub": subject, "iat": now, "exp": now + 3_600}
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


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
