"""Splitting and augmenting the default bundle's texts."""

import random
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model.spam import texts as spam_data
from worker.model.spam.texts import Labelled, augment, distorted, groups

OFFER = "Congratulations you have won a prize of 1000 pounds call 0900 1234 now to claim it today"


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


@pytest.fixture
def splits(tmp_path):
    def texts(name, count):
        return [
            {"text": " ".join(f"{name}{_letters(n)}{k}" for k in "abcdefgh"), "label": "spam" if n % 3 else "ham"}
            for n in range(count)
        ]

    campaign = [{"text": f"{OFFER} ref {_letters(n)}", "label": "spam"} for n in range(8)]
    write(tmp_path / "sms_spam/train.jsonl", texts("sms", 700) + campaign)
    write(tmp_path / "sms_spam/test.jsonl", [{"text": OFFER.replace("1000", "2000"), "label": "spam"}])
    write(tmp_path / "youtube_spam/comments.jsonl", texts("comment", 600))
    write(tmp_path / "enron_spam/mails.jsonl", texts("mail", 1500))
    return spam_data.load_splits(tmp_path, write(tmp_path / "extra.jsonl", texts("extra", 120)))


def _letters(n):
    """The number in letters: near-duplicate search takes all digits for the same."""
    return "".join(chr(97 + int(digit)) for digit in str(n))


def test_every_text_is_in_exactly_one_split(splits):
    parts = [{row.text for row in part} for part in (splits.train, splits.styled, splits.validation, splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 700 + 8 + 1 + 600 + 1500 + 120


def test_no_near_duplicate_crosses_splits(splits):
    rows = [(part, row) for part in ("train", "validation", "test") for row in getattr(splits, part)]
    for group in groups([row.text for _, row in rows]):
        kinds = {rows[i][0] for i in group if rows[i][1].text not in splits.sms_leaks}
        assert len(kinds) == 1


def test_texts_of_the_sms_test_file_with_a_twin_in_training_are_known(splits):
    assert splits.sms_leaks == {OFFER.replace("1000", "2000")}


def test_variants_of_one_campaign_are_one_group():
    assert len(groups([OFFER, OFFER.upper(), OFFER.replace("1000", "2000"), "see you at lunch then"])) == 2


def test_other_words_are_other_groups():
    assert len(groups(["are we still on for lunch", "are you at home already", "", "ok", "OK!"])) == 4


@given(st.text(min_size=1), st.sampled_from(["sms", "comments", "mails"]), st.integers(0, 1), st.integers(0, 1000))
def test_augmenting_never_loses_the_text(text, channel, label, seed):
    """Whatever characters there are, a text remains, and the same draw gives the same one."""
    row = Labelled(text, label, channel)
    found = augment(row, random.Random(seed))
    assert found.strip() or not text.strip()
    assert found == augment(row, random.Random(seed))


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.integers(0, 1000))
def test_distorted_texts_are_as_many_as_asked_for_and_never_empty(texts, seed):
    """Made of the words of their channel alone; the same draw gives the same ones."""
    rows = [Labelled(text, 0, "comments") for text in texts]
    found = distorted(rows, 4, random.Random(seed))
    assert len(found) == 4 * len(rows)
    assert all(made.text.strip() or not rows[i // 4].text.strip() for i, made in enumerate(found))
    assert found == distorted(rows, 4, random.Random(seed))


def test_distorted_texts_are_mostly_others():
    """Spliced, cut, with other words or with fewer: what a label of the original says nothing about."""
    rows = [Labelled(" ".join(f"{word}{n}" for word in OFFER.split()), 1, "sms") for n in range(20)]
    made = distorted(rows, 10, random.Random(0))
    originals = {row.text for row in rows}
    assert sum(row.text not in originals for row in made) > 180
    lengths = [len(row.text.split()) for row in made]
    assert min(lengths) < len(OFFER.split()) / 2 < len(OFFER.split()) < max(lengths)


def test_own_texts_are_none_of_the_collections():
    """Every line is labelled and of a known channel, and none is there twice."""
    rows = spam_data.read(Path(spam_data.__file__).with_name(spam_data.EXTRA), "modern")
    assert len({row.text for row in rows}) == len(rows) > 1_000
    assert {row.channel for row in rows} == {"sms", "comments", "mails", "modern"}
    assert {row.label for row in rows} == {0, 1}
