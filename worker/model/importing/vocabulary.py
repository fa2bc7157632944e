"""A checkpoint's tokenizer files to the text of one tokenizer.json, as `transformers` would read them.

Where only a vocabulary is there, the tokenizer is built from it: WordPiece of a `vocab.txt`, byte-level BPE of a
`vocab.json` with `merges.txt`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from worker.errors import BundleError
from worker.model.importing import case
from worker.model.importing.checkpoint import optional_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# What BERT's own tokenizer does where its files say nothing.
_WORDPIECE_TOKENS = {
    "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]",
}  # fmt: skip
_BPE_TOKENS = {
    "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
# What tokenizer_config.json and tokenizer.json call the same switch.
_SWITCHES = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_LONGEST_WORD = 100
_CONFIG, _SPECIAL = "tokenizer_config.json", "special_tokens_map.json"


def tokenizer_json(folder: Path, lowercase: bool | None = None) -> bytes:
    """The tokenizer of a checkpoint, without padding and truncation: whoever uses it sets its own.

    Args:
        folder: of a checkpoint; files in its `assets` (Spark NLP's place) count as well.
        lowercase: overrides what the files say.

    Raises:
        BundleError: there is no tokenizer, or it cannot be used.
        ConfigError: its case is not to be changed.
        OSError: a file of it cannot be read.
    """
    try:
        document = _document(folder, lowercase)
        if lowercase is not None:
            document = case.switched(document, lowercase)
        plain = orjson.dumps(document | {"truncation": None, "padding": None})
        known = Tokenizer.from_str(plain.decode())
    except (BundleError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - the library raises bare exceptions
        raise BundleError(f"The tokenizer in {folder} cannot be read ({error}): download its files again.") from None
    if lowercase is not None:
        case.check(known, lowercase)
    if not known.encode("").ids:
        raise BundleError(
            f"The tokenizer in {folder} puts no special token around a text, so an empty text would have no token at "
            "all: give its tokenizer.json the post_processor that the model was trained with."
        )
    return plain


def padding_tokens(folder: Path) -> list[str]:
    """What the tokenizer's own files call its padding token, the stronger word first."""
    said = [optional_json(folder / name).get("pad_token") for name in (_CONFIG, _SPECIAL)]
    return [token for token in map(_content, said) if token is not None]


def filler_ids(tokenizer: bytes) -> tuple[int, int]:
    """The id of some token that is not special, for texts whose words do not matter, and the largest of all ids."""
    known = Tokenizer.from_str(tokenizer.decode())
    special = {i for i, token in known.get_added_tokens_decoder().items() if token.special}
    ids = set(known.get_vocab().values())
    return max(ids - special, default=0), max(ids, default=0)


def check_fits(tokenizer: bytes, words: int, pad_id: int) -> None:
    """See that every token, and what short texts are padded with, has a row in an embedding table of `words` rows.

    Raises:
        BundleError: the tokenizer gives ids that the model does not have.
    """
    largest = max(Tokenizer.from_str(tokenizer.decode()).get_vocab().values(), default=0)
    if largest >= words:
        raise BundleError(
            f"The tokenizer gives ids up to {largest}, but the model has an embedding for {words} only: take both from "
            "the same checkpoint."
        )
    if not 0 <= pad_id < words:
        raise BundleError(
            f"config.json says pad_token_id {pad_id}, but the model knows {words} tokens only: correct it."
        )


def _document(folder: Path, lowercase: bool | None) -> dict[str, Any]:
    """tokenizer.json with the switches of tokenizer_config.json, or built from a vocabulary."""
    said = optional_json(folder / _CONFIG)
    if lowercase is not None:
        said = said | {"do_lower_case": lowercase}
    if (ready := _find(folder, "tokenizer.json")) is not None:
        return _adjusted(orjson.loads(ready.read_bytes()), said)
    built: dict[str, Any] = orjson.loads(_built(folder, optional_json(folder / _SPECIAL) | said).to_str())
    return built


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / "assets" / name) if path.is_file()), None)


def _missing(folder: Path) -> str:
    for name in ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model"):
        if (folder / name).exists():
            return (
                f"{folder} has its tokenizer as {name} only: write its tokenizer.json once where transformers is "
                f'installed: python -c "from transformers import AutoTokenizer as T; '
                f"T.from_pretrained('{folder}').save_pretrained('{folder}')\""
            )
    return f"{folder} has no tokenizer: tokenizer.json, vocab.txt, or vocab.json with merges.txt must lie there."


