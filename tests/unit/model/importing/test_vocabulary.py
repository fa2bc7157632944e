"""Tokenizer files to one tokenizer.json, case and accents as the files say."""

import re

import orjson
import pytest
from tokenizers import Tokenizer

from tests.unit.model import checkpoints
from worker.errors import BundleError
from worker.model.importing import vocabulary
from worker.model.spam.making import DEFAULT


def tokens(folder, text, lowercase=None):
    return Tokenizer.from_str(vocabulary.tokenizer_json(folder, lowercase).decode()).encode(text).tokens


@pytest.fixture
def plain(tmp_path):
    checkpoints.write_vocabulary(tmp_path, None)
    return tmp_path


def configure(folder, **said):
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(said))


def test_vocabulary_alone_makes_the_tokenizer_of_bert(plain):
    assert tokens(plain, "The train, ab") == ["[CLS]", "the", "train", ",", "a", "##b", "[SEP]"]
    assert tokens(plain, "Ä €") == ["[CLS]", "a", "[UNK]", "[SEP]"]


def test_case_and_accents_are_as_the_config_says(plain):
    configure(plain, do_lower_case=False)
    assert tokens(plain, "The late") == ["[CLS]", "[UNK]", "late", "[SEP]"]
    configure(plain, do_lower_case=True, strip_accents=False)
    assert tokens(plain, "Ä") == ["[CLS]", "[UNK]", "[SEP]"]
    configure(plain, do_lower_case=False, strip_accents=True)
    assert tokens(plain, "ä A") == ["[CLS]", "a", "[UNK]", "[SEP]"]
    assert tokens(plain, "The late", lowercase=True) == ["[CLS]", "the", "late", "[SEP]"]


def test_chinese_characters_stand_alone_unless_the_config_says_otherwise(tmp_path):
    checkpoints.write_vocabulary(tmp_path, {}, [*checkpoints.VOCABULARY, "图", "书", "图书"])
    assert tokens(tmp_path, "图书") == ["[CLS]", "图", "书", "[SEP]"]
    configure(tmp_path, tokenize_chinese_chars=False)
    assert tokens(tmp_path, "图书") == ["[CLS]", "图书", "[SEP]"]


def test_vocabulary_with_capitals_is_cased_where_nobody_says(tmp_path):
    checkpoints.write_vocabulary(tmp_path, None, [*checkpoints.VOCABULARY, "The"])
    assert tokens(tmp_path, "The the") == ["[CLS]", "The", "the", "[SEP]"]


def test_special_tokens_are_those_of_the_files(tmp_path):
    words = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>", "the"]
    checkpoints.write_vocabulary(tmp_path, None, words)
    assert tokens(tmp_path, "the<mask> x") == ["<s>", "the", "<mask>", "[UNK]", "</s>"]
    checkpoints.write_vocabulary(tmp_path, None, ["{c}", "{s}", "{u}", "the"])
    special = {"cls_token": {"content": "{c}"}, "sep_token": "{s}", "unk_token": "{u}", "pad_token": None}
    (tmp_path / "special_tokens_map.json").write_bytes(orjson.dumps(special))
    assert tokens(tmp_path, "the other") == ["{c}", "the", "{u}", "{s}"]


def test_vocabulary_without_special_tokens_is_refused(tmp_path):
    checkpoints.write_vocabulary(tmp_path, None, ["a", "[CLS]", "[SEP]"])
    with pytest.raises(BundleError, match=r"vocab\.txt does not have the token \[UNK\]"):
        vocabulary.tokenizer_json(tmp_path)


def test_ready_tokenizer_loses_its_limits(tmp_path):
    """And the switches of tokenizer_config.json are the stronger ones, as in transformers."""
    ready = Tokenizer.from_file(str(DEFAULT / "tokenizer.json"))
    ready.enable_truncation(7)
    ready.enable_padding()
    ready.save(str(tmp_path / "tokenizer.json"))
    document = orjson.loads(vocabulary.tokenizer_json(tmp_path))
    assert document["truncation"] is None
    assert document["padding"] is None
    assert tokens(tmp_path, "Hello") == ["[CLS]", "hello", "[SEP]"]
    configure(tmp_path, do_lower_case=False)
    assert tokens(tmp_path, "Hello hello") != ["[CLS]", "hello", "hello", "[SEP]"]


