"""`winnow explain`: why a text gets its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import typer
from rich.table import Table
from rich.text import Text

from worker.commands.classify import STDIN, settings_for, standard_input
from worker.commands.consoles import console
from worker.commands.showing_letters import printable
from worker.errors import ConfigError, InvalidMessage
from worker.explaining import Explainer
from worker.pipeline.encode import described

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from worker.explaining import Explanation, Method, Piece

STRONGEST = 10
"""Words that are listed with their figures."""
MOST_LABELS = 10
"""Labels whose scores are shown to people."""
MOST_TOKENS = 60
"""Tokens that are shown to people."""
LEAST = 0.05
"""Share of the strongest effect below which a word has no colour."""
LITTLE = 0.02
"""Where no effect is greater, colours alone would tell too much."""
FOR, AGAINST = (200, 30, 30), (30, 80, 200)
"""Red and blue: what speaks for the label, and against it."""


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    text: str | None
    """`-` or None for what is on the standard input."""
    bundle: str | None
    label: str | None
    method: Method
    most: int
    as_json: bool
    config: Path | None
    assign: Sequence[str]


def explain(asked: Asked) -> None:
    """Explain, and show it.

    Raises:
        ConfigError: the settings are wrong, or the text cannot be classified.
        BundleError: the bundle cannot be opened.
    """
    settings = settings_for(asked.bundle or "default", None, asked.config, list(asked.assign))
    explainer = Explainer(settings.model, settings.decision, settings.batching, settings.input)
    try:
        found = explainer(_text(asked.text), asked.label, asked.method, asked.most)
    except InvalidMessage as error:
        raise ConfigError(f"The text cannot be classified: {error}") from None
    if asked.as_json:
        typer.echo(orjson.dumps(document(found), option=orjson.OPT_INDENT_2))
    else:
        show(found)


def _text(given: str | None) -> str:
    if given is None or given == STDIN:
        read = standard_input("explain", asked=given == STDIN).read()
        return read.decode("utf-8", "replace").removesuffix("\n")
    # What was no UTF-8 on the command line must not become a lone surrogate, which no tokenizer takes.
    return given.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def document(found: Explanation) -> dict[str, Any]:
    """For programs."""
    return {
        **described(found.said),
        "thresholds": dict(found.thresholds),
        "truncated": found.truncated,
        "characters": found.characters,
        "read_characters": found.read,
        "max_length": found.max_length,
        "windows": found.windows,
        "tokens": [token._asdict() for token in found.tokens],
        "explained": {"label": found.label, "score": found.base, "method": found.method, "words": found.words},
        "pieces": [piece._asdict() for piece in found.pieces],
        "model": found.model._asdict(),
    }


# For people


def show(found: Explanation) -> None:
    """What it says, what it read, the text with its words coloured, and the strongest of them."""
    to = console()
    rows = Table.grid(padding=(0, 2))
    for name, said in _facts(found):
        rows.add_row(Text(name, style="bold"), said)
    to.print(rows)
    strongest = sorted(found.pieces, key=lambda piece: -abs(piece.effect))[:STRONGEST]
    if not strongest:
        return
    most = abs(strongest[0].effect)
    to.print(Text(f"\nWhat {found.label} {found.base:.3f} loses without a word ({_how(found)}):\n"))
    to.print(_coloured(found.pieces, most))
    to.print()
    if most < LITTLE:
        to.print(Text("No word carries it alone: without any one of them the others say the same.\n"))
    for piece in strongest:
        to.print(Text(f"  {piece.effect:+.3f}  {printable(_short(piece.text))}", style=_style(piece.effect, most)))


def _facts(found: Explanation) -> list[tuple[str, Text]]:
    said = found.said
    label = "none" if said.label is None else said.label
    notes = [*(["no score is high enough"] if said.abstained else []), *([said.action] if said.action else [])]
    facts = [("label", f"{label}  {said.score:.3f}" + (f"  ({', '.join(notes)})" if notes else ""))]
    if said.labels is not None and len(said.labels) > 1:
        facts.append(("labels", "  ".join(f"{name} {score:.3f}" for name, score in said.labels)))
    facts.append(("scores", _scores(said.scores)))
    if found.thresholds:
        facts.append(("thresholds", "  ".join(f"{name} {least:g}" for name, least in found.thresholds.items())))
    if said.layer is not None:
        facts.append(("layers", f"decided after {said.layer}"))
    shown = " ".join(token.token for token in found.tokens[:MOST_TOKENS])
    more = f" and {len(found.tokens) - MOST_TOKENS} more" if len(found.tokens) > MOST_TOKENS else ""
    facts += [("tokens", f"{len(found.tokens)} of {found.max_length}: {shown}{more}"), ("read", _extent(found))]
    facts.append(("bundle", f"{found.model.name} ({found.model.digest})"))
    return [(name, Text(printable(value))) for name, value in facts]


def _scores(scores: Mapping[str, float]) -> str:
    """All of a few labels in their order, the best of many."""
    best = sorted(scores, key=lambda name: -scores[name])[:MOST_LABELS]
    shown = [f"{name} {scores[name]:.3f}" for name in (scores if len(scores) <= MOST_LABELS else best)]
    return "  ".join(shown) + (f"  and {len(scores) - MOST_LABELS} more" if len(scores) > MOST_LABELS else "")


def _extent(found: Explanation) -> str:
    if found.windows > 1:
        return f"{found.read:,} of {found.characters:,} characters, in {found.windows} windows"
    if found.truncated:
        return f"only the first {found.read:,} of {found.characters:,} characters; the rest is cut off"
    return "all of it"


def _how(found: Explanation) -> str:
    way = "hidden by the mask token" if found.method == "mask" else "left out"
    together = "" if len(found.pieces) == found.words else f"; {found.words} words in {len(found.pieces)} groups"
    return way + together


def _coloured(pieces: Sequence[Piece], most: float) -> Text:
    line = Text()
    end = pieces[0].start
    for piece in pieces:
        line.append(" " if piece.start > end else "")
        line.append(printable(piece.text), _style(piece.effect, most))
        end = piece.end
    return line


def _style(effect: float, most: float) -> str:
    """The stronger, the less it is washed out."""
    strength = abs(effect) / most if most else 0.0
    if strength < LEAST:
        return ""
    red, green, blue = (round(255 - strength * (255 - part)) for part in (FOR if effect > 0 else AGAINST))
    return f"{'white' if strength > 0.5 else 'black'} on rgb({red},{green},{blue})"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:40]} … {line[-15:]}"
