"""The command line in this process: output, exit codes, no tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import worker
from worker import cli
from worker.config import MASK, load, reference
from worker.lanes import SWITCH_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def winnow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`winnow("config", "show")` gives exit code, stdout and stderr."""
    for name in [name for name in os.environ if name.startswith("WINNOW_")]:
        monkeypatch.delenv(name)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["winnow", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


def test_the_version_is_the_packages(winnow):
    """`--version` tells what runs and does nothing else."""
    assert winnow("--version") == (0, f"winnow {worker.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"], ["run", "--nope"], ["config", "nope"], ["demo", "--messages", "0"], ["broker", "x"],
        ["broker", "--port", "99999"], ["classify", "--text-pointer", "foo", "text"],
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(winnow, arguments: list[str]):
    """A command or a flag that there is not ends with 2, a hint, and no traceback."""
    code, _, said = winnow(*arguments)
    assert code == 2
    assert "Traceback" not in said


@pytest.mark.parametrize("command", [["config", "show"], ["config", "lint"], ["run"]])
def test_a_wrong_setting_is_exit_code_2_and_a_sentence(winnow, command: list[str]):
    """Each command that reads the configuration refuses it in the same words."""
    code, out, said = winnow(*command, "--set", "kafka.gruop_id=x")
    assert (code, out) == (2, "")
    assert said == "winnow: There is no setting 'kafka.gruop_id'. Did you mean 'kafka.group_id'?\n"


def test_show_names_every_setting_and_masks_secrets(winnow):
    """What is in force, for people as TOML and for programs as JSON; secrets in neither."""
    arguments = ["--set", "kafka.properties.sasl.password=hunter2", "--set", "kafka.group_id=spam"]
    code, out, _ = winnow("config", "show", *arguments)
    assert code == 0
    assert "hunter2" not in out
    assert 'group_id = "spam"' in out
    assert all(f"{setting.partition('.')[2]} " in out for setting, _ in reference())
    code, out, _ = winnow("config", "show", "--json", *arguments)
    assert json.loads(out)["kafka"]["properties"] == {"sasl.password": MASK}


def test_what_show_prints_can_be_read_again(winnow, tmp_path: Path):
    """The output of `config show` is a winnow.toml with the same settings."""
    _, out, _ = winnow("config", "show", "--set", "kafka.input_topics=a,b", "--set", "kafka.properties.client.rack=r1")
    (tmp_path / "winnow.toml").write_text(out, "utf-8")
    again = load(tmp_path / "winnow.toml")
    assert again.kafka.input_topics == ("a", "b")
    assert again.kafka.properties == {"client.rack": "r1"}
    assert winnow("config", "lint", "--config", str(tmp_path / "winnow.toml"))[0] == 0


def test_the_schema_is_json_schema(winnow):
    """`config schema` writes a schema of every setting."""
    code, out, _ = winnow("config", "schema")
    assert code == 0
    schema = json.loads(out)
    assert set(schema["properties"]) == {setting.partition(".")[0] for setting, _ in reference()}
    assert list(schema)[:3] == ["$schema", "$id", "title"]
    assert (schema["$schema"], schema["title"]) == ("https://json-schema.org/draft/2020-12/schema", "winnow.toml")


def test_a_missing_bundle_is_exit_code_3(winnow, tmp_path: Path):
    """A folder without a bundle is named; nothing is classified."""
    code, out, said = winnow("classify", "--bundle", str(tmp_path / "nothing"), "text")
    assert (code, out) == (3, "")
    assert str(tmp_path / "nothing") in said
    assert "Traceback" not in said


def into(output: int) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with its output there."""
    command = [sys.executable, "-m", "worker", "config", "schema"]
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, timeout=60, check=False)


def test_a_reader_that_has_gone_ends_the_output():
    """As with `| head -1`: nothing is said, and the exit code is what shells show of a SIGPIPE."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = into(writing)
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_exit_code_2_and_a_sentence():
    """A full disk under `> file` is no bug."""
    with open("/dev/full", "wb") as full:
        ran = into(full.fileno())
    assert (ran.returncode, ran.stderr) == (2, "winnow: The output cannot be written: No space left on device.\n")


def test_other_errors_of_the_system_stay_bugs(monkeypatch: pytest.MonkeyPatch):
    """A file that is missing where nobody thought of it is no matter of the output: its traceback is kept."""

    def app() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(FileNotFoundError):
        cli.main()


def test_who_ends_a_run_gets_the_interpreter_soon(monkeypatch):
    """In every command: most of them have lanes."""
    seen: list[float] = []
    before = sys.getswitchinterval()
    monkeypatch.setattr(cli, "app", lambda: seen.append(sys.getswitchinterval()))
    try:
        cli.main()
    finally:
        sys.setswitchinterval(before)
    assert seen == [pytest.approx(SWITCH_INTERVAL)]


def test_a_line_that_comes_slowly_is_answered_before_the_next_one_comes():
    """Whoever writes into a pipe and waits for the answer gets it; a line may come in pieces."""
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "classify", "--json", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(worker.__file__).parents[1],
    ) as running:  # fmt: skip
        assert running.stdin is not None
        assert running.stdout is not None
        for number, pieces in enumerate([(b"one\n",), (b"tw", b"o\n"), (b"three\n\n",)]):
            for piece in pieces:
                running.stdin.write(piece)
                running.stdin.flush()
            assert json.loads(running.stdout.readline())["id"] == str(number)
        running.stdin.write(b"the last, without an end")
        running.stdin.close()
        assert json.loads(running.stdout.readline())["id"] == "3"
        assert running.stdout.read() == b""
    assert running.returncode == 0
