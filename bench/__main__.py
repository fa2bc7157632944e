"""`python -m bench NAME [ARGUMENT ...]`; without a name, those of `ALL`, then the report."""

from __future__ import annotations

import importlib
import sys

ALL = ("stream", "delivery", "latency", "load", "cache", "scale", "footprint", "report")
# By their names only: these compare with what torch exports or with others' frameworks, or need labelled texts.
NAMES = ("graph", "peers", "overhead", "exits", "profile", *ALL)


def main() -> None:
    name, *arguments = sys.argv[1:] or ["all"]
    if name == "all":
        for each in ALL:
            run(each, arguments)
    elif name in NAMES:
        run(name, arguments)
    else:
        sys.exit(f"bench: there is no {name!r}; there are {', '.join(NAMES)}.")


def run(name: str, arguments: list[str]) -> None:
    print(f"== {name}")
    sys.argv = [f"bench {name}", *arguments]
    importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main()
