"""The composition root: settings to objects. Nothing else constructs what the worker is made of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from worker import forms
from worker.cgroup import memory_limit
from worker.cpu import cores_of_lanes
from worker.delivery import AtLeastOnce, ExactlyOnce
from worker.distribution import check_tracing
from worker.forms import Forms
from worker.health import Health
from worker.http import HttpServer
from worker.kafka import clients, topics
from worker.kafka.sink import KafkaSink
from worker.kafka.source import KafkaSource
from worker.kafka.transactions import KafkaTransactions
from worker.lanes import Lanes
from worker.loop import Loop
from worker.metrics import Metrics
from worker.opening import DEFAULT_BUNDLE, Model, bundle_folder, open_model
from worker.pipeline.breaker import Breaker
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Forward, Rejection, Skip
from worker.pipeline.repeats import Repeats
from worker.pipeline.scores import SCORES
from worker.steps import Bounds, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.config import InputSettings, Settings
    from worker.ports import Delivery, Sink, Source, Tracing

__all__ = ["DEFAULT_BUNDLE", "Model", "Worker", "bundle_folder", "open_model", "tombstone"]
log = structlog.get_logger("winnow")


def tombstone(settings: InputSettings) -> Skip | Forward | Rejection:
    if settings.tombstones == "skip":
        return Skip()
    if settings.tombstones == "forward":
        return Forward()
    return Rejection("decode", "tombstone", "The message has no value.", "InvalidMessage")


def _expected_scores(model: Model) -> Mapping[str, Sequence[float]] | None:
    """Of the bundle's reference, where it has one in the buckets of today."""
    found = None if model.bundle is None else model.bundle.manifest.reference
    if found is not None and found.bounds != SCORES:
        log.warning("the bundle's reference is of other buckets: make it again with `winnow model reference`")
        return None
    return None if found is None else found.scores


class Worker:
    """Everything one worker is made of.

    Args:
        settings: what it shall be.
        source: where records come from; None for Kafka.
        sink: where records go, at least once; None for Kafka, as the settings say.
        registers: whether it may add the schema of results to a registry, where the settings want it.

    Raises:
        Fatal: it cannot be built as it is configured.
    """

    def __init__(
        self, settings: Settings, source: Source | None = None, sink: Sink | None = None, *, registers: bool = True
    ) -> None:
        check_tracing(settings.tracing.enabled)
        self._clock = clock = time.monotonic
        self._settings = settings
        self.registry = CollectorRegistry()
        self.health = Health(clock)
        self.http = self._http()
        self.model = open_model(settings.model, settings.entities, settings.decision)
        self.metrics = Metrics(self.registry, self.model.answers, self.model.types, self.model.exits)
        self._describe()
        self._tracing = self._made_tracing()
        self._forms = Forms(settings, registers=registers)
        forms.topics(settings, self.model)  # a route that cannot be is refused before topics are created for it
        limit = topics.prepare(settings.kafka, settings.result_topics) if source is None or sink is None else None
        self._write_bounds = clients.write_bounds(settings.output.max_bytes, limit)
        self._cores = cores_of_lanes(self.model.lanes, settings.model.pin_lanes)
        timeout = settings.model.run_timeout_ms / 1000
        self.lanes = Lanes(self.model.classifier, self.model.lanes, clock, timeout, self._cores)
        self._source = source or KafkaSource(settings.kafka)
        steps = self._steps()
        self._delivery = self._made_delivery(steps.ledger, sink)
        self.loop = Loop(
            self._source,
            self._delivery,
            steps,
            bounds=self._bounds(),
            breaker=self._breaker(),
            tombstone=tombstone(settings.input),
            clock=clock,
            observer=self.metrics,
            health=self.health,
            tracing=self._tracing,
        )

    def _describe(self) -> None:
        kafka, model = self._settings.kafka, self.model
        self.metrics.describe(model.identity, model.lanes, _expected_scores(model))
        self.metrics.describe_worker(
            kafka.group_id,
            kafka.delivery,
            clients.member_name(kafka),
            self._settings.batching.max_in_flight,
            lambda: self.health.ready,
            memory_limit(),
        )
        if self.http is not None and model.bundle is not None:
            self.http.describe(model.bundle)

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until `stopping` says so. Raises Fatal where the worker cannot go on."""
        self.lanes.start()
        log.info(
            "worker started",
            model=self.model.identity.name,
            digest=self.model.identity.digest,
            lanes=self.model.lanes,
            pinned_to=self._cores,
            http_port=self.http.port if self.http else None,
        )
        self.loop.run(stopping)
        self._close()
        log.info("worker stopped")

    def abandon(self) -> None:
        """Leave the group after a fatal error, so that others take over soon; nothing is committed."""
        self._delivery.close()
        self._source.close()
        self._close()

    def _close(self) -> None:
        self._forms.close()
        if self._tracing is not None:
            self._tracing.close()
        if self.http is not None:
            self.http.close()

    def _http(self) -> HttpServer | None:
        serving = self._settings.serving
        if not serving.enabled:
            return None
        server = HttpServer(serving.host, serving.port, self.registry, self.health, page=serving.page)
        server.start()
        return server

    def _made_delivery(self, ledger: Ledger, sink: Sink | None) -> Delivery:
        kafka, max_bytes, clock = self._settings.kafka, self._write_bounds.batch, self._clock
        if sink is None and kafka.exactly_once:
            transactions = KafkaTransactions(kafka, max_bytes, clock)
            most_bytes = self._settings.batching.max_in_flight_bytes // 2
            return ExactlyOnce(self._source, transactions, ledger, clock, self.metrics, most_bytes)
        return AtLeastOnce(self._source, sink or KafkaSink(kafka, max_bytes, clock), ledger, clock, self.metrics)

    def _made_tracing(self) -> Tracing | None:
        settings, kafka = self._settings, self._settings.kafka
        if not settings.tracing.enabled:
            return None
        from worker.tracing import About, open_tracing

        return open_tracing(
            About(self.model.identity, kafka.group_id, kafka.client_id),
            of_the_batch=settings.tracing.propagate == "batch",
            most_messages=settings.batching.max_messages,
            member=clients.member_name(kafka),
        )

    def _steps(self) -> Steps:
        settings, model = self._settings, self.model
        batching = settings.batching
        return Steps(
            self._forms.decoder(),
            model.tokenizer,
            model.batcher(batching, batching.max_delay_ms / 1000),
            self.lanes,
            Ledger(),
            self._forms.encoder(model, self._write_bounds.record),
            model.windows(batching),
            Repeats(settings.cache.max_bytes) if settings.cache.max_bytes and model.repeatable else None,
        )

    def _breaker(self) -> Breaker:
        letters = self._settings.dead_letters
        return Breaker(letters.window, letters.max_share, letters.min_messages)

    def _bounds(self) -> Bounds:
        settings = self._settings
        return Bounds(
            in_flight=settings.batching.max_in_flight,
            bytes_in_flight=settings.batching.max_in_flight_bytes,
            commit_interval=settings.kafka.commit_interval,
            commit_interval_behind=settings.kafka.commit_interval_behind,
            drain=settings.shutdown.drain_ms / 1000,
            revoke=settings.shutdown.revoke_ms / 1000,
        )
