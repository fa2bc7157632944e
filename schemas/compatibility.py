"""What in a changed definition breaks those who read or write by the one before: `python schemas/compatibility.py`.

Compatible are a new field that need not be there, a new word of an enumeration that is open (`x-open`), and other
words in descriptions. All else is named: a contract of another version may have it, this one may not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from worker.contracts import definition, protobuf  # noqa: E402

RELEASED = ROOT / "tests" / "contract" / "released"
_WORDS = frozenset({"title", "description", "examples", "x-open"})
_HANDLED = _WORDS | {"properties", "required", "enum", "items", "additionalProperties"}


def main() -> int:
    """Compare what was released with what there is now; 1 where something breaks."""
    found = [line for folder in sorted(RELEASED.iterdir()) if folder.is_dir() for line in since(folder)]
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


def since(folder: Path) -> list[str]:
    """What breaks those who know the definitions in a folder."""
    found = []
    for name in definition.NAMES:
        before = json.loads((folder / f"{name}.json").read_text("utf-8"))
        found += [f"{folder.name} {name}: {line}" for line in breaking(before, definition.schema(name))]
    return found


def breaking(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What breaks, a sentence each that names the place; nothing where the two are compatible."""
    try:
        protobuf.block(definition.as_message(after))
    except ValueError as error:
        return [str(error)]
    return list(_changes("", before, after))


def _changes(path: str, before: Any, after: Any) -> list[str]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [f"{path or '/'} was {_shown(before)} and is {_shown(after)}"]
    found = _keywords(path, before, after) + _fields(path, before, after) + _words(path, before, after)
    for inner in ("items", "additionalProperties"):
        found += _changes(f"{path}/{inner}", before.get(inner, True), after.get(inner, True))
    return found


def _keywords(path: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Keywords that say what a value is; titles of objects and lists too, which name types in Avro and Protobuf."""
    found = []
    types = before.get("type", [])
    named = set() if {"object", "array"}.isdisjoint([types] if isinstance(types, str) else types) else {"title"}
    for keyword in sorted((before.keys() | after.keys()) - _HANDLED | named):
        was, now = _bare(before.get(keyword)), _bare(after.get(keyword))
        if was != now:
            found.append(f"{path or '/'}: {keyword} was {_shown(was)} and is {_shown(now)}")
    return found


def _fields(path: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old, new = before.get("properties", {}), after.get("properties", {})
    must, must_now = set(before.get("required", ())), set(after.get("required", ()))
    found = [f"{path}/{name}: the field is gone" for name in old if name not in new]
    found += [f"{path}/{name}: it has to be there now" for name in sorted(must_now - must)]
    found += [f"{path}/{name}: it may be missing now" for name in sorted((must - must_now) & new.keys())]
    for name in old.keys() & new.keys():
        found += _changes(f"{path}/{name}", old[name], new[name])
    return found


def _words(path: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old, new = before.get("enum", []), after.get("enum", [])
    found = [f"{path}: {_shown(word)} is none of its words any more" for word in old if word not in new]
    if not after.get("x-open"):
        found += [f"{path}: {_shown(word)} is a new one of its words" for word in new if word not in old]
    return found


def _bare(node: Any) -> Any:
    """Without what is only for the reader's eye."""
    if isinstance(node, dict):
        return {key: _bare(value) for key, value in node.items() if key not in _WORDS}
    return [_bare(value) for value in node] if isinstance(node, list) else node


def _shown(value: Any) -> str:
    return "not there" if value is None else json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
