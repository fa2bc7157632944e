"""`--lowercase` and `--cased` are applied to whatever normalizer there is, or refused."""

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from worker.errors import ConfigError
from worker.model.importing import case, vocabulary

WORDS = ["[UNK]", "<s>", "</s>", "Ab", "ab"]


def written(folder, normalizer):
    known = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    if normalizer is not None:
        known.normalizer = normalizer
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    known.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    known.save(str(folder / "tokenizer.json"))
    return folder


def words(folder, lowercase):
    return Tokenizer.from_str(vocabulary.tokenizer_json(folder, lowercase).decode()).encode("Ab").tokens[1:-1]


BERT = normalizers.BertNormalizer(lowercase=False)
LOWER_BERT = normalizers.BertNormalizer(lowercase=True)
LOWER = normalizers.Lowercase()


@pytest.mark.parametrize(
    ("normalizer", "unsaid"),
    [
        (None, "Ab"),
        (normalizers.NFC(), "Ab"),
        (normalizers.ByteLevel(), "Ab"),
        (normalizers.Sequence([normalizers.NFKC(), normalizers.ByteLevel()]), "Ab"),
        (LOWER, "ab"),
        (normalizers.Sequence([normalizers.NFC(), LOWER]), "ab"),
        (normalizers.Sequence([normalizers.Sequence([LOWER]), normalizers.NFC(), LOWER]), "ab"),
        (normalizers.Sequence([LOWER]), "ab"),
        (BERT, "Ab"),
        (LOWER_BERT, "ab"),
        (normalizers.Sequence([normalizers.NFC(), LOWER_BERT]), "ab"),
        (normalizers.Sequence([normalizers.Sequence([LOWER_BERT])]), "ab"),
    ],
)
def test_case_is_as_it_is_asked_for(tmp_path, normalizer, unsaid):
    folder = written(tmp_path, normalizer)
    assert [words(folder, asked) for asked in (None, True, False)] == [[unsaid], ["ab"], ["Ab"]]


def test_letters_that_stand_for_bytes_have_no_case():
    """Lower-casing behind them would make other bytes of them."""
    made = case.switched({"normalizer": {"type": "ByteLevel"}}, True)["normalizer"]
    assert [part["type"] for part in made["normalizers"]] == ["Lowercase", "ByteLevel"]


def test_a_single_switch_stays_where_it_is():
    """A flag that says what the file says gives the same digest."""
    document = {"normalizer": {"type": "BertNormalizer", "lowercase": True}}
    assert case.switched(document, True) == document


def test_vocabulary_of_bytes_is_lower_cased_too(tmp_path):
    ids = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "A": 4, "a": 5}
    (tmp_path / "vocab.json").write_text(str(ids).replace("'", '"'))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    known = Tokenizer.from_str(vocabulary.tokenizer_json(tmp_path, True).decode())
    assert known.encode("A").ids == [0, 5, 2]


def test_a_normalizer_without_a_switch_is_refused(tmp_path):
    """As one that folds case by a table of characters."""
    folder = written(tmp_path, normalizers.Replace("A", "a"))
    with pytest.raises(ConfigError, match=r"--cased cannot be applied, because .* lower-cases by a table of its own"):
        vocabulary.tokenizer_json(folder, False)
    folder = written(tmp_path, normalizers.Sequence([LOWER, normalizers.Replace("a", "A")]))
    with pytest.raises(ConfigError, match=r"--lowercase cannot be applied, because .* keeps capitals .*: leave it out"):
        vocabulary.tokenizer_json(folder, True)
