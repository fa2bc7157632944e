"""The composition root: settings to objects. Nothing else constructs what the worker is made of."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog
from prometheus_client import CollectorRegistry

from worker.classifier import OnnxClassifier
from worker.cpu import usable_cores
from worker.errors import BundleError, ConfigError
from worker.health import Health
from worker.http import HttpServer
from worker.kafka import topics
from worker.kafka.sink import KafkaSink
from worker.kafka.source import KafkaSource
from worker.lanes import Lanes
from worker.loop import Bounds, Loop, Steps
from worker.metrics import Metrics
from worker.model import bundle as bundles
from worker.pipeline.batcher import Batcher, bucket_edges
from worker.pipeline.decode import json_decoder, text_decoder
from worker.pipeline.encode import Encoder, ModelIdentity
from worker.pipeline.infer import OnnxModel
from worker.pipeline.interpret import SingleLabel
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Forward, Rejection, Skip
from worker.pipeline.tokenization import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from worker.config import InputSettings, ModelSettings, Settings
    from worker.model.manifest import Manifest
    from worker.pipeline.decode import Decoder
    from worker.ports import Classifier, Sink, Source

log = structlog.get_logger("winnow")
DEFAULT_BUNDLE = Path(bundles.__file__).parent / "default"


class Model(NamedTuple):
    """A bundle, ready to classify."""

    identity: ModelIdentity
    labels: tuple[str, ...]
    tokenizer: TextTokenizer
    classifier: Classifier
    max_length: int
    lanes: int


def bundle_folder(name: str) -> Path:
    """The folder of a bundle as settings name it."""
    return DEFAULT_BUNDLE if name == "default" else Path(name)


def open_model(settings: ModelSettings) -> Model:
    """Load a bundle, check its digests, and prove with its probes that this machine computes what it should.

    Raises:
        BundleError: the bundle is missing, damaged or does not fit this machine.
    """
    bundle = bundles.load(bundle_folder(settings.bundle))
    manifest = bundle.manifest
    max_length = _max_length(settings, manifest)
    if (manifest.task, manifest.activation) != ("single-label", "softmax"):
        raise BundleError(
            f"{bundle.path} is a bundle for {manifest.task} with {manifest.activation}, which this version of Winnow "
            "cannot serve; it serves single-label with softmax."
        )
    try:
        tokenizer = TextTokenizer(bundle.tokenizer_json, max_length)
        # The probes are texts of the bundle's whole length, whatever the settings cut.
        cut = max_length < manifest.max_length
        whole = TextTokenizer(bundle.tokenizer_json, manifest.max_length) if cut else tokenizer
        onnx_model = OnnxModel(str(bundle.model_path), manifest.pad_id)
    except Exception as error:  # noqa: BLE001 - both libraries raise bare exceptions of their own kinds
        raise BundleError(f"The tokenizer or the graph of {bundle.path} cannot be loaded: {error}.") from None

    def logits_of(texts: Sequence[str]) -> NDArray[np.float32]:
        return onnx_model([encoded.ids for encoded in whole(texts)])

    bundles.check_probes(bundle, logits_of)
    interpret = SingleLabel(bundle.labels, manifest.temperature, manifest.thresholds)
    canary = tokenizer(["a text that is known to work"])[0].ids
    return Model(
        ModelIdentity(manifest.name, bundle.digest),
        tuple(bundle.labels),
        tokenizer,
        OnnxClassifier(onnx_model, interpret, canary),
        max_length,
        settings.lanes or usable_cores(),
    )


def _max_length(settings: ModelSettings, manifest: Manifest) -> int:
    if settings.max_length is not None and settings.max_length > manifest.max_length:
        raise ConfigError(
            f"model.max_length = {settings.max_length} is more than the {manifest.max_length} tokens that the bundle "
            f"{manifest.name} reads. Lower it, or leave it out."
        )
    return settings.max_length or manifest.max_length


def decoder(settings: InputSettings) -> Decoder:
    if settings.format == "text":
        return text_decoder(settings.max_bytes, settings.max_characters)
    return json_decoder(settings.text_pointer, settings.id_pointer, settings.max_bytes, settings.max_characters)


def tombstone(settings: InputSettings) -> Skip | Forward | Rejection:
    if settings.tombstones == "skip":
        return Skip()
    if settings.tombstones == "forward":
        return Forward()
    return Rejection("decode", "tombstone", "The message has no value.", "InvalidMessage")


class Worker:
    """Everything one worker is made of.

    Args:
        settings: what it shall be.
        source: where records come from; None for Kafka.
        sink: where records go; None for Kafka.

    Raises:
        Fatal: it cannot be built as it is configured.
    """

    def __init__(self, settings: Settings, source: Source | None = None, sink: Sink | None = None) -> None:
        clock = time.monotonic
        self._settings = settings
        self.registry = CollectorRegistry()
        self.health = Health(clock)
        self.http = self._http()
        self.model = open_model(settings.model)
        self.metrics = Metrics(self.registry, self.model.labels)
        self.metrics.describe(self.model.identity, self.model.lanes)
        if source is None or sink is None:
            topics.prepare(settings.kafka)
        self.lanes = Lanes(self.model.classifier, self.model.lanes, clock, settings.model.run_timeout_ms / 1000)
        self._source = source or KafkaSource(settings.kafka)
        self.loop = Loop(
            self._source,
            sink or KafkaSink(settings.kafka, settings.output.max_bytes, clock),
            self._steps(),
            bounds=self._bounds(),
            tombstone=tombstone(settings.input),
            clock=clock,
            observer=self.metrics,
            health=self.health,
        )

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until `stopping` says so. Raises Fatal where the worker cannot go on."""
        self.lanes.start()
        log.info(
            "worker started",
            model=self.model.identity.name,
            digest=self.model.identity.digest,
            lanes=self.model.lanes,
            http_port=self.http.port if self.http else None,
        )
        self.loop.run(stopping)
        log.info("worker stopped")
        if self.http is not None:
            self.http.close()

    def abandon(self) -> None:
        """Leave the group after a fatal error, so that others take over soon; nothing is committed."""
        self._source.close()
        if self.http is not None:
            self.http.close()

    def _http(self) -> HttpServer | None:
        serving = self._settings.serving
        if not serving.enabled:
            return None
        server = HttpServer(serving.host, serving.port, self.registry, self.health)
        server.start()
        return server

    def _steps(self) -> Steps:
        settings, model = self._settings, self.model
        batching, output = settings.batching, settings.output
        return Steps(
            decoder(settings.input),
            model.tokenizer,
            Batcher(
                batching.max_messages,
                batching.max_tokens,
                batching.max_delay_ms / 1000,
                bucket_edges(model.max_length),
            ),
            self.lanes,
            Ledger(),
            Encoder(model.identity, output.all_scores, settings.kafka.pass_headers, output.max_bytes),
        )

    def _bounds(self) -> Bounds:
        settings = self._settings
        return Bounds(
            in_flight=settings.batching.max_in_flight,
            bytes_in_flight=settings.batching.max_in_flight_bytes,
            commit_interval=settings.kafka.commit_interval_ms / 1000,
            drain=settings.shutdown.drain_ms / 1000,
            revoke=settings.shutdown.revoke_ms / 1000,
        )