def _built(folder: Path, said: dict[str, Any]) -> Tokenizer:
    vocabulary = _find(folder, "vocab.json") or _find(folder, "vocab.txt")
    merges = _find(folder, "merges.txt")
    if vocabulary is None or (vocabulary.suffix == ".json" and merges is None):
        raise BundleError(_missing(folder))
    return _wordpiece(vocabulary, said) if merges is None else _byte_level(vocabulary, merges, said)


def _adjusted(document: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """tokenizer.json with the switches of tokenizer_config.json, which is the stronger where both speak."""
    normalizer = document.get("normalizer")
    parts = normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, dict) else []
    for part in parts:
        if part.get("type") != "BertNormalizer":
            continue
        for theirs, ours in _SWITCHES.items():
            if theirs in said:
                part[ours] = said[theirs]
    return document


def _wordpiece(path: Path, said: dict[str, Any]) -> Tokenizer:
    ids = _numbered(path)
    # A vocabulary that writes its special tokens otherwise (MPNet) says so by having them.
    defaults = _WORDPIECE_TOKENS if "[CLS]" in ids else _BPE_TOKENS | {"unk_token": "[UNK]"}
    tokens = _special(said, defaults, ids, path)
    known = Tokenizer(models.WordPiece(ids, unk_token=tokens["unk_token"], max_input_chars_per_word=_LONGEST_WORD))
    lowercase = said.get("do_lower_case")
    known.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=said.get("tokenize_chinese_chars", True),
        strip_accents=said.get("strip_accents"),
        lowercase=not _is_cased(ids, set(tokens.values())) if lowercase is None else lowercase,
    )
    known.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    known.decoder = decoders.WordPiece()
    first, last = tokens["cls_token"], tokens["sep_token"]
    known.post_processor = processors.TemplateProcessing(
        single=[first, "$A", last],
        pair=[first, "$A", last, "$B:1", f"{last}:1"],
        special_tokens=[(token, ids[token]) for token in (first, last)],
    )
    return _with_special(known, tokens)


def _is_cased(words: Iterable[str], special: set[str]) -> bool:
    """A vocabulary with capital letters is of no use to texts in small ones."""
    return any(word != word.lower() for word in words if word not in special and not word.startswith("[unused"))


def _byte_level(vocabulary: Path, merges: Path, said: dict[str, Any]) -> Tokenizer:
    ids = orjson.loads(vocabulary.read_bytes()) if vocabulary.suffix == ".json" else _numbered(vocabulary)
    lines = merges.read_text("utf-8").split("\n")
    halves = [line.split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    pairs = [(left, right) for left, right in halves]
    tokens = _special(said, _BPE_TOKENS, ids, vocabulary)
    known = Tokenizer(models.BPE(ids, pairs, unk_token=tokens["unk_token"]))
    prefix = said.get("add_prefix_space", False)
    known.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    known.decoder = decoders.ByteLevel()
    last, first = ((tokens[name], ids[tokens[name]]) for name in ("sep_token", "cls_token"))
    known.post_processor = processors.RobertaProcessing(last, first, trim_offsets=True, add_prefix_space=prefix)
    return _with_special(known, tokens)


def _numbered(path: Path) -> dict[str, int]:
    with path.open(encoding="utf-8", newline="\n") as lines:
        return {line.rstrip("\r\n"): i for i, line in enumerate(lines)}


def _with_special(known: Tokenizer, tokens: dict[str, str]) -> Tokenizer:
    # The mask takes the space before it along in byte-level vocabularies, as its trainer had it.
    known.add_special_tokens(
        [AddedToken(token, lstrip=token == "<mask>", normalized=False) for token in dict.fromkeys(tokens.values())]
    )
    return known


def _special(said: dict[str, Any], defaults: dict[str, str], ids: dict[str, int], path: Path) -> dict[str, str]:
    """The special tokens that the vocabulary has.

    Raises:
        BundleError: one that no text can do without is not in the vocabulary.
    """
    tokens = {name: _content(said.get(name)) or default for name, default in defaults.items()}
    for name in ("unk_token", "cls_token", "sep_token"):
        if tokens[name] not in ids:
            raise BundleError(f"{path} does not have the token {tokens[name]}: it is not this model's vocabulary.")
    return {name: token for name, token in tokens.items() if token in ids}


def _content(token: Any) -> str | None:
    """A special token as a word, or as the object that `transformers` writes of it."""
    found = token.get("content") if isinstance(token, dict) else token
    return str(found) if found is not None else None
