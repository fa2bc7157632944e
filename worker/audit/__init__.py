"""Has every message been answered, once, in order, and as it would be answered today?

`audit` asks a Kafka; `worker.audit.accounts` counts, and knows none.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.audit.accounts import Bounds, Figures, Partition
from worker.audit.auditing import Audit, Scope
from worker.audit.report import Report
from worker.errors import AuditError
from worker.forms import Forms

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.config import Settings
    from worker.pipeline.decode import Read

__all__ = ["Bounds", "Figures", "Options", "Partition", "Report", "audit", "check"]


@dataclass(frozen=True)
class Options:
    """What is audited beyond what the settings say; None takes theirs."""

    inputs: tuple[str, ...] = ()
    """Topics, or patterns that start with `^`; none takes those of the settings."""
    output: str | None = None
    """In the place of `kafka.output_topic`; topics of routes are those of the settings."""
    dead_letters: str | None = None
    group: str | None = None
    """Messages that it has not committed need no answer."""
    all_processed: bool = False
    """Every message needs an answer, whatever a group has committed."""
    scores: bool = True
    """Compare each answer with what settings and bundle give today."""
    since: int | None = None
    """Milliseconds since the epoch: audit messages from then on."""
    last: int | None = None
    """Audit so many of the newest offsets of each input partition."""
    doubles_allowed: bool | None = None
    """Whether equal answers may come more than once; None: unless `kafka.delivery` is exactly once."""


def audit(
    settings: Settings, options: Options | None = None, progress: Callable[[str], None] = lambda _: None
) -> Report:
    """Read the topics up to where they reach now, and compare.

    A worker may go on meanwhile. Of a million messages about 12 MB of state are held.

    Args:
        settings: of the worker; what it writes depends on them.
        options: what of it is audited, and how.
        progress: told what is being read.

    Raises:
        BrokerError: the brokers do not answer.
        TopicError: a topic is missing or may not be read.
        BundleError: scores are asked for, and the bundle cannot be opened.
        ConfigError: settings do not fit together.
    """
    from worker.audit.again import PASSING, Again
    from worker.kafka.clients import write_bounds
    from worker.kafka.reading import Reading

    options = options or Options()
    settings = _settings(settings, options)
    with ExitStack() as stack:
        forms = stack.enter_context(closing(Forms(settings)))
        scope = _scope(settings, options, PASSING, forms.result_reader())
        inputs = stack.enter_context(closing(Reading(settings.kafka, scope.group)))
        written = stack.enter_context(closing(Reading(settings.kafka, isolation="read_committed")))
        again = None
        if options.scores:
            limit = written.size_limit((*scope.results, scope.dead_letters))
            bounds = write_bounds(settings.output.max_bytes, limit)
            again = stack.enter_context(closing(Again(settings, forms, bounds.record)))
        return Audit(scope, inputs, written, again, progress)()


def check(report: Report) -> None:
    """Raises AuditError where something is not as it should be."""
    if not report.ok:
        raise AuditError(report.verdict())


def _settings(settings: Settings, options: Options) -> Settings:
    """Those of the worker, with the topics that are audited."""
    named = {"output_topic": options.output, "dead_letter_topic": options.dead_letters}
    update = {name: topic for name, topic in named.items() if topic is not None}
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=update)})


def _scope(settings: Settings, options: Options, passing: frozenset[str], read: Read) -> Scope:
    kafka = settings.kafka
    allowed = options.doubles_allowed
    return Scope(
        inputs=options.inputs or kafka.input_topics,
        results=settings.result_topics,
        dead_letters=kafka.dead_letter_topic,
        tombstones=settings.input.tombstones,
        group=None if options.all_processed else options.group or kafka.group_id,
        since=options.since,
        last=options.last,
        doubles_allowed=not kafka.exactly_once if allowed is None else allowed,
        passing=passing,
        read=read,
    )
