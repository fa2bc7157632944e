"""`winnow run` with a model that costs nothing: `python -m bench.stub --set …`. Everything else is as in production."""

from __future__ import annotations

from typing import TYPE_CHECKING

import worker.opening
from worker.cli import main
from worker.pipeline.messages import Classification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.opening import Model
    from worker.pipeline.batches import Item

_SAYS = Classification("ham", 0.9, {"ham": 0.9, "spam": 0.1})


class StubRun:
    """Says the same of every text."""

    def __call__(self, items: Sequence[Item]) -> list[Classification]:
        return [_SAYS] * len(items)

    def terminate(self) -> None:
        """There is nothing that runs."""

    def check(self) -> None:
        """There is nothing that fails."""


class StubClassifier:
    def lane(self) -> StubRun:
        return StubRun()


def _stubbed(*arguments: object) -> Model:
    model = _open_model(*arguments)  # type: ignore[arg-type]
    return model._replace(classifier=StubClassifier())


if __name__ == "__main__":
    _open_model = worker.opening.open_model
    worker.opening.open_model = _stubbed  # type: ignore[assignment]
    main()
