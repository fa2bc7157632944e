"""A user's mistake gets a sentence that names the thing and the mend, and a documented exit code."""

from __future__ import annotations

import shutil
import socket

import orjson
import pytest

from tests.e2e.process import winnow
from worker.app import DEFAULT_BUNDLE, open_model
from worker.config import ModelSettings
from worker.errors import BundleError

QUICK = ["--set", "kafka.connect_timeout_ms=1500", "--set", "serving.enabled=false"]


def said(done):
    """What the command wrote; never a traceback."""
    text = done.stderr.decode()
    assert "Traceback" not in text
    return text


def test_unknown_setting():
    """An unknown setting is named, with the nearest that exists; exit code 2."""
    done = winnow("run", "--set", "kafka.group=x")
    assert done.returncode == 2
    assert "no setting 'kafka.group'" in said(done)
    assert "Did you mean" in said(done)


def test_configuration_file_that_is_missing(tmp_path):
    """The file is named; exit code 2."""
    done = winnow("run", "--config", str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert "none.toml cannot be read" in said(done)


def test_output_topic_that_is_an_input():
    """A circle is refused before anything is connected; exit code 2."""
    done = winnow("run", "--set", "kafka.input_topics=a", "--set", "kafka.output_topic=a")
    assert done.returncode == 2
    assert "also an input topic" in said(done)


def test_broker_that_does_not_answer():
    """The address is named, with what to check; exit code 4."""
    done = winnow("run", *QUICK, "--set", "kafka.bootstrap_servers=127.0.0.1:1")
    assert done.returncode == 4
    assert "No broker answered at 127.0.0.1:1" in said(done)
    assert "kafka.bootstrap_servers" in said(done)


def test_property_that_librdkafka_does_not_know():
    """The property is named; exit code 2."""
    done = winnow("run", *QUICK, "--set", "kafka.properties.no.such=1")
    assert done.returncode == 2
    assert "no.such" in said(done)


@pytest.mark.kafka
def test_missing_topics(kafka, topics):
    """Every missing topic is named, with the command that creates it; exit code 5."""
    broker = kafka.bootstrap_servers
    done = winnow(
        "run", *QUICK, "--set", f"kafka.bootstrap_servers={broker}",
        "--set", f"kafka.input_topics={topics('in')}", "--set", "kafka.output_topic=absent-output",
        "--set", f"kafka.dead_letter_topic={topics('dead')}",
    )  # fmt: skip
    assert done.returncode == 5
    assert "'absent-output'" in said(done)
    assert f"kafka-topics.sh --bootstrap-server {broker} --create --topic absent-output" in said(done)


def test_bundle_that_is_not_there(tmp_path):
    """The folder is named; exit code 3."""
    done = winnow("classify", "--bundle", str(tmp_path / "nothing"), "hello")
    assert done.returncode == 3
    assert "nothing" in said(done)


def test_bundle_that_was_changed(tmp_path):
    """The file that does not match its digest is named; exit code 3."""
    bundle = tmp_path / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, bundle)
    tokenizer = bundle / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    done = winnow("model", "verify", str(bundle))
    assert done.returncode == 3
    assert "tokenizer.json" in said(done)


def test_bundle_for_another_task(tmp_path):
    """A task that this version cannot serve is named; exit code 3."""
    bundle = tmp_path / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, bundle)
    manifest = bundle / "bundle.json"
    manifest.write_bytes(orjson.dumps(orjson.loads(manifest.read_bytes()) | {"task": "multi-label"}))
    with pytest.raises(BundleError, match="multi-label"):
        open_model(ModelSettings(bundle=str(bundle)))
    done = winnow("classify", "--bundle", str(bundle), "hello")
    assert done.returncode == 3
    assert "multi-label" in said(done)


def test_max_length_beyond_the_bundles():
    """More tokens than the model reads are refused, with how many it reads; exit code 2."""
    done = winnow("run", *QUICK, "--set", "model.max_length=100000")
    assert done.returncode == 2
    most = orjson.loads((DEFAULT_BUNDLE / "bundle.json").read_bytes())["max_length"]
    assert f"model.max_length = 100000 is more than the {most} tokens" in said(done)


def test_pointer_that_is_none():
    """`classify` says what a JSON Pointer is; exit code 2."""
    done = winnow("classify", "--text-pointer", "foo", "hello")
    assert done.returncode == 2
    assert "--text-pointer: a JSON Pointer starts with '/'" in said(done)


def test_port_that_there_is_not():
    """`broker` refuses a port beyond the last one before anything is started; exit code 2."""
    done = winnow("broker", "--port", "99999")
    assert done.returncode == 2
    assert "65535" in said(done)


def test_port_that_is_taken(tmp_path):
    """The address is named, with the setting to change; exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = winnow("run", "--set", f"serving.port={port}", "--set", "serving.host=127.0.0.1")
    assert done.returncode == 2
    assert "serving.port" in said(done)


def test_unknown_flag():
    """Wrong usage is exit code 2."""
    done = winnow("run", "--nonsense")
    assert done.returncode == 2
    assert "--nonsense" in said(done)
