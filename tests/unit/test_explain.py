"""Which words carry a score: on bundles whose scores are sums over words, and on the one that comes along."""

from __future__ import annotations

import json
import sys
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING

import pytest

from tests.unit import toys
from worker import cli
from worker.commands.explain import show
from worker.config import BatchingSettings, DecisionSettings, InputSettings, ModelSettings
from worker.errors import ConfigError, InvalidMessage
from worker.explaining import Explainer, Explanation

if TYPE_CHECKING:
    from pathlib import Path

    from worker.explaining import Method

LOGITS = {"good": (2.0, 0.0), "bad": (0.0, 3.0), "dull": (0.0, 1.0)}
LABELS = ("pro", "con")


def explainer(folder: Path | str = "default", *, characters: int = 20_000, **model: object) -> Explainer:
    named = ModelSettings(bundle=str(folder), lanes=1, **model)  # type: ignore[arg-type]
    return Explainer(named, DecisionSettings(), BatchingSettings(), InputSettings(max_characters=characters))


def effects(found: Explanation) -> dict[str, float]:
    return {piece.text: piece.effect for piece in found.pieces}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    toys.write(tmp_path / "toy", "single-label", LOGITS, LABELS, thresholds={"con": 0.6})
    return tmp_path / "toy"


def test_the_word_that_decides_has_the_greatest_effect(toy: Path):
    """What speaks for the label is positive, what speaks against it negative, the rest nothing."""
    found = explainer(toy)("ann went bad good to rome")
    assert (found.label, found.said.label, dict(found.thresholds)) == ("con", "con", {"con": 0.6})
    found_effects = effects(found)
    assert list(found_effects) == ["ann", "went", "bad", "good", "to", "rome"]
    assert max(found_effects, key=found_effects.__getitem__) == "bad"
    assert min(found_effects, key=found_effects.__getitem__) == "good"
    assert found_effects["bad"] > 0 > found_effects["good"]
    assert found_effects["ann"] == found_effects["rome"] == 0


def test_an_effect_is_the_score_that_the_text_loses_without_the_word(toy: Path):
    """Equal to classifying the text without it."""
    explain = explainer(toy)
    found = explain("bad dull good")
    without = explain("dull good", label="con").said.scores["con"]
    assert effects(found)["bad"] == pytest.approx(found.base - without, abs=1e-6)
    assert found.base == found.said.scores["con"]


def test_another_label_can_be_explained(toy: Path):
    """The same words, the other way round; an unknown one is named."""
    explain = explainer(toy)
    for word, effect in effects(explain("bad good", label="pro")).items():
        assert effect == pytest.approx(-effects(explain("bad good", label="con"))[word], abs=2e-6)
    with pytest.raises(ConfigError, match="has no 'neither'; it has pro, con"):
        explain("bad", label="neither")


def test_tokens_are_those_that_the_model_reads(toy: Path):
    """With their places in the text, special ones marked."""
    found = explainer(toy)("Ann went")
    assert [token.token for token in found.tokens] == ["[CLS]", "[UNK]", "went", "[SEP]"]
    assert [(token.start, token.end, token.special) for token in found.tokens[1:3]] == [(0, 3, False), (4, 8, False)]
    assert (found.truncated, found.read, found.characters) == (False, 8, 8)


def test_of_a_text_that_is_cut_the_words_that_were_read(toy: Path):
    """Truncated to the tokens of the model, or to the characters of the settings."""
    found = explainer(toy)("good " * 9 + "dull bad")
    assert (found.truncated, len(found.pieces), len(found.tokens)) == (True, 10, toys.MAX_LENGTH)
    assert found.pieces[-1].text == "dull"
    assert found.read == len("good " * 9 + "dull")
    found = explainer(toy, characters=20)("good " * 9)
    assert (found.truncated, found.read, found.characters, len(found.pieces)) == (True, 19, 45, 4)


