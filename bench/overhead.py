"""A classifier that costs nothing, Kafka to Kafka: what is left is everything around the model.

Winnow's worker as in production but for its graph, beside a bare confluent-kafka loop, quix-streams and arroyo with the
same stub as a function (`bench/peers/stubs.py`): the same backlog, the same broker on the same cores, in turns. No
answers are kept for repeats. A candidate that cannot be made to run is a row with its reason.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import kit
from bench.peers import flow
from bench.peers.peer import ROOT, Peer
from bench.peers.stubs import STUBS, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.peers.flow import Measured
    from bench.peers.peer import Stage


class StubWinnow(Peer):
    """The worker with `bench.stub` for a model."""

    name = "winnow"
    what = "at least once, all settings as they come but for cache.max_bytes = 0"

    def set_up(self) -> None:
        """It is what runs this."""

    def environment(self, stage: Stage) -> dict[str, str]:  # noqa: ARG002 - the same on every stage
        return {"PYTHONPATH": str(ROOT)}

    def commands(self, stage: Stage) -> list[list[str]]:
        settings = {
            "kafka.bootstrap_servers": stage.bootstrap_servers, "kafka.group_id": stage.group,
            "kafka.input_topics": stage.input_topic, "kafka.output_topic": stage.output_topic,
            "kafka.dead_letter_topic": stage.dead_letter_topic, "serving.host": "127.0.0.1",
            "serving.port": kit.free_port(), "logging.level": "warning", "cache.max_bytes": 0,
        }  # fmt: skip
        flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        return [[sys.executable, "-m", "bench.stub", "run", *flags]]


OURS = StubWinnow()


def main() -> None:
    candidates: tuple[Peer, ...] = (OURS, *STUBS)
    parser = argparse.ArgumentParser(prog="bench overhead", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[peer.name for peer in STUBS], help="beside Winnow itself")
    parser.add_argument("--name", default="overhead", help="of the results file")
    options = parser.parse_args()
    texts = kit.texts(options.messages, options.texts)
    chosen = [peer for peer in candidates if peer is OURS or options.only is None or peer.name in options.only]
    found: dict[str, dict[int, Measured]] = {peer.name: {} for peer in chosen}
    reasons: dict[str, str] = {}
    with flow.kafka() as broker:
        for number in range(options.rounds):
            for peer in chosen if number % 2 == 0 else reversed(chosen):
                if peer.name in reasons:
                    continue
                try:
                    found[peer.name][number] = each = measure(peer, broker, texts)
                except Exception as reason:
                    # Whatever a peer does, the others are measured.
                    if peer is OURS:
                        raise
                    reasons[peer.name] = str(reason)
                    print(f"{peer.name} cannot be measured: {reason}", flush=True)
                else:
                    cpu = 1000 * each.cpu_ms_per_message
                    print(
                        f"round {number + 1}: {peer.name} {each.messages_per_s:,.0f}/s, {cpu:.1f} µs of CPU", flush=True
                    )
    conditions = kit.machine() | {
        "messages": options.messages,
        "texts": [path.parent.name for path in options.texts] or ["demo"],
    }
    figures = {peer.name: row(peer, found[peer.name], found[OURS.name], reasons.get(peer.name)) for peer in chosen}
    kit.save(options.name, conditions, figures)


def row(peer: Peer, rounds: dict[int, Measured], ours: dict[int, Measured], reason: str | None) -> dict[str, Any]:
    """Messages a second, CPU a message, messages a second of CPU, and how many times as fast Winnow is."""
    made: dict[str, Any] = {"what": peer.what}
    if rounds:
        cpu = statistics.median(each.cpu_ms_per_message for each in rounds.values())
        spread = kit.spread([each.messages_per_s for each in rounds.values()])
        made |= {"messages_per_s": spread.pop("median"), **spread}
        if cpu:
            made |= {"cpu_us_per_message": round(1000 * cpu, 2), "messages_per_cpu_s": round(1000 / cpu, 1)}
        ratios = _ratios(rounds, ours)
        if ratios:
            made["winnow_is_faster_by"] = round(statistics.median(ratios), 3)
    return made | ({"reason": reason} if reason is not None else {})


def _ratios(rounds: dict[int, Measured], ours: dict[int, Measured]) -> Sequence[float]:
    """Winnow to this one, in the rounds that both have."""
    return [ours[n].messages_per_s / each.messages_per_s for n, each in rounds.items() if n in ours]


if __name__ == "__main__":
    main()
