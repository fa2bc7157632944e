"""`winnow bench`: what this machine does with a bundle, and the settings that follow."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.table import Table

from worker import logs
from worker.app import open_model
from worker.capacity import measure, plan, writing
from worker.capacity.machine import cpu
from worker.capacity.machine import load as load_average
from worker.capacity.rounds import BOUNDS, Budget, Shape, affordable, full, in_turns, lengths_up_to, shapes
from worker.commands import consoles
from worker.config import LoggingSettings, load
from worker.demo import corpus
from worker.errors import ConfigError
from worker.model.data import Fields, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from worker.app import Model
    from worker.capacity.measure import Tokenized, Whole
    from worker.capacity.plan import Recommendation, Row, Visit
    from worker.config import Settings
    from worker.pipeline.infer import Allocation

BUSY = 0.5
"""Load for each core, before anything is measured, from which on figures are not to be believed."""
TEXTS = 2_000
"""Of a file, as many as lengths are taken from."""
GRID, LANES, ALLOCATION, WHOLE = 0.6, 0.3, 0.35, 0.8
"""Shares of the budget that is left: for batches of all shapes, for lanes, for memory, then for the whole worker."""


class Options(NamedTuple):
    """What `winnow bench` is asked for."""

    bundle: str | None
    config: Path | None
    assign: list[str]
    texts: Path | None
    text_field: str
    seconds: float
    latency_target: float
    headroom: float
    as_json: bool
    write: Path | None
    write_keda: Path | None


class Graph(NamedTuple):
    """Runs of the graph: by shape on all lanes, and by lanes at the best bound."""

    bounds: Sequence[int]
    lengths: Sequence[int]
    visits: dict[Shape, list[Visit]]
    max_tokens: int
    by_lanes: dict[int, list[Visit]]
    by_allocation: dict[Allocation, list[Visit]]
    """Batches of all lengths, one after the other."""


class Found(NamedTuple):
    """Everything that was measured, and what follows."""

    load_before: float
    model: Model
    lengths: list[int]
    """Tokens of each text."""
    tokenized: Tokenized
    graph: Graph
    whole: Whole
    chosen: Recommendation

    @property
    def rows(self) -> list[Row]:
        """The capacity table."""
        shapes_of = {length: full(self.graph.max_tokens, length) for length in self.graph.lengths}
        return [plan.row(shape, self.graph.visits[shape]) for shape in shapes_of.values()]


def bench(options: Options) -> None:
    """Measure, show, and write what was asked for.

    Raises:
        ConfigError: settings or files are wrong.
        BundleError: the bundle cannot be used.
    """
    budget = Budget(time.perf_counter, time.perf_counter() + options.seconds)
    settings = _settings(options)
    _check_files(options)
    logs.configure(LoggingSettings(level="error"))
    texts = _texts(options)
    Console(stderr=True).print(f"Measuring for about {options.seconds:g} s; other work on this machine would show.")
    found = _measured(settings, texts, budget, options)
    if options.as_json:
        typer.echo(orjson.dumps(_document(found, options), option=orjson.OPT_INDENT_2))
    else:
        _show(found, options)
    _write(found, options)


def _settings(options: Options) -> Settings:
    """Those of the file that is written to, where no other is named: they will run together."""
    given = options.config or (options.write if options.write is not None and options.write.exists() else None)
    settings = load(given, options.assign)
    if options.bundle is None:
        return settings
    return settings.model_copy(update={"model": settings.model.model_copy(update={"bundle": options.bundle})})


def _check_files(options: Options) -> None:
    """What cannot be written is told before anything is measured."""
    if options.write is not None:
        writing.edited(options.write, plan.Recommendation(1, 1, 0, "patterns").settings)
    if options.write_keda is not None:
        writing.check_keda(options.write_keda)


def _texts(options: Options) -> list[str]:
    if options.texts is None:
        return [message.text for message in corpus.load()]
    return [example.text for example in read(options.texts, Fields(text=options.text_field), None)[:TEXTS]]


def _measured(settings: Settings, texts: list[str], budget: Budget, options: Options) -> Found:
    # All layers for every text: what is measured by length must not depend on how sure the model is.
    whole_graph = settings.model.model_copy(update={"early_exit": "off"})
    busy = load_average()
    model = open_model(whole_graph, settings.entities, settings.decision)
    bound = settings.input.max_characters
    tokenized = measure.tokenize(model, [text[:bound] for text in texts])
    lengths = [len(ids) for ids in tokenized.ids]
    if not lengths:
        raise ConfigError(f"The tokenizer finds nothing in the texts of {options.texts}: give others.")
    graph = _graph(model, tokenized, lengths, budget)
    lanes = plan.best_lanes(graph.by_lanes)
    chosen = plan.Recommendation(
        graph.max_tokens,
        plan.max_messages(graph.max_tokens),
        0 if lanes == model.lanes else lanes,
        plan.best_allocation(graph.by_allocation),
    )
    expected = statistics.median(plan.mixed_rates(graph.visits, graph.max_tokens, graph.lengths, lengths))
    seconds = WHOLE * budget.left
    whole = measure.whole(_with(settings, chosen), texts, int(8 * expected * seconds) + 1000, seconds)
    threshold = plan.lag_threshold(whole.rate, options.latency_target, options.headroom)
    return Found(busy, model, lengths, tokenized, graph, whole, chosen._replace(lag_threshold=threshold))


def _graph(model: Model, tokenized: Tokenized, texts: Sequence[int], budget: Budget) -> Graph:
    run, longest = measure.graph(model), model.max_length
    shape = Shape(4, min(32, longest))
    few = measure.batch(tokenized.ids, shape)
    measure.on_lanes(run, few, model.lanes, 0.0)
    speed = measure.on_lanes(run, few, model.lanes, 0.2).rate * shape.length / model.lanes
    grid = budget.share(GRID)
    bounds, lengths = affordable(BOUNDS, lengths_up_to(longest), speed, grid.left)
    batches = {shape: measure.batch(tokenized.ids, shape) for shape in shapes(bounds, lengths)}
    for rows in batches.values():
        run(rows)
    visits = in_turns(list(batches), lambda s, secs: measure.on_lanes(run, batches[s], model.lanes, secs), grid)
    best = plan.best_bound(visits, bounds, lengths, texts)
    middle = min(lengths, key=lambda length: abs(length - statistics.median(texts)))
    rows = batches[full(best, middle)]
    counts = plan.lane_counts(model.lanes)
    by_lanes = in_turns(counts, lambda n, secs: measure.on_lanes(run, rows, n, secs), budget.share(LANES))
    mixed = [batches[full(best, length)] for length in lengths]
    return Graph(bounds, lengths, visits, best, by_lanes, _by_allocation(model, mixed, budget.share(ALLOCATION)))


def _by_allocation(model: Model, batches: Sequence[list[list[int]]], budget: Budget) -> dict[Allocation, list[Visit]]:
    """Each with a session of its own, which has run every batch before."""
    runs = measure.by_allocation(model, batches)
    rows = [row for batch in batches for row in batch]
    for run in runs.values():
        measure.on_lanes(run, rows, model.lanes, 0.0)
    return in_turns(list(runs), lambda each, secs: measure.on_lanes(runs[each], rows, model.lanes, secs), budget)


def _with(settings: Settings, chosen: Recommendation) -> Settings:
    changes = chosen.settings
    return settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=values) for name, values in changes.items()}
    )


def _write(found: Found, options: Options) -> None:
    if options.write is not None:
        writing.write_settings(options.write, found.chosen.settings)
        typer.echo(f"{options.write}: written.", err=True)
    if options.write_keda is not None:
        writing.write_keda(options.write_keda, found.chosen.lag_threshold, _why(found, options))
        typer.echo(f"{options.write_keda}: written.", err=True)


def _why(found: Found, options: Options) -> str:
    return f"{found.whole.rate:,.0f} messages/s a replica, less {options.headroom:.0%}, in {options.latency_target:g} s"


def _show(found: Found, options: Options) -> None:
    console, processor = consoles.console(), cpu()
    sets = ", ".join(processor.instruction_sets) or "none known"
    identity = found.model.identity
    console.print(f"{processor.model}, {found.model.lanes} cores usable; instruction sets {sets}")
    console.print(
        f"{identity.name} ({identity.digest}), all layers, batches of at most {found.chosen.max_tokens} padded tokens, "
        f"{found.model.lanes} lanes:",
        soft_wrap=True,
    )
    table = Table("tokens", "messages of a batch", "messages/s", "lowest - highest", "p99 of a batch", "runs")
    for row in found.rows:
        table.add_row(
            str(row.length), str(row.rows), f"{row.rate:,.0f}", f"{row.least:,.0f} - {row.most:,.0f}",
            f"{1000 * row.p99:,.1f} ms", str(row.runs),
        )  # fmt: skip
    console.print(table)
    if found.load_before > BUSY * found.model.lanes:
        console.print(
            f"The machine was busy (load {found.load_before:.1f}) before this began: measure again when it is not.",
            style="bold yellow",
            soft_wrap=True,
        )
    for line in _lines(found, options):
        console.print(line, soft_wrap=True)
    console.print(f"\n{writing.lines(found.chosen.settings)}", markup=False)
    console.print(f'autoscaling.lagThreshold: "{found.chosen.lag_threshold}"  ({_why(found, options)})', soft_wrap=True)


def _lines(found: Found, options: Options) -> list[str]:
    texts = "the demo's messages; --texts takes your own" if options.texts is None else str(options.texts)
    by_lanes = ", ".join(
        f"{lanes}: {statistics.median(visit.rate for visit in visits):,.0f}/s"
        for lanes, visits in found.graph.by_lanes.items()
    )
    by_allocation = ", ".join(
        f"{each}: {statistics.median(visit.rate for visit in visits):,.0f}/s"
        for each, visits in found.graph.by_allocation.items()
    )
    cost = 1e6 * found.tokenized.seconds
    return [
        f"Lanes: {by_lanes}.",
        f"Memory, batches of all lengths in turns: {by_allocation}.",
        f"Texts: {statistics.fmean(found.lengths):.0f} tokens on average ({texts}); {cost:,.0f} µs to tokenize one.",
        f"The whole worker without Kafka: {found.whole.rate:,.0f} messages/s; "
        f"{1e6 * found.whole.cpu:,.0f} µs of CPU a message beside the model.",
    ]


def _document(found: Found, options: Options) -> dict[str, Any]:
    processor, graph = cpu(), found.graph
    return {
        "machine": {**processor._asdict(), "cores": found.model.lanes, "load_before": found.load_before},
        "bundle": found.model.identity._asdict(),
        "texts": {"mean_tokens": statistics.fmean(found.lengths), "demo": options.texts is None},
        "capacity": [row._asdict() for row in found.rows],
        "batches": [plan.row(shape, visits)._asdict() for shape, visits in graph.visits.items()],
        "lanes": _rates(graph.by_lanes),
        "allocation": _rates(graph.by_allocation),
        "tokenizer_seconds": found.tokenized.seconds,
        "worker": found.whole._asdict(),
        "latency_target_seconds": options.latency_target,
        "headroom": options.headroom,
        "settings": found.chosen.settings,
        "lag_threshold": found.chosen.lag_threshold,
    }


def _rates(visits: Mapping[Any, Sequence[Visit]]) -> dict[str, list[float]]:
    return {str(name): [round(visit.rate, 1) for visit in each] for name, each in visits.items()}
