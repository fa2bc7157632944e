"""Write every form of the contracts from their definitions in `worker/contracts/`: `python schemas/generate.py`.

`python schemas/generate.py --release VERSION` also keeps the definitions and their forms of today with the tests, which
prove from then on that later ones are compatible with them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from schemas import asyncapi  # noqa: E402
from worker import contracts  # noqa: E402
from worker.contracts import definition, protobuf  # noqa: E402

SCHEMAS = ROOT / "schemas"
RELEASED = ROOT / "tests" / "contract" / "released"
_GENERATED = "// Written by `python schemas/generate.py` from worker/contracts/{name}.json.\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--release", metavar="VERSION", help="keep the contracts of this version with the tests")
    version = parser.parse_args().release
    for path, text in files().items() | (release(version).items() if version else set()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def files() -> dict[Path, str]:
    """What each generated file holds."""
    made = {SCHEMAS / "asyncapi.json": _json(asyncapi.document())}
    for name in definition.NAMES:
        made[SCHEMAS / f"{name}.schema.json"] = contracts.json_schema(name) + "\n"
        made |= _twins(name, SCHEMAS)
    return made


def release(version: str) -> dict[Path, str]:
    """What is kept of a version: its definitions, as they are written down, and their twins."""
    folder = RELEASED / version
    made = {}
    for name in definition.NAMES:
        made[folder / f"{name}.json"] = (ROOT / "worker" / "contracts" / f"{name}.json").read_text("utf-8")
        made |= _twins(name, folder)
    return made


def _twins(name: str, folder: Path) -> dict[Path, str]:
    return {
        folder / f"{name}.avsc": _json(contracts.avro_schema(name)),
        folder / protobuf.file_name(name): _GENERATED.format(name=name) + contracts.protobuf_schema(name),
    }


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    main()
