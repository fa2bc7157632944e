"""What messages give today: decoded, classified and encoded again, by the worker's own parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.app import open_model, tombstone
from worker.audit.accounts import Today
from worker.audit.answers import result_digest
from worker.offline import Offline
from worker.pipeline.decode import decoded
from worker.pipeline.messages import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.config import Settings
    from worker.forms import Forms
    from worker.pipeline.encode import ModelIdentity
    from worker.pipeline.messages import Outcome, Record

PASSING = frozenset({"model-error", "tokenizer-error", "result-too-large"})
"""Reasons that a machine or a bundle had; all others are the message's own and come again."""


class Again:
    """Classifies messages as a worker with these settings would.

    Raises:
        BundleError: the bundle is missing, damaged or does not fit this machine.
        ConfigError: the settings do not fit the bundle.
    """

    def __init__(self, settings: Settings, forms: Forms, max_bytes: int) -> None:
        """Open the bundle; results are `max_bytes` at most."""
        self.model = open_model(settings.model, settings.entities, settings.decision)
        self._decode = forms.decoder()
        self._tombstone = tombstone(settings.input)
        self._encode = forms.encoder(self.model, max_bytes)
        self._offline = Offline(self.model, settings.batching)

    @property
    def identity(self) -> ModelIdentity:
        """The bundle that answers."""
        return self.model.identity

    def __call__(self, records: Sequence[Record]) -> Iterator[tuple[Record, Today]]:
        """Each record with what it gives; all are held at once."""
        found = [decoded(record, self._decode, self._tombstone) for record in records]
        results = self._offline([outcome for outcome in found if isinstance(outcome, Request)])
        for record, outcome in zip(records, found, strict=True):
            yield record, self._today(record, next(results) if isinstance(outcome, Request) else outcome)

    def close(self) -> None:
        self._offline.close()

    def _today(self, record: Record, outcome: Outcome) -> Today:
        outgoing, rejection = self._encode(record, outcome)
        if rejection is not None:
            return Today(None, rejection.reason)
        if outgoing is None or outgoing.value is None:
            return Today(None, None)
        return Today(result_digest(outgoing.topic, record.key, outgoing.value), None)
