"""Write what documentation says of the code from the code: `python docs/generate.py`.

`docs/configuration.md` and `docs/metrics.md` whole; in README.md, `docs/tools.md` and `docs/delivery.md` the answers of
the default bundle.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
sys.path.append(str(ROOT / "docs"))  # the last: its site.py would stand for Python's

import answers  # noqa: E402
from prometheus_client import CollectorRegistry  # noqa: E402

from worker.config import Settings, environment_name, reference  # noqa: E402
from worker.metrics import KINDS, MOST_LABELS, OTHER, REASONS, STAGES, Metrics  # noqa: E402
from worker.pipeline.batches import CloseReason  # noqa: E402
from worker.pipeline.decision import ACTIONS  # noqa: E402
from worker.pipeline.encode import ModelIdentity  # noqa: E402
from worker.pipeline.scores import SCORES  # noqa: E402

if TYPE_CHECKING:
    from prometheus_client import Metric

GENERATED = "\n<!-- Written by `python docs/generate.py`; change the code and run it again. -->\n"

CONFIGURATION = """# Configuration

Every setting has one name, `section.name`, and three places, the later the stronger:

1. a TOML file, `winnow run --config winnow.toml`: the section is a table;
2. the environment: `WINNOW_`, the section, two underscores, the name;
3. the command line: `--set section.name=value`, as often as needed.

Lists are lists in TOML, and separated by commas in the environment and on the command line. Tables of properties
are tables in TOML, JSON in the environment (`WINNOW_KAFKA__PROPERTIES='{"security.protocol": "SASL_SSL"}'`), and
`--set kafka.properties.security.protocol=SASL_SSL` on the command line.

`winnow config show` prints what is in force, with secrets masked, `winnow config lint` checks it, and
`winnow config schema` writes its JSON Schema. A wrong setting is refused with exit code 2 and named.
"""

METRICS = """# Metrics

Served on `/metrics` of `serving.port`, in the text formats of Prometheus and OpenMetrics. Every series but those
by partition exists from the start, at zero; those come and go with their partition. `process_…` are those of the
Prometheus client library, of the worker's process. No label and no value holds anything of a message.
"""

LABELS = {
    "label": f"the bundle's labels and the fallback; those beyond the first {MOST_LABELS} are `{OTHER}`",
    "type": 'likewise the types of entities that the bundle finds; with `entities.aggregation = "none"` its tags',
    "action": ", ".join(f"`{action}`" for action in ACTIONS),
    "stage, reason": "; ".join(f"{s}: {', '.join(f'`{r}`' for r in reasons)}" for s, reasons in REASONS.items()),
    "reason": ", ".join(f"`{reason.value}`" for reason in CloseReason),
    "stage": f"{', '.join(f'`{stage}`' for stage in STAGES)}; `infer_rest`: of texts that an early exit left unsure",
    "layer": "of models with an early exit: after how many layers the result was there",
    "kind": ", ".join(f"`{kind}`" for kind in KINDS),
    "delivery": "`at-least-once`, `exactly-once`",
    "member": "`kafka.instance_id`, or `kafka.group_instance_id`, or the name of the host",
}
"""What values labels take, where that is a fixed set."""


def main() -> None:
    for path, text in (pages() | answers.pages(ROOT)).items():
        path.write_text(text, "utf-8")


def pages() -> dict[Path, str]:
    """What each generated file holds."""
    return {ROOT / "docs" / "configuration.md": configuration(), ROOT / "docs" / "metrics.md": metrics()}


def configuration() -> str:
    parts = [CONFIGURATION, GENERATED]
    section = ""
    for setting, field in reference():
        if setting.partition(".")[0] != section:
            section = setting.partition(".")[0]
            parts.append(f"\n## {section}\n\n| setting | type | default | what |\n|---|---|---|---|\n")
        name = f"`{setting}`<br>`{environment_name(setting)}`"
        cells = [name, _type(setting), _code(_toml(field.default)), field.description or ""]
        parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    return "".join(parts)


def _type(setting: str) -> str:
    section, _, name = setting.partition(".")
    schema = Settings.model_json_schema()
    found = schema["$defs"][schema["properties"][section]["$ref"].rpartition("/")[2]]["properties"][name]
    return _described(found)


def _described(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return (
            " or ".join(_described(option) for option in schema["anyOf"] if option.get("type") != "null") + ", optional"
        )
    if "enum" in schema:
        return " or ".join(_code(f'"{value}"') for value in schema["enum"])
    kind = {"array": "list of strings", "object": "table"}.get(schema["type"], schema["type"])
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        return f"{kind}, {_number(low)} to {_number(high)}" if high is not None else f"{kind}, from {_number(low)} on"
    return str(kind)


def _number(value: float) -> str:
    return f"{value:,}"


def _toml(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, dict):
        return "{}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def metrics() -> str:
    registry = CollectorRegistry()
    every = Metrics(registry, ["label"], ["type"], [1])
    every.describe(ModelIdentity("name", "digest"), 1, {"label": [1.0] * len(SCORES)})
    every.describe_worker("group", "delivery", "member", 1, lambda: True, 1)
    lines = ["\n| metric | type | labels | what |\n|---|---|---|---|\n"]
    lines += [_row(metric) for metric in registry.collect()]
    values = ["\n## Values of labels\n\n| labels | values |\n|---|---|\n"]
    values += [f"| {', '.join(map(_code, labels.split(', ')))} | {text} |\n" for labels, text in LABELS.items()]
    return "".join([METRICS, GENERATED, *lines, *values])


def _row(metric: Metric) -> str:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    hidden = {"le"} if metric.type == "histogram" else set()
    labels = dict.fromkeys(label for sample in metric.samples for label in sample.labels if label not in hidden)
    named = ", ".join(_code(label) for label in labels or BY_PARTITION.get(metric.name, ()))
    what = f"{metric.documentation.removesuffix('.')}."
    if metric.type == "histogram":
        edges = list(dict.fromkeys(s.labels["le"] for s in metric.samples if "le" in s.labels))[:-1]
        what += f" Buckets: {', '.join(re.sub(r'[.]0$', '', edge) for edge in edges)}."
    return f"| `{name}` | {metric.type} | {named} | {what} |\n"


BY_PARTITION = dict.fromkeys(
    (
        "winnow_lag_messages",
        "winnow_lag_committed_messages",
        "winnow_lag_seconds",
        "winnow_in_flight_seconds",
    ),
    ("topic", "partition"),
)
"""Series that appear with their partitions."""


if __name__ == "__main__":
    main()
