"""Keep what today's workers read and write, one of each shape: `python -m tests.contract.samples VERSION`.

Run at a release, after `python schemas/generate.py --release VERSION`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract import emitting
from tests.contract.forms import written_down
from worker.pipeline.messages import Destination

RELEASED = Path(__file__).parent / "released"
EACH = 600
LONGEST = 1_500
"""Characters of a sample; but for cut dead letters, which are as long as they may be."""
_CUT = "winnow.errors.original.bytes"


def main(version: str) -> None:
    found: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {"request": {}, "result": {}, "dead-letter": {}}
    with pytest.MonkeyPatch.context() as patching, tempfile.TemporaryDirectory() as folder:
        for seed, (name, setup) in enumerate(emitting.SETUPS.items()):
            given = emitting.messages(seed, EACH, event=setup.event)
            bundle = emitting.bundle(Path(folder) / name, setup.bundle)
            for record, reason in given if setup.plain else ():
                if reason is None:
                    _keep(found["request"], json.loads(record.value or b""), _request)
            for one in emitting.emitted(patching, bundle, setup, given):
                if one.destination is Destination.OUTPUT:
                    _keep(found["result"], setup.result(one.value or b""), partial(_result, name))
                else:
                    _keep(found["dead-letter"], written_down(one.key, one.value, one.headers), _letter)
    for name, samples in found.items():
        lines = "".join(json.dumps(one) + "\n" for one in samples.values())
        (RELEASED / version / f"{name}.jsonl").write_text(lines, "utf-8")


def _keep(into: dict[tuple[Any, ...], dict[str, Any]], document: dict[str, Any], shape: Any) -> None:
    if len(json.dumps(document)) <= LONGEST or _CUT in document.get("headers", {}):
        into.setdefault((*shape(document), *sorted(document)), document)


def _request(one: dict[str, Any]) -> tuple[Any, ...]:
    return (type(one.get("id")),)


def _result(setup: str, one: dict[str, Any]) -> tuple[Any, ...]:
    lists = one.get("labels") == [], one.get("entities") == []
    return setup, one.get("label"), one["source"]["timestamp"] is None, one["truncated"], *lists


def _letter(one: dict[str, Any]) -> tuple[Any, ...]:
    headers = one["headers"]
    return "kafka_dlt-original-topic" in headers, headers["winnow.errors.reason"], _CUT in headers, one["key"] is None


if __name__ == "__main__":
    main(sys.argv[1])
