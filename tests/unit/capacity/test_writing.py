"""Settings written into files that hold more than them."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from worker.capacity.writing import lines, write_keda, write_settings
from worker.config import load
from worker.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CHANGES = {"batching": {"max_messages": 16, "max_tokens": 256}, "model": {"lanes": 2, "allocation": "arena"}}
FULL = """# Our spam filter.
[kafka]
group_id = "spam"   # never change this
properties = { "security.protocol" = "SASL_SSL" }

[ batching ] # measured
  max_tokens=512 # by hand
max_delay_ms = 5
max_tokens_of_old = "[model]"

[model]
bundle = "mine"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "winnow.toml"


def test_comments_and_all_else_stay(file: Path):
    """Only the values asked for change; what is new comes at the head of its section."""
    text = FULL.replace('max_tokens_of_old = "[model]"\n', "")
    file.write_text(text, "utf-8")
    write_settings(file, CHANGES)
    expected = (
        text.replace("max_tokens=512", "max_tokens=256")
        .replace("# measured\n", "# measured\nmax_messages = 16\n")
        .replace("[model]\n", '[model]\nallocation = "arena"\nlanes = 2\n')
    )
    assert file.read_text("utf-8") == expected
    assert load(file).batching.max_messages == 16


def test_names_that_begin_alike_and_values_that_look_alike_are_left_alone(file: Path):
    """`max_tokens_of_old` is another setting, and a section's name in a string is none."""
    file.write_text(FULL, "utf-8")
    write_settings(file, CHANGES)
    document = tomllib.loads(file.read_text("utf-8"))
    assert document["batching"]["max_tokens_of_old"] == "[model]"
    assert document["model"] == {"lanes": 2, "allocation": "arena", "bundle": "mine"}


def test_writing_twice_changes_nothing_more(file: Path):
    """The second time finds what the first has written."""
    file.write_text(FULL, "utf-8")
    write_settings(file, CHANGES)
    once = file.read_bytes()
    write_settings(file, CHANGES)
    assert file.read_bytes() == once


@pytest.mark.parametrize("text", ["", "[kafka]\ngroup_id = 'a'", "# nothing yet\n", "[batching]"])
def test_sections_that_are_missing_are_added(file: Path, text: str):
    """At the end of the file, whether or not its last line ends."""
    file.write_text(text, "utf-8")
    write_settings(file, CHANGES)
    assert tomllib.loads(file.read_text("utf-8")) == {**tomllib.loads(text), **CHANGES}


def test_a_file_that_is_not_there_is_made(file: Path):
    """With the sections alone."""
    write_settings(file, CHANGES)
    assert tomllib.loads(file.read_text("utf-8")) == CHANGES


def test_line_ends_stay_as_they_are(file: Path):
    """A file from Windows keeps its carriage returns."""
    file.write_bytes(b"[batching]\r\nmax_tokens = 512\r\nmax_messages = 3\r\n[model]\r\nlanes = 1\r\n")
    write_settings(file, CHANGES)
    assert file.read_bytes() == (
        b'[batching]\r\nmax_tokens = 256\r\nmax_messages = 16\r\n[model]\r\nallocation = "arena"\r\nlanes = 2\r\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "batching = { max_tokens = 512 }\n",
        "batching.max_tokens = 512\n",
        "[batching]\n'max_tokens' = 512\n",
        "batching = 3\n",
        'note = """\n[batching]\nmax_tokens = 1\nmax_messages = 2\n"""\n',
    ],
)
def test_what_cannot_be_changed_safely_is_refused_with_what_to_set(file: Path, text: str):
    """The file stays as it was, and the sentence is followed by the lines."""
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="cannot be changed safely") as refused:
        write_settings(file, CHANGES)
    assert lines(CHANGES) in str(refused.value)
    assert file.read_text("utf-8") == text


def test_a_file_that_is_no_toml_is_refused(file: Path):
    """It is named, and left."""
    file.write_text("[batching\n", "utf-8")
    with pytest.raises(ConfigError, match=r"winnow\.toml is not TOML"):
        write_settings(file, CHANGES)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path):
    """No folder, no file: a sentence; a folder is no file either."""
    with pytest.raises(ConfigError, match="cannot be written: there is no folder"):
        write_settings(tmp_path / "nowhere" / "winnow.toml", CHANGES)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        write_settings(tmp_path, CHANGES)


def test_permissions_and_links_stay(file: Path, tmp_path: Path):
    """A mounted file is often a link, and may be readable by its owner alone."""
    real = tmp_path / "real.toml"
    real.write_text("", "utf-8")
    real.chmod(0o600)
    file.symlink_to(real)
    write_settings(file, CHANGES)
    assert file.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert tomllib.loads(real.read_text("utf-8")) == CHANGES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real.toml", "winnow.toml"]


def test_the_fragment_of_helm_values_is_a_string(tmp_path: Path):
    """Large numbers would reach the template as 1e+06; the comment says where the number is from."""
    path = tmp_path / "values.yaml"
    write_keda(path, 1_234_567, "1,000 messages/s a replica")
    write_keda(path, 1_234_568, "2,000 messages/s a replica")
    assert path.read_text("utf-8") == (
        '# Written by `winnow bench`: 2,000 messages/s a replica\nautoscaling:\n  lagThreshold: "1234568"\n'
    )


def test_a_file_of_somebody_elses_values_is_not_overwritten(tmp_path: Path):
    """Only what this command wrote is written again."""
    path = tmp_path / "values.yaml"
    path.write_text("replicas: 3\n", "utf-8")
    with pytest.raises(ConfigError, match="was not written by winnow bench"):
        write_keda(path, 1, "")
    assert path.read_text("utf-8") == "replicas: 3\n"
