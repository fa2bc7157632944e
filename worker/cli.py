"""The command line: `winnow` and `python -m worker`. With config.py the only reader of argv and environ.

Exit codes: 0 done; 1 a bug; 2 wrong usage or configuration, or output that cannot be written; 3 the bundle; 4 the
brokers; 5 a topic, or too many messages refused; 6 a record could not be written; 7 a thread died or hung, or the
shutdown did; 8 an audit found messages lost, doubled, out of order or answered wrongly; 9 `winnow doctor` found a
problem; 130 ended before its time by a signal; 141 whoever read the output has gone.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Literal

import typer

import worker
from worker.cli_operations import ConfigFile, Set, audit, bench, dlq_app, top
from worker.cli_tools import doctor, dry_run, explain
from worker.cli_training import AsJson, BundleToMeasure, TextField, evaluate, threshold, train
from worker.errors import ConfigError, Fatal
from worker.lanes import SWITCH_INTERVAL

app = typer.Typer(
    name="winnow",
    help="Classify messages on their way through Kafka, with a quantized DistilBERT on the CPU.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
config_app = typer.Typer(help="Show, check and describe the configuration.", no_args_is_help=True)
model_app = typer.Typer(help="Make model bundles, and look at them.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(model_app, name="model")
app.add_typer(dlq_app, name="dlq")

Bundle = Annotated[str, typer.Option("--bundle", "-b", help="Folder of the bundle; `default` comes with Winnow.")]
BrokerKind = Annotated[
    Literal["auto", "apache", "mock"],
    typer.Option(
        help="`apache`: a real Apache Kafka; `mock`: librdkafka's in-process cluster; `auto`: the best there is."
    ),
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"winnow {worker.__version__}")
        raise typer.Exit


@app.callback()
def winnow(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Classify messages on their way through Kafka, with a quantized DistilBERT on the CPU."""


@app.command()
def run(config: ConfigFile = None, assign: Set = None) -> None:
    """Run the worker: read the input topics, write labelled results, until SIGTERM or Ctrl-C.

    Example: `winnow run --config winnow.toml --set kafka.group_id=spam`
    """
    from worker.commands import run as command

    command.run(config, assign or [])


@app.command()
def demo(
    messages: Annotated[int | None, typer.Option("--messages", "-n", min=1, help="End after so many.")] = None,
    source: Annotated[
        Path | None, typer.Option("--input", "-i", help="Stream this file: texts or JSONL.", show_default=False)
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help="Messages a second; 0: as fast as it goes.")] = 50.0,
    broker: BrokerKind = "auto",
    bundle: Bundle = "default",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of /metrics; 0 takes a free one.")] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="No live view.")] = False,
    as_json: AsJson = False,
    picture: Annotated[
        Path | None, typer.Option(help="Write the last view to this SVG file.", show_default=False)
    ] = None,
) -> None:
    """Start a broker and a worker, feed them a realistic stream, and show what comes out.

    Example: `winnow demo --messages 500 --plain --json`
    """
    from worker.demo import command

    command.demo(command.Options(messages, source, rate, broker, bundle, port, plain, as_json, picture))


@app.command()
def classify(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; `-` reads lines of stdin, none the files or stdin.")
    ] = None,
    files: Annotated[
        list[Path] | None, typer.Option("--file", "-f", help="A file of texts, one a line, or JSONL; may be repeated.")
    ] = None,
    bundle: Bundle = "default",
    text_pointer: Annotated[
        str | None, typer.Option(help="JSON Pointer to the text, where lines are JSON.", show_default="/text")
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    assign: Set = None,
) -> None:
    """Classify texts without a broker: arguments, files or stdin, a text or a JSON document a line.

    Settings are the defaults, whatever the environment says, unless `--config` or `--set` is given.

    Example: `winnow classify "You won a prize, call now"` or `winnow classify --json < texts.jsonl`
    """
    from worker.commands import classify as command

    settings = command.settings_for(bundle, text_pointer, config, assign or [])
    command.classify(texts or [], files or [], settings, as_json)


@app.command()
def broker(
    kind: BrokerKind = "auto",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 9092,
    topic: Annotated[
        list[str] | None,
        typer.Option("--topic", "-t", metavar="NAME[:PARTITIONS]", help="Create a topic; may be repeated."),
    ] = None,
) -> None:
    """Run a broker alone, for trying clients; Ctrl-C ends it. Nothing it holds outlives it."""
    from worker.commands import broker as command

    command.broker(kind, port, topic or [])


@config_app.command("show")
def config_show(config: ConfigFile = None, assign: Set = None, as_json: AsJson = False) -> None:
    """Show every setting as it is in force; secrets are masked."""
    from worker.commands import configuration

    configuration.show(config, assign or [], as_json)


@config_app.command("schema")
def config_schema() -> None:
    """Write the JSON Schema of winnow.toml, for editors and checks."""
    from worker.commands import configuration

    configuration.schema()


@config_app.command("lint")
def config_lint(config: ConfigFile = None, assign: Set = None) -> None:
    """Check the configuration; exit code 2 names what is wrong."""
    from worker.commands import configuration

    configuration.lint(config, assign or [])


