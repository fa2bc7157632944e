"""`winnow demo`: a broker, a worker in a process of its own, a stream, and a view of what comes out."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from contextlib import ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import orjson
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.live import Live

from worker.broker import open_broker, warden
from worker.broker.ports import free_port
from worker.commands.run import Stop
from worker.demo import corpus
from worker.demo.tally import Seen, Tally
from worker.demo.view import milliseconds, render
from worker.errors import ConfigError, StageError
from worker.kafka.tools import Feeder, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from worker.broker import Broker, Preference
    from worker.pipeline.messages import Record

Messages: TypeAlias = "Iterator[tuple[bytes | None, bytes | None]]"
"""Keys and values."""
INPUT, OUTPUT, DEAD = "messages", "messages.labelled", "messages.dead"
PARTITIONS = 3
SEED = 7
READY_SECONDS = 60.0
QUIET_SECONDS = 30.0
"""Seconds without a result after which a demo that waits for the rest gives up."""
WORKER_STOP_SECONDS = 40.0
REMEMBERED = 10_000
PICTURE_WIDTH = 110
NOTHING = "(none)"
"""What results without labels or entities are shown as."""


class Options(NamedTuple):
    messages: int | None
    source: Path | None
    rate: float
    broker: Preference
    bundle: str
    port: int
    plain: bool
    as_json: bool
    picture: Path | None


def demo(options: Options) -> None:
    """Run the demo until its messages are done or Ctrl-C.

    Raises:
        Fatal: a part of it cannot start, ended by itself, or left messages behind.
    """
    stop = Stop()
    stop.install()
    messages = _messages(options)
    say = _silent if options.as_json else _say
    started = time.monotonic()
    with ExitStack() as stack:
        running = stack.enter_context(open_broker(options.broker, _say))
        running.create_topics({INPUT: PARTITIONS, OUTPUT: PARTITIONS, DEAD: 1})
        # Early, because a fresh broker takes half a second to give its first producer an id.
        feeder = Feeder(running.bootstrap_servers, INPUT)
        worker = stack.enter_context(_Worker(running, options))
        worker.wait_until_ready(stop)
        say(f"Ready after {time.monotonic() - started:.1f} s: {running.kind} at {running.bootstrap_servers}.")
        for limit in running.limits:
            say(f"  note: {limit}")
        show = _Show(options, messages, running, worker, feeder)
        show.run(stop)
        worker.stop()
        show.finish(interrupted=stop())


class _Worker:
    """`winnow run` in a process of its own, which a warden ends where the demo cannot."""

    def __init__(self, broker: Broker, options: Options) -> None:
        self._port = options.port or free_port()
        settings = {
            "kafka.bootstrap_servers": broker.bootstrap_servers,
            "kafka.input_topics": INPUT,
            "kafka.output_topic": OUTPUT,
            "kafka.dead_letter_topic": DEAD,
            "input.tombstones": "dead-letter",
            "model.bundle": options.bundle,
            "serving.host": "127.0.0.1",
            "serving.port": self._port,
            "logging.level": "warning",
        }
        if broker.limits:  # the in-process cluster answers an empty fetch only after the whole wait
            settings["kafka.consumer_properties.fetch.wait.max.ms"] = 10
        flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        watched = [sys.executable, "-I", "-S", warden.__file__, str(os.getpid()), warden.NONE, warden.NONE]
        # A session of its own: Ctrl-C reaches the demo alone, which then stops the worker in order.
        self._process = subprocess.Popen(
            [*watched, sys.executable, "-m", "worker", "run", *flags],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def wait_until_ready(self, stop: Stop) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._get("/readyz"):
            self.check()
            if stop():
                return
            if time.monotonic() > deadline:
                raise StageError(f"The worker was not ready within {READY_SECONDS:.0f} s.")
            time.sleep(0.05)

    def check(self) -> None:
        """Raise where the worker has ended; it has said why on stderr."""
        if (code := self._process.poll()) is not None:
            raise StageError(f"The worker ended by itself with exit code {code}.")

    def metrics(self) -> str:
        return self._get("/metrics")

    def stop(self) -> None:
        """Ask it to drain and leave, and wait for that."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(WORKER_STOP_SECONDS)
        if self._process.returncode != 0:
            raise StageError(f"The worker ended with exit code {self._process.returncode}.")

    def _get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(self.url + path, timeout=2) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""


