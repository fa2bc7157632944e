"""Which range every activation takes: plain minimum and maximum over example texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.model.graph.observe import observe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.model.graph.network import Network
    from worker.model.graph.quantize import Range


def calibrate(network: Network, rows: Iterable[Sequence[int]]) -> dict[str, Range]:
    """Plain minimum and maximum over `rows`, each the token ids of one text, run alone so that no padding is seen.

    Raises:
        ValueError: there are no rows.
    """
    return observe(network, list(rows)).ranges()
