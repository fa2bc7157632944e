"""What the documentation says that the default bundle answers, as it answers today: scores, digests, explanations."""

from __future__ import annotations

import io
import json
import re
import tomllib
from contextlib import closing, redirect_stdout
from typing import TYPE_CHECKING, Any

from worker.commands.classify import settings_for
from worker.commands.explain import show
from worker.config import Settings
from worker.doctor import machine
from worker.explaining import Explainer
from worker.offline import Offline
from worker.opening import open_model
from worker.pipeline.decode import json_decoder
from worker.pipeline.encode import Encoder
from worker.pipeline.messages import Record, Request, Result

if TYPE_CHECKING:
    from pathlib import Path

    from worker.opening import Model
    from worker.pipeline.messages import Classification

README_SETTINGS = re.compile(r"```toml\n# winnow\.toml\n(.*?)```", re.S)
README_RESULT = re.compile(r"(A message `(?P<message>[^`]+)` becomes\n\n```json\n)(?P<result>.*?)(?=```)", re.S)
DOCTOR_LINE = re.compile(r"^ok( +)(?P<check>bundle|probes): .*$", re.M)
DRY_RUN_LINE = re.compile(r"^(?P<place>messages/\d+/\d+  -> messages\.labelled  ) *\w+  \d\.\d{3}  (?P<text>.+)$", re.M)
EXPLANATION = re.compile(r'(\$ winnow explain "(?P<text>[^"]+)"\n)(?P<said>.*?)(?=```)', re.S)
NAMED = r"\b{} \([0-9a-f]{{12}}\)"
"""A bundle with its digest."""
ROWS = (("schema", "id", "result_id"), ("source",), ("label", "score", "truncated", "tokens"))
"""What stands together in a line of a result; all else is in the last."""


def pages(root: Path) -> dict[Path, str]:
    """The pages with answers in them, as they ought to be."""
    settings = Settings()
    model = open_model(settings.model, settings.entities, settings.decision)
    readme, tools, delivery = root / "README.md", root / "docs" / "tools.md", root / "docs" / "delivery.md"
    with closing(Offline(model, settings.batching)) as offline:
        written = {
            readme: _readme(readme.read_text("utf-8"), model, offline),
            tools: _tools(tools.read_text("utf-8"), settings, offline),
            delivery: delivery.read_text("utf-8"),
        }
    named = f"{model.identity.name} ({model.identity.digest})"
    return {page: re.sub(NAMED.format(re.escape(model.identity.name)), named, text) for page, text in written.items()}


def _readme(text: str, model: Model, offline: Offline) -> str:
    settings, example = README_SETTINGS.search(text), README_RESULT.search(text)
    assert settings is not None, "README.md has no winnow.toml"
    assert example is not None, "README.md has no result"
    pointers = tomllib.loads(settings[1])["input"]
    source = json.loads(example["result"])["source"]
    record = Record(
        source["topic"], source["partition"], source["offset"], None, example["message"].encode(), [],
        source["timestamp"],
    )  # fmt: skip
    request = json_decoder(pointers["text_pointer"], pointers["id_pointer"], 1_000_000, 20_000)(record)
    outgoing, _ = Encoder(model.identity, False, ("*",), 1_000_000)(record, _result(offline, request))
    assert outgoing is not None
    laid_out = _laid_out(json.loads(outgoing.value or b""))
    return text[: example.start("result")] + laid_out + text[example.end("result") :]


def _laid_out(document: dict[str, Any]) -> str:
    rest = [name for name in document if not any(name in row for row in ROWS)]
    lines = [",".join(f"{_json(name)}:{_json(document[name])}" for name in row) for row in (*ROWS, rest)]
    return "{" + ",\n ".join(lines) + "}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _tools(text: str, settings: Settings, offline: Offline) -> str:
    found = {finding.check: finding.found for finding in machine.model(settings)}
    text = DOCTOR_LINE.sub(lambda line: f"ok{line[1]}{line['check']}: {found[line['check']]}", text)
    text = DRY_RUN_LINE.sub(lambda line: f"{line['place']}{_line(offline, line['text'])}", text)
    explained = EXPLANATION.search(text)
    assert explained is not None, "docs/tools.md has no explanation"
    return text[: explained.start("said")] + _explained(explained["text"]) + text[explained.end("said") :]


def _line(offline: Offline, text: str) -> str:
    said = _said(offline, text)
    return f"{said.label:>10}  {said.score:.3f}  {text}"


def _explained(text: str) -> str:
    settings = settings_for("default", None, None, [])
    found = Explainer(settings.model, settings.decision, settings.batching, settings.input)(text, None, "auto", 256)
    written = io.StringIO()
    with redirect_stdout(written):
        show(found)
    return written.getvalue()


def _said(offline: Offline, text: str) -> Classification:
    return _result(offline, Request("", text, False)).classification


def _result(offline: Offline, request: Request) -> Result:
    (found,) = offline([request])
    assert isinstance(found, Result), found
    return found
