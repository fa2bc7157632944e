"""The texts of an import as token ids: which of them calibrate, and which judge."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from worker.model.data import Example
from worker.model.evaluation.align import first_pieces
from worker.model.importing import probing

if TYPE_CHECKING:
    from worker.model.assemble import Encode
    from worker.model.importing.options import ImportOptions

CALIBRATION_TEXTS = 300
GATE_TEXTS = 1000
ENOUGH = 40
"""Texts, from which on half of them are the gate's; with fewer it looks at those that calibration saw."""


class Texts:
    """What is run, in one order for all of an import.

    Args:
        options: of the import.
        encode: to token ids.

    Attributes:
        rows: token ids.
        calibration: indices of those that calibrate.
        gate: indices of those on which graphs are compared.
        examples: what is known of the gate's texts, in their order.
        first: for token data, of the gate's texts, the token that each word begins with.
        source: what the manifest says of the texts.
        note: on which of them the gate looks.
        own: whether they are Winnow's own sentences.
    """

    def __init__(self, options: ImportOptions, encode: Encode) -> None:
        given, judging = list(options.calibration), list(options.gate)
        self.own = not given
        self.source = options.calibration_source
        if self.own:
            given = [Example(str(i), text) for i, text in enumerate(probing.neutral_texts())]
            self.source = "neutral sentences that come with Winnow"
        given, judging = _shuffled(given), _shuffled(judging)
        held_out = bool(judging) or len(given) >= ENOUGH
        if held_out and not judging:
            half = max(len(given) // 2, len(given) - CALIBRATION_TEXTS)
            given, judging = given[half:], given[:half]
        given, judging = given[:CALIBRATION_TEXTS], judging[:GATE_TEXTS]
        self.examples = judging if held_out else given
        encodings = encode.encodings([each.text for each in (*given, *(judging if held_out else ()))])
        self.rows = [encoding.ids for encoding in encodings]
        self.calibration = range(len(given))
        self.gate = range(len(given), len(self.rows)) if held_out else self.calibration
        self.first = [
            first_pieces(encodings[i].offsets, example.offsets)
            for i, example in zip(self.gate, self.examples, strict=True)
            if example.offsets
        ]
        self.note = options.gate_source if held_out else "the same texts that calibration saw"


def _shuffled(examples: list[Example]) -> list[Example]:
    return random.Random(0).sample(examples, len(examples))