@model_app.command("import")
def model_import(
    source: Annotated[
        str, typer.Argument(help="Folder of a checkpoint (safetensors) or of an ONNX export, or a name on the hub.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the bundle.")],
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|kafka:TOPIC",
            help="Texts like those that the model will see: JSONL, CSV, plain lines, or a topic's newest messages; "
            "labels, where there are any, are compared too. None: neutral sentences that come with Winnow.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    assign: Set = None,
    texts: Annotated[int, typer.Option(min=1, max=10_000, help="Messages to read of a topic.")] = 1300,
    name: Annotated[str | None, typer.Option(help="The bundle's name; it goes into every result.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="Names of the labels in the order of their ids, parted by commas.")
    ] = None,
    task: Annotated[
        Literal["single-label", "multi-label", "regression", "token"] | None,
        typer.Option(help="Where config.json does not say it."),
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=8, help="Tokens, special ones included.")] = None,
    min_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of decisions equal to FP32's.")
    ] = 0.985,
    max_metric_drop: Annotated[
        float, typer.Option(min=0, max=1, help="By how much accuracy or F1 may be worse, with labelled texts.")
    ] = 0.01,
    reduce_range: Annotated[
        bool, typer.Option("--reduce-range", help="Seven-bit weights, for CPUs without VNNI.")
    ] = False,
    exact_gelu: Annotated[
        bool, typer.Option("--exact-gelu", help="Keep Gelu; a Silu fitted to it is faster with AVX-512.")
    ] = False,
    lowercase: Annotated[
        bool | None, typer.Option("--lowercase/--cased", help="Against what the tokenizer says.", show_default=False)
    ] = None,
    onnx_file: Annotated[str | None, typer.Option(help="The graph to import, by its path in the folder.")] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make Winnow's own graph of an ONNX graph's FP32 weights.")
    ] = False,
    licence: Annotated[str | None, typer.Option(help="Of the model; its card is read else.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle of a trained classifier: build its graph in INT8, and see that it still says the same.

    Example: `winnow model import ./my-bert --calibrate texts.jsonl --out my-bundle`
    """
    from worker.commands import importing

    importing.run(
        importing.Options(
            source, out, calibrate, config, assign or [], texts, name, labels, task, max_length, min_agreement,
            max_metric_drop, reduce_range, exact_gelu, lowercase, onnx_file, rebuild, licence, as_json,
        )
    )  # fmt: skip


@model_app.command("show")
def model_show(bundle: Annotated[str, typer.Argument()] = "default", as_json: AsJson = False) -> None:
    """Show a bundle: task, labels, digests, how it was made, and its figures."""
    from worker.commands import model

    model.show(bundle, as_json)


@model_app.command("verify")
def model_verify(bundle: Annotated[str, typer.Argument()] = "default") -> None:
    """Check a bundle's digests, and that this machine computes what its probes expect."""
    from worker.commands import model

    model.verify(bundle)


@model_app.command("reference")
def model_reference(
    bundle: BundleToMeasure,
    data: Annotated[Path, typer.Argument(help="Texts, with or without labels: JSONL, CSV, TSV or plain lines.")],
    write: Annotated[bool, typer.Option("--write", help="Store it in the bundle.")] = False,
    config: ConfigFile = None,
    assign: Set = None,
    as_json: AsJson = False,
    text_field: TextField = "text",
) -> None:
    """Show what labels and scores texts get; stored in the bundle, a worker's are compared with them.

    Take texts as the stream brings them, which the bundle was not trained on: the metric `winnow_score_reference_ratio`
    then says how their scores are distributed. Of the settings of `--config` and `--set` those count that say how much
    of a text is read.

    Example: `winnow model reference spam/bundle validation.jsonl --write`
    """
    from worker.commands import reference
    from worker.model.data import Fields

    reference.run(
        reference.Options(bundle, data, write, as_json, Fields(text_field), config, assign or []),
    )


NOBODY_READS = 141
"""As shells show a SIGPIPE."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What writing may fail of; any other error that gets to the top is a bug."""

for command in (doctor, dry_run, explain, train, evaluate, threshold, audit, bench, top):
    app.command()(command)


def main() -> None:
    """Run the command line; a user's mistake is a sentence on stderr and an exit code, never a traceback."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        app()
    except Fatal as error:
        typer.echo(f"winnow: {error}", err=True)
        sys.exit(error.exit_code)
    except (OSError, SystemExit) as ended:
        unwritten = _unwritten(ended)
        if unwritten is None:
            raise
        # The interpreter flushes stdout at its end, and would fail aloud once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(unwritten, BrokenPipeError):
            sys.exit(NOBODY_READS)
        typer.echo(f"winnow: The output cannot be written: {unwritten.strerror}.", err=True)
        sys.exit(ConfigError.exit_code)


def _unwritten(ended: OSError | SystemExit) -> OSError | None:
    """Why the output could not be written; None where it was, and something else ended the command."""
    if isinstance(ended, OSError):
        return ended if ended.errno in FULL else None
    if isinstance(ended.__context__, BrokenPipeError):  # typer and rich make a SystemExit of it
        return ended.__context__
    try:
        if sys.stdout is not None:  # a command may be started without one
            sys.stdout.flush()
    except OSError as error:
        return error
    return None