def byte_level(folder, name="vocab.json"):
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", "t", "h", "e", "th", "the", "Ġt", "Ġth", "Ġthe"]
    ids = {word: i for i, word in enumerate(words)}
    if name.endswith(".json"):
        (folder / name).write_bytes(orjson.dumps(ids))
    else:
        (folder / name).write_text("\n".join(words), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\nĠ the\n", "utf-8")


@pytest.mark.parametrize("name", ["vocab.json", "vocab.txt"])
def test_byte_level_vocabulary_and_merges(tmp_path, name):
    byte_level(tmp_path, name)
    assert tokens(tmp_path, "the the") == ["<s>", "the", "Ġthe", "</s>"]
    configure(tmp_path, add_prefix_space=True)
    assert tokens(tmp_path, "the the") == ["<s>", "Ġthe", "Ġthe", "</s>"]


def test_files_in_assets_count(tmp_path):
    checkpoints.write_vocabulary(tmp_path / "assets", None)
    assert tokens(tmp_path, "late") == ["[CLS]", "late", "[SEP]"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no tokenizer: tokenizer.json, vocab.txt, or vocab.json with merges.txt"),
        (["vocab.json"], "has no tokenizer"),
        (["sentencepiece.bpe.model"], "sentencepiece.bpe.model only: write its tokenizer.json once"),
    ],
)
def test_missing_tokenizer_is_refused(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(BundleError, match=re.escape(message)):
        vocabulary.tokenizer_json(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"model": {"type": "Nope"}}'])
def test_broken_tokenizer_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"The tokenizer in .* cannot be read"):
        vocabulary.tokenizer_json(tmp_path)


def test_tokens_must_have_their_rows(plain):
    tokenizer = vocabulary.tokenizer_json(plain)
    count = len(checkpoints.VOCABULARY)
    vocabulary.check_fits(tokenizer, count, 0)
    with pytest.raises(
        BundleError, match=rf"ids up to {count - 1}, but the model has an embedding for {count - 1} only"
    ):
        vocabulary.check_fits(tokenizer, count - 1, 0)


TEXTS = [
    "Ünïcode Ärger, isn't it?",
    "中文 text",
    "a\u200bb \t c",
    "HELLO [MASK] world",
    "x" * 120,
    "#hash @user 3.14",
    "",
]


@pytest.mark.torch
@pytest.mark.parametrize(
    "said", [{"do_lower_case": True}, {"do_lower_case": False}, {"do_lower_case": True, "strip_accents": False}]
)
def test_built_tokenizer_is_that_of_transformers(tmp_path, said):
    """From a vocab.txt and the switches."""
    transformers = pytest.importorskip("transformers", reason="needs the extra [train]")
    words = Tokenizer.from_file(str(DEFAULT / "tokenizer.json")).get_vocab()
    checkpoints.write_vocabulary(tmp_path, {"tokenizer_class": "BertTokenizer"} | said, sorted(words, key=words.get))
    (tmp_path / "config.json").write_bytes(orjson.dumps({"model_type": "bert"}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.from_str(vocabulary.tokenizer_json(tmp_path).decode())
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text


def test_what_texts_are_padded_with_must_have_an_embedding(plain):
    """Single texts would do without it, so that nothing else finds it out."""
    tokenizer = vocabulary.tokenizer_json(plain, None)
    with pytest.raises(BundleError, match="pad_token_id 5000, but the model knows 100 tokens only: correct it"):
        vocabulary.check_fits(tokenizer, 100, 5000)


def test_tokenizer_without_special_tokens_is_refused(tmp_path):
    """An empty text would be a row without a token, which no graph can be run on."""
    known = Tokenizer.from_file(str(DEFAULT / "tokenizer.json"))
    document = orjson.loads(known.to_str()) | {"post_processor": None}
    (tmp_path / "tokenizer.json").write_bytes(orjson.dumps(document))
    with pytest.raises(BundleError, match=r"an empty text would have no token at all: give its tokenizer\.json"):
        vocabulary.tokenizer_json(tmp_path)
