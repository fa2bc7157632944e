"""Lower-casing switched on or off in a tokenizer.json, against what its files say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BERT, _LOWERCASE, _BYTES = "BertNormalizer", "Lowercase", "ByteLevel"


def switched(document: dict[str, Any], lowercase: bool) -> dict[str, Any]:
    """The document with a normalizer that lower-cases, or with one that has no part that is known to do so."""
    parts = _parts(document.get("normalizer"))
    parts = _lowering(parts) if lowercase else _keeping(parts)
    if len(parts) > 1:
        return document | {"normalizer": {"type": "Sequence", "normalizers": parts}}
    return document | {"normalizer": parts[0] if parts else None}


def check(known: Tokenizer, lowercase: bool) -> None:
    """See that a tokenizer does with capital letters what was asked for.

    Raises:
        ConfigError: it lower-cases by a table of characters, which has no switch.
    """
    normalizer = known.normalizer
    kept = normalizer is None or "A" in normalizer.normalize_str("A")
    if kept == lowercase:
        raise ConfigError(
            f"{'--lowercase' if lowercase else '--cased'} cannot be applied, because this tokenizer's normalizer "
            f"{'keeps capitals' if kept else 'lower-cases'} by a table of its own: leave it out."
        )


def _parts(normalizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    if normalizer is None:
        return []
    if normalizer["type"] != "Sequence":
        return [normalizer]
    return [part for each in normalizer["normalizers"] for part in _parts(each)]


def _keeping(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        part | {"lowercase": False} if part["type"] == _BERT else part for part in parts if part["type"] != _LOWERCASE
    ]


def _lowering(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kinds = [part["type"] for part in parts]
    if _BERT in kinds:
        return [part | {"lowercase": True} if part["type"] == _BERT else part for part in parts]
    if _LOWERCASE in kinds:
        return parts
    # Behind the others, which may give capitals, but before letters that stand for bytes and have no case.
    at = kinds.index(_BYTES) if _BYTES in kinds else len(parts)
    return [*parts[:at], {"type": _LOWERCASE}, *parts[at:]]
