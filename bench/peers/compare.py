"""Winnow beside its peers, round by round, and once each what they do with what goes wrong."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import kit
from bench.peers import faults, flow, models
from bench.peers.adapters import PEERS
from bench.peers.peer import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.peers.flow import Measured
    from bench.peers.peer import Peer

REFERENCE = PEERS[0].name


class Comparison:
    """What was measured of each peer, or why nothing could be."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        self.peers = peers
        self.rounds: dict[str, dict[int, Measured]] = {peer.name: {} for peer in peers}
        self.reasons: dict[str, str] = {}
        self.faults: dict[str, dict[str, str]] = {}

    @property
    def running(self) -> list[Peer]:
        """Those that nothing is known against."""
        return [peer for peer in self.peers if peer.name not in self.reasons]

    def set_up(self) -> None:
        for peer in self.peers:
            try:
                peer.set_up()
            except UnavailableError as reason:
                self._without(peer, reason)

    def round(self, number: int, broker: Any, folder: Path, texts: Sequence[str], seconds: float) -> None:
        """One round; who comes first alternates."""
        for peer in self.running if number % 2 else reversed(self.running):
            try:
                measured = flow.measure(peer, broker, folder, texts, seconds)
            except Exception as reason:  # noqa: BLE001 - whatever a peer does, the others are measured
                self._without(peer, reason)
                continue
            self.rounds[peer.name][number] = measured
            print(
                f"round {number}: {peer.name}: {measured.messages_per_s:,.1f}/s, "
                f"{measured.cpu_ms_per_message:.2f} ms of CPU a message, {measured.results} results",
                flush=True,
            )

    def try_faults(self, broker: Any, folder: Path) -> None:
        for peer in self.running:
            rates = [measured.messages_per_s for measured in self.rounds[peer.name].values()]
            self.faults[peer.name] = faults.tried(peer, broker, folder, statistics.median(rates))

    def figures(self) -> dict[str, dict[str, Any]]:
        """A row a peer."""
        return {peer.name: self._row(peer) for peer in self.peers}

    def _row(self, peer: Peer) -> dict[str, Any]:
        row: dict[str, Any] = {"what": peer.what}
        measured, reference = self.rounds[peer.name], self.rounds.get(REFERENCE, {})
        if measured:
            spread = kit.spread([each.messages_per_s for each in measured.values()])
            row |= {"messages_per_s": spread.pop("median"), **spread}
            row["cpu_ms_per_message"] = round(statistics.median(m.cpu_ms_per_message for m in measured.values()), 3)
            ratios = [
                reference[number].messages_per_s / each.messages_per_s
                for number, each in measured.items()
                if number in reference
            ]
            if ratios:
                row["winnow_is_faster_by"] = round(statistics.median(ratios), 3)
        row |= self.faults.get(peer.name, {})
        if peer.name in self.reasons:
            row["reason"] = self.reasons[peer.name]
        return row

    def _without(self, peer: Peer, reason: Exception) -> None:
        self.reasons[peer.name] = str(reason)
        print(f"{peer.name} cannot be measured: {reason}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench peers", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=12_000, help="a round; slow peers get as far as they come")
    parser.add_argument("--seconds", type=float, default=20.0, help="the longest that a round of a peer takes")
    parser.add_argument("--rounds", type=int, default=5, help="at least 5 for figures to quote")
    parser.add_argument("--only", nargs="+", choices=[peer.name for peer in PEERS], help="beside Winnow itself")
    parser.add_argument("--faults", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--bundle",
        choices=models.BUNDLES,
        default=models.RANDOM,
        help="random weights, or the default bundle's as they are or widened",
    )
    parser.add_argument("--name", help="of the results file (peers, or peers-BUNDLE)")
    options = parser.parse_args()
    name = options.name or ("peers" if options.bundle == models.RANDOM else f"peers-{options.bundle}")
    texts = models.read_whole(kit.texts(options.messages, options.texts), options.bundle)
    wanted = {REFERENCE, *(options.only or [peer.name for peer in PEERS])}
    comparison = Comparison([peer for peer in PEERS if peer.name in wanted])
    folder = models.obtain(options.bundle)
    comparison.set_up()
    conditions = kit.machine() | {
        "bundle": options.bundle,
        "messages": options.messages,
        "seconds": options.seconds,
        "texts": [path.parent.name for path in options.texts] or ["demo"],
    }
    with flow.kafka() as broker:
        for number in range(1, options.rounds + 1):
            comparison.round(number, broker, folder, texts, options.seconds)
        if options.faults:
            comparison.try_faults(broker, folder)
    kit.save(name, conditions, comparison.figures())


if __name__ == "__main__":
    main()