def test_long_texts_are_bounded(toy: Path):
    """Where there are more words than runs, neighbours are hidden together; all words are within a group."""
    found = explainer(toy, long_texts="windows")("good bad " * 200, most=50)
    assert found.windows > 1
    assert found.words == 400
    assert len(found.pieces) <= max(1, 50 // found.windows)
    assert (found.pieces[0].start, found.pieces[-1].end) == (0, found.read)
    assert len(explainer(toy)("good bad dull ann", most=3).pieces) == 2


def test_several_labels_and_values(tmp_path: Path):
    """Multi-label: the best, by its own threshold. Regression: the value."""
    toys.write(tmp_path / "many", "multi-label", LOGITS, LABELS, thresholds={"con": 0.9})
    found = explainer(tmp_path / "many")("good bad")
    assert (found.label, dict(found.thresholds)) == ("con", {"pro": 0.5, "con": 0.9})
    assert effects(found)["good"] == 0
    assert effects(found)["bad"] == pytest.approx(found.base - 0.5, abs=1e-6)
    toys.write(tmp_path / "value", "regression", {"good": (2.0,), "bad": (-3.0,)}, ("value",))
    found = explainer(tmp_path / "value")("good bad")
    assert (found.base, effects(found)) == (-1.0, {"good": 2.0, "bad": -3.0})


def test_entities_are_refused(tmp_path: Path):
    """They have no score of a text; the sentence says what shows them."""
    labels = ("O", "B-PER")
    toys.write(tmp_path / "token", "token", {"ann": (0.0, 5.0)}, labels)
    with pytest.raises(ConfigError, match="`winnow classify` shows the entities"):
        explainer(tmp_path / "token")


def test_of_an_early_exit_all_layers_are_asked(tmp_path: Path):
    """Answers of two depths are not on one scale; what the worker says is told as it is."""
    toys.write_staged(tmp_path / "staged", threshold=0.0)
    found = explainer(tmp_path / "staged")("good bad dull")
    whole = explainer(tmp_path / "staged", early_exit="off")("good bad dull", label=found.label)
    assert (found.said.layer, whole.said.layer) == (toys.LAYER, None)
    assert (found.base, found.pieces) == (whole.base, whole.pieces)


def test_words_are_masked_where_there_is_a_mask():
    """The bundle that comes along has one; who asks leaves them out."""
    explain = explainer()
    found = explain("WINNER! Claim your prize now")
    assert (found.said.label, found.method) == ("spam", "mask")
    assert explain("WINNER! Claim your prize now") == found
    left_out = explain("WINNER! Claim your prize now", method="leave-out")
    assert left_out.method == "leave-out"
    assert [piece.text for piece in left_out.pieces] == ["WINNER", "!", "Claim", "your", "prize", "now"]
    assert effects(left_out) != effects(found)


def test_what_cannot_be_explained(toy: Path):
    """No text, no mask."""
    with pytest.raises(InvalidMessage, match="The text is empty"):
        explainer(toy)(" \n")
    with pytest.raises(ConfigError, match="has no mask token"):
        explainer(toy)("good", method="mask")


@pytest.mark.parametrize("method", ["auto", "leave-out"])
def test_a_text_of_one_word(toy: Path, method: Method):
    """What is left without it is nothing but the special tokens."""
    found = explainer(toy)("bad", method=method)
    assert effects(found)["bad"] == pytest.approx(found.base - 0.5, abs=1e-6)


# The command


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["winnow", "explain", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_the_command_for_people(toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Label, scores, thresholds, tokens, and the strongest words with their figures."""
    code, out, err = run(monkeypatch, capsys, "ann went bad", "--bundle", str(toy))
    assert (code, err) == (0, "")
    for part in ("label       con  0.953", "thresholds  con 0.6", "5 of 12: [CLS] ann went bad [SEP]", "all of it",
                 "What con 0.953 loses without a word (left out):", "+0.453  bad", "ann went bad"):  # fmt: skip
        assert part in out


def test_the_command_for_programs(toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Everything, with places; the text may come from stdin."""
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"good bad\n")))
    code, out, _ = run(monkeypatch, capsys, "-", "--json", "--bundle", str(toy))
    document = json.loads(out)
    assert code == 0
    assert document["explained"] == {"label": "con", "score": document["score"], "method": "leave-out", "words": 2}
    assert [(one["text"], one["start"], one["end"]) for one in document["pieces"]] == [("good", 0, 4), ("bad", 5, 8)]
    assert document["tokens"][1] == {"token": "good", "start": 0, "end": 4, "special": False}
    assert document["model"]["name"] == "toy"


class Terminal(TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", ["explain", "classify"])
@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_both_commands_read_stdin(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, arguments: list[str]
):
    """For `-`, and where there is no text; from a terminal only for `-`, or one would wait without knowing why."""
    for kind in (TextIOWrapper, Terminal):
        monkeypatch.setattr(sys, "stdin", kind(BytesIO(b"good good\n")))
        monkeypatch.setattr(sys, "argv", ["winnow", command, *arguments, "--json", "--bundle", str(toy)])
        waits = kind is Terminal and not arguments
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert ended.value.code in ((2,) if waits else (0, None))
        if waits:
            assert f"write it behind `winnow {command}`, or pipe it in" in said.err
        else:
            assert json.loads(said.out)["label"] == "pro"


@pytest.mark.parametrize("command", ["explain", "classify"])
def test_without_a_standard_input_there_is_no_text(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
):
    """A service may have none: a sentence, and no traceback."""
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "argv", ["winnow", command, "-", "--bundle", str(toy)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err[:27]) == (2, "winnow: There is no text: w")


def test_texts_and_stdin_keep_their_order(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """`-` stands for the lines of the standard input where it is written."""
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"good\nbad\n")))
    monkeypatch.setattr(sys, "argv", ["winnow", "classify", "--json", "--bundle", str(toy), "bad", "-", "good"])
    with pytest.raises(SystemExit):
        cli.main()
    labels = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
    assert labels == ["con", "pro", "con", "pro"]


@pytest.mark.parametrize("arguments", [[" "], ["good", "--label", "nope"], ["good", "--method", "mask"]])
def test_mistakes_are_sentences(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
):
    """Exit code 2."""
    code, out, err = run(monkeypatch, capsys, *arguments, "--bundle", str(toy))
    assert (code, out) == (2, "")
    assert err.startswith("winnow: ")
    assert "Traceback" not in err


def test_what_a_terminal_would_obey_is_escaped(toy: Path, capsys: pytest.CaptureFixture[str]):
    """A text may hold anything."""
    show(explainer(toy)("bad \x1b[31m good"))
    out = capsys.readouterr().out
    assert "\x1b[31m" not in out
    assert "\\x1b" in out
