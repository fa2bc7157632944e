"""Traces, where they are wanted: whether the extra is there, and spans get through to the collector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.distribution import check_tracing
from worker.doctor.findings import Finding, ok, refused, warning
from worker.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.config import Settings

MEND = "Check OTEL_EXPORTER_OTLP_ENDPOINT and its like, and that the collector takes OTLP."


def exporting(settings: Settings) -> Iterator[Finding]:
    """Nothing where nothing is traced; an exporter that does not get through loses spans, and no message."""
    if not settings.tracing.enabled:
        return
    try:
        check_tracing(True)
        from worker.tracing import gets_through

        reach = gets_through()
    except ConfigError as error:
        yield refused("tracing", error, MEND)
        return
    if reach.failure:
        yield warning("tracing", f"The exporter of spans does not get through ({reach.failure}): they are lost.", MEND)
    elif not reach.exporters:
        yield ok("tracing", "No exporter is wanted (OTEL_TRACES_EXPORTER): messages keep their own contexts.")
    else:
        yield ok("tracing", "The exporter of spans gets through.")
