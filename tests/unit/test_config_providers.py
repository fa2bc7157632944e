"""Values that stand elsewhere: Kafka's config providers, and the properties files that one of them reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import given

from worker import java_properties
from worker.config_providers import is_reference, resolve
from worker.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"


def one(value: object, **environment: str) -> object:
    return resolve({"sasl.password": value}, environment)["sasl.password"]


def refused(value: str) -> str:
    with pytest.raises(ConfigError) as caught:
        one(value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text(SECRET + "\n")
    (tmp_path / "kafka.properties").write_text(f"# of the cluster\nuser = me\npassword = {SECRET}\n")
    return tmp_path


def test_each_provider_finds_its_value(folder: Path):
    """A variable, a file of a folder, a key of a properties file."""
    assert one("${env:PASSWORD}", PASSWORD=SECRET) == SECRET
    assert one(f"${{directory:{folder}:password}}") == SECRET
    assert one(f"${{file:{folder}/kafka.properties:password}}") == SECRET


def test_a_value_may_hold_several_and_text_around_them():
    """As Kafka replaces them."""
    assert one("a ${env:X} b ${env:Y}${env:X}", X="1", Y="2") == "a 1 b 21"


@pytest.mark.parametrize(
    "value",
    [7, 0.5, True, "plain", "", "$", "${", "${}", "${:}", "${x", "${env}", "env:X", "$${x}", "${env:X", "${1:a}"],
)
def test_what_is_no_reference_stays(value: object):
    """Numbers, text, what only looks like a reference."""
    assert one(value, X="1") == value


@pytest.mark.parametrize("provider", ["vault", "ENV", "dir", "configmap", "secrets-manager", "my.own_1"])
@pytest.mark.parametrize("rest", ["hunter2", "/nope:hunter2", "a:b:hunter2"])
def test_a_provider_that_there_is_not_is_refused(provider: str, rest: str):
    """The reference itself would be sent as the password; only its first word is told, the rest may be one."""
    said = refused(f"${{{provider}:{rest}}}")
    assert said == (
        f"The property 'sasl.password' is a reference, but there is no provider {provider!r}; "
        "there are env, directory, file."
    )


@pytest.mark.parametrize("value", ["${env:Y}", "${file:/etc/x:y}", "${", "\\1", "x\ny"])
def test_what_is_found_is_taken_as_it_is(value: str):
    """It is not looked at again: a password that looks like a reference can be put behind one."""
    assert one("${env:X}", X=value, Y="no") == value


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("a", "a"),
        ("a\n\n", "a\n"),
        (" a \n", " a "),
        ("", ""),
        ("\n", ""),
        ("a\nb\n", "a\nb"),
    ],
)
def test_one_newline_at_the_end_of_a_file_is_the_editors(tmp_path: Path, content: str, value: str):
    """It is no part of the secret; all else is."""
    (tmp_path / "x").write_bytes(content.encode())
    assert one(f"${{directory:{tmp_path}:x}}") == value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("${env:NOWHERE}", "there is no environment variable 'NOWHERE'"),
        ("${env:a:b}", "'env' takes a name alone: ${env:NAME}"),
        ("${file:/x}", "'file' needs a path and a key: ${file:PATH:KEY}"),
        ("${directory:/x}", "'directory' needs a path and a key: ${directory:PATH:KEY}"),
        ("${directory:/nowhere:x}", "/nowhere/x cannot be read: No such file or directory"),
        ("${directory:/etc:../etc/passwd}", "'../etc/passwd' is no name of a file: put its folder before the colon"),
        ("${directory:/etc:}", "/etc cannot be read: Is a directory"),
        ("${file:/nowhere:x}", "/nowhere cannot be read: No such file or directory"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(value: str, why: str):
    """The property, the reference and the reason are named."""
    assert refused(value) == f"The property 'sasl.password' is {value}, but {why}."


def test_a_key_that_is_missing_is_named_without_the_others(folder: Path):
    """What else the file holds is nobody's business."""
    said = refused(f"${{file:{folder}/kafka.properties:pasword}}")
    assert f"there is no key 'pasword' in {folder}/kafka.properties" in said
    assert SECRET not in said


def test_a_file_that_is_not_text_is_named(tmp_path: Path):
    """Bytes that are no UTF-8 are not shown."""
    (tmp_path / "x").write_bytes(b"\xff" + SECRET.encode())
    said = refused(f"${{directory:{tmp_path}:x}}")
    assert "x is not UTF-8" in said
    assert SECRET not in said


@given(st.text(max_size=20))
def test_any_text_is_taken_or_refused_in_a_sentence(value: str):
    """Nothing that can be written as a property ends in another kind of error."""
    try:
        assert isinstance(one("${env:" + value + "}", X="1"), str)
    except ConfigError as error:
        assert "there is no environment variable" in str(error) or "takes a name alone" in str(error)  # noqa: PT017


def test_only_what_is_nothing_but_references_is_one():
    """Anything else may hold a secret."""
    assert all(is_reference(value) for value in ("${env:X}", "${env:X}${file:a:b}", "${directory:a:b}"))
    assert not any(is_reference(value) for value in ("", "x", "${env:X}x", "${vault:x}", "${env:X}${ENV:x}", 7, None))


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("a=b", {"a": "b"}),
        ("a : b", {"a": "b"}),
        ("a b", {"a": "b"}),
        ("  a\t=  b  ", {"a": "b  "}),
        ("a==b", {"a": "=b"}),
        ("a", {"a": ""}),
        ("a=\\\n   b\\\n\t c", {"a": "bc"}),
        ("a=b\\\\\nc=d", {"a": "b\\", "c": "d"}),
        ("# a=b\n! c=d\n\n \t\ne=f", {"e": "f"}),
        ("#a\\\nb=c", {"b": "c"}),
        ("a=1\r\nb=2\rc=3\n", {"a": "1", "b": "2", "c": "3"}),
        (r"a\=b=c\ud83d\u0041\t\n\q", {"a=b": "c\ud83dA\t\nq"}),
        (r"a\ b\:=\#", {"a b:": "#"}),
        ("a=1\na=2", {"a": "2"}),
        ("a=#no comment", {"a": "#no comment"}),
        ("a=b\\", {"a": "b"}),
        ("", {}),
    ],
)
def test_properties_files_are_read_as_java_reads_them(text: str, entries: dict[str, str]):
    """Separators, escapes, continued lines, comments."""
    assert java_properties.parse(text) == entries


@given(st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=10), max_size=5))
def test_what_is_escaped_comes_back(entries: dict[str, str]):
    """Whatever the keys and values: escaped as Java stores them, they are read as they were."""

    def escaped(text: str) -> str:
        return "".join(f"\\u{ord(c):04x}" if ord(c) < 0x20 else "\\" + c if c in " \\=:#!" else c for c in text)

    text = "\n".join(f"{escaped(key)}={escaped(value)}" for key, value in entries.items())
    assert java_properties.parse(text) == entries
