"""The id that fills rows, from which some architectures also count their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from worker.model.graph.architectures.families import FAMILIES
from worker.model.importing import vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Their positions are counted from the padding token's id on, so the table has more rows than tokens fit.
COUNTED = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "data2vec-text", "longformer")
_OF_COUNTED = 1
"""The id that all of these give their padding token where nobody says another."""


def settled(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """config.json with an id where it says that there is none (`null`), as models that are never padded may say.

    Raises:
        BundleError: the tokenizer in `folder`, which knows the id, cannot be read.
    """
    if config.get("pad_token_id", 0) is not None:
        return config
    return config | {"pad_token_id": pad_id(config, vocabulary.tokenizer_json(folder), folder)}


def pad_id(config: dict[str, Any], tokenizer: bytes, folder: Path) -> int:
    """config.json's, else that of the tokenizer's padding token, else what the architecture has by default."""
    return pad_id_of(config, Tokenizer.from_str(tokenizer.decode()), vocabulary.padding_tokens(folder))


def pad_id_of(config: dict[str, Any], known: Tokenizer, tokens: Iterable[str]) -> int:
    """The same, where it is known already what the tokenizer's files call its padding `tokens`."""
    said = config.get("pad_token_id")
    if isinstance(said, int) and said >= 0:
        return said
    found = (known.token_to_id(token) for token in (*tokens, "[PAD]", "<pad>"))
    default = _OF_COUNTED if config.get("model_type") in COUNTED else 0
    return next((i for i in found if i is not None), default)


def position_padding(config: dict[str, Any]) -> int | None:
    """The id from which positions are counted; None where they are counted from the first row."""
    kind = config.get("model_type")
    # What Winnow's own graph does, too: some count from an id of their own, whatever is padded with.
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    padding = config.get("pad_token_id", _OF_COUNTED) if family is None or family.padding is None else family.padding
    return padding if kind in COUNTED and isinstance(padding, int) else None


def positions(config: dict[str, Any], rows: int) -> int:
    """How many tokens find a position in a table of so many rows."""
    first = position_padding(config)
    return rows if first is None else rows - first - 1