class _Show:
    """Feeds, reads, and shows."""

    def __init__(self, options: Options, messages: Messages, broker: Broker, worker: _Worker, feeder: Feeder) -> None:
        self._options = options
        self._broker = broker
        self._worker = worker
        self._feeder = feeder
        watched = [INPUT, OUTPUT, DEAD] if options.picture or not self._quiet else [OUTPUT, DEAD]
        self._reader = Reader(broker.bootstrap_servers, watched)
        self._stream = itertools.islice(messages, options.messages)
        self._tally = Tally()
        self._sent = 0
        self._fed_all = False
        self._texts: OrderedDict[tuple[int, int], str] = OrderedDict()
        self._batches: dict[str, float] = {}

    def run(self, stop: Stop) -> None:
        live = nullcontext() if self._quiet else Live(self._render(), refresh_per_second=8, screen=False)
        began = last_seen = last_metrics = time.monotonic()
        with live as view:
            while not stop() and not (self._fed_all and self._tally.total >= self._sent):
                self._feed(time.monotonic() - began)
                before = self._tally.total
                self._read()
                now = time.monotonic()
                if self._tally.total != before or not self._fed_all:
                    last_seen = now
                if now - last_seen > QUIET_SECONDS:
                    break
                if now - last_metrics > 1.0:
                    last_metrics = now
                    self._worker.check()
                    self._batches = batch_figures(self._worker.metrics())
                if view is not None:
                    view.update(self._render())

    @property
    def _quiet(self) -> bool:
        return self._options.plain or self._options.as_json or not Console().is_terminal

    def _feed(self, elapsed: float) -> None:
        rate = self._options.rate
        due = 500 if rate == 0 else min(500, int(elapsed * rate) + 1 - self._sent)
        for _ in range(due):
            following = next(self._stream, None)
            if following is None:
                if not self._fed_all:
                    self._fed_all = True
                    self._feeder.flush()
                return
            key, value = following
            self._feeder.send(value, key)
            self._sent += 1

    def _read(self) -> None:
        now = time.monotonic()
        for record in self._reader.poll():
            if record.topic == INPUT:
                self._remember(record)
            else:
                self._tally.add(seen(record, self._texts), now)

    def _remember(self, record: Record) -> None:
        """Results do not repeat the text, so the view takes it from the input topic."""
        self._texts[record.partition, record.offset] = text_of(record.value)
        if len(self._texts) > REMEMBERED:
            self._texts.popitem(last=False)

    def _render(self) -> Any:
        title = f"{self._broker.kind} at {self._broker.bootstrap_servers}"
        notes = [
            f"page     {self._worker.url}   (metrics: {self._worker.url}/metrics)",
            f"topics   kcat -b {self._broker.bootstrap_servers} -C -t {OUTPUT}   (dead letters: {DEAD})",
            "Ctrl-C ends the demo.",
        ]
        return render(title, notes, self._tally, self._batches, self._sent, time.monotonic())

    def finish(self, *, interrupted: bool) -> None:
        """Read what is left, print the summary. Raises StageError where messages are missing."""
        self._read()
        self._reader.close()
        summary = self._summary()
        if self._options.picture is not None:
            self._draw(self._options.picture)
        if self._options.as_json:
            typer.echo(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
        else:
            _say(_sentence(self._tally, self._sent))
        if not interrupted and self._tally.total != self._sent:
            raise StageError(f"{self._sent - self._tally.total} messages have neither a result nor a dead letter.")

    def _draw(self, path: Path) -> None:
        console = Console(record=True, width=PICTURE_WIDTH, file=io.StringIO())
        console.print(self._render())
        try:
            console.save_svg(str(path), title="winnow demo")
        except OSError as error:
            raise ConfigError(f"The picture {path} cannot be written: {error.strerror}.") from None

    def _summary(self) -> dict[str, Any]:
        tally = self._tally
        return {
            "broker": self._broker.kind,
            "consumed": self._sent,
            "results": tally.results,
            "dead_letters": tally.dead_letters,
            "labels": dict(tally.labels),
            "reasons": dict(tally.reasons),
            "messages_per_second": round(tally.mean_rate(), 1),
            "p50_ms": _rounded(tally.latency(0.5)),
            "p99_ms": _rounded(tally.latency(0.99)),
        }


def _messages(options: Options) -> Messages:
    if options.source is None:
        return iter(corpus.stream(SEED))
    try:
        lines = options.source.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{options.source} cannot be read: {error.strerror}.") from None
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise ConfigError(f"{options.source} holds no messages; write a text or a JSON document a line.")
    return iter((None, as_message(line)) for line in lines)


def as_message(line: bytes) -> bytes:
    """A line of the user's file as a message: JSON objects as they are, anything else as a text."""
    if line.lstrip()[:1] == b"{":
        return line
    return orjson.dumps({"text": line.decode("utf-8", "replace")})


def text_of(value: bytes | None) -> str:
    """The text of a message on one line, or what else its value is."""
    try:
        return " ".join(orjson.loads(value or b"")["text"].split())
    except (ValueError, TypeError, KeyError, AttributeError):
        return repr((value or b"")[:80])


def seen(record: Record, texts: Mapping[tuple[int, int], str]) -> Seen:
    """What a record of the output or the dead-letter topic says; `texts` are those of the input, by position."""
    if record.topic == OUTPUT:
        result = orjson.loads(record.value or b"{}")
        source = result["source"]
        text = texts.get((source["partition"], source["offset"]), result["id"])
        latency = _latency(record.timestamp, source["timestamp"])
        return Seen(_labels_of(result), result.get("score"), "", text, latency)
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    sent = headers.get("winnow.errors.timestamp")
    latency = _latency(record.timestamp, int(sent) if sent else None)
    return Seen(None, None, headers.get("winnow.errors.reason", "?"), repr((record.value or b"")[:80]), latency)


def _labels_of(result: Mapping[str, Any]) -> tuple[str, ...]:
    """What a result counts for: its labels, the types of its entities, or that it has none."""
    if "entities" in result:
        return tuple(dict.fromkeys(entity["entity_group"] for entity in result["entities"])) or (NOTHING,)
    if result.get("labels"):
        return tuple(one["label"] for one in result["labels"])
    return (NOTHING if result["label"] is None else result["label"],)


def _latency(written: int | None, sent: int | None) -> float | None:
    return None if written is None or sent is None else max(0.0, (written - sent) / 1000)


def batch_figures(exposition: str) -> dict[str, float]:
    """Mean messages of a batch and share of padding, from the worker's `/metrics`."""
    values: dict[str, float] = {}
    with suppress(ValueError):
        for family in text_string_to_metric_families(exposition):
            values |= {s.name: s.value for s in family.samples if not s.labels}
    count = values.get("winnow_batch_messages_count", 0.0)
    tokens = values.get("winnow_tokens_total", 0.0)
    return {
        "messages": values.get("winnow_batch_messages_sum", 0.0) / count if count else 0.0,
        "padding": values.get("winnow_padding_tokens_total", 0.0) / tokens if tokens else 0.0,
    }


def _sentence(tally: Tally, sent: int) -> str:
    labels = ", ".join(f"{count} {label}" for label, count in sorted(tally.labels.items())) or "no results"
    return (
        f"{sent} messages: {labels}, {tally.dead_letters} dead letters; {tally.mean_rate():,.0f} messages/s, "
        f"latency p50 {milliseconds(tally.latency(0.5))}, p99 {milliseconds(tally.latency(0.99))}."
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _silent(line: str) -> None:
    """Programs that read JSON want nothing else; that a broker takes its time is said all the same."""
