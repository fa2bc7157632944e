"""Two bundles on the same texts: where they disagree, and whether the difference may be chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from scipy.stats import binomtest

from worker.errors import ConfigError

if TYPE_CHECKING:
    from worker.model.evaluation.answers import Answers


class Disagreement(NamedTuple):
    """An example that the two decide differently; for the task `token` the first such word of it."""

    id: str
    truth: str
    first: str
    second: str


class Comparison(NamedTuple):
    """Both right, both wrong, or one of them, counted in examples.

    `p_value` is McNemar's exact test: how likely a split as uneven as that between `only_first` and `only_second` is
    where both are equally good.
    """

    texts: int
    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    p_value: float
    disagreements: tuple[Disagreement, ...]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**self._asdict(), "disagreements": [each._asdict() for each in self.disagreements]}


def check_tasks(first: str, second: str) -> None:
    """Whether bundles of these tasks can be compared.

    Raises:
        ConfigError: they are of different tasks, or give values.
    """
    if first != second:
        raise ConfigError(
            f"A bundle for {first} and one for {second} cannot be compared: both must decide on labels of the same "
            "kind."
        )
    if first == "regression":
        raise ConfigError(
            "Two bundles for regression cannot be compared text by text, for a value is neither right nor wrong: "
            "evaluate each by itself, and compare the figures."
        )


def compare(first: Answers, second: Answers) -> Comparison:
    """Compares two bundles' answers to the same examples.

    Raises:
        ConfigError: `check_tasks` does not let them through.
    """
    check_tasks(first.task, second.task)
    wrong = first.wrong_examples(), second.wrong_examples()
    only_first, only_second = int((~wrong[0] & wrong[1]).sum()), int((wrong[0] & ~wrong[1]).sum())
    uneven = only_first + only_second
    return Comparison(
        len(first.ids),
        int((~wrong[0] & ~wrong[1]).sum()),
        only_first,
        only_second,
        int((wrong[0] & wrong[1]).sum()),
        round(float(binomtest(only_first, uneven).pvalue), 6) if uneven else 1.0,
        tuple(_disagreements(first, second)),
    )


def _disagreements(first: Answers, second: Answers) -> list[Disagreement]:
    out: dict[int, Disagreement] = {}
    for row, owner in enumerate(first.owner):
        said = first.named(first.decided[row]), second.named(second.decided[row])
        if said[0] != said[1] and int(owner) not in out:
            out[int(owner)] = Disagreement(first.ids[owner], first.named(first.truth[row]), *said)
    return list(out.values())
