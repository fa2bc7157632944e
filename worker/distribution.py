"""What Winnow is called where packages are installed: `winnow` belongs to somebody else in the package index."""

from __future__ import annotations

from importlib.util import find_spec

from worker.errors import ConfigError

NAME = "winnow-worker"


def install(extra: str) -> str:
    """The command that adds an extra to what is installed."""
    return f"pip install '{NAME}[{extra}]'"


def check_tracing(enabled: bool) -> None:
    """See that what tracing needs is installed.

    Raises:
        ConfigError: it is not.
    """
    for module in ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http") if enabled else ():
        try:
            found = find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise ConfigError(
                f"tracing.enabled needs the extra [otel], of which {module} is missing. Install it: "
                f"{install('otel')}, or in a checkout pip install '.[otel]'."
            )
